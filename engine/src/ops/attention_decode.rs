//! attention_decode: appends one token's key and value, then attends with its query.

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::attention::{Query, SPLIT, attend, attention_slack, cache_row, check_heads, scale};
use crate::ops::attention_prefill::SCALE;
use crate::ops::positional::scalar;
use crate::ops::{
    Asked, Attribute, Class, Cost, Inputs, Op, Operand, Question, ResultSlot, Signature, Slack,
    Values, dims,
};

/// The op.
pub struct AttentionDecode;

static SIGNATURE: Signature = Signature {
    name: "attention_decode",
    source: "kv_append, then attention_prefill of one row",
    operands: &[
        Operand::new("q", Class::D, &["q", "d"]),
        Operand::new("k_new", Class::D, &["k", "d"]),
        Operand::new("v_new", Class::D, &["k", "d"]),
        Operand::new("k_cache", Class::C, &["c", "k", "d"]),
        Operand::new("v_cache", Class::C, &["c", "k", "d"]),
        Operand::optional("sinks", Class::P, &["q"]),
    ],
    attributes: &[
        Attribute::whole("position", 0, i32::MAX as i64, None),
        SCALE,
        Attribute::index("window"),
        Attribute::flag("ring"),
    ],
    results: &[
        ResultSlot::new("y", Class::D, &["q", "d"]),
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
        ("position", Field::Ptr),
        ("partial", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("heads", Field::I32),
        ("kv_heads", Field::I32),
        ("d", Field::I32),
        ("c", Field::I32),
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

impl Op for AttentionDecode {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        check_heads(question, "k_new")?;
        let c = question.dims.get("c");
        let [position, window] =
            ["position", "window"].map(|a| question.attributes.int(a) as usize);
        let ring = question.attributes.flag("ring");
        if !ring && position >= c {
            let message = format!("is {position}, but the cache has {c} rows");
            return Err(Refusal::new(RefusalKind::PositionOutOfRange, "position", message));
        }
        if ring && position >= c && (window == 0 || window > c) {
            let message = format!("a ring of {c} rows cannot hold a window of {window} (0: all)");
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "k_cache", message));
        }
        Ok(())
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [q, k, d, c] = dims(&question.dims, ["q", "k", "d", "c"]);
        let [position, window] =
            ["position", "window"].map(|a| question.attributes.int(a) as usize);
        let ring = question.attributes.flag("ring");
        let at = cache_row(0, position, c, ring) * k * d;
        let append = |cache: &str, new: &str, stored: crate::DType| {
            let mut cache = inputs.real(cache).to_vec();
            for (to, x) in cache[at..at + k * d].iter_mut().zip(inputs.real(new)) {
                *to = stored.round(*x);
            }
            cache
        };
        let keys = append("k_cache", "k_new", question.type_of("k_cache"));
        let values = append("v_cache", "v_new", question.type_of("v_cache"));
        let one = |head: usize| {
            let query = Query {
                q: &inputs.real("q")[head * d..(head + 1) * d],
                k: &keys,
                v: &values,
                kv: (k, head / (q / k)),
                position,
                window,
                sink: inputs.find_real("sinks").map(|s| s[head]),
                scale: scale(question),
            };
            attend(&query, |j| cache_row(0, j, c, ring))
        };
        let y = (0..q).flat_map(one).collect();
        Ok(vec![Values::Real(y), Values::Real(keys), Values::Real(values)])
    }

    fn lower(&self, question: &Question, card: &Card) -> Lowered {
        let [q, k, d, c] = dims(&question.dims, ["q", "k", "d", "c"]);
        let sinks = if question.has("sinks") { Arg::Slot("sinks", 0) } else { Arg::Null };
        let args = Args::new(
            &ARGS,
            [
                ("q", Arg::Slot("q", 0)),
                ("k_new", Arg::Slot("k_new", 0)),
                ("v_new", Arg::Slot("v_new", 0)),
                ("k_cache", Arg::Slot("k_cache", 0)),
                ("v_cache", Arg::Slot("v_cache", 0)),
                ("sinks", sinks),
                ("position", Arg::Slot("position", 0)),
                ("partial", Arg::Slot("partial", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("heads", Arg::I32(q as i32)),
                ("kv_heads", Arg::I32(k as i32)),
                ("d", Arg::I32(d as i32)),
                ("c", Arg::I32(c as i32)),
                ("window", Arg::I32(question.attributes.int("window") as i32)),
                ("ring", Arg::I32(question.attributes.flag("ring").into())),
                ("scale", Arg::F32(scale(question) as f32)),
            ],
        );
        let (dtype, cache) = (question.dtype, question.type_of("k_cache"));
        let entry = format!("attention_decode_partial_{dtype}_{cache}");
        let mut partial = Launch::new(&PAGE, entry, 1, 128, args.clone());
        // Never more splits than fit the card four times over: blocks take what is left.
        let splits = c.div_ceil(SPLIT) + 1;
        let blocks = splits.min((4 * card.multiprocessors as usize).div_ceil(k));
        partial.grid = [blocks as u32, k as u32, 1];
        partial.shared = (q / k * d * 4 + 2 * SPLIT * (d + 2) * cache.bytes()) as u32;
        let entry = format!("attention_decode_combine_{dtype}");
        let threads = d.next_multiple_of(32) as u32;
        let combine = Launch::new(&PAGE, entry, q as u32, threads, args);
        Lowered {
            launches: vec![partial, combine],
            workspace: vec![("partial", splits * q * (d + 2) * 4)],
            constants: vec![scalar(question, "position")],
            faults: vec![(RefusalKind::PositionOutOfRange, "position")],
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let question = asked.question;
        let [q, k, d, c] = dims(&question.dims, ["q", "k", "d", "c"]);
        let [position, window] =
            ["position", "window"].map(|a| question.attributes.int(a) as usize);
        let ring = question.attributes.flag("ring");
        let [y, keys, cached] = [0, 1, 2].map(|i| values[i].real());
        let one = |head: usize| {
            let query = Query {
                q: &asked.inputs.real("q")[head * d..(head + 1) * d],
                k: keys,
                v: cached,
                kv: (k, head / (q / k)),
                position,
                window,
                sink: asked.inputs.find_real("sinks").map(|s| s[head]),
                scale: scale(question),
            };
            let row = |j: usize| cache_row(0, j, c, ring);
            attention_slack(&query, &y[head * d..(head + 1) * d], row, asked.sums)
        };
        let (slack, kept): (Vec<_>, Vec<_>) = (0..q).map(one).unzip();
        let exact = |x: &[f64]| Slack::of(vec![0.0; x.len()]);
        vec![Slack::of(slack.concat()).keep("p", &kept.concat()), exact(keys), exact(cached)]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [q, k, d] = dims(&question.dims, ["q", "k", "d"]);
        let [position, window] = ["position", "window"].map(|a| question.attributes.int(a) as f64);
        let keys = if window > 0.0 { (position + 1.0).min(window) } else { position + 1.0 };
        let cache = question.type_of("k_cache").bytes() as f64;
        let row = (k * d) as f64;
        Cost {
            bytes: 2.0 * keys * row * cache + (2 * q * d * question.dtype.bytes()) as f64,
            operations: 4.0 * keys * (q * d) as f64,
        }
    }
}
