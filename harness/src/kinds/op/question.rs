//! A question about one op, and its answer by the definition.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_engine::ops::{self, Question};
use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, Refusal, Tensor};
use goldgate_wire::call::Op;
use goldgate_wire::hello::OpNeeds;
use serde_json::{Map, Value};

use crate::kinds::op::case::Case;

/// A question about one op, with its operands computed.
#[derive(Clone, Debug, PartialEq)]
pub struct OpQuestion {
    /// The op.
    pub op: String,
    /// The activation type.
    pub dtype: DType,
    /// Attributes.
    pub attributes: Map<String, Value>,
    /// Operands by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Result → operand whose memory it shares.
    pub alias: BTreeMap<String, String>,
}

impl OpQuestion {
    /// The question of a case, with its operands computed by `fill`.
    pub fn from_case(case: &Case, fill: impl Fn(&crate::fill::Input) -> Tensor) -> OpQuestion {
        let ask = &case.ask;
        OpQuestion {
            op: ask.op.clone(),
            dtype: ask.dtype,
            attributes: ask.attributes.clone(),
            tensors: ask.operands.iter().map(|i| (i.name.clone(), fill(i))).collect(),
            alias: ask.alias.clone(),
        }
    }

    /// The stored type of the operand that is a weight according to the op's signature.
    pub fn weight(&self) -> Option<DType> {
        let signature = goldgate_engine::ops::find(&self.op)?.signature();
        self.tensors.get(signature.weight()?.name).map(|t| t.meta.dtype)
    }

    /// The question as a call of the wire, with a copy of its operands.
    pub fn call(&self, limit: Duration) -> Op {
        let OpQuestion { op, dtype, attributes, tensors, alias } = self.clone();
        Op { op, dtype, attributes, tensors, alias, timeout_s: Some(limit.as_secs_f64()) }
    }

    /// The size in bytes of all results of a correct answer; 0 if that is a refusal.
    pub fn answer_bytes(&self) -> u64 {
        let checked = goldgate_engine::ops::find(&self.op).map(|op| check(self, op));
        // A question that is refused has no results, and a refusal is always short.
        let results = checked.and_then(Result::ok).map(|checked| checked.results());
        // A size that cannot be computed counts as the largest, so the question is too big rather
        // than asked.
        let bytes = |(_, meta): (&str, Meta)| meta.bytes().unwrap_or(usize::MAX) as u64;
        results.into_iter().flatten().map(bytes).fold(0, u64::saturating_add)
    }
}

impl<'q> From<&'q OpQuestion> for OpNeeds<'q> {
    fn from(question: &'q OpQuestion) -> OpNeeds<'q> {
        let op = ops::find(&question.op);
        let axes =
            op.and_then(|op| Some(check(question, op).ok()?.dims.iter().collect::<Vec<_>>()));
        OpNeeds {
            op: &question.op,
            dtype: question.dtype,
            weight: question.weight(),
            features: op.map(|op| features(question, op)).unwrap_or_default(),
            // A malformed question must be refused, however large it is.
            axes: axes.unwrap_or_default(),
        }
    }
}

/// What a question uses of what the op's signature leaves open: optional operands, attributes that
/// say more than their absence, and the in-place form.
fn features(question: &OpQuestion, op: &dyn ops::Op) -> Vec<&'static str> {
    let signature = op.signature();
    let operands = signature.operands.iter().filter(|operand| operand.optional);
    let operands = operands.map(|operand| operand.name);
    let operands = operands.filter(|name| question.tensors.contains_key(*name));
    let chosen = |attribute: &&ops::Attribute| {
        question.attributes.get(attribute.name).is_some_and(|value| attribute.is_chosen(value))
    };
    let attributes = signature.attributes.iter().filter(chosen).map(|attribute| attribute.name);
    let alias = (!question.alias.is_empty()).then_some("alias");
    operands.chain(attributes).chain(alias).collect()
}

/// The results by the op's definition; `None` if the engine has no such op.
///
/// # Errors
/// The question is malformed.
pub fn define(question: &OpQuestion) -> Option<Result<BTreeMap<String, Tensor>, Refusal>> {
    let OpQuestion { op, dtype, attributes, tensors, .. } = question;
    Some(ops::evaluate(ops::find(op)?, *dtype, attributes, tensors))
}

/// Checks a question against the op's signature and rules.
///
/// # Errors
/// What is malformed.
pub fn check(question: &OpQuestion, op: &dyn ops::Op) -> Result<Question, Refusal> {
    Question::of_tensors(op, question.dtype, &question.attributes, &question.tensors)
}
