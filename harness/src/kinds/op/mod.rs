//! The kind *op*: one question about one op, whose results are compared with a golden element by
//! element.

pub mod case;
pub mod declared;
pub mod distance;
pub mod edit;
pub mod expand;
mod expect;
pub mod golden;
pub mod judge;
pub mod names;
pub mod oracle;
pub mod outcome;
pub mod page;
pub mod question;
pub mod read;
pub mod recompute;
pub mod same_bits;
pub mod selfcheck;
pub mod spec;
pub mod strength;
pub mod values;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use goldgate_engine::ops::{self, Inputs, Values};
use goldgate_tensor::{DType, Tensor};
use goldgate_wire::Observed;
use goldgate_wire::call::OpAnswer;
use goldgate_wire::frame::too_big;

use crate::fill::{Input, fill};
use crate::kinds::mutant::Mutant;
use crate::kinds::op::case::{Case, Expect, GoldenSource, SameBits, Tolerance, ToleranceRule};
use crate::kinds::op::distance::Ruler;
use crate::kinds::op::golden::{Golden, GoldenResult, Numbers};
use crate::kinds::op::judge::{judge, rulers};
use crate::kinds::op::oracle::depends_on_type;
use crate::kinds::op::outcome::Outcome;
use crate::kinds::op::question::OpQuestion;
use crate::kinds::op::same_bits::Differs;
use crate::kinds::op::selfcheck::{Fault, faults, self_check};
use crate::kinds::{Answers, Goldens, Kind, Plant, Withheld, fate};
use crate::line::{
    BrokenKind, Caller, FailKind, Fate, Head, Judgement, NotRun, On, Part, Reply, Sort, Stopped,
    Verdict, Whom,
};

/// The kind *op*.
#[derive(Clone, Copy, Debug)]
pub struct Op;

/// A question with its inputs computed, and the other forms in which it is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The question.
    pub op: OpQuestion,
    /// A fair question of the same op, where the question is to be refused.
    pub control: Option<OpQuestion>,
    /// Whether it is asked in several forms, whose answers are compared.
    pub forms: bool,
    /// How often it is asked; every answer must have the same bits.
    pub repeat: u32,
    /// Rows that are asked in parts and must have the same bits.
    pub same_bits: Option<SameBits>,
    /// The memory that it needs, in MiB.
    pub memory_mib: u64,
    /// The time limit.
    pub limit: Duration,
}

/// What is expected: the golden, and the rulers that judge each of its results.
#[derive(Debug)]
pub struct Expected {
    /// The golden.
    pub golden: Arc<Golden>,
    /// One ruler per result.
    pub rulers: Vec<Ruler>,
    /// What is expected of the control of a refusal.
    pub control: Option<Box<Expected>>,
}

/// The answers of a subject.
#[derive(Debug)]
pub struct Got {
    /// The first answer.
    pub outcome: Outcome,
    /// The answer to the control of a refusal; none if it cannot be asked.
    pub control: Option<Outcome>,
    /// The difference, if another form of asking gave different bits.
    pub differs: Option<Differs>,
}

impl Kind for Op {
    type Case = Case;
    type Question = Question;
    type Golden = Expected;
    type Got = Got;

    fn head(&self, case: &Case) -> Head {
        let (golden, definition) = match &case.expect {
            // Its answers are compared with each other.
            _ if case.part == Part::Bits => (None, false),
            Expect::Refusal { .. } => (None, false),
            Expect::Answer { golden: GoldenSource::Definition, .. } => (None, true),
            Expect::Answer { golden: GoldenSource::File(path), .. } => (Some(path.clone()), false),
            Expect::Answer { golden: GoldenSource::Written(_), .. } => {
                (Some(format!("written {}::{}", case.stem, case.name)), false)
            }
        };
        Head {
            name: case.full_name(),
            kind: "op",
            sort: Sort::Case,
            gate: case.gate,
            stem: case.stem.clone(),
            case: case.name.clone(),
            variant: case.label(),
            why: case.why.clone(),
            source: case.source.clone(),
            place: Some(case.place.clone()),
            family: case.family,
            dtype: Some(case.ask.dtype),
            golden,
            definition,
            slow: case.slow,
            // Otherwise the definition would be judged by itself.
            on: if definition { On::NotDefinition } else { On::Engines },
            group: None,
        }
    }

