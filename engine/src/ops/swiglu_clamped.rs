//! swiglu_clamped: y = g · σ(alpha g) · (u + 1), g clamped from above, u on both sides (gpt-oss).

use crate::cuda::{Card, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::declared::moved;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Question, ResultSlot, Signature, Slack,
    Values, declared, slack, swiglu, traffic,
};

/// The op.
pub struct SwigluClamped;

/// The gate's slope and the clamp.
pub(crate) const ALPHA: Attribute = Attribute::positive("alpha", Some(1.702f32 as f64));
pub(crate) const LIMIT: Attribute = Attribute::positive("limit", Some(7.0));

static SIGNATURE: Signature = Signature {
    name: "swiglu_clamped",
    source: "openai/gpt-oss, gpt_oss/torch/model.py, swiglu",
    operands: swiglu::GATE_AND_UP,
    attributes: &[ALPHA, LIMIT],
    results: &[ResultSlot::new("y", Class::D, &["n", "f"])],
    rounds_inside: false,
};

static PAGE: Page = Page {
    name: "swiglu_clamped",
    text: include_str!("../../../cuda/swiglu_clamped.cu"),
    requires: Requires::Sm80,
    layouts: &[&swiglu::ARGS],
    variants: &[],
};

/// The clamped gated unit of gpt-oss; a NaN stays a NaN.
pub fn swiglu_clamped(gate: f64, up: f64, alpha: f64, limit: f64) -> f64 {
    let gate = if gate > limit { limit } else { gate };
    let up = if up.is_nan() { up } else { up.clamp(-limit, limit) };
    gate / (1.0 + (-alpha * gate).exp()) * (up + 1.0)
}

/// c inside the clamped SwiGLU, of clamped values: of alpha·gate, its sigmoid, the gate times that,
/// and up + 1.
pub(crate) fn steps(gate: f64, up: f64, alpha: f64) -> Vec<f64> {
    let s = 1.0 / (1.0 + (-alpha * gate).exp());
    vec![
        moved(gate * s * (1.0 - s) * (up + 1.0), alpha * gate),
        moved(gate * (up + 1.0), s),
        moved(up + 1.0, gate * s),
        moved(gate * s, up + 1.0),
    ]
}

impl Op for SwigluClamped {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        swiglu::check_types(question)
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [alpha, limit] = ["alpha", "limit"].map(|name| question.attributes.real(name));
        let pairs = inputs.real("gate").iter().zip(inputs.real("up"));
        let y = pairs.map(|(&g, &u)| swiglu_clamped(g, u, alpha, limit)).collect();
        Ok(vec![Values::Real(y)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let settings = ["alpha", "limit"].map(|name| question.attributes.real(name) as f32);
        swiglu::lower(&PAGE, question, settings)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [alpha, limit] = ["alpha", "limit"].map(|name| asked.question.attributes.real(name));
        let pairs = asked.inputs.real("gate").iter().zip(asked.inputs.real("up"));
        let one = |((g, u), y): ((&f64, &f64), &f64)| {
            let (gate, up) = (g.min(limit), u.clamp(-limit, limit) + 1.0);
            slack::swiglu(gate, up, *y, Some(alpha))
        };
        vec![Slack::of(pairs.zip(values[0].real()).map(one).collect())]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let [alpha, limit] = ["alpha", "limit"].map(|name| asked.question.attributes.real(name));
        let (gate, up) = (asked.inputs.real("gate"), asked.inputs.real("up"));
        let c = |i: usize| steps(gate[i].min(limit), up[i].clamp(-limit, limit), alpha);
        vec![declared::alone(declared::ACTIVATION, &values[0], c)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.operand("gate").and_then(|m| m.volume()).unwrap_or(0);
        Cost { bytes: traffic(question), operations: 16.0 * count as f64 }
    }
}
