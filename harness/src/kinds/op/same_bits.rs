//! Checks for equal bits: asks the question again, in chunks, and with its rows in another order.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Tensor};
use goldgate_wire::Observed;
use goldgate_wire::words::Claim;
use serde_json::Value;

use crate::kinds::op::case::SameBits;
use crate::kinds::op::outcome::Outcome;
use crate::kinds::op::question::OpQuestion;
use crate::kinds::op::{self, Got, Question};
use crate::line::{Caller, FailKind, Judgement, Reply, Stopped, Verdict};

type Results = BTreeMap<String, Tensor>;

/// A difference: another form of the same question gave different bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// Nondeterminism, or bits that depend on what surrounds a row.
    pub kind: FailKind,
    /// Which form, which result, which row.
    pub message: String,
}

/// Ends the trial unless the subject claims that the bits of all these forms are the same.
///
/// # Errors
/// NOT RUN(unsupported).
pub fn need(question: &Question, to: &Caller<'_>) -> Result<(), Stopped> {
    let run = (question.repeat > 1).then_some(Claim::Run);
    let cut = question.same_bits.as_ref().map(|same| match same.advance {
        // Rows at later positions are the later part of one prompt.
        Some(_) => Claim::Chunk,
        None => Claim::Batch,
    });
    run.into_iter().chain(cut).try_for_each(|claim| to.need_claim(claim))
}

/// Judges the forms against each other.
pub fn judge(got: &Got) -> Judgement {
    let results = match &got.outcome {
        Outcome::Answered { results, .. } => results,
        Outcome::Refused { kind, message, .. } => {
            let message = format!("refused a fair question: {kind}: {message}");
            return Judgement::fail(FailKind::WrongRefusal, message);
        }
    };
    if let Some(Differs { kind, message }) = &got.differs {
        return Judgement::fail(*kind, message.clone());
    }
    let compared: usize = results.values().filter_map(|tensor| tensor.meta.volume()).sum();
    // Answers of no element are equal and show nothing.
    if compared == 0 {
        return Judgement::fail(FailKind::Shape, "nothing was compared");
    }
    Judgement { compared: compared as u64, ..Judgement::unmeasured(Verdict::Pass) }
}

/// Tests the judge. Returns how many planted faults it detected, and of how many.
///
/// # Errors
/// It refused a right answer, or accepted a wrong one.
pub fn self_check() -> Result<(u32, u32), String> {
    let answered = |results: Results| Outcome::Answered { results, observed: Observed::default() };
    let one = || Results::from([("y".to_owned(), Tensor::from_f64(DType::F32, &[1], &[1.0]))]);
    let passes = |outcome, differs| judge(&Got { outcome, control: None, differs }).passed();
    if !passes(answered(one()), None) {
        return Err("answers with the same bits do not pass".to_owned());
    }
    let differs = || Some(Differs { kind: FailKind::Bits, message: String::new() });
    let refused =
        || Outcome::Refused { kind: String::new(), operand: String::new(), message: String::new() };
    let faults = [
        ("a form with other bits", answered(one()), differs()),
        ("an answer without results", answered(Results::new()), None),
        ("a refusal", refused(), None),
    ];
    let planted = faults.len() as u32;
    for (what, outcome, differs) in faults {
        if passes(outcome, differs) {
            return Err(format!("{what} passes"));
        }
    }
    Ok((planted, planted))
}

