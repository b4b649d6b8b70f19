//! The same bits: asked again, in chunks, and with its rows in another order.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_engine::Tensor;
use serde_json::Value;

use crate::case::{Case, SameBits};
use crate::execution::{Execution, Outcome};
use crate::subject::{OpQuestion, Subject};
use crate::verdict::{FailKind, NotRun, Verdict};

/// Asks a case that passed again, as it demands; a verdict where the bits differ.
pub(super) fn judge(
    case: &Case,
    question: &OpQuestion,
    first: &Execution,
    subject: &mut dyn Subject,
    limit: Duration,
) -> Option<Verdict> {
    let Outcome::Answered { results: whole, .. } = &first.outcome else { return None };
    let mut ask = |question: &OpQuestion| match subject.op(question, limit).outcome {
        Outcome::Answered { results, .. } => Ok(results),
        other => Err(silent(&other)),
    };
    for time in 2..=case.repeat {
        match ask(question) {
            Err(verdict) => return Some(verdict),
            Ok(again) if again == *whole => {}
            Ok(again) => {
                let what = first_difference(whole, &again);
                let message = format!("other bits when asked for the {time}. time: {what}");
                return Some(Verdict::Fail { kind: FailKind::Nondeterministic, message });
            }
        }
    }
    let same = case.same_bits.as_ref()?;
    let rows = same.cut.iter().find_map(|name| rows_of(question.tensors.get(name)?))?;
    let differs = |how: &str, what: String| {
        let message = format!("other bits {how}: {what}");
        Some(Verdict::Fail { kind: FailKind::Bits, message })
    };
    for &size in same.chunks.iter().filter(|&&size| size > 0 && size < rows) {
        let mut joined: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for begin in (0..rows).step_by(size) {
            let part = chunk(question, same, begin..rows.min(begin + size));
            let results = match ask(&part) {
                Ok(results) => results,
                Err(verdict) => return Some(verdict),
            };
            for name in &same.results {
                let bytes = results.get(name).map_or(&[][..], |t| &t.bytes);
                joined.entry(name.clone()).or_default().extend_from_slice(bytes);
            }
        }
        if let Some(what) = unequal(same, whole, &joined) {
            return differs(&format!("in chunks of {size} rows"), what);
        }
    }
    if same.moved && rows > 1 {
        let results = match ask(&reversed(question, same)) {
            Ok(results) => results,
            Err(verdict) => return Some(verdict),
        };
        let back = same
            .results
            .iter()
            .filter_map(|name| Some((name.clone(), reverse(results.get(name)?).bytes)));
        if let Some(what) = unequal(same, whole, &back.collect()) {
            return differs("with its rows in reverse order", what);
        }
    }
    None
}

/// Anything but an answer, where the same question had one.
fn silent(outcome: &Outcome) -> Verdict {
    let (kind, message) = match outcome {
        Outcome::Crashed { how } => (FailKind::Crashed, how.clone()),
        Outcome::TimedOut => (FailKind::TimedOut, "no answer within its limit".to_owned()),
        Outcome::Protocol { what } => (FailKind::Protocol, what.clone()),
        Outcome::Failed { class, message } => (FailKind::Internal, format!("{class}: {message}")),
        Outcome::Refused { kind, operand, message } => {
            (FailKind::WrongRefusal, format!("{kind}: {operand}: {message}"))
        }
        Outcome::NotAsked(kind, message) => {
            return Verdict::NotRun { kind: *kind, message: message.clone() };
        }
        Outcome::Unsupported { what, .. } => {
            return Verdict::NotRun { kind: NotRun::Unsupported, message: what.clone() };
        }
        Outcome::Answered { .. } => unreachable!("answers are compared"),
    };
    Verdict::Fail { kind, message: format!("when asked again in another way: {message}") }
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
    if let Some(attribute) = &same.advance {
        let base = part.attributes.get(attribute).and_then(Value::as_i64).unwrap_or(0);
        // Row counts are far below 2^63.
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

/// Where the joined bytes differ from the whole answer.
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
