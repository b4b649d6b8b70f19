//! kv_append: writes the keys and values of new tokens into the caches.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::attention::{cache_row, checked_places, one_start};
use crate::ops::positional::scalar;
use crate::ops::{
    Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Values, dims,
};

/// The op.
pub struct KvAppend;

static SIGNATURE: Signature = Signature {
    name: "kv_append",
    source: "the key-value cache of incremental decoding; ring: Beltagy et al. 2020",
    operands: &[
        Operand::new("k", Class::D, &["n", "k", "d"]),
        Operand::new("v", Class::D, &["n", "k", "d"]),
        Operand::new("k_cache", Class::C, &["s?", "c", "k", "d"]),
        Operand::new("v_cache", Class::C, &["s?", "c", "k", "d"]),
        Operand::optional("sequences", Class::Ids, &["n"]),
        Operand::optional("positions", Class::Ids, &["n"]),
    ],
    attributes: &[Attribute::index("start"), Attribute::flag("ring")],
    results: &[
        ResultSlot::sharing("k_cache", Class::Like("k_cache"), &["=k_cache"], "k_cache"),
        ResultSlot::sharing("v_cache", Class::Like("v_cache"), &["=v_cache"], "v_cache"),
    ],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "KvAppendArgs",
    fields: &[
        ("k", Field::Ptr),
        ("v", Field::Ptr),
        ("k_cache", Field::Ptr),
        ("v_cache", Field::Ptr),
        ("sequences", Field::Ptr),
        ("positions", Field::Ptr),
        ("start", Field::Ptr),
        ("fault", Field::Ptr),
        ("n", Field::I32),
        ("row", Field::I32),
        ("c", Field::I32),
        ("caches", Field::I32),
        ("ring", Field::I32),
    ],
};

static PAGE: Page = Page {
    name: "kv_append",
    text: include_str!("../../../cuda/kv_append.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

impl Op for KvAppend {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        one_start(question, "start")
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [c, k, d] = dims(&question.dims, ["c", "k", "d"]);
        let ring = question.attributes.flag("ring");
        let rows = checked_places(question, inputs, "start")?;
        let append = |cache: &str, new: &str| {
            let mut cache = inputs.real(cache).to_vec();
            for ((sequence, position), row) in rows.iter().zip(inputs.real(new).chunks(k * d)) {
                let at = cache_row(*sequence, *position, c, ring) * k * d;
                cache[at..at + k * d].copy_from_slice(row);
            }
            Values::Real(cache)
        };
        Ok(vec![append("k_cache", "k"), append("v_cache", "v")])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, c, k, d] = dims(&question.dims, ["n", "c", "k", "d"]);
        let slot = |name: &'static str| match question.has(name) {
            true => Arg::Slot(name, 0),
            false => Arg::Null,
        };
        let args = Args::new(
            &ARGS,
            [
                ("k", Arg::Slot("k", 0)),
                ("v", Arg::Slot("v", 0)),
                ("k_cache", Arg::Slot("k_cache", 0)),
                ("v_cache", Arg::Slot("v_cache", 0)),
                ("sequences", slot("sequences")),
                ("positions", slot("positions")),
                ("start", Arg::Slot("start", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("n", Arg::I32(n as i32)),
                ("row", Arg::I32((k * d) as i32)),
                ("c", Arg::I32(c as i32)),
                ("caches", Arg::I32(question.dims.find("s").unwrap_or(1) as i32)),
                ("ring", Arg::I32(question.attributes.flag("ring").into())),
            ],
        );
        let cache = question.type_of("k_cache");
        let entry = format!("kv_append_{}_{cache}", question.dtype);
        let threads = (k * d).next_multiple_of(32).min(256) as u32;
        Lowered {
            constants: vec![scalar(question, "start")],
            faults: vec![
                (RefusalKind::IdOutOfRange, "sequences"),
                (RefusalKind::PositionOutOfRange, "start"),
                (RefusalKind::PositionOutOfRange, "positions"),
            ],
            ..Lowered::one(Launch::new(&PAGE, entry, n as u32, threads, args))
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, k, d] = dims(&question.dims, ["n", "k", "d"]);
        let each = question.dtype.bytes() + question.type_of("k_cache").bytes();
        Cost { bytes: (2 * n * k * d * each) as f64, operations: 0.0 }
    }
}