    /// The memory for a case: its operands as stored, and widened twice if a definition answers.
    fn cost(&self, case: &Case) -> u64 {
        let wide = if by_definition(case) { 16 } else { 8 };
        let operand = |input: &Input| {
            input.meta.bytes().unwrap_or(0) + wide * input.meta.volume().unwrap_or(0)
        };
        case.ask.operands.iter().map(|input| operand(input) as u64).sum()
    }

    fn held(&self, question: &Question, expected: &Expected) -> u64 {
        let operands: usize = question.op.tensors.values().map(|t| t.bytes.len()).sum();
        let results: usize = expected.rulers.iter().map(Ruler::len).sum();
        // Each element of a result has several numbers in its ruler.
        (operands + 64 * results) as u64
    }

    /// The key of a definition: on the common grid one definition serves every float type, as one
    /// golden does.
    fn shares(&self, case: &Case) -> Option<String> {
        let numbers = case.part == Part::Numbers;
        (numbers && by_definition(case)).then(|| definition_key(case))
    }

    fn golden(&self, case: &Case, from: &dyn Goldens) -> Result<Expected, Withheld> {
        let golden = match &case.expect {
            _ if case.part == Part::Bits => Arc::default(),
            Expect::Refusal { .. } => Arc::default(),
            Expect::Answer { golden: GoldenSource::Definition, tolerance } => {
                let define =
                    || defined(&OpQuestion::from_case(case, fill), tolerance).map(Arc::new);
                from.defined(case, &define).map_err(broken_harness)?
            }
            // Written numbers have half a unit of their last digit in addition to the derived
            // bound.
            Expect::Answer { golden: GoldenSource::Written(_), tolerance } => {
                let mut golden = from.golden(case)?;
                if tolerance.rule == ToleranceRule::Derived {
                    let derived = defined(&OpQuestion::from_case(case, fill), tolerance)
                        .map_err(broken_harness)?;
                    for (name, result) in &mut golden.results {
                        result.slack.clone_from(&derived.results[name].slack);
                        result.keeps.clone_from(&derived.results[name].keeps);
                    }
                }
                Arc::new(golden)
            }
            Expect::Answer { .. } => Arc::new(from.golden(case)?),
        };
        let rulers = rulers(case, &golden);
        let control = case.control.as_deref().map(|control| self.golden(control, from));
        let control = control.transpose()?.map(Box::new);
        Ok(Expected { golden, rulers, control })
    }

    fn self_check(&self, case: &Case, expected: &Expected) -> Result<(u32, u32), String> {
        if case.part == Part::Bits {
            return same_bits::self_check();
        }
        self_check(&case.expect, &expected.rulers)?;
        Ok(faults(&expected.rulers))
    }

    fn question(&self, case: &Case, _: &Expected, _: &dyn Goldens) -> Result<Question, Withheld> {
        let forms = case.part == Part::Bits;
        Ok(Question {
            op: OpQuestion::from_case(case, fill),
            control: case.control.as_deref().map(|control| OpQuestion::from_case(control, fill)),
            forms,
            repeat: if forms { case.repeat } else { 1 },
            same_bits: case.same_bits.clone().filter(|_| forms),
            memory_mib: case.memory_mib,
            limit: case.timeout,
        })
    }

