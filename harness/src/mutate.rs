//! Mutants: each listed fault is planted, and the case that must notice it is judged.
//!
//! `ask`: our definitions are asked another question. `wrong`: the oracle's wrong answer lies
//! beside the golden. `kernel`: a worker compiles one changed line. The first two need no device.

mod edit;
pub mod kernel;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use goldgate_engine::Tensor;
use serde::Serialize;

use crate::case::{Case, Expect};
use crate::distance::Ruler;
use crate::execution::{Observed, Outcome};
use crate::fill::fill;
use crate::gate::FaultResult;
use crate::golden::{Golden, Numbers};
use crate::judge::{Asked, judge, rulers};
use crate::models::mutants::{self as models, Planting};
use crate::run::{Goldens, Withheld};
use crate::spec::Specs;
use crate::spec::mutants::{AskEdit, Mutant};
use crate::subject::{OpQuestion, perfect};
use crate::tokens::mutants::{self as tokens, TokensEdit};
use crate::verdict::Verdict;

/// What came of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    /// Its case noticed.
    Killed {
        /// The variant that did.
        variant: String,
        /// By which rule.
        by: String,
    },
    /// Its case let it through, or it could not be planted at all.
    Survived {
        /// In words.
        why: String,
    },
    /// Nobody could tell it from the right answer.
    Equivalent {
        /// The written reason.
        reason: String,
    },
    /// Nothing to judge by here: no golden, no device.
    NotRun {
        /// In words.
        why: String,
    },
}

/// A mutant that was planted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The op.
    pub op: String,
    /// The mutant.
    pub id: String,
    /// What is wrong, in words.
    pub fault: String,
    /// `harness` for `ask` and `wrong`, `cuda` for `kernel`.
    pub subject: String,
    /// The case that must notice it.
    pub case: String,
    /// What came of it.
    pub fate: Fate,
}

impl Planted {
    /// As the gates weigh it; nothing for what was not asked or is equivalent.
    pub fn result(&self) -> Option<FaultResult> {
        let killed = match self.fate {
            Fate::Killed { .. } => true,
            Fate::Survived { .. } => false,
            Fate::Equivalent { .. } | Fate::NotRun { .. } => return None,
        };
        let (op, id, subject) = (self.op.clone(), self.id.clone(), self.subject.clone());
        Some(FaultResult { op, id, subject, killed })
    }
}

/// Every mutant of the specs with the op that it belongs to.
pub fn listed(specs: &Specs) -> impl Iterator<Item = (&str, &Mutant)> {
    specs.mutants.iter().flat_map(|f| f.list.iter().map(|m| (f.mutants.value.as_str(), m)))
}

/// The variants of the case that must notice `mutant`.
pub fn cases_of<'s>(specs: &'s Specs, op: &str, mutant: &Mutant) -> Vec<&'s Case> {
    let name = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    specs.cases().filter(|case| case.stem == op && case.name == name).collect()
}

/// Plants the `ask` and `wrong` mutants that pass, without any device.
pub fn plant(
    specs: &Specs,
    goldens: &dyn Goldens,
    mut selects: impl FnMut(&str, &Mutant) -> bool,
) -> Vec<Planted> {
    let mut planted = Vec::new();
    for (op, mutant) in listed(specs).filter(|(_, m)| m.kernel.is_none()) {
        if !selects(op, mutant) {
            continue;
        }
        let fate = match &mutant.equivalent {
            Some(reason) => Fate::Equivalent { reason: reason.clone() },
            None => match mutant.ask.as_ref().and_then(|ask| ask.tokens.as_ref()) {
                Some(edit) => of_tokens(specs, goldens, op, mutant, edit),
                None if specs.models.iter().any(|c| c.stem == op) => {
                    of_model(specs, goldens, op, mutant)
                }
                None => fate(&cases_of(specs, op, mutant), |case| try_on(case, goldens, mutant)),
            },
        };
        planted.push(told(op, mutant, "harness", fate));
    }
    planted
}

/// The first form of the case that notices decides.
fn of_tokens(
    specs: &Specs,
    goldens: &dyn Goldens,
    stem: &str,
    mutant: &Mutant,
    edit: &TokensEdit,
) -> Fate {
    let name = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    let cases = specs.tokens.iter().filter(|c| c.stem == stem && c.name == name);
    let mut last = Fate::NotRun { why: "its case is not there".to_owned() };
    for case in cases {
        last = tokens::try_on(case, goldens.folder(), edit);
        if matches!(last, Fate::Killed { .. }) {
            break;
        }
    }
    last
}

/// The first form of the case that notices decides.
fn of_model(specs: &Specs, goldens: &dyn Goldens, stem: &str, mutant: &Mutant) -> Fate {
    let name = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    let planting = match (&mutant.wrong, mutant.ask.as_ref().and_then(|ask| ask.model.as_ref())) {
        (Some(wrong), _) => Planting::Wrong(wrong),
        (None, Some(edit)) => Planting::File(edit),
        _ => return Fate::Survived { why: "an edit of an op's question".to_owned() },
    };
    let mut last = Fate::NotRun { why: "its case is not there".to_owned() };
    for case in specs.models.iter().filter(|c| c.stem == stem && c.name == name) {
        let fate = match goldens.model(case) {
            Ok(golden) => models::try_on(case, goldens.folder(), &golden, &planting),
            Err(Withheld::NotRun(_, why) | Withheld::Broken(_, why)) => Fate::NotRun { why },
        };
        match fate {
            killed @ Fate::Killed { .. } => return killed,
            // The last form that could be planted says why it survived.
            survived @ Fate::Survived { .. } => last = survived,
            other if matches!(last, Fate::NotRun { .. }) => last = other,
            _ => {}
        }
    }
    last
}

