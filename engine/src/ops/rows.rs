//! rows: y\[i\] = x[rows\[i\]], an exact copy of the rows whose logits are wanted.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::embedding::in_range;
use crate::ops::{Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, dims};

/// The op.
pub struct Rows;

static SIGNATURE: Signature = Signature {
    name: "rows",
    source: "a gather of rows, PyTorch's index_select",
    operands: &[
        Operand::new("x", Class::DOrF32, &["n", "h"]),
        Operand::new("rows", Class::Ids, &["m"]),
    ],
    attributes: &[],
    results: &[ResultSlot::new("y", Class::Like("x"), &["m", "h"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "RowsArgs",
    fields: &[
        ("x", Field::Ptr),
        ("rows", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("bytes", Field::I32),
        ("n", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "rows",
    text: include_str!("../../../cuda/rows.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

impl Op for Rows {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [n, h] = dims(&question.dims, ["n", "h"]);
        let (x, rows) = (inputs.real("x"), inputs.ids("rows"));
        in_range(rows, n, RefusalKind::IdOutOfRange, "rows")?;
        let row = |r: &i32| &x[*r as usize * h..(*r as usize + 1) * h];
        Ok(vec![Values::Real(rows.iter().flat_map(row).copied().collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, m, h] = dims(&question.dims, ["n", "m", "h"]);
        let bytes = h * question.type_of("x").bytes();
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("rows", Arg::Slot("rows", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("bytes", Arg::I32(bytes as i32)),
                ("n", Arg::I32(n as i32)),
            ],
        );
        let launch = Launch::new(&PAGE, "rows_bytes".into(), m as u32, 256, args);
        Lowered { faults: vec![(RefusalKind::IdOutOfRange, "rows")], ..Lowered::one(launch) }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let [m, h] = dims(&question.dims, ["m", "h"]);
        let row = (2 * h * question.type_of("x").bytes()) as f64;
        Cost { bytes: m as f64 * (4.0 + row), operations: 0.0 }
    }
}
