//! layernorm: y = (x − mean) / √(var + eps) · gamma + beta, over the last axis.

use crate::cuda::{Card, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims, norm, slack, traffic,
};

/// The op.
pub struct Layernorm;

static SIGNATURE: Signature = Signature {
    name: "layernorm",
    source: "Ba, Kiros & Hinton 2016, \"Layer Normalization\", eq. 4",
    operands: &[
        Operand::new("x", Class::R, &["n", "h"]),
        Operand::new("gamma", Class::P, &["h"]),
        Operand::new("beta", Class::P, &["h"]),
    ],
    attributes: norm::ATTRIBUTES,
    results: &[ResultSlot::new("y", Class::To, &["n", "h"])],
    rounds_inside: false,
};

static PAGE: Page = Page {
    name: "layernorm",
    text: include_str!("../../../cuda/layernorm.cu"),
    requires: Requires::Sm80,
    layouts: &[&norm::ARGS],
    variants: &[],
};

/// Normalises each row of `x` by its own mean and biased variance; unrounded.
pub fn layernorm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let hidden = gamma.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(hidden) {
        let mean = row.iter().sum::<f64>() / hidden as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / hidden as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend((0..hidden).map(|i| (row[i] - mean) * scale * gamma[i] + beta[i]));
    }
    y
}

/// Normalised rows, before gamma scales them.
pub(crate) fn normalised(x: &[f64], h: usize, eps: f64) -> Vec<f64> {
    let mut rows = Vec::with_capacity(x.len());
    for x in x.chunks_exact(h) {
        let mean = x.iter().sum::<f64>() / h as f64;
        let v = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / h as f64;
        rows.extend(x.iter().map(|x| (x - mean) / (v + eps).sqrt()));
    }
    rows
}

impl Op for Layernorm {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let eps = question.attributes.real("eps");
        let y = layernorm(inputs.real("x"), inputs.real("gamma"), inputs.real("beta"), eps);
        Ok(vec![Values::Real(y)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        norm::lower(&PAGE, question, &[question.type_of("x"), question.result_type("y")])
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let (x, eps) = (asked.inputs.real("x"), asked.question.attributes.real("eps"));
        let (gamma, beta) = (asked.inputs.real("gamma"), asked.inputs.real("beta"));
        let y = values[0].real();
        vec![Slack::of(slack::layernorm(x, gamma, beta, y, eps, asked.sums))]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let (x, gamma) = (asked.inputs.real("x"), asked.inputs.real("gamma"));
        let eps = asked.question.attributes.real("eps");
        vec![norm::declared(&normalised(x, gamma.len(), eps), gamma, &values[0])]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h] = dims(&question.dims, ["n", "h"]);
        Cost { bytes: traffic(question), operations: 8.0 * (n * h) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::layernorm;

    #[test]
    fn one_to_four() {
        let y = layernorm(&[1.0, 2.0, 3.0, 4.0], &[1.0; 4], &[0.0; 4], 1e-5);
        for (got, want) in y.iter().zip([-1.341_635, -0.447_212, 0.447_212, 1.341_635]) {
            assert_abs_diff_eq!(*got, want, epsilon = 5e-7);
        }
    }

    #[test]
    fn a_constant_row_is_beta() {
        assert_eq!(layernorm(&[7.0; 3], &[2.0; 3], &[0.5, 1.0, -1.0], 1e-5), [0.5, 1.0, -1.0]);
    }
}
