//! A case that was asked once: its question, the right answer, and the judge. Every fault of its
//! group is planted in these.

use std::collections::BTreeMap;

use goldgate_engine::ops::signature::Class;
use goldgate_engine::ops::{self, Values};
use goldgate_tensor::Tensor;
use goldgate_tensor::shape::Meta;
use goldgate_wire::Observed;

use crate::fill::fill;
use crate::kinds::op::case::Case;
use crate::kinds::op::distance::{Ruler, exceeds};
use crate::kinds::op::judge::judge;
use crate::kinds::op::outcome::Outcome;
use crate::kinds::op::question::{self, OpQuestion};
use crate::kinds::op::{self, by_definition};
use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Verdict, Whom};
use crate::mutants::generated::attributes::nudged;
use crate::mutants::generated::fault::{Change, Edit, Fault};
use crate::mutants::generated::values::{applies, edited, moved, tensor, without_subnormal_scales};

/// Results by name.
pub type Results = BTreeMap<String, Tensor>;

/// Answers questions: a worker, or a stand-in for one in tests.
pub trait Answering {
    /// The results of a question; none if it is refused.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    fn answer(&mut self, case: &Case, question: &OpQuestion) -> Result<Option<Results>, String>;

    /// The results of a question by a wrong rule of arithmetic; none if the rule does not concern
    /// it.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    fn wrong(&mut self, question: &OpQuestion, rule: &str) -> Result<Option<Results>, String>;
}

/// What a fault came to in one case.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// The judge failed it, by this rule.
    Failed(&'static str),
    /// The judge passed it, with this load.
    Passed(f64),
    /// The case does not concern it: the question, or its answer, is the right one.
    Unchanged,
    /// The changed question is refused: a fault that nobody could have without noticing.
    Refused,
    /// It could not be tried, for this reason.
    Unable(String),
}

/// A case, asked and answered rightly.
pub struct Asked<'c> {
    case: &'c Case,
    op: &'static dyn ops::Op,
    question: OpQuestion,
    rulers: Vec<Ruler>,
    right: Results,
    /// Elements that were widened, by operand: many faults edit the same one.
    operands: BTreeMap<&'static str, Values>,
}

