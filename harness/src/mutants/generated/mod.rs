//! Faults that nobody chose: made by rule from the signature of each op, and planted in the cases
//! of the op, type by type. A list of mutants that the authors of the cases wrote measures how far
//! the authors agree with themselves; this measures how far the cases reach.
//!
//! ```text
//! Signature ─rules→ Fault ─plant in each case, small ones first→ Tried ─→ Outcome ─score→ Score
//! ```

pub mod asked;
pub mod attributes;
pub mod fault;
pub mod rules;
pub mod score;
#[cfg(test)]
mod tests;
pub mod values;
mod worker;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use goldgate_engine::ops::{self, signature::Signature};
use goldgate_tensor::DType;
use serde::Serialize;
use serde_json::Value;

use crate::kinds::op::by_definition;
use crate::kinds::op::case::{Case, Expect, ToleranceRule};
use crate::line::Fate;
use crate::mutants::Planting;
use crate::mutants::generated::asked::{
    Answering, Asked, Results, Tried, by_size, elements, larger,
};
use crate::mutants::generated::fault::Fault;
use crate::mutants::generated::rules::{Scope, faults};
use crate::mutants::generated::worker::Worker;
use crate::spec::Specs;
use crate::spec::equivalent::EquivalentFault;

pub use score::{percent, scores};

/// The most elements of the operands of a case in which faults are planted: in larger ones each of
/// hundreds of faults takes seconds.
const LARGEST: usize = 1 << 22;

/// The cases of an op in one variant, and the faults that they must detect.
pub struct Group<'s> {
    /// The op.
    pub op: &'s str,
    /// The variant: `f16`, or `f16-q4_k`.
    pub variant: &'s str,
    /// The faults, sorted by name.
    pub faults: Vec<Fault>,
    /// The cases with an answer, small ones first.
    cases: Vec<&'s Case>,
}

/// What came of one fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The full name.
    pub name: String,
    /// The op.
    pub op: String,
    /// The variant of its cases.
    pub variant: String,
    /// The case that detected it; empty if none did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub case: String,
    /// The outcome.
    pub fate: Fate,
}

impl Group<'_> {
    /// The full name of a fault.
    pub fn name(&self, fault: &Fault) -> String {
        format!("generated::{}::{}::{}", self.op, self.variant, fault.name)
    }
}

/// The groups of all ops, in the order of the specs: one for each variant that has a case with an
/// answer.
pub fn groups(specs: &Specs) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for spec in &specs.ops {
        let op = spec.file.op.value.as_str();
        let Some(signature) = ops::find(op).map(|op| op.signature()) else { continue };
        let answers = |case: &&Case| matches!(case.expect, Expect::Answer { .. });
        let cases: Vec<&Case> = spec.cases.iter().filter(answers).filter(|c| !c.slow).collect();
        let mut variants: Vec<&str> = cases.iter().map(|c| c.variant.as_str()).collect();
        variants.sort_unstable();
        variants.dedup();
        for variant in variants {
            let mut cases: Vec<&Case> =
                cases.iter().filter(|c| c.variant == variant).copied().collect();
            by_size(&mut cases);
            let faults = faults(signature, &scope(signature, &cases));
            groups.push(Group { op, variant, faults, cases });
        }
    }
    groups
}

fn scope(signature: &Signature, cases: &[&Case]) -> Scope {
    let mut scope = Scope { dtype: cases.first().map(|c| c.ask.dtype), ..Scope::default() };
    for case in cases {
        if let Expect::Answer { tolerance, .. } = &case.expect {
            scope.exact |= tolerance.rule == ToleranceRule::Exact;
        }
        let weight = signature.weight().map(|w| w.name);
        let stored = |name: &str| -> Option<DType> {
            case.ask.operands.iter().find(|i| i.name == name).map(|i| i.meta.dtype)
        };
        scope.weight = scope.weight.or(weight.and_then(stored));
        for (name, value) in &case.ask.attributes {
            let keys = value.as_object().into_iter().flatten();
            let numbers = keys.filter(|(_, value)| value.is_number());
            scope.keys.extend(numbers.map(|(key, _)| (name.clone(), key.clone())));
        }
    }
    scope
}

