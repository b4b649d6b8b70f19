//! dequantize: y = the numbers that stored blocks mean, as f32.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::Refusal;
use crate::ops::linear::{WEIGHT_VARIANTS, weight_variant};
use crate::ops::{
    Asked, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature, Values,
    declared, traffic,
};

/// The op.
pub struct Dequantize;

static SIGNATURE: Signature = Signature {
    name: "dequantize",
    source: "GGUF block layouts (ggml-common.h); OCP Microscaling 1.0 for mxfp4",
    operands: &[Operand::new("w", Class::W, &["..."])],
    attributes: &[],
    results: &[ResultSlot::new("y", Class::F32, &["=w"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "DequantizeArgs",
    fields: &[("w", Field::Ptr), ("y", Field::Ptr), ("columns", Field::I32)],
};

static PAGE: Page = Page {
    name: "dequantize",
    text: include_str!("../../../cuda/dequantize.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

impl Op for Dequantize {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, _question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        Ok(vec![Values::Real(inputs.real("w").to_vec())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let shape = &question.operand("w").expect("checked").shape;
        let columns = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / columns;
        let args = Args::new(
            &ARGS,
            [
                ("w", Arg::Slot("w", 0)),
                ("y", Arg::Slot("y", 0)),
                ("columns", Arg::I32(columns as i32)),
            ],
        );
        let mut launch = Launch::new(&PAGE, "dequantize_f32".into(), 1, 256, args);
        launch.grid = [rows as u32, columns.div_ceil(256 * 4) as u32, 1];
        launch.variant = weight_variant(question.type_of("w"));
        Lowered::one(launch)
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn declared(&self, _asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let y = values[0].real();
        vec![declared::alone(declared::WEIGHTS, &values[0], |i| vec![y[i]])]
    }

    fn cost(&self, question: &Question) -> Cost {
        let count = question.operand("w").and_then(|m| m.volume()).unwrap_or(0);
        Cost { bytes: traffic(question), operations: 2.0 * count as f64 }
    }
}
