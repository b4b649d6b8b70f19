//! layernorm_residual: sum = x + residual, rounded to its stored type; y = layernorm(sum).

use crate::cuda::{Card, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::layernorm::{layernorm, normalised};
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims, norm, slack, traffic,
};

/// The op.
pub struct LayernormResidual;

static SIGNATURE: Signature = Signature {
    name: "layernorm_residual",
    source: "as layernorm; the pre-norm block of GPT-2",
    operands: &[
        Operand::new("x", Class::DOrF32, &["n", "h"]),
        Operand::new("residual", Class::R, &["n", "h"]),
        Operand::new("gamma", Class::P, &["h"]),
        Operand::new("beta", Class::P, &["h"]),
    ],
    attributes: norm::ATTRIBUTES,
    results: &[
        ResultSlot::new("y", Class::To, &["n", "h"]),
        ResultSlot::new("sum", Class::Like("residual"), &["n", "h"]),
    ],
    rounds_inside: true,
};

static PAGE: Page = Page {
    name: "layernorm_residual",
    text: include_str!("../../../cuda/layernorm_residual.cu"),
    requires: Requires::Sm80,
    layouts: &[&norm::ARGS],
    variants: &[],
};

impl Op for LayernormResidual {
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
        let y = layernorm(&sum, inputs.real("gamma"), inputs.real("beta"), eps);
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
        let eps = asked.question.attributes.real("eps");
        let (gamma, beta) = (asked.inputs.real("gamma"), asked.inputs.real("beta"));
        let y = slack::layernorm(sum, gamma, beta, y, eps, asked.sums);
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
        Cost { bytes: traffic(question), operations: 9.0 * (n * h) as f64 }
    }
}
