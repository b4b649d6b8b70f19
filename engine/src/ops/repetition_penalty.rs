//! repetition_penalty: a seen token's logit is divided by the penalty where it is positive, and
//! multiplied by it elsewhere.

use crate::cuda::{Card, Lowered, Page};
use crate::error::{Refusal, RefusalKind};
use crate::ops::sampling::{self, LOGITS, RESULT, no_nan};
use crate::ops::{
    Attribute, Class, Cost, Inputs, Op, Operand, Question, Rule, Signature, Values, traffic,
};

/// The op.
pub struct RepetitionPenalty;

static SIGNATURE: Signature = Signature {
    name: "repetition_penalty",
    source: "Keskar et al. 2019, \"CTRL\", section 4.1",
    operands: &[LOGITS, Operand::new("seen", Class::Ids, &["words"])],
    attributes: &[Attribute {
        name: "value",
        rule: Rule::Real { low: 0.0, closed: false, high: 2.0, default: None },
    }],
    results: &[RESULT],
    rounds_inside: false,
};

impl Op for RepetitionPenalty {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let [v, words] = ["v", "words"].map(|s| question.dims.get(s));
        if words == v.div_ceil(32) {
            return Ok(());
        }
        let message = format!("has {words} words, wants {} for {v} logits", v.div_ceil(32));
        Err(Refusal::new(RefusalKind::ShapeMismatch, "seen", message))
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let value = question.attributes.real("value");
        let seen = inputs.ids("seen");
        no_nan(inputs.real("logits"))?;
        let penalise = |(i, &l): (usize, &f64)| match seen[i / 32] >> (i % 32) & 1 {
            0 => l,
            _ if l > 0.0 => l / value,
            _ => l * value,
        };
        Ok(vec![Values::Real(inputs.real("logits").iter().enumerate().map(penalise).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let value = question.attributes.real("value") as f32;
        sampling::lower("sampling_repetition_penalty", question, value, 0)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&sampling::PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.dims.get("v") as f64;
        Cost { bytes: traffic(question), operations: 4.0 * count }
    }
}
