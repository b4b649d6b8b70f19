//! min_p: logits of at least max + ln p stay; 0 is off.

use crate::cuda::{Card, Lowered, Page};
use crate::error::Refusal;
use crate::ops::sampling::{self, LOGITS, RESULT, no_nan};
use crate::ops::{Attribute, Cost, Inputs, Op, Question, Signature, Values, traffic};

/// The op.
pub struct MinP;

static SIGNATURE: Signature = Signature {
    name: "min_p",
    source: "Nguyen et al. 2024, \"Turning Up the Heat: Min-p Sampling\", section 3",
    operands: &[LOGITS],
    attributes: &[Attribute::real("value", 0.0, 1.0, None)],
    results: &[RESULT],
    rounds_inside: false,
};

impl Op for MinP {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let logits = inputs.real("logits");
        no_nan(logits)?;
        let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let floor = top + question.attributes.real("value").ln();
        let cut = |&l: &f64| if l >= floor { l } else { f64::NEG_INFINITY };
        Ok(vec![Values::Real(logits.iter().map(cut).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let p = question.attributes.real("value") as f32;
        sampling::lower("sampling_min_p", question, p, 0)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&sampling::PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 4.0 * count }
    }
}