/// The names of all faults.
pub fn names(specs: &Specs) -> Vec<String> {
    let groups = groups(specs);
    groups.iter().flat_map(|g| g.faults.iter().map(|f| g.name(f)).collect::<Vec<_>>()).collect()
}

/// Plants the faults whose full names are selected, and gives their outcomes in the order of
/// [`groups`].
pub fn plant(planting: &Planting<'_>, mut selects: impl FnMut(&str) -> bool) -> Vec<Outcome> {
    let mut groups = groups(planting.specs);
    for group in &mut groups {
        let faults = std::mem::take(&mut group.faults);
        group.faults = faults.into_iter().filter(|fault| selects(&group.name(fault))).collect();
    }
    groups.retain(|group| !group.faults.is_empty());
    // By index, so that the outcomes keep their order in whatever order threads finish.
    let outcomes = Mutex::new(vec![Vec::new(); groups.len()]);
    let next = AtomicUsize::new(0);
    // The dearest groups first, or one thread would work on the last of them alone.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(groups[*at].cost()));
    std::thread::scope(|scope| {
        for _ in 0..planting.jobs.clamp(1, groups.len().max(1)) {
            scope.spawn(|| {
                let mut worker = Worker::new(planting);
                while let Some(&at) = order.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let planted = group_outcomes(planting, &groups[at], &mut worker);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes[at] = planted;
                    }
                }
                worker.finish();
            });
        }
    });
    outcomes.into_inner().unwrap_or_default().into_iter().flatten().collect()
}

impl Group<'_> {
    fn cost(&self) -> usize {
        self.cases.iter().map(|case| elements(case)).fold(0, usize::saturating_add)
    }
}