/// Asks a question again that was answered with `whole`, in every form that it demands, until one
/// differs.
///
/// # Errors
/// The subject does not answer a question that it answered before.
pub fn ask(
    question: &Question,
    whole: &Results,
    to: &mut Caller<'_>,
) -> Result<Option<Differs>, Stopped> {
    // From the second time on, because `whole` is the first answer.
    for time in 2..=question.repeat {
        let again = answer(&question.op, to)?;
        // One difference is proof enough.
        if again != *whole {
            let what = first_difference(whole, &again);
            let message = format!("other bits when asked for the {time}. time: {what}");
            return Ok(Some(Differs { kind: FailKind::Nondeterministic, message }));
        }
    }
    let Some(same) = &question.same_bits else { return Ok(None) };
    let rows = same.cut.iter().find_map(|name| rows_of(question.op.tensors.get(name)?));
    let Some(rows) = rows else { return Ok(None) };
    let differs = |how: &str, what: String| {
        let message = format!("other bits {how}: {what}");
        Ok(Some(Differs { kind: FailKind::Bits, message }))
    };
    // A chunk as large as the whole would ask the same question again.
    for &size in same.chunks.iter().filter(|&&size| size > 0 && size < rows) {
        let mut joined: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for begin in (0..rows).step_by(size) {
            let part = chunk(&question.op, same, begin..rows.min(begin + size));
            let results = answer(&part, to)?;
            for name in &same.results {
                let bytes = results.get(name).map_or(&[][..], |t| &t.bytes);
                joined.entry(name.clone()).or_default().extend_from_slice(bytes);
            }
        }
        if let Some(what) = unequal(same, whole, &joined) {
            return differs(&format!("in chunks of {size} rows"), what);
        }
    }
    // Results that depend on the place of a row among the others differ only when it is moved.
    if same.moved && rows > 1 {
        let results = answer(&reversed(&question.op, same), to)?;
        let back = same
            .results
            .iter()
            .filter_map(|name| Some((name.clone(), reverse(results.get(name)?).bytes)));
        if let Some(what) = unequal(same, whole, &back.collect()) {
            return differs("with its rows in reverse order", what);
        }
    }
    Ok(None)
}

/// The results of a question that was answered before.
fn answer(question: &OpQuestion, to: &mut Caller<'_>) -> Result<Results, Stopped> {
    match op::put(question, to)? {
        Reply::Ok(answered) => Ok(answered.results),
        Reply::Refused(refused) => {
            let message = format!("refused when asked in another way: {}", refused.message);
            Err(to.wrong_refusal(message))
        }
    }
}

fn rows_of(tensor: &Tensor) -> Option<usize> {
    tensor.meta.shape.first().copied()
}

/// The question about some of the rows.
fn chunk(question: &OpQuestion, same: &SameBits, rows: std::ops::Range<usize>) -> OpQuestion {
    let mut part = question.clone();
    for name in &same.cut {
        if let Some(tensor) = part.tensors.get_mut(name) {
            let width = row_bytes(tensor);
            tensor.bytes = tensor.bytes[rows.start * width..rows.end * width].to_vec();
            tensor.meta.shape[0] = rows.len();
        }
    }
    // A later chunk begins at a later position, so whatever depends on the position must follow.
    if let Some(attribute) = &same.advance {
        let base = part.attributes.get(attribute).and_then(Value::as_i64).unwrap_or(0);
        // The sum cannot overflow: row counts are far below 2^63.
        part.attributes.insert(attribute.clone(), Value::from(base + rows.start as i64));
    }
    part
}

fn reversed(question: &OpQuestion, same: &SameBits) -> OpQuestion {
    let mut moved = question.clone();
    for name in &same.cut {
        if let Some(tensor) = moved.tensors.get_mut(name) {
            *tensor = reverse(tensor);
        }
    }
    moved
}

fn row_bytes(tensor: &Tensor) -> usize {
    tensor.bytes.len() / rows_of(tensor).unwrap_or(1).max(1)
}

fn reverse(tensor: &Tensor) -> Tensor {
    let width = row_bytes(tensor).max(1);
    let bytes = tensor.bytes.chunks(width).rev().flatten().copied().collect();
    Tensor { meta: tensor.meta.clone(), bytes }
}

/// The first difference between the joined bytes and the whole answer.
fn unequal(
    same: &SameBits,
    whole: &BTreeMap<String, Tensor>,
    joined: &BTreeMap<String, Vec<u8>>,
) -> Option<String> {
    same.results.iter().find_map(|name| {
        let (want, got) = (whole.get(name)?, joined.get(name).map_or(&[][..], |b| b));
        if want.bytes == got {
            return None;
        }
        let at = want.bytes.iter().zip(got).position(|(a, b)| a != b);
        let row = at.unwrap_or(got.len().min(want.bytes.len())) / row_bytes(want).max(1);
        Some(format!("{name}, first in row {row}"))
    })
}

fn first_difference(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> String {
    let differs = |(name, tensor): (&String, &Tensor)| {
        let other = b.get(name)?;
        let at = tensor.bytes.iter().zip(&other.bytes).position(|(x, y)| x != y)?;
        Some(format!("{name}, first in element {}", at / tensor.meta.dtype.bytes()))
    };
    a.iter().find_map(differs).unwrap_or_else(|| "another set of results".to_owned())
}
