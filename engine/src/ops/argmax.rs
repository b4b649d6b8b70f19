//! argmax: the id of the largest logit of each row, the first of equals.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::{
    Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, dims, traffic,
};

/// The op.
pub struct Argmax;

static SIGNATURE: Signature = Signature {
    name: "argmax",
    source: "greedy decoding; ties go to the lower id",
    operands: &[Operand::new("x", Class::F32, &["n", "v"])],
    attributes: &[],
    results: &[ResultSlot::new("ids", Class::Ids, &["n"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "ArgmaxArgs",
    fields: &[
        ("x", Field::Ptr),
        ("ids", Field::Ptr),
        ("fault", Field::Ptr),
        ("columns", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "argmax",
    text: include_str!("../../../cuda/argmax.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// The id of the largest element, the first of equals; `None` if one is NaN.
pub fn argmax(row: &[f64]) -> Option<usize> {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if *x > row[best] {
            best = i;
        }
    }
    Some(best)
}

impl Op for Argmax {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let v = question.dims.get("v");
        let id = |(i, row): (usize, &[f64])| match argmax(row) {
            Some(id) => Ok(id as i32),
            None => {
                let message = format!("row {i} holds a NaN");
                Err(Refusal::new(RefusalKind::NotANumber, "x", message))
            }
        };
        let rows = inputs.real("x").chunks_exact(v).enumerate();
        Ok(vec![Values::Ids(rows.map(id).collect::<Result<_, _>>()?)])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, v] = dims(&question.dims, ["n", "v"]);
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("ids", Arg::Slot("ids", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("columns", Arg::I32(v as i32)),
            ],
        );
        let launch = Launch::new(&PAGE, "argmax_f32".into(), n as u32, 1024, args);
        Lowered { faults: vec![(RefusalKind::NotANumber, "x")], ..Lowered::one(launch) }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, v] = dims(&question.dims, ["n", "v"]);
        Cost { bytes: traffic(question), operations: (n * v) as f64 }
    }
}