impl<'c> Asked<'c> {
    /// Asks a case, and has its answer judged: faults of an answer that is wrong already would be
    /// noticed for another reason. None if the golden of the case decides nothing.
    ///
    /// # Errors
    /// Why the case says nothing about faults, in words.
    pub fn new(
        case: &'c Case,
        goldens: &dyn Goldens,
        worker: &mut dyn Answering,
    ) -> Result<Option<Asked<'c>>, String> {
        let expected = op::Op.golden(case, goldens).map_err(Withheld::message)?;
        let question = OpQuestion::from_case(case, fill);
        let op = ops::find(&question.op).ok_or_else(|| format!("no op {}", question.op))?;
        let right = worker.answer(case, &question)?.ok_or("its question is refused")?;
        let rulers = expected.rulers;
        let asked = Asked { case, op, question, rulers, right, operands: BTreeMap::new() };
        match asked.judged(asked.right.clone()) {
            Tried::Passed(_) => Ok(Some(asked)),
            Tried::Failed(by) => Err(format!("the right answer fails it: {by}")),
            _ => Ok(None),
        }
    }

    /// The right answer.
    pub fn right(&self) -> &Results {
        &self.right
    }

    /// Plants a fault. `before` is the right answer to the question before.
    pub fn plant(&mut self, fault: &Fault, before: &Results, worker: &mut dyn Answering) -> Tried {
        match &fault.change {
            Change::Result(name, edit) => self.with_result(name, *edit),
            Change::Stale(name) => self.stale(name, before),
            Change::Operand(name, edit) => match self.with_operand(name, *edit) {
                Some(question) => self.answered(&question, Some(*name), worker),
                None => Tried::Unchanged,
            },
            Change::Omit(name) => {
                let mut question = self.question.clone();
                match question.tensors.remove(*name) {
                    Some(_) => self.answered(&question, None, worker),
                    None => Tried::Unchanged,
                }
            }
            Change::Attribute(name, key, nudge) => {
                let (signature, given) = (self.op.signature(), &self.question.attributes);
                match nudged(signature, given, (name, key.as_deref()), nudge) {
                    Some(attributes) if attributes != *given => {
                        let question = OpQuestion { attributes, ..self.question.clone() };
                        self.answered(&question, None, worker)
                    }
                    _ => Tried::Unchanged,
                }
            }
            Change::Arithmetic(rule) => match worker.wrong(&self.question, rule) {
                Ok(Some(results)) => self.compared(results),
                Ok(None) => Tried::Unchanged,
                Err(why) => Tried::Unable(why),
            },
        }
    }

    /// The question with an operand edited; none if that changes nothing.
    fn with_operand(&mut self, name: &'static str, edit: Edit) -> Option<OpQuestion> {
        let tensor_of = self.question.tensors.get(name)?;
        if !applies(edit, &tensor_of.meta.shape) {
            return None;
        }
        let ids = self.ids(edit);
        let changed = if edit == Edit::FlushScales {
            without_subnormal_scales(tensor_of)
        } else if let Some(moved) = moved(edit, tensor_of) {
            moved
        } else {
            let values = self.operands.entry(name).or_insert_with(|| Values::of(tensor_of));
            let meta = &tensor_of.meta;
            let new = edited(edit, values, &meta.shape, meta.dtype, ids)?;
            // Before rounding, because blocks become f32, whose bytes are others in any case.
            if new == *values {
                return None;
            }
            tensor(tensor_of, &new)
        };
        if changed == *tensor_of {
            return None;
        }
        let mut question = self.question.clone();
        if changed.meta.dtype != tensor_of.meta.dtype {
            self.widen_weights(&mut question);
        }
        question.tensors.insert(name.to_owned(), changed);
        Some(question)
    }

    /// Holds the weights of block types in f32, with the same numbers: some ops take weights of one
    /// type only, and one of them is in f32 now.
    fn widen_weights(&mut self, question: &mut OpQuestion) {
        let operands = self.op.signature().operands.iter();
        for name in operands.filter(|o| o.class == Class::W).map(|o| o.name) {
            let weight = question.tensors.get_mut(name).filter(|t| t.meta.dtype.is_block());
            if let Some(weight) = weight {
                let values = self.operands.entry(name).or_insert_with(|| Values::of(weight));
                *weight = tensor(weight, values);
            }
        }
    }

    /// How many ids there are, for the fault that never gives the last one.
    fn ids(&self, edit: Edit) -> Option<usize> {
        let Edit::LastId(symbol) = edit else { return None };
        question::check(&self.question, self.op).ok()?.dims.find(symbol)
    }

    /// Puts a changed question, and compares its answer. `edited` is the operand that was edited.
    fn answered(
        &self,
        question: &OpQuestion,
        edited: Option<&str>,
        worker: &mut dyn Answering,
    ) -> Tried {
        let mut results = match worker.answer(self.case, question) {
            Ok(Some(results)) => results,
            Ok(None) => return Tried::Refused,
            Err(why) => return Tried::Unable(why),
        };
        if let Some(operand) = edited {
            self.restore(&mut results, operand);
        }
        self.compared(results)
    }

    /// Puts back the state that an edited operand left: what reads it wrongly need not write it.
    /// Where all results are states, the states are what the fault is about.
    fn restore(&self, results: &mut Results, operand: &str) {
        let slots = self.op.signature().results;
        if slots.iter().all(|r| r.shares.is_some()) {
            return;
        }
        for slot in slots.iter().filter(|r| r.name == operand && r.shares == Some(operand)) {
            if let Some(right) = self.right.get(slot.name) {
                results.insert(slot.name.to_owned(), right.clone());
            }
        }
    }

    fn with_result(&self, name: &str, edit: Edit) -> Tried {
        let Some(right) = self.right.get(name) else { return Tried::Unchanged };
        if !applies(edit, &right.meta.shape) {
            return Tried::Unchanged;
        }
        if let Some(moved) = moved(edit, right) {
            return self.replaced(name, moved);
        }
        let values = match edit {
            // The unrounded numbers, so that a small factor is not lost in the rounding.
            Edit::Scale(_) => match self.rulers.iter().find(|r| r.name == name) {
                Some(ruler) if ruler.meta == right.meta => Values::Real(ruler.golden.clone()),
                _ => return Tried::Unchanged,
            },
            _ => Values::of(right),
        };
        let meta = &right.meta;
        match edited(edit, &values, &meta.shape, meta.dtype, self.ids(edit)) {
            Some(values) => self.replaced(name, tensor(right, &values)),
            None => Tried::Unchanged,
        }
    }

    fn stale(&self, name: &str, before: &Results) -> Tried {
        let (Some(right), Some(before)) = (self.right.get(name), before.get(name)) else {
            return Tried::Unchanged;
        };
        let stale = match (Values::of(right), Values::of(before)) {
            (Values::Real(now), Values::Real(then)) => Values::Real(over(now, &then)),
            (Values::Ids(now), Values::Ids(then)) => Values::Ids(over(now, &then)),
            _ => return Tried::Unchanged,
        };
        self.replaced(name, tensor(right, &stale))
    }

    fn replaced(&self, name: &str, by: Tensor) -> Tried {
        let mut results = self.right.clone();
        results.insert(name.to_owned(), by);
        self.compared(results)
    }

    fn compared(&self, results: Results) -> Tried {
        // Most cases do not concern most faults, and comparing bytes is the cheapest judgement.
        if results == self.right { Tried::Unchanged } else { self.judged(results) }
    }

    fn judged(&self, results: Results) -> Tried {
        let outcome = Outcome::Answered { results, observed: Observed::default() };
        let compared = judge(&self.case.expect, &self.rulers, &outcome, &Whom::Cpu);
        match compared.verdict {
            Verdict::Fail { kind, .. } => Tried::Failed(kind.word()),
            Verdict::Pass => Tried::Passed(compared.distance.map_or(0.0, |d| d.load)),
            _ => Tried::Unchanged,
        }
    }
}

/// The elements of an answer, with those of an earlier one as far as it reaches.
fn over<T: Copy>(mut now: Vec<T>, then: &[T]) -> Vec<T> {
    let count = now.len().min(then.len());
    now[..count].copy_from_slice(&then[..count]);
    now
}

/// The larger load; NaN is larger than all.
pub fn larger(a: f64, b: f64) -> f64 {
    if exceeds(b, a) { b } else { a }
}

/// The number of elements of a case's operands.
pub fn elements(case: &Case) -> usize {
    let volume = |meta: &Meta| meta.volume().unwrap_or(usize::MAX);
    case.ask.operands.iter().map(|input| volume(&input.meta)).fold(0, usize::saturating_add)
}

/// Cases in the order in which faults are planted in them: small ones first, which are cheap and
/// detect most; those that the definition answers last, since their answers are the dearest.
pub fn by_size(cases: &mut [&Case]) {
    cases.sort_by_cached_key(|case| (by_definition(case), elements(case), case.name.clone()));
}
