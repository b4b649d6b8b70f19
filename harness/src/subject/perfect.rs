//! The definitions of our engine, called in this process.

use std::collections::BTreeMap;

use goldgate_engine::error::Refusal;
use goldgate_engine::ops::{self, Inputs, Question};
use goldgate_engine::shape::Meta;
use goldgate_engine::{DType, Tensor};
use serde_json::{Map, Value, json};

use crate::subject::OpQuestion;

/// Results by the op's definition; `None` where the engine has no such op.
///
/// # Errors
/// A malformed question.
pub fn define(question: &OpQuestion) -> Option<Result<BTreeMap<String, Tensor>, Refusal>> {
    let op = ops::find(&question.op)?;
    Some(check(question, op).and_then(|checked| {
        let inputs = Inputs::of(question.tensors.iter().map(|(n, t)| (n.as_str(), t)));
        let tensors = ops::answer(op, &checked, &inputs)?;
        let names = checked.signature.results.iter().map(|r| r.name.to_owned());
        Ok(names.zip(tensors).collect())
    }))
}

/// Holds a question against the op's signature and rules.
///
/// # Errors
/// What is malformed.
pub fn check(question: &OpQuestion, op: &dyn ops::Op) -> Result<Question, Refusal> {
    let metas: BTreeMap<String, Meta> =
        question.tensors.iter().map(|(name, t)| (name.clone(), t.meta.clone())).collect();
    Question::new(op, question.dtype, &question.attributes, &metas)
}

/// The ops of our engine as hello offers them.
pub fn offers() -> Value {
    let names = |list: &[DType]| list.iter().map(|t| t.name().into()).collect::<Vec<Value>>();
    let mut offers = Map::new();
    for op in ops::ALL {
        let signature = op.signature();
        let mut offer = json!({"dtypes": names(&DType::ACTIVATIONS)});
        if signature.weight().is_some() {
            offer["weights"] = names(&DType::WEIGHTS).into();
        }
        offers.insert(signature.name.to_owned(), offer);
    }
    offers.into()
}
