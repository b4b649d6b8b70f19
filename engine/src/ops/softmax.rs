//! softmax: y = e^(z − max z) / Σ e^(z − max z) with z = scale · x, over the last axis.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Slack, Values, declared, dims, slack, traffic,
};

/// The op.
pub struct Softmax;

static SIGNATURE: Signature = Signature {
    name: "softmax",
    source: "Bridle 1990; with the maximum subtracted, as every implementation",
    operands: &[Operand::new("x", Class::DOrF32, &["n", "m"])],
    attributes: &[Attribute::positive("scale", Some(1.0)), Attribute::TO],
    results: &[ResultSlot::new("y", Class::To, &["n", "m"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "SoftmaxArgs",
    fields: &[("x", Field::Ptr), ("y", Field::Ptr), ("columns", Field::I32), ("scale", Field::F32)],
};

static PAGE: Page = Page {
    name: "softmax",
    text: include_str!("../../../cuda/softmax.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// The softmax of one row; a NaN makes the row NaN.
pub fn softmax(row: &[f64], scale: f64) -> Vec<f64> {
    let largest = |m: f64, x: &f64| if x.is_nan() || m.is_nan() { f64::NAN } else { m.max(*x) };
    let max = row.iter().fold(f64::NEG_INFINITY, largest);
    let powers: Vec<f64> = row.iter().map(|x| (scale * (x - max)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

impl Op for Softmax {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let m = question.dims.get("m");
        let scale = question.attributes.real("scale");
        let rows = inputs.real("x").chunks_exact(m);
        Ok(vec![Values::Real(rows.flat_map(|row| softmax(row, scale)).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, m] = dims(&question.dims, ["n", "m"]);
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("y", Arg::Slot("y", 0)),
                ("columns", Arg::I32(m as i32)),
                ("scale", Arg::F32(question.attributes.real("scale") as f32)),
            ],
        );
        let (x, y) = (question.type_of("x"), question.result_type("y"));
        let threads = m.div_ceil(8).next_multiple_of(32).clamp(32, 1024);
        let entry = format!("softmax_{x}_{y}");
        Lowered::one(Launch::new(&PAGE, entry, n as u32, threads as u32, args))
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let m = asked.question.dims.get("m");
        let scale = asked.question.attributes.real("scale");
        let rows = asked.inputs.real("x").chunks_exact(m).zip(values[0].real().chunks_exact(m));
        vec![Slack::of(rows.flat_map(|(x, p)| slack::softmax(x, p, scale, asked.sums)).collect())]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let m = asked.question.dims.get("m");
        let scale = asked.question.attributes.real("scale");
        let (p, g) = (values[0].real(), declared::direction(&values[0]));
        let mut all = Declared::of(p.len());
        for (i, x) in asked.inputs.real("x").chunks_exact(m).enumerate() {
            let row = i * m..(i + 1) * m;
            let z: Vec<f64> = x.iter().map(|x| scale * x).collect();
            all.softmax(i * m, &z, &p[row.clone()], &g[row], 1.0);
        }
        vec![all]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, m] = dims(&question.dims, ["n", "m"]);
        Cost { bytes: traffic(question), operations: 12.0 * (n * m) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_abs_diff_eq;

    use super::softmax;

    #[test]
    fn equal_logits_share_and_large_ones_do_not_overflow() {
        for p in softmax(&[1000.0; 4], 1.0) {
            assert_abs_diff_eq!(p, 0.25);
        }
    }
}