pub(crate) fn told(op: &str, mutant: &Mutant, subject: &str, fate: Fate) -> Planted {
    Planted {
        op: op.to_owned(),
        id: mutant.id.value.clone(),
        fault: mutant.fault.clone(),
        subject: subject.to_owned(),
        case: mutant.killed_by.as_ref().map(|k| k.value.clone()).unwrap_or_default(),
        fate,
    }
}

/// The first variant that notices decides; one that cannot be judged counts only where none can.
pub(crate) fn fate(cases: &[&Case], mut try_on: impl FnMut(&Case) -> Fate) -> Fate {
    let mut best = Fate::NotRun { why: "its case is not there".to_owned() };
    for case in cases {
        match try_on(case) {
            killed @ Fate::Killed { .. } => return killed,
            survived @ Fate::Survived { .. } => best = survived,
            other if matches!(best, Fate::NotRun { .. }) => best = other,
            _ => {}
        }
    }
    best
}

fn try_on(case: &Case, goldens: &dyn Goldens, mutant: &Mutant) -> Fate {
    let golden = match &case.expect {
        Expect::Refusal { .. } => Golden::default(),
        Expect::Answer { .. } => match goldens.golden(case) {
            Ok(golden) => golden,
            Err(Withheld::NotRun(_, why) | Withheld::Broken(_, why)) => {
                return Fate::NotRun { why };
            }
        },
    };
    let rulers = rulers(case, &golden);
    let outcome = match (&mutant.ask, &mutant.wrong) {
        (Some(edit), _) => asked(case, edit),
        (None, Some(name)) => wrong(&golden, &rulers, name),
        (None, None) => Err("it is neither `ask` nor `wrong`".to_owned()),
    };
    match outcome {
        Ok(outcome) => noticed(case, &rulers, &outcome),
        Err(why) => Fate::Survived { why: format!("{}: {why}", case.variant) },
    }
}

/// What the judge makes of a mutant's outcome.
pub(crate) fn noticed(case: &Case, rulers: &[Ruler], outcome: &Outcome) -> Fate {
    let asked = Asked::Foreign("cpu".to_owned());
    match judge(&case.expect, rulers, outcome, &asked).verdict {
        Verdict::Fail { kind, .. } => {
            Fate::Killed { variant: case.variant.clone(), by: kind.word().to_owned() }
        }
        Verdict::Pass => Fate::Survived { why: format!("{}: it passes", case.variant) },
        other => Fate::Survived { why: format!("{}: {other:?}", case.variant) },
    }
}

/// The definition's answer to the edited question. A question that nobody can answer plants
/// nothing, so it does not count as noticed.
fn asked(case: &Case, edit: &AskEdit) -> Result<Outcome, String> {
    let question = OpQuestion::of(case, fill);
    let edited = edit::apply(&question, edit)?;
    if edited == question {
        return Err("the edit changes nothing".to_owned());
    }
    let refusal_awaited = matches!(case.expect, Expect::Refusal { .. });
    match perfect::define(&edited) {
        None => Err(format!("no op {}", edited.op)),
        Some(Ok(results)) => {
            let results = edit::renamed(results, &edited.op, &question.op);
            Ok(Outcome::Answered { results, observed: Observed::default() })
        }
        Some(Err(refusal)) if refusal_awaited => Ok(Outcome::Refused {
            kind: refusal.kind.name().into(),
            operand: refusal.operand,
            message: refusal.message,
        }),
        Some(Err(refusal)) => Err(format!("cannot be asked: {refusal}")),
    }
}

/// The oracle's wrong answer, rounded; results that it does not name are the golden's.
fn wrong(golden: &Golden, rulers: &[Ruler], name: &str) -> Result<Outcome, String> {
    let wrong = golden.wrong.get(name).ok_or_else(|| format!("no wrong.{name} in the golden"))?;
    let mut results: BTreeMap<String, Tensor> = BTreeMap::new();
    for ruler in rulers {
        let (dtype, shape) = (ruler.meta.dtype, &ruler.meta.shape);
        let tensor = match wrong.get(&ruler.name) {
            Some(Numbers::Real(x)) if x.len() == ruler.len() => Tensor::from_f64(dtype, shape, x),
            Some(Numbers::Ids(x)) if x.len() == ruler.len() => Tensor::from_i32(shape, x),
            Some(x) => return Err(format!("wrong.{name}.{}: {} elements", ruler.name, x.len())),
            None if dtype == goldgate_engine::DType::I32 => {
                let ids: Vec<i32> = ruler.want.iter().map(|&x| x as i32).collect();
                Tensor::from_i32(shape, &ids)
            }
            None => Tensor::from_f64(dtype, shape, &ruler.want),
        };
        results.insert(ruler.name.clone(), tensor);
    }
    Ok(Outcome::Answered { results, observed: Observed::default() })
}
