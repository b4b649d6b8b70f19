//! positional_extract: y = table[start .. start + count], the rows that an incremental step adds.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::positional::scalar;
use crate::ops::{
    Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, dims,
};

/// The op.
pub struct PositionalExtract;

static SIGNATURE: Signature = Signature {
    name: "positional_extract",
    source: "a range of rows of a table of learned positions",
    operands: &[Operand::new("table", Class::DOrF32, &["p", "h"])],
    attributes: &[Attribute::index("start"), Attribute::whole("count", 1, i32::MAX as i64, None)],
    results: &[ResultSlot::new("y", Class::Like("table"), &["count", "h"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "PositionalExtractArgs",
    fields: &[
        ("table", Field::Ptr),
        ("start", Field::Ptr),
        ("y", Field::Ptr),
        ("row", Field::I64),
        ("bytes", Field::I64),
    ],
};

static PAGE: Page = Page {
    name: "positional_extract",
    text: include_str!("../../../cuda/positional_extract.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

impl Op for PositionalExtract {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let p = question.dims.get("p") as i64;
        let [start, count] = ["start", "count"].map(|name| question.attributes.int(name));
        if start + count <= p {
            return Ok(());
        }
        let message = format!("{start} + {count} rows, but the table has {p}");
        Err(Refusal::new(RefusalKind::PositionOutOfRange, "start", message))
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let h = question.dims.get("h");
        let [start, count] = ["start", "count"].map(|name| question.attributes.int(name) as usize);
        Ok(vec![Values::Real(inputs.real("table")[start * h..(start + count) * h].to_vec())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let row = question.dims.get("h") * question.type_of("table").bytes();
        let bytes = row * question.attributes.int("count") as usize;
        let args = Args::new(
            &ARGS,
            [
                ("table", Arg::Slot("table", 0)),
                ("start", Arg::Slot("start", 0)),
                ("y", Arg::Slot("y", 0)),
                ("row", Arg::I64(row as i64)),
                ("bytes", Arg::I64(bytes as i64)),
            ],
        );
        let grid = bytes.div_ceil(256 * 16) as u32;
        let launch = Launch::new(&PAGE, "positional_extract_bytes".into(), grid, 256, args);
        Lowered { constants: vec![scalar(question, "start")], ..Lowered::one(launch) }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let h = dims(&question.dims, ["h"])[0];
        let count = question.attributes.int("count") as f64;
        let row = (2 * h * question.type_of("table").bytes()) as f64;
        Cost { bytes: count * row, operations: 0.0 }
    }
}
