//! Judges outcomes: the verdict, and the first rule that failed.
//!
//! The order of the rules: shape and count, non-finite, poison, guards, inputs and route as far as
//! observed, bits, load, gain. The first that fails is named.

use goldgate_engine::ops::{self, Question};
use goldgate_tensor::{DType, RefusalKind, Tensor};
use goldgate_wire::Observed;

use crate::kinds::op::case::{Case, Expect, OpAsk};
use crate::kinds::op::distance::{Distance, Ruler, elements, exceeds, unravel};
use crate::kinds::op::golden::{Golden, GoldenResult, Numbers};
use crate::kinds::op::outcome::Outcome;
use crate::kinds::op::page::number;
use crate::line::{FailKind, NotRun, Verdict, Whom};

/// A verdict on an op's answer, with the numbers behind it.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The verdict of the row.
    pub verdict: Verdict,
    /// The distance of the result that decided, if anything was measured.
    pub distance: Option<Distance>,
    /// Remarks: refused as X, undecided elements, not observed.
    pub notes: Vec<String>,
}

impl Compared {
    fn fail(kind: FailKind, message: impl Into<String>) -> Compared {
        let verdict = Verdict::Fail { kind, message: message.into() };
        Compared { verdict, distance: None, notes: Vec::new() }
    }

    fn unmeasured(verdict: Verdict) -> Compared {
        Compared { verdict, distance: None, notes: Vec::new() }
    }
}

/// The stored type of each result: by the op's signature, or for an op that our engine does not
/// have, i32 for ids and the question's dtype otherwise.
pub fn result_type(ask: &OpAsk, name: &str, golden: &GoldenResult) -> DType {
    let by_signature = ops::find(&ask.op).and_then(|op| {
        let metas = ask.operands.iter().map(|i| (i.name.clone(), i.meta.clone())).collect();
        let question = Question::new(op, ask.dtype, &ask.attributes, &metas).ok()?;
        let results = question.results();
        results.into_iter().find(|(result, _)| *result == name).map(|(_, meta)| meta.dtype)
    });
    by_signature.unwrap_or(match golden.numbers {
        Numbers::Ids(_) => DType::I32,
        Numbers::Real(_) => ask.dtype,
    })
}

/// The rulers for a case's golden; none for a refusal.
pub fn rulers(case: &Case, golden: &Golden) -> Vec<Ruler> {
    let Expect::Answer { tolerance, .. } = &case.expect else { return Vec::new() };
    let ruler = |(name, result): (&String, &GoldenResult)| {
        Ruler::new(name, result_type(&case.ask, name, result), result, tolerance)
    };
    golden.results.iter().map(ruler).collect()
}

/// Judges one outcome.
pub fn judge(expect: &Expect, rulers: &[Ruler], outcome: &Outcome, whom: &Whom) -> Compared {
    match (outcome, expect) {
        (Outcome::Answered { .. }, Expect::Refusal { kind, operand }) => Compared::fail(
            FailKind::NotRefused,
            format!("answered; must refuse {operand} as {kind}"),
        ),
        (Outcome::Answered { results, observed }, Expect::Answer { .. }) => {
            judge_answer(rulers, results, observed, whom)
        }
        (
            Outcome::Refused { kind, operand, message },
            Expect::Refusal { kind: want, operand: of },
        ) => judge_refusal((kind, operand, message), (*want, of), whom),
        (Outcome::Refused { kind, operand, message }, Expect::Answer { .. }) => Compared::fail(
            FailKind::WrongRefusal,
            format!("refused a fair question: {kind}: {operand}: {message}"),
        ),
    }
}

fn judge_refusal(
    (kind, operand, message): (&str, &str, &str),
    (want, of): (RefusalKind, &str),
    whom: &Whom,
) -> Compared {
    let mut judgement = Compared::unmeasured(Verdict::Pass);
    // Other engines sort their refusals in other ways, so of them only the refusal itself is
    // demanded.
    let foreign = matches!(whom, Whom::Foreign { .. });
    if kind != want.name() {
        if !foreign {
            let message =
                format!("refused {operand} as {kind} ({message}); must be {want} of {of}");
            return Compared::fail(FailKind::WrongRefusal, message);
        }
        judgement.notes.push(format!("refused as {kind}"));
    } else if operand != of {
        if !foreign {
            let message = format!("refused {operand} ({message}); must name {of}");
            return Compared::fail(FailKind::WrongRefusal, message);
        }
        judgement.notes.push(format!("refused naming {operand:?}"));
    }
    judgement
}

