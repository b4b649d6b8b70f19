//! temperature: logits / T; at T = 0 only the largest logit stays, the first of equals.

use crate::cuda::{Card, Lowered, Page};
use crate::error::Refusal;
use crate::ops::sampling::{self, LOGITS, RESULT, by_falling_logit, keep, no_nan};
use crate::ops::{Attribute, Cost, Inputs, Op, Question, Signature, Values, traffic};

/// The op.
pub struct Temperature;

static SIGNATURE: Signature = Signature {
    name: "temperature",
    source: "Ackley, Hinton & Sejnowski 1985; T = 0 is greedy",
    operands: &[LOGITS],
    attributes: &[Attribute::real("value", 0.0, 2.0, None)],
    results: &[RESULT],
    rounds_inside: false,
};

impl Op for Temperature {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let logits = inputs.real("logits");
        no_nan(logits)?;
        let value = question.attributes.real("value");
        if value > 0.0 {
            return Ok(vec![Values::Real(logits.iter().map(|l| l / value).collect())]);
        }
        let order = by_falling_logit(logits);
        Ok(vec![Values::Real(keep(logits, &order[..1]))])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        match question.attributes.real("value") as f32 {
            0.0 => sampling::lower("sampling_top_k", question, 0.0, 1),
            value => sampling::lower("sampling_temperature", question, value, 0),
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&sampling::PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 4.0 * count }
    }
}
