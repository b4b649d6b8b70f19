//! What the four norms share: the argument struct, the choice of entry, the launch.

use crate::cuda::{Arg, Args, Field, Launch, Layout, Lowered, Page};
use crate::dtype::DType;
use crate::ops::declared::moved;
use crate::ops::{Attribute, Declared, Question, Values, declared, dims};

/// `eps`, required and positive, and the result's type.
pub(crate) const ATTRIBUTES: &[Attribute] = &[Attribute::positive("eps", None), Attribute::TO];

pub(crate) static ARGS: Layout = Layout {
    name: "NormArgs",
    fields: &[
        ("x", Field::Ptr),
        ("residual", Field::Ptr),
        ("gamma", Field::Ptr),
        ("beta", Field::Ptr),
        ("y", Field::Ptr),
        ("sum", Field::Ptr),
        ("hidden", Field::I32),
        ("eps", Field::F32),
    ],
};

/// Vectors of 16 bytes that a thread of a `_kept` entry holds at most (KEEP in norms.cuh).
pub(crate) const KEEP: usize = 4;

/// Which entry takes a row of `hidden` elements of `bytes` each, and how many threads: `kept` where
/// the row fits in registers by whole vectors, else `any`. Depends on the row's width alone.
fn entry(hidden: usize, bytes: usize) -> (&'static str, u32) {
    let vectors = (hidden * bytes).div_ceil(16);
    if (hidden * bytes).is_multiple_of(16) && vectors <= KEEP * 1024 {
        let wanted = vectors.div_ceil(2).clamp(32, 256);
        let threads = wanted.max(vectors.div_ceil(KEEP)).next_multiple_of(32);
        ("kept", threads as u32)
    } else {
        ("any", hidden.div_ceil(4).next_multiple_of(32).clamp(32, 512) as u32)
    }
}

/// The launch of a norm: `types` are those in the entry's name, the first that of `x`.
pub(crate) fn lower(page: &'static Page, question: &Question, types: &[DType]) -> Lowered {
    let [rows, hidden] = dims(&question.dims, ["n", "h"]);
    let (form, threads) = entry(hidden, types[0].bytes());
    let given = |name: &'static str| match question.has(name) {
        true => Arg::Slot(name, 0),
        false => Arg::Null,
    };
    let sum = if question.has("residual") { Arg::Slot("sum", 0) } else { Arg::Null };
    let args = Args::new(
        &ARGS,
        [
            ("x", Arg::Slot("x", 0)),
            ("residual", given("residual")),
            ("gamma", Arg::Slot("gamma", 0)),
            ("beta", given("beta")),
            ("y", Arg::Slot("y", 0)),
            ("sum", sum),
            ("hidden", Arg::I32(hidden as i32)),
            ("eps", Arg::F32(question.attributes.real("eps") as f32)),
        ],
    );
    let types: Vec<&str> = types.iter().map(|t| t.name()).collect();
    let entry = format!("{}_{form}_{}", page.name, types.join("_"));
    Lowered::one(Launch::new(page, entry, rows as u32, threads, args))
}

/// What rounding normalised rows leaves, before gamma scales them.
pub(crate) fn declared(rows: &[f64], gamma: &[f64], y: &Values) -> Declared {
    let c = |i: usize| vec![moved(gamma[i % gamma.len()], rows[i])];
    declared::alone(declared::NORM, y, c)
}
