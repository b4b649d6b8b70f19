//! positional: y = x + table[start + i], or + table[positions\[i\]]: learned position embeddings.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::embedding::in_range;
use crate::ops::{
    Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, dims,
    traffic,
};

/// The op.
pub struct Positional;

static SIGNATURE: Signature = Signature {
    name: "positional",
    source: "Radford et al. 2019, GPT-2: learned position embeddings added to token embeddings",
    operands: &[
        Operand::new("x", Class::R, &["b", "n", "h"]),
        Operand::new("table", Class::DOrF32, &["p", "h"]),
        Operand::optional("positions", Class::Ids, &["n"]),
    ],
    attributes: &[Attribute::index("start")],
    results: &[ResultSlot::sharing("y", Class::Like("x"), &["b", "n", "h"], "x")],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "PositionalArgs",
    fields: &[
        ("x", Field::Ptr),
        ("table", Field::Ptr),
        ("positions", Field::Ptr),
        ("start", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("rows", Field::I64),
        ("tokens", Field::I32),
        ("hidden", Field::I32),
        ("limit", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "positional",
    text: include_str!("../../../cuda/positional.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

impl Op for Positional {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let [n, p] = dims(&question.dims, ["n", "p"]);
        let start = question.attributes.int("start");
        if question.has("positions") || start as usize + n <= p {
            return Ok(());
        }
        let message = format!("{start} + {n} tokens, but the table has {p} rows");
        Err(Refusal::new(RefusalKind::PositionOutOfRange, "start", message))
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [n, h, p] = dims(&question.dims, ["n", "h", "p"]);
        let (x, table) = (inputs.real("x"), inputs.real("table"));
        let positions = inputs.find_ids("positions");
        if let Some(positions) = positions {
            in_range(positions, p, RefusalKind::PositionOutOfRange, "positions")?;
        }
        let start = question.attributes.int("start") as usize;
        let add = |(row, x): (usize, &[f64])| {
            let at = positions.map_or(start + row % n, |p| p[row % n] as usize);
            let position = &table[at * h..(at + 1) * h];
            x.iter().zip(position).map(|(x, p)| x + p).collect::<Vec<f64>>()
        };
        Ok(vec![Values::Real(x.chunks_exact(h).enumerate().flat_map(add).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [b, n, h, p] = dims(&question.dims, ["b", "n", "h", "p"]);
        let (x, table) = (question.type_of("x"), question.type_of("table"));
        let positions = match question.has("positions") {
            true => Arg::Slot("positions", 0),
            false => Arg::Null,
        };
        let args = Args::new(
            &ARGS,
            [
                ("x", Arg::Slot("x", 0)),
                ("table", Arg::Slot("table", 0)),
                ("positions", positions),
                ("start", Arg::Slot("start", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("rows", Arg::I64((b * n) as i64)),
                ("tokens", Arg::I32(n as i32)),
                ("hidden", Arg::I32(h as i32)),
                ("limit", Arg::I32(p as i32)),
            ],
        );
        // A thread takes vectors of a few rows; odd widths go one element at a time.
        let lanes = 16 / x.bytes().min(table.bytes());
        let form = if h.is_multiple_of(lanes) { "wide" } else { "any" };
        let work = if form == "wide" { b * n * (h / lanes) } else { b * n * h };
        let grid = work.div_ceil(256 * 4);
        let launch =
            Launch::new(&PAGE, format!("positional_{form}_{x}_{table}"), grid as u32, 256, args);
        Lowered {
            constants: vec![scalar(question, "start")],
            faults: vec![(RefusalKind::PositionOutOfRange, "positions")],
            ..Lowered::one(launch)
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let [b, n, h] = dims(&question.dims, ["b", "n", "h"]);
        Cost { bytes: traffic(question), operations: (b * n * h) as f64 }
    }
}

/// A whole attribute as a number in device memory.
pub(crate) fn scalar(question: &Question, name: &'static str) -> (&'static str, Vec<u8>) {
    (name, (question.attributes.int(name) as i32).to_le_bytes().to_vec())
}