    fn ask(&self, question: &Question, to: &mut Caller<'_>) -> Result<Got, Stopped> {
        to.set_limit(question.limit);
        // A device that is too small is no fault of the subject, so the case is not asked rather
        // than failed.
        if let Some(have) = to.hello().memory_bytes().map(|bytes| bytes >> 20)
            && question.memory_mib > have
        {
            let need = question.memory_mib;
            return Err(to.too_big(format!("needs {need} MiB, the device has {have}")));
        }
        if question.forms {
            same_bits::need(question, to)?;
        }
        let outcome = outcome_of(put(&question.op, to)?);
        let control = match &question.control {
            // A question that hello excludes cannot be the control of a refusal.
            Some(control) if to.hello().lacks(control).is_none() => {
                Some(outcome_of(put(control, to)?))
            }
            _ => None,
        };
        // The other forms are asked only after an answer: a refusal has no bits to compare.
        let differs = match &outcome {
            Outcome::Answered { results, .. } => same_bits::ask(question, results, to)?,
            Outcome::Refused { .. } => None,
        };
        Ok(Got { outcome, control, differs })
    }

    fn judge(&self, case: &Case, expected: &Expected, got: &Got, whom: &Whom) -> Judgement {
        if case.part == Part::Bits {
            return same_bits::judge(got);
        }
        let rulers = declared::rulers(case, expected, whom);
        let mut judged = judge(&case.expect, &rulers, &got.outcome, whom);
        if let (Verdict::Pass, Expect::Refusal { .. }) = (&judged.verdict, &case.expect)
            && let Some(message) = uncontrolled(case, expected, got.control.as_ref(), whom)
        {
            judged.verdict = Verdict::NotRun { kind: NotRun::NoControl, message };
        }
        let mut judgement = Judgement::unmeasured(judged.verdict);
        judgement.notes = judged.notes;
        if let Some(distance) = judged.distance {
            judgement.load = Some(distance.load);
            judgement.compared = distance.compared;
            judgement.detail = page::worst(&distance);
            judgement.worst = distance.worst;
        }
        if let Outcome::Answered { observed, .. } = &got.outcome {
            judgement.observed = observed.clone();
        }
        // The reader of the row must know that no independent source computed the expected numbers.
        if by_definition(case) {
            judgement.notes.push("judged by the CPU definition".to_owned());
        }
        judgement
    }

    fn answers(&self, expected: &Expected) -> Option<Answers> {
        let rulers = &expected.rulers;
        // A wrong sign must be visible, or the broken subject would rightly pass.
        let shown = rulers.iter().flat_map(|r| r.want.iter()).any(|w| w.is_finite() && *w != 0.0);
        let answer = |fault| rulers.iter().map(|r| (r.name.clone(), rounded(r, fault))).collect();
        shown.then(|| Answers { right: answer(None), wrong: answer(Some(Fault::Sign)) })
    }

    fn detail(&self, case: &Case, expected: Option<&Expected>) -> Vec<(&'static str, String)> {
        page::expected(case, expected.map(|e| &*e.golden))
    }

    fn plant(
        &self,
        case: &Case,
        expected: &Expected,
        mutant: &Mutant,
        from: &dyn Goldens,
    ) -> Result<Plant<Question, Got>, String> {
        let question = self.question(case, expected, from).map_err(Withheld::message)?;
        if case.part == Part::Bits && mutant.kernel.is_none() {
            return Err("its answers are compared with each other, not with the golden".to_owned());
        }
        // A changed kernel is asked the case's own question.
        if mutant.kernel.is_some() {
            return Ok(Plant::Asked(question, None));
        }
        if let Some(edit) = &mutant.ask {
            let asked = edit::apply(&question.op, edit)?;
            // Reported as what it is, because the survivor would otherwise look like a weakness of
            // its case.
            if asked == question.op {
                return Err("the edit changes nothing".to_owned());
            }
            // Another op answers under its own names, and the judge expects the case's.
            let names = (asked.op.clone(), question.op.op.clone());
            let twist = Box::new(move |got: &mut Got| {
                if let Outcome::Answered { results, .. } = &mut got.outcome {
                    *results = edit::renamed(std::mem::take(results), &names.0, &names.1);
                }
            });
            // One answer suffices to detect the fault.
            let question = Question { op: asked, repeat: 1, same_bits: None, ..question };
            return Ok(Plant::Asked(question, Some(twist)));
        }
        let name = mutant.wrong.as_ref().ok_or("it is neither `ask` nor `wrong`")?;
        let results = wrong(&expected.golden, &expected.rulers, name)?;
        let observed = Observed::default();
        let outcome = Outcome::Answered { results, observed };
        Ok(Plant::Answered(Got { outcome, control: None, differs: None }))
    }

