//! What attention's ops share: cache rows, positions, the definition for one query.

use crate::error::{Refusal, RefusalKind};
use crate::ops::declared::moved;
use crate::ops::embedding::in_range;
use crate::ops::slack::{Sums, UNDERFLOW, extent};
use crate::ops::{Declared, Inputs, Question, declared};

/// Keys of one split: taken in order, at multiples of this many positions (attention.cuh).
pub const SPLIT: usize = 64;

/// Largest head size of the kernels (32 lanes of DIMS elements each).
pub const HEAD_MAX: usize = 256;

/// Row of a cache [sequences, c, …] that holds a position: the twin of attention.cuh's.
pub fn cache_row(sequence: usize, position: usize, c: usize, ring: bool) -> usize {
    sequence * c + if ring { position % c } else { position }
}

/// Sequence and position of each row of a call: as the operands `sequences` and `positions` say;
/// without positions, `start` plus the count of earlier rows of the same sequence.
pub fn places(inputs: &Inputs, start: usize, n: usize) -> Vec<(usize, usize)> {
    let sequences = inputs.find_ids("sequences");
    let sequence = |i: usize| sequences.map_or(0, |of| of[i]);
    let before = |i: usize| (0..i).filter(|j| sequence(*j) == sequence(i)).count();
    let position = |i: usize| match inputs.find_ids("positions") {
        Some(positions) => positions[i] as usize,
        None if sequences.is_none() => start + i,
        None => start + before(i),
    };
    (0..n).map(|i| (sequence(i) as usize, position(i))).collect()
}

/// Sequence and position of each row; refuses sequences that no cache has, and positions beyond
/// the cache where it is no ring.
pub(crate) fn checked_places(
    question: &Question,
    inputs: &Inputs,
    start: &'static str,
) -> Result<Vec<(usize, usize)>, Refusal> {
    let caches = question.dims.find("s").unwrap_or(1);
    if let Some(sequences) = inputs.find_ids("sequences") {
        in_range(sequences, caches, RefusalKind::IdOutOfRange, "sequences")?;
    }
    let c = question.dims.get("c");
    let limit = if question.attributes.flag("ring") { i32::MAX as usize } else { c };
    if let Some(positions) = inputs.find_ids("positions") {
        in_range(positions, limit, RefusalKind::PositionOutOfRange, "positions")?;
    }
    let first = question.attributes.find_int(start).map_or(0, |x| x as usize);
    let rows = places(inputs, first, question.dims.find("n").unwrap_or(1));
    match rows.iter().find(|(_, p)| *p >= limit) {
        Some((_, p)) => {
            let message = format!("position {p}, but the cache has {c} rows");
            Err(Refusal::new(RefusalKind::PositionOutOfRange, start, message))
        }
        None => Ok(rows),
    }
}

/// Refuses a scalar start beside positions that say it a row.
pub(crate) fn one_start(question: &Question, start: &'static str) -> Result<(), Refusal> {
    let given = question.attributes.find_int(start).is_some_and(|x| x != 0);
    if question.has("positions") && given {
        let message = "the operand positions already says it";
        return Err(Refusal::new(RefusalKind::AttributeOutOfRange, start, message));
    }
    Ok(())
}

/// Query heads must be a multiple of key heads.
pub(crate) fn check_heads(question: &Question, keys: &str) -> Result<(), Refusal> {
    let [q, k, d] = ["q", "k", "d"].map(|s| question.dims.get(s));
    if !q.is_multiple_of(k) {
        let message = format!("{q} query heads are no multiple of {k} key heads");
        return Err(Refusal::new(RefusalKind::ShapeMismatch, keys, message));
    }
    if d > HEAD_MAX {
        let message = format!("heads of {d}, but at most {HEAD_MAX} are offered");
        return Err(Refusal::new(RefusalKind::NotSupported, "q", message));
    }
    Ok(())
}

/// The scale that was given, or 1/√d.
pub(crate) fn scale(question: &Question) -> f64 {
    let given = question.attributes.real("scale");
    match given.is_nan() {
        true => f64::from((1.0 / (question.dims.get("d") as f64).sqrt()) as f32),
        false => given,
    }
}

/// What one query of one head needs.
pub(crate) struct Query<'a> {
    /// The query, d numbers.
    pub q: &'a [f64],
    /// Keys and values, [rows, k, d].
    pub k: &'a [f64],
    /// As `k`.
    pub v: &'a [f64],
    /// Key heads, and the one of this query.
    pub kv: (usize, usize),
    /// The query's position.
    pub position: usize,
    /// Keys seen, the query's own included; 0: all.
    pub window: usize,
    /// A logit that takes part in the softmax and has no value.
    pub sink: Option<f64>,
    /// Factor of the scores.
    pub scale: f64,
}