fn judge_answer(
    rulers: &[Ruler],
    results: &std::collections::BTreeMap<String, Tensor>,
    observed: &Observed,
    whom: &Whom,
) -> Compared {
    if let Some(message) = shape_fault(rulers, results) {
        return Compared::fail(FailKind::Shape, message);
    }
    let measured: Vec<(&Ruler, Vec<f64>, Distance)> = rulers
        .iter()
        .map(|ruler| {
            let got = elements(&results[&ruler.name]);
            let distance = ruler.measure(&got);
            (ruler, got, distance)
        })
        .collect();
    let mut judgement = Compared::unmeasured(Verdict::Pass);
    judgement.notes = notes(&measured, observed, whom);
    let compared: u64 = measured.iter().map(|(_, _, d)| d.compared).sum();
    let failure = first_failure(&measured, observed, whom);
    let decisive =
        failure.as_ref().and_then(|(_, _, at)| *at).unwrap_or_else(|| worst_of(&measured));
    let mut distance = measured.get(decisive).map(|(_, _, d)| d.clone()).unwrap_or_default();
    distance.compared = compared;
    judgement.distance = Some(distance);
    if let Some((kind, message, _)) = failure {
        judgement.verdict = Verdict::Fail { kind, message };
    // Passing without a comparison would be passing on nothing.
    } else if compared == 0 {
        judgement.verdict = Verdict::NotRun {
            kind: NotRun::Inconclusive,
            message: "the golden decides no element".into(),
        };
    }
    judgement
}

type Measured<'a> = (&'a Ruler, Vec<f64>, Distance);
type Failure = (FailKind, String, Option<usize>);