    /// The outcome of a fault. A question that cannot be answered plants nothing, nor does source
    /// that does not compile, so such faults do not count as detected.
    fn fate(&self, case: &Case, mutant: &Mutant, judgement: &Judgement) -> Fate {
        let survived =
            |message: &str| Fate::Survived { why: format!("{}: {message}", case.variant) };
        let answers = matches!(case.expect, Expect::Answer { .. });
        match &judgement.verdict {
            Verdict::Fail { kind: FailKind::WrongRefusal, message }
                if mutant.ask.is_some() && answers =>
            {
                survived(&format!("cannot be asked: {message}"))
            }
            Verdict::Fail { kind: FailKind::Internal, message } if mutant.kernel.is_some() => {
                survived(message)
            }
            Verdict::NotRun { message, .. } if mutant.kernel.is_some() => {
                Fate::NotRun { why: format!("{}: {message}", case.variant) }
            }
            _ => fate(&case.variant, judgement),
        }
    }
}

fn outcome_of(reply: Reply<OpAnswer>) -> Outcome {
    match reply {
        Reply::Refused(refused) => Outcome::Refused {
            kind: refused.word().to_owned(),
            operand: refused.field().to_owned(),
            message: refused.message,
        },
        Reply::Ok(OpAnswer { results, observed }) => Outcome::Answered { results, observed },
    }
}

/// Why a refusal counts for nothing: its control was not answered correctly. None if it was, or if
/// the op has no case that can be a control.
fn uncontrolled(
    case: &Case,
    expected: &Expected,
    got: Option<&Outcome>,
    whom: &Whom,
) -> Option<String> {
    let (control, right) = case.control.as_deref().zip(expected.control.as_deref())?;
    let Some(got) = got else {
        return Some(format!("{} is not offered", control.full_name()));
    };
    let rulers = declared::rulers(control, right, whom);
    match judge(&control.expect, &rulers, got, whom).verdict {
        Verdict::Pass => None,
        Verdict::Fail { kind, message } => {
            let (name, kind) = (control.full_name(), kind.word());
            Some(format!("{name} is not answered rightly: {kind}: {message}"))
        }
        _ => Some(format!("{} decides nothing", control.full_name())),
    }
}

/// Puts one question about an op, unless hello shows that it is not offered.
pub fn put(question: &OpQuestion, to: &mut Caller<'_>) -> Result<Reply<OpAnswer>, Stopped> {
    if let Some(what) = to.hello().lacks(question) {
        return Err(to.unsupported(&format!("does not offer {what}")));
    }
    // An answer that cannot be sent would look like a crash, so it is not asked for.
    let (room, answer) = (to.hello().max_frame(), question.answer_bytes());
    if answer > room && !to.hello().attaches() {
        return Err(to.too_big(too_big("the answer", answer, room)));
    }
    // What hello does not exclude may not be answered by `unsupported`, or a subject could dodge
    // single questions.
    to.ask_promised(&question.call(to.limit()), true)
}

fn broken_harness(message: String) -> Withheld {
    Withheld::Broken(BrokenKind::Harness, message)
}

/// Whether the CPU definition stands in for a golden.
pub fn by_definition(case: &Case) -> bool {
    matches!(&case.expect, Expect::Answer { golden: GoldenSource::Definition, .. })
}