/// softmax(scale · q kᵀ) v over the keys that the query sees; `row` finds a position's row.
pub(crate) fn attend(x: &Query, row: impl Fn(usize) -> usize) -> Vec<f64> {
    let (d, (heads, head)) = (x.q.len(), x.kv);
    let first = if x.window > 0 { (x.position + 1).saturating_sub(x.window) } else { 0 };
    let at = |j: usize| (row(j) * heads + head) * d;
    let score = |j: usize| {
        let key = &x.k[at(j)..at(j) + d];
        x.scale * x.q.iter().zip(key).map(|(q, k)| q * k).sum::<f64>()
    };
    let scores: Vec<f64> = (first..=x.position).map(score).collect();
    let top =
        scores.iter().copied().chain(x.sink).fold(f64::NEG_INFINITY, |a, b| {
            if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
        });
    let mut y = vec![0.0; d];
    let mut sum = x.sink.map_or(0.0, |s| (s - top).exp());
    for (j, s) in (first..=x.position).zip(scores) {
        let p = (s - top).exp();
        sum += p;
        for (y, v) in y.iter_mut().zip(&x.v[at(j)..at(j) + d]) {
            *y += p * v;
        }
    }
    y.iter_mut().for_each(|y| *y /= sum);
    y
}

/// Slack and Q of p for one query: Σ p·E·|v − y| + product(T)·M_pv + (2·tiles + 8)·|y|, with
/// E = product(d)·scale·M_qk + 2|s| + 2|s − m| + 4; a sink is one more term with v = 0. An
/// exponential may leave f32's normal range, which costs up to 2^-126 a value.
pub(crate) fn attention_slack(
    x: &Query,
    y: &[f64],
    row: impl Fn(usize) -> usize,
    sums: Sums,
) -> (Vec<f64>, Vec<f64>) {
    let (d, (heads, head)) = (x.q.len(), x.kv);
    let first = if x.window > 0 { (x.position + 1).saturating_sub(x.window) } else { 0 };
    let seen: Vec<usize> = (first..=x.position).map(|j| (row(j) * heads + head) * d).collect();
    let terms = |at: usize| x.q.iter().zip(&x.k[at..at + d]).map(|(q, k)| q * k);
    let scores: Vec<f64> = seen.iter().map(|at| x.scale * terms(*at).sum::<f64>()).collect();
    let top = scores.iter().copied().chain(x.sink).fold(f64::NEG_INFINITY, f64::max);
    let sum = scores.iter().chain(&x.sink).map(|s| (s - top).exp()).sum::<f64>();
    let share = |s: f64| (s - top).exp() / sum;
    let shares: Vec<f64> = scores.iter().map(|s| share(*s)).collect();
    let error = |s: f64| 2.0 * s.abs() + 2.0 * (s - top).abs() + 4.0;
    let allowed: Vec<f64> = seen
        .iter()
        .zip(&scores)
        .map(|(at, s)| sums.product(d) * x.scale * extent(terms(*at)).0 + error(*s))
        .collect();
    let tiles = seen.len().div_ceil(SPLIT) as f64;
    let sink = x.sink.map_or(0.0, |s| share(s) * error(s));
    let (mut slack, mut kept) = (Vec::with_capacity(d), Vec::with_capacity(d));
    for (i, y) in y.iter().enumerate() {
        let weighted = || seen.iter().zip(&shares).map(|(at, p)| p * x.v[at + i]);
        let (m, q) = extent(weighted());
        let spread: f64 =
            (0..seen.len()).map(|j| shares[j] * allowed[j] * (x.v[seen[j] + i] - y).abs()).sum();
        let lost: f64 = seen.iter().map(|at| x.v[at + i].abs()).sum::<f64>() * UNDERFLOW;
        let size = (2.0 * tiles + 8.0 + sink) * y.abs();
        slack.push(spread + sums.product(seen.len()) * m + size + lost);
        kept.push(q);
    }
    (slack, kept)
}

/// Adds to `all` what rounding the weights p_j and the scores s_j (q·k, and that times the scale)
/// of one query leaves in the elements from `at` on: c is p_j·v_j and p_j·(v_j − y)·s_j.
pub(crate) fn declare(
    all: &mut Declared,
    at: usize,
    x: &Query,
    y: &[f64],
    row: impl Fn(usize) -> usize,
) {
    let (d, (heads, head)) = (x.q.len(), x.kv);
    let first = if x.window > 0 { (x.position + 1).saturating_sub(x.window) } else { 0 };
    let seen: Vec<usize> = (first..=x.position).map(|j| (row(j) * heads + head) * d).collect();
    let score =
        |at: &usize| x.scale * x.q.iter().zip(&x.k[*at..at + d]).map(|(q, k)| q * k).sum::<f64>();
    let scores: Vec<f64> = seen.iter().map(score).collect();
    let top = scores.iter().copied().chain(x.sink).fold(f64::NEG_INFINITY, f64::max);
    let sum = scores.iter().chain(&x.sink).map(|s| (s - top).exp()).sum::<f64>();
    for (s, from) in scores.iter().zip(seen) {
        let (p, v) = ((s - top).exp() / sum, &x.v[from..from + d]);
        let score = if p > 0.0 { *s } else { 0.0 };
        let (mut by_weight, mut by_score) = (0.0, 0.0);
        for (i, (v, y)) in v.iter().zip(y).enumerate() {
            let g = if y.is_finite() { *y } else { 0.0 };
            let (weight, score) = (moved(*v, p), moved(p * (v - y), score));
            all.own(declared::P, at + i, 0.0, &[weight]);
            all.own(declared::LOGITS, at + i, 0.0, &[score, score]);
            by_weight += g * weight;
            by_score += g * score;
        }
        all.whole(declared::P, by_weight * by_weight);
        all.whole(declared::LOGITS, 2.0 * by_score * by_score);
    }
}
