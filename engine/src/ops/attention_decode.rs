//! attention_decode: appends one token's key and value, then attends with its query.

use rayon::prelude::*;

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::ops::attention::{
    Query, SPLIT, attend, attention_slack, cache_row, check_heads, checked_places, declare,
    one_start, places, scale,
};
use crate::ops::attention_prefill::SCALE;
use crate::ops::positional::scalar;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Question, ResultSlot, Signature,
    Slack, Values, dims,
};

/// The op.
pub struct AttentionDecode;

static SIGNATURE: Signature = Signature {
    name: "attention_decode",
    source: "kv_append, then attention_prefill of one row",
    operands: &[
        Operand::new("q", Class::D, &["n?", "q", "d"]),
        Operand::new("k_new", Class::D, &["n?", "k", "d"]),
        Operand::new("v_new", Class::D, &["n?", "k", "d"]),
        Operand::new("k_cache", Class::C, &["s?", "c", "k", "d"]),
        Operand::new("v_cache", Class::C, &["s?", "c", "k", "d"]),
        Operand::optional("sinks", Class::P, &["q"]),
        Operand::optional("sequences", Class::Ids, &["n"]),
        Operand::optional("positions", Class::Ids, &["n"]),
    ],
    attributes: &[
        Attribute::whole("position", 0, i32::MAX as i64, Some(i64::MIN)),
        SCALE,
        Attribute::index("window"),
        Attribute::flag("ring"),
    ],
    results: &[
        ResultSlot::new("y", Class::D, &["n?", "q", "d"]),
        ResultSlot::sharing("k_cache", Class::Like("k_cache"), &["=k_cache"], "k_cache"),
        ResultSlot::sharing("v_cache", Class::Like("v_cache"), &["=v_cache"], "v_cache"),
    ],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "AttentionDecodeArgs",
    fields: &[
        ("q", Field::Ptr),
        ("k_new", Field::Ptr),
        ("v_new", Field::Ptr),
        ("k_cache", Field::Ptr),
        ("v_cache", Field::Ptr),
        ("sinks", Field::Ptr),
        ("sequences", Field::Ptr),
        ("positions", Field::Ptr),
        ("position", Field::Ptr),
        ("partial", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("heads", Field::I32),
        ("kv_heads", Field::I32),
        ("d", Field::I32),
        ("c", Field::I32),
        ("n", Field::I32),
        ("caches", Field::I32),
        ("splits", Field::I32),
        ("window", Field::I32),
        ("ring", Field::I32),
        ("scale", Field::F32),
    ],
};

static PAGE: Page = Page {
    name: "attention_decode",
    text: include_str!("../../../cuda/attention_decode.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// Sequence and position of each row, and the sizes: query heads, elements of a head, cache rows.
fn rows(asked: &Asked) -> (Vec<(usize, usize)>, [usize; 3]) {
    let question = asked.question;
    let start = question.attributes.find_int("position").map_or(0, |p| p as usize);
    let rows = places(asked.inputs, start, question.dims.find("n").unwrap_or(1));
    (rows, dims(&question.dims, ["q", "d", "c"]))
}

impl Op for AttentionDecode {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        check_heads(question, "k_new")?;
        one_start(question, "position")?;
        let rank =
            |name: &str| question.operands().find(|(n, _)| *n == name).map(|(_, m)| m.shape.len());
        for (name, like) in [("k_new", "q"), ("v_new", "q"), ("v_cache", "k_cache")] {
            if rank(name) != rank(like) {
                let message = format!("has another number of axes than {like}");
                return Err(Refusal::new(RefusalKind::RankMismatch, name, message));
            }
        }
        if question.has("positions") {
            return Ok(());
        }
        let Some(position) = question.attributes.find_int("position") else {
            let message = "is required where there are no positions";
            return Err(Refusal::new(RefusalKind::AttributeMissing, "position", message));
        };
        if question.dims.find("n").is_some_and(|n| n > 1) && !question.has("sequences") {
            let message = "rows of one call are of different sequences";
            return Err(Refusal::new(RefusalKind::OperandMissing, "sequences", message));
        }
        let c = question.dims.get("c");
        if !question.attributes.flag("ring") && position as usize >= c {
            let message = format!("is {position}, but the cache has {c} rows");
            return Err(Refusal::new(RefusalKind::PositionOutOfRange, "position", message));
        }
        check_ring(question, position as usize)
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [q, k, d, c] = dims(&question.dims, ["q", "k", "d", "c"]);
        let ring = question.attributes.flag("ring");
        let rows = checked_places(question, inputs, "position")?;
        for (i, (sequence, position)) in rows.iter().enumerate() {
            check_ring(question, *position)?;
            if rows[..i].iter().any(|(s, _)| s == sequence) {
                let message = format!("row {i} is of sequence {sequence}, as an earlier one");
                return Err(Refusal::new(RefusalKind::IdOutOfRange, "sequences", message));
            }
        }
        let append = |cache: &str, new: &str, stored: crate::DType| {
            let mut cache = inputs.real(cache).to_vec();
            for ((sequence, position), new) in rows.iter().zip(inputs.real(new).chunks(k * d)) {
                let at = cache_row(*sequence, *position, c, ring) * k * d;
                for (to, x) in cache[at..at + k * d].iter_mut().zip(new) {
                    *to = stored.round(*x);
                }
            }
            cache
        };
        let keys = append("k_cache", "k_new", question.type_of("k_cache"));
        let values = append("v_cache", "v_new", question.type_of("v_cache"));
        let y = (0..rows.len() * q)
            .flat_map(|i| {
                let (sequence, position) = rows[i / q];
                let query = query(question, inputs, (&keys, &values), i, position);
                attend(&query, |j| cache_row(sequence, j, c, ring))
            })
            .collect();
        Ok(vec![Values::Real(y), Values::Real(keys), Values::Real(values)])
    }

    fn lower(&self, question: &Question, card: &Card) -> Lowered {
        let [q, k, d, c] = dims(&question.dims, ["q", "k", "d", "c"]);
        let n = question.dims.find("n").unwrap_or(1);
        let slot = |name: &'static str| match question.has(name) {
            true => Arg::Slot(name, 0),
            false => Arg::Null,
        };
        let start = if question.has("positions") { Arg::Null } else { Arg::Slot("position", 0) };
        let splits = c.div_ceil(SPLIT) + 1;
        let args = Args::new(
            &ARGS,
            [
                ("q", Arg::Slot("q", 0)),
                ("k_new", Arg::Slot("k_new", 0)),
                ("v_new", Arg::Slot("v_new", 0)),
                ("k_cache", Arg::Slot("k_cache", 0)),
                ("v_cache", Arg::Slot("v_cache", 0)),
                ("sinks", slot("sinks")),
                ("sequences", slot("sequences")),
                ("positions", slot("positions")),
                ("position", start),
                ("partial", Arg::Slot("partial", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("heads", Arg::I32(q as i32)),
                ("kv_heads", Arg::I32(k as i32)),
                ("d", Arg::I32(d as i32)),
                ("c", Arg::I32(c as i32)),
                ("n", Arg::I32(n as i32)),
                ("caches", Arg::I32(question.dims.find("s").unwrap_or(1) as i32)),
                ("splits", Arg::I32(splits as i32)),
                ("window", Arg::I32(question.attributes.int("window") as i32)),
                ("ring", Arg::I32(question.attributes.flag("ring").into())),
                ("scale", Arg::F32(scale(question) as f32)),
            ],
        );
        let (dtype, cache) = (question.dtype, question.type_of("k_cache"));
        let parts = d.div_ceil(64).next_power_of_two();
        let entry = format!("attention_decode_partial{parts}_{dtype}_{cache}");
        let mut partial = Launch::new(&PAGE, entry, 1, 32 * WARPS as u32, args.clone());
        // Never more splits than fit the card four times over: blocks take what is left.
        let blocks = splits.min((4 * card.multiprocessors as usize).div_ceil(k * n));
        partial.grid = [blocks as u32, k as u32, n as u32];
        partial.shared = shared_bytes(q / k, d, cache) as u32;
        let entry = format!("attention_decode_combine_{dtype}");
        let threads = d.next_multiple_of(32) as u32;
        let mut combine = Launch::new(&PAGE, entry, 1, threads, args);
        combine.grid = [q as u32, n as u32, 1];
        let constants = match question.has("positions") {
            true => Vec::new(),
            false => vec![scalar(question, "position")],
        };
        let start = if question.has("positions") { "positions" } else { "position" };
        Lowered {
            launches: vec![partial, combine],
            workspace: vec![("partial", n * splits * q * (d + 2) * 4)],
            constants,
            faults: vec![
                (RefusalKind::PositionOutOfRange, start),
                (RefusalKind::IdOutOfRange, "sequences"),
                (RefusalKind::CapacityExceeded, "k_cache"),
            ],
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let [y, keys, cached] = [0, 1, 2].map(|i| values[i].real());
        let (rows, [q, d, c]) = rows(asked);
        let ring = asked.question.attributes.flag("ring");
        let one = |i: usize| {
            let (sequence, position) = rows[i / q];
            let query = query(asked.question, asked.inputs, (keys, cached), i, position);
            let row = |j: usize| cache_row(sequence, j, c, ring);
            attention_slack(&query, &y[i * d..(i + 1) * d], row, asked.sums)
        };
        let (slack, kept): (Vec<_>, Vec<_>) = (0..rows.len() * q).into_par_iter().map(one).unzip();
        let exact = |x: &[f64]| Slack::of(vec![0.0; x.len()]);
        vec![Slack::of(slack.concat()).keep("p", &kept.concat()), exact(keys), exact(cached)]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let [y, keys, cached] = [0, 1, 2].map(|i| values[i].real());
        let (rows, [q, d, c]) = rows(asked);
        let ring = asked.question.attributes.flag("ring");
        let mut all = Declared::of(y.len());
        for i in 0..rows.len() * q {
            let (sequence, position) = rows[i / q];
            let query = query(asked.question, asked.inputs, (keys, cached), i, position);
            let row = |j: usize| cache_row(sequence, j, c, ring);
            declare(&mut all, i * d, &query, &y[i * d..(i + 1) * d], row);
        }
        vec![all, Declared::of(keys.len()), Declared::of(cached.len())]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [q, k, d] = dims(&question.dims, ["q", "k", "d"]);
        let n = question.dims.find("n").unwrap_or(1) as f64;
        let window = question.attributes.int("window") as f64;
        // Where positions are data the cache may be full.
        let last = question.dims.get("c") as f64 - 1.0;
        let position = question.attributes.find_int("position").map_or(last, |p| p as f64);
        let seen = if window > 0.0 { (position + 1.0).min(window) } else { position + 1.0 };
        let keys = n * seen;
        let cache = question.type_of("k_cache").bytes() as f64;
        let row = (k * d) as f64;
        Cost {
            bytes: 2.0 * keys * row * cache + n * (2 * q * d * question.dtype.bytes()) as f64,
            operations: 4.0 * keys * (q * d) as f64,
        }
    }
}

/// Warps of a block that takes splits.
const WARPS: usize = 8;

/// Shared memory of such a block: keys and values of a split, then for each head of the group its
/// weights, its query, and its result by parts of the keys where warps would be idle.
fn shared_bytes(group: usize, d: usize, cache: DType) -> usize {
    let row = (d * cache.bytes()).next_multiple_of(128) + 64;
    let share = 1 << (WARPS / group).max(1).ilog2();
    let floats = group * (SPLIT + d + share * d.next_multiple_of(2));
    2 * SPLIT * row + 4 * floats
}

/// A full cache that is no ring of the window has no room.
fn check_ring(question: &Question, position: usize) -> Result<(), Refusal> {
    let c = question.dims.get("c");
    let window = question.attributes.int("window") as usize;
    if question.attributes.flag("ring") && position >= c && (window == 0 || window > c) {
        let message = format!("a ring of {c} rows cannot hold a window of {window} (0: all)");
        return Err(Refusal::new(RefusalKind::CapacityExceeded, "k_cache", message));
    }
    Ok(())
}

/// The query of one row and head, `i` counting heads within rows.
fn query<'a>(
    question: &Question,
    inputs: &'a Inputs,
    (k, v): (&'a [f64], &'a [f64]),
    i: usize,
    position: usize,
) -> Query<'a> {
    let [heads, groups, d] = dims(&question.dims, ["q", "k", "d"]);
    let head = i % heads;
    Query {
        q: &inputs.real("q")[i * d..(i + 1) * d],
        k,
        v,
        kv: (groups, head / (heads / groups)),
        position,
        window: question.attributes.int("window") as usize,
        sink: inputs.find_real("sinks").map(|s| s[head]),
        scale: scale(question),
    }
}
