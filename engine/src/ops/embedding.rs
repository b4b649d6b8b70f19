//! embedding: y\[i\] = table[ids\[i\]], a row of any stored type, widened exactly.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::linear::{WEIGHT_VARIANTS, weight_variant};
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Values, declared, dims,
};

/// The op.
pub struct Embedding;

static SIGNATURE: Signature = Signature {
    name: "embedding",
    source: "a row of a table, PyTorch's nn.Embedding",
    operands: &[
        Operand::new("ids", Class::Ids, &["n"]),
        Operand::new("table", Class::W, &["v", "h"]),
    ],
    attributes: &[Attribute::TO],
    results: &[ResultSlot::new("y", Class::ToF32, &["n", "h"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "EmbeddingArgs",
    fields: &[
        ("ids", Field::Ptr),
        ("table", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("hidden", Field::I32),
        ("vocabulary", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "embedding",
    text: include_str!("../../../cuda/embedding.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: WEIGHT_VARIANTS,
};

/// Refuses the first of `values` that is not in `[0, limit)`.
pub(crate) fn in_range(
    values: &[i32],
    limit: usize,
    kind: RefusalKind,
    operand: &str,
) -> Result<(), Refusal> {
    match values.iter().position(|&v| v < 0 || v as usize >= limit) {
        None => Ok(()),
        Some(at) => {
            let message = format!("element {at} is {}, wants 0 to {}", values[at], limit - 1);
            Err(Refusal::new(kind, operand, message))
        }
    }
}

impl Op for Embedding {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [v, h] = dims(&question.dims, ["v", "h"]);
        let (ids, table) = (inputs.ids("ids"), inputs.real("table"));
        in_range(ids, v, RefusalKind::IdOutOfRange, "ids")?;
        let row = |id: &i32| &table[*id as usize * h..(*id as usize + 1) * h];
        // q4_k and q5_k values are rounded to f32 once before anything else; the rest are exact.
        Ok(vec![Values::Real(ids.iter().flat_map(row).map(|&x| f64::from(x as f32)).collect())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, v, h] = dims(&question.dims, ["n", "v", "h"]);
        let args = Args::new(
            &ARGS,
            [
                ("ids", Arg::Slot("ids", 0)),
                ("table", Arg::Slot("table", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("hidden", Arg::I32(h as i32)),
                ("vocabulary", Arg::I32(v as i32)),
            ],
        );
        let entry = format!("embedding_{}", question.result_type("y"));
        let mut launch = Launch::new(&PAGE, entry, n as u32, 256, args);
        launch.variant = weight_variant(question.type_of("table"));
        Lowered { faults: vec![(RefusalKind::IdOutOfRange, "ids")], ..Lowered::one(launch) }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn declared(&self, _asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let y = values[0].real();
        vec![declared::alone(declared::WEIGHTS, &values[0], |i| vec![y[i]])]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, h] = dims(&question.dims, ["n", "h"]);
        let table = question.type_of("table");
        let row = (h / table.elements() * table.bytes()) as f64;
        let written = (h * question.result_type("y").bytes()) as f64;
        Cost { bytes: n as f64 * (4.0 + row + written), operations: 0.0 }
    }
}
