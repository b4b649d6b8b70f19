//! attention_prefill: y = softmax(scale · q kᵀ) v, causal, with window, sinks and grouped heads.

use rayon::prelude::*;

use crate::cuda::{Arg, Args, Card, Field, Launch, Layout, Lowered, Page, Requires};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::ops::attention::{
    Query, SPLIT, attend, attention_slack, cache_row, check_heads, checked_places, declare,
    one_start, places, scale,
};
use crate::ops::positional::scalar;
use crate::ops::{
    Asked, Attribute, Class, Cost, Declared, Inputs, Op, Operand, Phase, Question, ResultSlot,
    Signature, Slack, Values, dims, traffic,
};

/// The op.
pub struct AttentionPrefill;

/// What both attentions take: `scale` (1/√d where it is absent) and the window.
pub(crate) const SCALE: Attribute = Attribute::positive("scale", Some(f64::NAN));

static SIGNATURE: Signature = Signature {
    name: "attention_prefill",
    source: "Vaswani et al. 2017, eq. 1; Ainslie et al. 2023 (groups); openai/gpt-oss (sinks)",
    operands: &[
        Operand::new("q", Class::D, &["n", "q", "d"]),
        Operand::new("k", Class::C, &["s?", "c", "k", "d"]),
        Operand::new("v", Class::C, &["s?", "c", "k", "d"]),
        Operand::optional("sinks", Class::P, &["q"]),
        Operand::optional("sequences", Class::Ids, &["n"]),
        Operand::optional("positions", Class::Ids, &["n"]),
    ],
    attributes: &[
        SCALE,
        Attribute::index("window"),
        Attribute::index("start"),
        Attribute::flag("ring"),
    ],
    results: &[ResultSlot::new("y", Class::D, &["n", "q", "d"])],
    rounds_inside: false,
};

static ARGS: Layout = Layout {
    name: "AttentionPrefillArgs",
    fields: &[
        ("q", Field::Ptr),
        ("k", Field::Ptr),
        ("v", Field::Ptr),
        ("sinks", Field::Ptr),
        ("sequences", Field::Ptr),
        ("positions", Field::Ptr),
        ("start", Field::Ptr),
        ("y", Field::Ptr),
        ("fault", Field::Ptr),
        ("n", Field::I32),
        ("heads", Field::I32),
        ("kv_heads", Field::I32),
        ("d", Field::I32),
        ("c", Field::I32),
        ("caches", Field::I32),
        ("window", Field::I32),
        ("ring", Field::I32),
        ("scale", Field::F32),
    ],
};

static PAGE: Page = Page {
    name: "attention_prefill",
    text: include_str!("../../../cuda/attention_prefill.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// Head sizes that the mma entry is compiled for.
const MMA_HEADS: [usize; 4] = [64, 80, 96, 128];

/// Query `i` of all rows and heads.
fn query<'a>(asked: &Asked<'a>, i: usize, position: usize) -> Query<'a> {
    let [q, k, d] = dims(&asked.question.dims, ["q", "k", "d"]);
    let head = i % q;
    Query {
        q: &asked.inputs.real("q")[i * d..(i + 1) * d],
        k: asked.inputs.real("k"),
        v: asked.inputs.real("v"),
        kv: (k, head / (q / k)),
        position,
        window: asked.question.attributes.int("window") as usize,
        sink: asked.inputs.find_real("sinks").map(|s| s[head]),
        scale: scale(asked.question),
    }
}

