//! The definitions of our engine, called in this process.

use std::collections::BTreeMap;

use goldgate_engine::Tensor;
use goldgate_engine::error::Refusal;
use goldgate_engine::ops::{self, Question};

use crate::subject::OpQuestion;

/// Results by the op's definition; `None` where the engine has no such op.
///
/// # Errors
/// A malformed question.
pub fn define(question: &OpQuestion) -> Option<Result<BTreeMap<String, Tensor>, Refusal>> {
    let OpQuestion { op, dtype, attributes, tensors, .. } = question;
    Some(ops::evaluate(ops::find(op)?, *dtype, attributes, tensors))
}

/// Holds a question against the op's signature and rules.
///
/// # Errors
/// What is malformed.
pub fn check(question: &OpQuestion, op: &dyn ops::Op) -> Result<Question, Refusal> {
    Question::of_tensors(op, question.dtype, &question.attributes, &question.tensors)
}