/// Stem, case, and the stored types that a definition's answer depends on.
pub fn definition_key(case: &Case) -> String {
    let own = depends_on_type(case);
    let mut key = format!("{}::{}", case.stem, case.name);
    for input in &case.ask.operands {
        key.push_str(&match input.meta.dtype {
            // Float operands hold the same values in every type here, so only the shape
            // distinguishes them.
            dtype if dtype.is_float() && !own => format!(" {} {:?}", input.name, input.meta.shape),
            _ => format!(" {} {}", input.name, input.meta),
        });
    }
    if own {
        key.push(' ');
        key.push_str(case.ask.dtype.name());
    }
    key
}

/// The definition's answer, unrounded, with its slack.
fn defined(question: &OpQuestion, tolerance: &Tolerance) -> Result<Golden, String> {
    let op = ops::find(&question.op).ok_or_else(|| format!("no op {}", question.op))?;
    let checked = question::check(question, op).map_err(|r| r.to_string())?;
    let inputs = Inputs::of(question.tensors.iter().map(|(n, t)| (n.as_str(), t)));
    let values = op.define(&checked, &inputs).map_err(|r| r.to_string())?;
    let sums = recompute::sums(tolerance);
    let asked =
        ops::Asked { question: &checked, inputs: &inputs, tensors: &question.tensors, sums };
    let slacks = op.slack(&asked, &values);
    let mut golden = Golden::default();
    for (((name, meta), values), slack) in checked.results().into_iter().zip(values).zip(slacks) {
        // In f32, as golden files store it, so that both kinds of golden allow the same.
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
            declared: BTreeMap::new(),
            shaky: BTreeMap::new(),
        };
        golden.results.insert(name.to_owned(), result);
    }
    Ok(golden)
}

/// The rounded golden, with a fault in every element if one is given.
fn rounded(ruler: &Ruler, fault: Option<Fault>) -> Tensor {
    let element = |i: usize| fault.map_or(ruler.want[i], |f| f.plant(ruler, i));
    let values: Vec<f64> = (0..ruler.len()).map(element).collect();
    match ruler.meta.dtype {
        // Ids can change sign as well, but -0 is 0, so it becomes 1.
        DType::I32 => {
            let id = |x: &f64| if fault.is_some() && *x == 0.0 { 1 } else { *x as i32 };
            Tensor::from_i32(&ruler.meta.shape, &values.iter().map(id).collect::<Vec<_>>())
        }
        dtype => Tensor::from_f64(dtype, &ruler.meta.shape, &values),
    }
}

type Results = std::collections::BTreeMap<String, Tensor>;

/// The wrong answer of the oracle, rounded. Results that it does not contain are the golden's.
fn wrong(golden: &Golden, rulers: &[Ruler], name: &str) -> Result<Results, String> {
    let wrong = golden.wrong.get(name).ok_or_else(|| format!("no wrong.{name} in the golden"))?;
    let mut results = Results::new();
    for ruler in rulers {
        let (dtype, shape) = (ruler.meta.dtype, &ruler.meta.shape);
        let tensor = match wrong.get(&ruler.name) {
            Some(Numbers::Real(x)) if x.len() == ruler.len() => Tensor::from_f64(dtype, shape, x),
            Some(Numbers::Ids(x)) if x.len() == ruler.len() => Tensor::from_i32(shape, x),
            // An answer of another shape would be noticed by its shape alone and prove nothing
            // about its numbers.
            Some(x) => return Err(format!("wrong.{name}.{}: {} elements", ruler.name, x.len())),
            None if dtype == DType::I32 => {
                let ids: Vec<i32> = ruler.want.iter().map(|&x| x as i32).collect();
                Tensor::from_i32(shape, &ids)
            }
            None => Tensor::from_f64(dtype, shape, &ruler.want),
        };
        results.insert(ruler.name.clone(), tensor);
    }
    Ok(results)
}
