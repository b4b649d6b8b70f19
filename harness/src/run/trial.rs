//! One trial: the judge on trial, the question, the judgement, the same bits, the row.

use std::sync::Arc;
use std::time::Duration;

use goldgate_engine::ops::{self, Inputs, Values};
use sha2::{Digest, Sha256};

use crate::case::{Accumulate, Case, Expect, GoldenSource, Tolerance, ToleranceRule};
use crate::distance::Ruler;
use crate::execution::{Execution, Observed, Outcome};
use crate::fill::fill;
use crate::golden::{Golden, GoldenResult, Numbers};
use crate::judge::{Asked, Judgement, judge, rulers};
use crate::page::{Facts, page};
use crate::report::Row;
use crate::report::provenance::hex;
use crate::run::{Context, Withheld, same};
use crate::selfcheck::{faults, self_check};
use crate::subject::{How, OpQuestion, Subject, SubjectSpec, perfect};
use crate::verdict::{BrokenKind, NotRun, Verdict};

/// A case on a subject.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Its full name, subject last.
    pub name: String,
    /// The case.
    pub case: Arc<Case>,
    /// Which of the plan's subjects.
    pub subject: usize,
    /// The one command that runs it again.
    pub again: String,
    /// The subject's label.
    pub label: String,
}

impl Trial {
    /// The trial of `case` on the `at`-th subject.
    pub fn new(case: Arc<Case>, at: usize, subject: &SubjectSpec) -> Trial {
        let name = case.trial(&subject.label);
        let again = format!("goldgate run {name}{}", subject.option());
        Trial { name, case, subject: at, again, label: subject.label.clone() }
    }
}

/// Whether the CPU definition answers in place of a golden.
pub fn by_definition(case: &Case) -> bool {
    matches!(&case.expect, Expect::Answer { golden: GoldenSource::Definition, .. })
}

/// A row with nothing measured.
pub fn row(trial: &Trial, verdict: Verdict) -> Row {
    Row {
        name: trial.name.clone(),
        verdict,
        gate: trial.case.gate,
        stem: trial.case.stem.clone(),
        kind: "op".to_owned(),
        subject: trial.label.clone(),
        family: trial.case.family,
        load: None,
        compared: 0,
        faults: (0, 0),
        time_ms: 0.0,
        observed: Observed::default(),
        page: None,
        worst: None,
        figures: std::collections::BTreeMap::new(),
        notes: Vec::new(),
    }
}

/// A trial whose question is filled, whose golden is read or defined, and on which the judge stood
/// its own trial: what is left to do is to ask.
pub(super) struct Prepared {
    question: OpQuestion,
    golden: Arc<Golden>,
    rulers: Vec<Ruler>,
}

impl Prepared {
    /// About how much memory it holds, in bytes.
    pub fn bytes(&self) -> u64 {
        let operands: usize = self.question.tensors.values().map(|t| t.bytes.len()).sum();
        let results: usize = self.rulers.iter().map(Ruler::len).sum();
        (operands + 64 * results) as u64
    }
}

/// About how much memory the preparation of a case takes, in bytes: its operands as stored, and
/// widened twice where a definition answers.
pub(super) fn bytes_to_prepare(case: &Case) -> u64 {
    let wide = if by_definition(case) { 16 } else { 8 };
    let operand = |input: &crate::case::Input| {
        input.meta.bytes().unwrap_or(0) + wide * input.meta.volume().unwrap_or(0)
    };
    case.ask.operands.iter().map(|input| operand(input) as u64).sum()
}

/// Fills the question, reads or defines the golden, puts the judge on trial.
///
/// # Errors
/// The row of a trial that cannot be judged.
pub(super) fn prepare(context: &Context<'_>, trial: &Trial) -> Result<Prepared, Box<Row>> {
    let case = &*trial.case;
    let question = OpQuestion::of(case, fill);
    let golden = golden(context, case, &question).map_err(|withheld| {
        Box::new(match withheld {
            Withheld::Broken(kind, message) => broken(trial, kind, message),
            Withheld::NotRun(kind, message) => row(trial, Verdict::NotRun { kind, message }),
        })
    })?;
    let rulers = rulers(case, &golden);
    self_check(&case.expect, &rulers)
        .map_err(|message| Box::new(broken(trial, BrokenKind::SelfCheck, message)))?;
    Ok(Prepared { question, golden, rulers })
}

/// Asks and judges one trial; the row, and a hash of the answer's bits.
pub(super) fn ask(
    context: &Context<'_>,
    trial: &Trial,
    prepared: &Prepared,
    subject: &mut dyn Subject,
) -> (Row, Option<String>) {
    let case = &*trial.case;
    let Prepared { question, golden, rulers } = prepared;
    if let Some(message) = too_big(case, subject) {
        return (row(trial, Verdict::NotRun { kind: NotRun::TooBig, message }), None);
    }
    let limit = context.options.timeout.unwrap_or(case.timeout);
    let execution = subject.op(question, limit);
    let asked = asked(context, trial.subject, subject);
    let mut judgement = judge(&case.expect, rulers, &execution.outcome, &asked);
    if judgement.passed()
        && let Some(verdict) = same::judge(case, question, &execution, subject, limit)
    {
        judgement.verdict = verdict;
    }
    if by_definition(case) {
        judgement.notes.push("judged by the CPU definition".to_owned());
    }
    let bits = bits(&execution.outcome);
    let mut told = told(trial, golden, rulers, &execution, judgement);
    told = (context.known)(told, subject.hello().device_name());
    (told, bits)
}