impl Op for AttentionPrefill {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn check(&self, question: &Question) -> Result<(), Refusal> {
        check_heads(question, "k")?;
        let [n, c] = dims(&question.dims, ["n", "c"]);
        let [start, window] = ["start", "window"].map(|a| question.attributes.int(a) as usize);
        let ring = question.attributes.flag("ring");
        one_start(question, "start")?;
        if question.has("sequences") || question.has("positions") {
            return Ok(());
        }
        if !ring && start + n > c {
            let message = format!("{start} + {n} rows, but the cache has {c}");
            return Err(Refusal::new(RefusalKind::PositionOutOfRange, "start", message));
        }
        if ring && start + n > c && (window == 0 || c < window + n - 1) {
            let message = format!(
                "a ring of {c} rows cannot hold a window of {window} (0: all) before {n} rows"
            );
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "k", message));
        }
        Ok(())
    }

    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal> {
        let [n, q, k, d, c] = dims(&question.dims, ["n", "q", "k", "d", "c"]);
        let window = question.attributes.int("window") as usize;
        let ring = question.attributes.flag("ring");
        let rows = checked_places(question, inputs, "start")?;
        let sinks = inputs.find_real("sinks");
        let one = |i: usize| {
            let (head, (sequence, position)) = (i % q, rows[i / q]);
            let query = Query {
                q: &inputs.real("q")[i * d..(i + 1) * d],
                k: inputs.real("k"),
                v: inputs.real("v"),
                kv: (k, head / (q / k)),
                position,
                window,
                sink: sinks.map(|s| s[head]),
                scale: scale(question),
            };
            attend(&query, |j| cache_row(sequence, j, c, ring))
        };
        let y: Vec<Vec<f64>> = (0..n * q).into_par_iter().map(one).collect();
        Ok(vec![Values::Real(y.concat())])
    }

    fn lower(&self, question: &Question, _card: &Card) -> Lowered {
        let [n, q, k, d, c] = dims(&question.dims, ["n", "q", "k", "d", "c"]);
        let slot = |name: &'static str| match question.has(name) {
            true => Arg::Slot(name, 0),
            false => Arg::Null,
        };
        let args = Args::new(
            &ARGS,
            [
                ("q", Arg::Slot("q", 0)),
                ("k", Arg::Slot("k", 0)),
                ("v", Arg::Slot("v", 0)),
                ("sinks", slot("sinks")),
                ("sequences", slot("sequences")),
                ("positions", slot("positions")),
                ("start", Arg::Slot("start", 0)),
                ("y", Arg::Slot("y", 0)),
                ("fault", Arg::Slot("fault", 0)),
                ("n", Arg::I32(n as i32)),
                ("heads", Arg::I32(q as i32)),
                ("kv_heads", Arg::I32(k as i32)),
                ("d", Arg::I32(d as i32)),
                ("c", Arg::I32(c as i32)),
                ("caches", Arg::I32(question.dims.find("s").unwrap_or(1) as i32)),
                ("window", Arg::I32(question.attributes.int("window") as i32)),
                ("ring", Arg::I32(question.attributes.flag("ring").into())),
                ("scale", Arg::F32(scale(question) as f32)),
            ],
        );
        let (dtype, cache) = (question.dtype, question.type_of("k"));
        // The phase, not what a call brings, chooses the kernel: a generated row has the same bits
        // whether it stands alone or among other sequences.
        let tensor = question.phase != Some(Phase::Decode)
            && dtype != DType::F32
            && dtype == cache
            && MMA_HEADS.contains(&d)
            && !question.has("sequences")
            && !question.has("positions");
        let mut launch;
        if tensor {
            let entry = format!("attention_prefill_mma_{dtype}_{d}");
            launch = Launch::new(&PAGE, entry, 1, 128, args);
            launch.grid = [n.div_ceil(SPLIT) as u32, q as u32, 1];
            // Two buffers each of 64 keys and values, rows padded by 16 bytes.
            launch.shared = (4 * SPLIT * (d + 8) * 2) as u32;
        } else {
            let entry = format!("attention_prefill_simt_{dtype}_{cache}");
            let warps = q.min(4);
            launch = Launch::new(&PAGE, entry, 1, 32 * warps as u32, args);
            launch.grid = [n as u32, q.div_ceil(warps) as u32, 1];
            launch.shared = (warps * d * 4) as u32;
        }
        Lowered {
            constants: vec![scalar(question, "start")],
            faults: vec![
                (RefusalKind::IdOutOfRange, "sequences"),
                (RefusalKind::PositionOutOfRange, "start"),
                (RefusalKind::PositionOutOfRange, "positions"),
            ],
            ..Lowered::one(launch)
        }
    }

    fn pages(&self) -> &'static [&'static Page] {
        const { &[&PAGE] }
    }

    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let question = asked.question;
        let [n, q, d, c] = dims(&question.dims, ["n", "q", "d", "c"]);
        let ring = question.attributes.flag("ring");
        let rows = places(asked.inputs, question.attributes.int("start") as usize, n);
        let y = values[0].real();
        let one = |i: usize| {
            let (sequence, position) = rows[i / q];
            let row = |j: usize| cache_row(sequence, j, c, ring);
            attention_slack(&query(asked, i, position), &y[i * d..(i + 1) * d], row, asked.sums)
        };
        let each: Vec<(Vec<f64>, Vec<f64>)> = (0..n * q).into_par_iter().map(one).collect();
        let (slack, kept): (Vec<_>, Vec<_>) = each.into_iter().unzip();
        vec![Slack::of(slack.concat()).keep("p", &kept.concat())]
    }

    fn declared(&self, asked: &Asked, values: &[Values], _x: &[&str]) -> Vec<Declared> {
        let question = asked.question;
        let [n, q, d, c] = dims(&question.dims, ["n", "q", "d", "c"]);
        let ring = question.attributes.flag("ring");
        let rows = places(asked.inputs, question.attributes.int("start") as usize, n);
        let y = values[0].real();
        let mut all = Declared::of(y.len());
        for i in 0..n * q {
            let (sequence, position) = rows[i / q];
            let row = |j: usize| cache_row(sequence, j, c, ring);
            declare(&mut all, i * d, &query(asked, i, position), &y[i * d..(i + 1) * d], row);
        }
        vec![all]
    }

    fn cost(&self, question: &Question) -> Cost {
        let [n, q, d] = dims(&question.dims, ["n", "q", "d"]);
        let [start, window] = ["start", "window"].map(|a| question.attributes.int(a) as f64);
        let all = n as f64 * start + n as f64 * (n as f64 + 1.0) / 2.0;
        let keys = if window > 0.0 { all.min(n as f64 * window) } else { all };
        Cost { bytes: traffic(question), operations: 4.0 * keys * (q * d) as f64 }
    }
}