fn worst_of(measured: &[Measured<'_>]) -> usize {
    let mut worst = 0;
    for (i, (_, _, d)) in measured.iter().enumerate() {
        if exceeds(d.load, measured[worst].2.load) {
            worst = i;
        }
    }
    worst
}

fn shape_fault(
    rulers: &[Ruler],
    results: &std::collections::BTreeMap<String, Tensor>,
) -> Option<String> {
    let names = |list: Vec<&str>| if list.is_empty() { "none".into() } else { list.join(", ") };
    let got: Vec<&str> = results.keys().map(String::as_str).collect();
    let mut want: Vec<&str> = rulers.iter().map(|r| r.name.as_str()).collect();
    // In the order of the map's keys, so that nothing but another set of names is a difference.
    want.sort_unstable();
    if got != want {
        return Some(format!("results: got {}, want {}", names(got), names(want)));
    }
    let differs = rulers.iter().find(|r| results[&r.name].meta != r.meta)?;
    let name = &differs.name;
    Some(format!("{name}: got {}, want {}", results[name].meta, differs.meta))
}

fn first_failure(measured: &[Measured<'_>], observed: &Observed, whom: &Whom) -> Option<Failure> {
    // In order of how much each explains: memory that was never written, for instance, also shows
    // as a load.
    nonfinite(measured)
        .or_else(|| observed_fault(observed, whom))
        .or_else(|| over(measured, true))
        .or_else(|| over(measured, false))
        .or_else(|| gain(measured))
}

fn nonfinite(measured: &[Measured<'_>]) -> Option<Failure> {
    let (at, (ruler, got, d)) = measured.iter().enumerate().find(|(_, m)| m.2.nonfinite > 0)?;
    let first = d.first_nonfinite?;
    let place = place(ruler, first);
    let message = if ruler.want[first].is_nan() {
        format!("{place} is {}, NaN is awaited", number(got[first]))
    } else {
        format!(
            "{} of {} elements of {} are not finite where the golden is; the first is {place} = {}",
            d.nonfinite,
            d.compared,
            ruler.name,
            number(got[first])
        )
    };
    Some((FailKind::Nonfinite, message, Some(at)))
}

fn observed_fault(observed: &Observed, whom: &Whom) -> Option<Failure> {
    let deviation = |word: &Option<String>, fine: &str| word.clone().filter(|w| w != fine);
    if let Some(left) = deviation(&observed.poison, "overwritten") {
        return Some((FailKind::Poison, format!("not all was written: {left}"), None));
    }
    if let Some(broken) = deviation(&observed.guards, "intact") {
        return Some((FailKind::Guard, format!("written outside a result: {broken}"), None));
    }
    if let Some(changed) = deviation(&observed.inputs, "unchanged") {
        return Some((
            FailKind::InputChanged,
            format!("an input is not what it was: {changed}"),
            None,
        ));
    }
    let no_route = "says of no kernel that it ran: something else did the work";
    let empty = observed.route.as_ref().is_some_and(Vec::is_empty);
    // Our own worker must report its route; silence would hide a fallback to the CPU.
    let missing = observed.route.is_none() && *whom == Whom::Cuda;
    let on_device = match whom {
        Whom::Cpu => false,
        Whom::Cuda => true,
        Whom::Foreign { card, .. } => *card,
    };
    (on_device && empty || missing).then(|| (FailKind::Route, no_route.into(), None))
}

/// The result with the largest load above 1, among ids and exact results (`bits`) or among the
/// others.
fn over(measured: &[Measured<'_>], bits: bool) -> Option<Failure> {
    let judged_by_bits = |r: &Ruler| r.exact || r.meta.dtype == DType::I32;
    let mut found: Option<usize> = None;
    for (i, (ruler, _, d)) in measured.iter().enumerate() {
        let worse = found.is_none_or(|at| exceeds(d.load, measured[at].2.load));
        if judged_by_bits(ruler) == bits && d.over > 0 && worse {
            found = Some(i);
        }
    }
    let at = found?;
    let (ruler, _, d) = &measured[at];
    let (name, over, total) = (&ruler.name, d.over, d.compared);
    let mut message = if bits {
        format!("{over} of {total} elements of {name} have other bits than the golden")
    } else {
        format!(
            "{over} of {total} elements of {name} are over; the largest load is {}",
            number(d.load)
        )
    };
    if d.constant {
        message.push_str("; the answer is one number everywhere");
    }
    Some((if bits { FailKind::Bits } else { FailKind::Load }, message, Some(at)))
}

fn gain(measured: &[Measured<'_>]) -> Option<Failure> {
    let (at, (ruler, gain)) = measured
        .iter()
        .enumerate()
        .find_map(|(i, (ruler, _, d))| d.gain.filter(|g| !g.holds()).map(|g| (i, (ruler, g))))?;
    let message = format!(
        "{} as a whole is {:.8} times the golden; 1 ± {:.2e} is allowed",
        ruler.name, gain.value, gain.limit
    );
    Some((FailKind::Gain, message, Some(at)))
}

fn notes(measured: &[Measured<'_>], observed: &Observed, whom: &Whom) -> Vec<String> {
    let mut notes = Vec::new();
    for (ruler, _, d) in measured {
        let undecided = ruler.len() as u64 - d.compared;
        if undecided > 0 {
            let (total, name) = (ruler.len(), &ruler.name);
            notes.push(format!(
                "{undecided} of {total} elements of {name} are undecided by the golden"
            ));
        }
    }
    // On the CPU there is no device memory whose bounds could be observed.
    if *whom != Whom::Cpu {
        let seen = [
            ("guards", observed.guards.is_some()),
            ("inputs", observed.inputs.is_some()),
            ("poison", observed.poison.is_some()),
            ("route", observed.route.is_some()),
        ];
        let blind: Vec<&str> = seen.iter().filter(|(_, seen)| !seen).map(|(w, _)| *w).collect();
        if !blind.is_empty() {
            notes.push(format!("not observed: {}", blind.join(", ")));
        }
    }
    notes
}

/// An element as messages name it, such as `y[2, 13]`.
pub fn place(ruler: &Ruler, at: usize) -> String {
    format!("{}{:?}", ruler.name, unravel(at, &ruler.meta.shape))
}

#[cfg(test)]
mod tests;