/// Who answers for the `at`-th subject of the plan.
pub(super) fn asked(context: &Context<'_>, at: usize, subject: &dyn Subject) -> Asked {
    match context.plan.subjects[at].how {
        How::Cpu => Asked::Cpu,
        How::Cuda(_) => Asked::Cuda,
        How::Command(_) => Asked::Foreign(subject.hello().device_kind().to_owned()),
    }
}

fn broken(trial: &Trial, kind: BrokenKind, message: String) -> Row {
    let mut broken = row(trial, Verdict::Broken { kind, message });
    broken.page = Some(page_of(trial, &broken.verdict, None, None, ""));
    broken
}

fn told(
    trial: &Trial,
    golden: &Golden,
    rulers: &[Ruler],
    execution: &Execution,
    judgement: Judgement,
) -> Row {
    let Judgement { verdict, distance, notes } = judgement;
    let failed = matches!(verdict, Verdict::Fail { .. });
    let mut told = row(trial, verdict);
    told.faults = faults(rulers);
    told.time_ms = execution.time.as_secs_f64() * 1e3;
    told.notes = notes;
    if let Outcome::Answered { observed, .. } = &execution.outcome {
        told.observed = observed.clone();
    }
    if let Some(distance) = &distance {
        told.load = Some(distance.load);
        told.compared = distance.compared;
    }
    if failed {
        let text =
            page_of(trial, &told.verdict, distance.as_ref(), Some(golden), &execution.stderr);
        told.page = Some(text);
        told.worst = distance.and_then(|d| d.worst);
    }
    told
}

fn page_of(
    trial: &Trial,
    verdict: &Verdict,
    distance: Option<&crate::distance::Distance>,
    golden: Option<&Golden>,
    stderr: &str,
) -> String {
    let (case, again) = (&*trial.case, trial.again.as_str());
    page(&Facts { case, trial: &trial.name, verdict, distance, golden, again, stderr })
}

/// More memory than the subject's device has.
fn too_big(case: &Case, subject: &dyn Subject) -> Option<String> {
    let have = subject.hello().memory_bytes()? >> 20;
    (case.memory_mib > have)
        .then(|| format!("needs {} MiB, the device has {have}", case.memory_mib))
}

/// The golden, or for `judge: definition` what the definition says, unrounded.
fn golden(
    context: &Context<'_>,
    case: &Case,
    question: &OpQuestion,
) -> Result<Arc<Golden>, Withheld> {
    match &case.expect {
        Expect::Refusal { .. } => Ok(Arc::default()),
        Expect::Answer { golden: GoldenSource::Definition, tolerance } => context
            .definitions
            .of_case(case, || defined(question, tolerance).map(Arc::new))
            .map_err(|m| Withheld::Broken(BrokenKind::Harness, m)),
        // Numbers written by hand: half a unit of their last digit, besides the derived bound.
        Expect::Answer { golden: GoldenSource::Written(_), tolerance } => {
            let mut golden = context.goldens.golden(case)?;
            if tolerance.rule == ToleranceRule::Derived {
                let derived = defined(question, tolerance)
                    .map_err(|m| Withheld::Broken(BrokenKind::Harness, m))?;
                for (name, result) in &mut golden.results {
                    result.slack.clone_from(&derived.results[name].slack);
                    result.keeps.clone_from(&derived.results[name].keeps);
                }
            }
            Ok(Arc::new(golden))
        }
        Expect::Answer { .. } => context.goldens.golden(case).map(Arc::new),
    }
}

/// What the definition answers, with its slack.
fn defined(question: &OpQuestion, tolerance: &Tolerance) -> Result<Golden, String> {
    let op = ops::find(&question.op).ok_or_else(|| format!("no op {}", question.op))?;
    let checked = perfect::check(question, op).map_err(|r| r.to_string())?;
    let inputs = Inputs::of(question.tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let values = op.define(&checked, &inputs).map_err(|r| r.to_string())?;
    let sums = ops::Sums {
        tensor: tolerance.accumulate == Accumulate::Tensor,
        linear: tolerance.linear_sum,
    };
    let asked =
        ops::Asked { question: &checked, inputs: &inputs, tensors: &question.tensors, sums };
    let slacks = op.slack(&asked, &values);
    let mut golden = Golden::default();
    for (((name, meta), values), slack) in checked.results().into_iter().zip(values).zip(slacks) {
        let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect();
        let numbers = match values {
            Values::Real(x) => Numbers::Real(x),
            Values::Ids(x) => Numbers::Ids(x),
        };
        let result = GoldenResult {
            shape: meta.shape,
            numbers,
            slack: narrow(slack.slack),
            keeps: slack.keeps.into_iter().map(|(k, x)| (k.to_owned(), narrow(x))).collect(),
            absolute: Vec::new(),
            decided: Vec::new(),
        };
        golden.results.insert(name.to_owned(), result);
    }
    Ok(golden)
}

/// A hash over every result's name, type, shape and bytes.
fn bits(outcome: &Outcome) -> Option<String> {
    let Outcome::Answered { results, .. } = outcome else { return None };
    let mut hash = Sha256::new();
    for (name, tensor) in results {
        hash.update(format!("{name} {}\n", tensor.meta));
        hash.update(&tensor.bytes);
    }
    Some(hex(&hash.finalize()))
}

/// The limit of a question.
pub(super) fn limit(context: &Context<'_>, case: &Case) -> Duration {
    context.options.timeout.unwrap_or(case.timeout)
}
