//! rmsnorm_residual: sum = x + residual, rounded to its stored type; y = rmsnorm(sum).

use crate::cuda::{Card, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::rmsnorm::{normalised, rmsnorm};
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims, norm, slack, traffic,
};

/// The op.
pub struct RmsnormResidual;

static SIGNATURE: Signature = Signature {
    name: "rmsnorm_residual",
    source: "as rmsnorm; the pre-norm block of Llama",
    operands: &[
        Operand::new("x", Class::DOrF32, &["n", "h"]),
        Operand::new("residual", Class::R, &["n", "h"]),
        Operand::new("gamma", Class::P, &["h"]),
    ],
    attributes: norm::ATTRIBUTES,
    results: &[
        ResultSlot::new("y", Class::To, &["n", "h"]),
        ResultSlot::new("sum", Class::Like("residual"), &["n", "h"]),
    ],
    rounds_inside: true,
};

static PAGE: Page = Page {
    name: "rmsnorm_residual",
    text: include_str!("../../../cuda/rmsnorm_residual.cu"),
    requires: Requires::Sm80,
    layouts: &[&norm::ARGS],
    variants: &[],
};

impl Op for RmsnormResidual {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let eps = question.attributes.real("eps");
        let stored = question.type_of("residual");
        let sum: Vec<f64> = inputs
            .real("x")
            .iter()
            .zip(inputs.real("residual"))
            .map(|(x, r)| stored.round(x + r))
            .collect();
        let y = rmsnorm(&sum, inputs.real("gamma"), eps);
        Ok(vec![Values::Real(y), Values::Real(sum)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        norm::lower(
            &PAGE,
            question,
            &[question.type_of("x"), question.type_of("residual"), question.result_type("y")],
        )
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let (y, sum) = (values[0].real(), values[1].real());
        let (h, eps) = (asked.question.dims.get("h"), asked.question.attributes.real("eps"));
        let y = slack::rmsnorm(sum, y, h, eps, asked.sums);
        vec![Slack::of(y), Slack::of(vec![0.0; sum.len()])]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let (sum, gamma) = (values[1].real(), asked.inputs.real("gamma"));
        let eps = asked.question.attributes.real("eps");
        let y = norm::declared(&normalised(sum, gamma.len(), eps), gamma, &values[0]);
        vec![y, Declared::of(sum.len())]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h] = dims(&question.dims, ["n", "h"]);
        Cost { bytes: traffic(question), operations: 5.0 * (n * h) as f64 }
    }
}
