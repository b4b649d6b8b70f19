//! top_p: the fewest largest probabilities whose sum reaches p stay, the crossing one included.

use crate::cuda::{Card, Lowered, Page};
use crate::error::Refusal;
use crate::ops::sampling::{self, LOGITS, RESULT, by_falling_logit, keep, no_nan};
use crate::ops::softmax::softmax;
use crate::ops::{Attribute, Cost, Inputs, Op, Question, Signature, Values, traffic};

/// The op.
pub struct TopP;

static SIGNATURE: Signature = Signature {
    name: "top_p",
    source: "Holtzman et al. 2020, \"The Curious Case of Neural Text Degeneration\", eq. 2",
    operands: &[LOGITS],
    attributes: &[Attribute::real("value", 0.0, 1.0, None)],
    results: &[RESULT],
    rounds_inside: false,
};

impl Op for TopP {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let logits = inputs.real("logits");
        no_nan(logits)?;
        let p = question.attributes.real("value");
        if p >= 1.0 {
            return Ok(vec![Values::Real(logits.to_vec())]);
        }
        let (order, shares) = (by_falling_logit(logits), softmax(logits, 1.0));
        let mut sum = 0.0;
        let mut kept = 0;
        while kept < order.len() && (kept == 0 || sum < p) {
            sum += shares[order[kept]];
            kept += 1;
        }
        Ok(vec![Values::Real(keep(logits, &order[..kept]))])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let p = question.attributes.real("value") as f32;
        sampling::lower("sampling_top_p", question, p, 0)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&sampling::PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 4.0 * count }
    }
}
