//! top_k: the k largest logits stay, of equals the lower ids; 0 is off.

use crate::cuda::{Card, Lowered, Page};
use crate::error::Refusal;
use crate::ops::sampling::{self, LOGITS, RESULT, by_falling_logit, keep, no_nan};
use crate::ops::{Attribute, Cost, Inputs, Op, Question, Signature, Values, traffic};

/// The op.
pub struct TopK;

static SIGNATURE: Signature = Signature {
    name: "top_k",
    source: "Fan, Lewis & Dauphin 2018, \"Hierarchical Neural Story Generation\", section 5.1",
    operands: &[LOGITS],
    attributes: &[Attribute::whole("value", 0, i32::MAX as i64, None)],
    results: &[RESULT],
    rounds_inside: false,
};

impl Op for TopK {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let logits = inputs.real("logits");
        no_nan(logits)?;
        let k = question.attributes.int("value") as usize;
        if k == 0 || k >= logits.len() {
            return Ok(vec![Values::Real(logits.to_vec())]);
        }
        Ok(vec![Values::Real(keep(logits, &by_falling_logit(logits)[..k]))])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let k = question.attributes.int("value") as i32;
        sampling::lower("sampling_top_k", question, 0.0, k)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&sampling::PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 4.0 * count }
    }
}