/// What is known of a fault while its cases are asked.
#[derive(Clone, Debug, Default)]
struct Progress {
    killed: Option<(String, &'static str)>,
    passed: usize,
    refused: usize,
    load: f64,
    unable: Option<String>,
}

/// Plants all faults of a group. Each case is asked once and then has every fault planted that no
/// smaller case has detected.
fn group_outcomes(
    planting: &Planting<'_>,
    group: &Group<'_>,
    worker: &mut dyn Answering,
) -> Vec<Outcome> {
    let equivalent = &planting.specs.equivalent.equivalent;
    let reasons: Vec<Option<&str>> =
        group.faults.iter().map(|fault| reason(equivalent, group, fault)).collect();
    let mut progress = vec![Progress::default(); group.faults.len()];
    let mut before = Results::new();
    let (mut asked_cases, mut too_large, mut withheld) = (0, 0, None);
    for case in &group.cases {
        if elements(case) > LARGEST {
            too_large += 1;
            continue;
        }
        let open = |at: &usize| reasons[*at].is_none() && progress[*at].killed.is_none();
        let open: Vec<usize> = (0..group.faults.len())
            .filter(open)
            .filter(|at| concerns(case, &group.faults[*at]))
            .collect();
        // Asked before each case, so that a stopped run ends within one of them.
        if planting.stop.load(Ordering::SeqCst) {
            withheld = Some("the run was stopped".to_owned());
            break;
        }
        if open.is_empty() {
            continue;
        }
        let mut asked = match Asked::new(case, planting.goldens, worker) {
            Ok(Some(asked)) => asked,
            Ok(None) => continue,
            Err(why) => {
                withheld = Some(format!("{}: {why}", case.name));
                continue;
            }
        };
        asked_cases += 1;
        for at in open {
            let progress = &mut progress[at];
            match asked.plant(&group.faults[at], &before, worker) {
                Tried::Failed(by) => progress.killed = Some((case.name.clone(), by)),
                Tried::Passed(load) => {
                    progress.passed += 1;
                    progress.load = larger(progress.load, load);
                }
                Tried::Refused => progress.refused += 1,
                Tried::Unable(why) => progress.unable = Some(why),
                Tried::Unchanged => {}
            }
        }
        before.clone_from(asked.right());
    }
    let context = Context { asked: asked_cases, too_large, withheld };
    let pairs = group.faults.iter().zip(reasons).zip(progress);
    pairs
        .map(|((fault, reason), progress)| outcome(group, fault, reason, progress, &context))
        .collect()
}

/// Whether a case can show a fault at all. Those that the definition answers are dear, and are
/// asked only about what small cases cannot show.
fn concerns(case: &Case, fault: &Fault) -> bool {
    let Some((of_result, name, axis, edge)) = fault.change.needs() else {
        return !by_definition(case);
    };
    let operand = case.ask.operands.iter().find(|input| input.name == name);
    match operand.filter(|_| !of_result) {
        Some(input) => axis.of(&input.meta.shape).is_some_and(|[_, size, _]| size > edge),
        None => {
            let results = crate::kinds::op::oracle::results(case).unwrap_or_default();
            let shape = results.into_iter().find(|(result, _)| *result == name);
            let size = shape.and_then(|(_, meta)| axis.of(&meta.shape));
            size.is_some_and(|[_, size, _]| size > edge)
        }
    }
}

struct Context {
    /// How many cases were asked.
    asked: usize,
    /// How many were too large.
    too_large: usize,
    /// Why a case was not, if one was not.
    withheld: Option<String>,
}

/// Why a fault survived, in words.
fn survived(passed: usize, refused: usize, load: f64, context: &Context) -> String {
    let mut why = match passed {
        0 => format!("changes nothing in any of {} cases", context.asked),
        n => format!("{n} cases pass; the largest load is {load:.3}"),
    };
    if refused > 0 {
        why.push_str(&format!("; its question is refused in {refused}"));
    }
    if context.too_large > 0 {
        why.push_str(&format!("; {} are too large to plant it in", context.too_large));
    }
    why
}

fn outcome(
    group: &Group<'_>,
    fault: &Fault,
    reason: Option<&str>,
    progress: Progress,
    context: &Context,
) -> Outcome {
    let mut outcome = Outcome {
        name: group.name(fault),
        op: group.op.to_owned(),
        variant: group.variant.to_owned(),
        case: String::new(),
        fate: Fate::Survived { why: String::new() },
    };
    outcome.fate = match (reason, progress.killed, progress.unable, &context.withheld) {
        (Some(reason), ..) => Fate::Equivalent { reason: reason.to_owned() },
        (None, Some((case, by)), ..) => {
            outcome.case = case;
            Fate::Killed { variant: group.variant.to_owned(), by: by.to_owned() }
        }
        // What could not be asked might have detected it.
        (None, None, Some(why), _) => Fate::NotRun { why },
        (None, None, None, Some(why)) => Fate::NotRun { why: why.clone() },
        (None, None, None, None) => Fate::Survived {
            why: survived(progress.passed, progress.refused, progress.load, context),
        },
    };
    outcome
}

/// Why nobody could tell a fault from the right answer, if that was reviewed.
fn reason<'e>(list: &'e [EquivalentFault], group: &Group<'_>, fault: &Fault) -> Option<&'e str> {
    let named = |entry: &&EquivalentFault| entry.names(group.op, group.variant, &fault.name);
    list.iter().find(named).map(|entry| entry.reason.as_str())
}

/// The outcomes as JSON, with their scores: what `goldgate mutate --generate --json` prints.
pub fn json(outcomes: &[Outcome]) -> Value {
    let scores = scores(outcomes);
    serde_json::json!({ "faults": outcomes, "scores": scores, "percent": percent(&scores) })
}
