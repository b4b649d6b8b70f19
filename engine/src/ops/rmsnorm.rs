//! rmsnorm: y = x / √(mean(x²) + eps) · gamma, over the last axis.

use crate::cuda::{Card, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims, norm, slack, traffic,
};

/// The op.
pub struct Rmsnorm;

static SIGNATURE: Signature = Signature {
    name: "rmsnorm",
    source: "Zhang & Sennrich 2019, \"Root Mean Square Layer Normalization\", eq. 4",
    operands: &[Operand::new("x", Class::R, &["n", "h"]), Operand::new("gamma", Class::P, &["h"])],
    attributes: norm::ATTRIBUTES,
    results: &[ResultSlot::new("y", Class::To, &["n", "h"])],
    rounds_inside: false,
};

static PAGE: Page = Page {
    name: "rmsnorm",
    text: include_str!("../../../cuda/rmsnorm.cu"),
    requires: Requires::Sm80,
    layouts: &[&norm::ARGS],
    variants: &[],
};

/// Scales each row of `x` by the root of its mean square; unrounded.
pub fn rmsnorm(x: &[f64], gamma: &[f64], eps: f64) -> Vec<f64> {
    let hidden = gamma.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(hidden) {
        let square = row.iter().map(|v| v * v).sum::<f64>() / hidden as f64;
        let scale = 1.0 / (square + eps).sqrt();
        y.extend(row.iter().zip(gamma).map(|(v, g)| v * scale * g));
    }
    y
}

/// Normalised rows, before gamma scales them.
pub(crate) fn normalised(x: &[f64], h: usize, eps: f64) -> Vec<f64> {
    let mut rows = Vec::with_capacity(x.len());
    for x in x.chunks_exact(h) {
        let v = x.iter().map(|v| v * v).sum::<f64>() / h as f64;
        rows.extend(x.iter().map(|x| x / (v + eps).sqrt()));
    }
    rows
}

impl Op for Rmsnorm {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let eps = question.attributes.real("eps");
        Ok(vec![Values::Real(rmsnorm(inputs.real("x"), inputs.real("gamma"), eps))])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        norm::lower(&PAGE, question, &[question.type_of("x"), question.result_type("y")])
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let h = asked.question.dims.get("h");
        let eps = asked.question.attributes.real("eps");
        vec![Slack::of(slack::rmsnorm(
            asked.inputs.real("x"),
            values[0].real(),
            h,
            eps,
            asked.sums,
        ))]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let (x, gamma) = (asked.inputs.real("x"), asked.inputs.real("gamma"));
        let eps = asked.question.attributes.real("eps");
        vec![norm::declared(&normalised(x, gamma.len(), eps), gamma, &values[0])]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h] = dims(&question.dims, ["n", "h"]);
        Cost { bytes: traffic(question), operations: 4.0 * (n * h) as f64 }
    }
}
