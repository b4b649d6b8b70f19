//! layernorm: y = (x − mean) / √(var + eps) · gamma + beta, over the last axis.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::{
    Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Rule, Signature, Values,
    dims, traffic,
};

/// The op.
pub struct Layernorm;

/// Attributes of every norm: `eps`, required and positive, and the result's type `to`.
pub(crate) const NORM_ATTRIBUTES: &[Attribute] = &[
    Attribute {
        name: "eps",
        rule: Rule::Real { low: 0.0, closed: false, high: f64::MAX, default: None },
    },
    Attribute { name: "to", rule: Rule::Choice { of: &["f32", "D"], default: None } },
];

static SIGNATURE: Signature = Signature {
    name: "layernorm",
    source: "Ba, Kiros & Hinton 2016, \"Layer Normalization\", eq. 4",
    operands: &[
        Operand { name: "x", class: Class::R, shape: &["n", "h"], optional: false },
        Operand { name: "gamma", class: Class::P, shape: &["h"], optional: false },
        Operand { name: "beta", class: Class::P, shape: &["h"], optional: false },
    ],
    attributes: NORM_ATTRIBUTES,
    results: &[ResultSlot { name: "y", class: Class::To, shape: &["n", "h"], shares: None }],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "LayernormArgs",
    fields: &[
        ("x", Field::Ptr),
        ("gamma", Field::Ptr),
        ("beta", Field::Ptr),
        ("y", Field::Ptr),
        ("hidden", Field::I32),
        ("eps", Field::F32),
    ],
};

static PAGE: Page = Page {
    name: "layernorm",
    text: include_str!("../../../cuda/layernorm.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// Vectors of 16 bytes that a thread of a `_kept` entry holds at most (KEEP in the pages).
const KEEP: usize = 4;

/// Which entry of a norm takes a row of `hidden` elements of `bytes` each, and how many threads:
/// `kept` where the row fits in registers by whole vectors, else `any`. Depends on the row alone.
pub(crate) fn norm_entry(hidden: usize, bytes: usize) -> (&'static str, u32) {
    let vectors = (hidden * bytes).div_ceil(16);
    if (hidden * bytes).is_multiple_of(16) && vectors <= KEEP * 1024 {
        let threads = vectors.div_ceil(2).next_multiple_of(32).clamp(32, 256);
        let threads = threads.max(vectors.div_ceil(KEEP).next_multiple_of(32));
        ("kept", u32::try_from(threads).expect("at most 1024"))
    } else {
        ("any", u32::try_from(hidden.div_ceil(4).next_multiple_of(32).clamp(32, 512)).expect("512"))
    }
}

/// Normalises each row of `x` by its own mean and biased variance; unrounded.
pub fn layernorm(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
    let hidden = gamma.len();
    x.chunks_exact(hidden)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / hidden as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / hidden as f64;
            let scale = 1.0 / (variance + eps).sqrt();
            row.iter()
                .zip(gamma.iter().zip(beta))
                .map(move |(v, (g, b))| (v - mean) * scale * g + b)
        })
        .collect()
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
        let [rows, hidden] = dims(&question.dims, ["n", "h"]);
        let x = question.type_of("x");
        let y = question.result_type("y");
        let (form, threads) = norm_entry(hidden, x.bytes());
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("gamma", Arg::Slot("gamma", 0)),
                ("beta", Arg::Slot("beta", 0)),
                ("y", Arg::Slot("y", 0)),
                ("hidden", Arg::I32(hidden as i32)),
                ("eps", Arg::F32(question.attributes.real("eps") as f32)),
            ],
        );
        let entry = format!("layernorm_{form}_{x}_{y}");
        Lowered::one(Launch::new(&PAGE, entry, rows as u32, threads, args))
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
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
