//! Slack: the first-order error of a legal kernel in units of 2^-24, by each op's formula. The
//! goldens carry their own, by the oracle; this one serves where the definition answers in a
//! golden's place, and beside numbers written by hand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::dtype::DType;
use crate::quant;
use crate::tensor::Tensor;

/// One result's slack, an element each, and the terms of values that an engine may keep rounded:
/// 2^24 · 4 · Q, to be multiplied by the unit of the kept type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slack {
    /// In units of 2^-24.
    pub slack: Vec<f64>,
    /// Kept value → its term.
    pub keeps: BTreeMap<&'static str, Vec<f64>>,
}

impl Slack {
    /// A slack without kept values.
    pub fn of(slack: Vec<f64>) -> Slack {
        Slack { slack, keeps: BTreeMap::new() }
    }

    /// Adds the term of a kept value from its Q.
    pub fn keep(mut self, name: &'static str, q: &[f64]) -> Slack {
        self.keeps.insert(name, q.iter().map(|q| 4.0 * UNIT * q).collect());
        self
    }
}

/// 2^24: one over the unit of slack.
pub const UNIT: f64 = 16_777_216.0;

/// Below this an exponential has left f32's normal range and may be flushed: 2^-102 units of
/// 2^-24 are 2^-126.
pub const UNDERFLOW: f64 = 1.0 / (1u128 << 102) as f64;

/// How a legal engine sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Products on tensor cores, which truncate.
    pub tensor: bool,
    /// One after the other, so that errors may all point one way.
    pub linear: bool,
}

impl Sums {
    /// √K, or K where sums are sequential.
    pub fn root(self, k: usize) -> f64 {
        if self.linear { k as f64 } else { (k as f64).sqrt() }
    }

    /// The error of a sum of K products as a multiple of M.
    pub fn product(self, k: usize) -> f64 {
        6.0 * self.root(k) + if self.tensor { k as f64 / 8.0 } else { 0.0 }
    }
}

/// M and Q of a sum of terms in index order: M = max(largest |partial sum|, √Σ terms²), Q = √Σ
/// terms².
pub fn extent(terms: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut sum, mut largest, mut square) = (0.0f64, 0.0f64, 0.0f64);
    for term in terms {
        sum += term;
        square += term * term;
        largest = largest.max(sum.abs());
    }
    (largest.max(square.sqrt()), square.sqrt())
}

/// A weight's parts that count apart in M: for q4_k and q5_k d·scale·q and dmin·min, else `whole`,
/// its numbers as they are.
pub fn parts<'w>(weight: &Tensor, whole: &'w [f64]) -> Vec<Cow<'w, [f64]>> {
    match quant::minima(weight.meta.dtype, &weight.bytes) {
        None => vec![Cow::Borrowed(whole)],
        Some(minima) => {
            let first = whole.iter().zip(&minima).map(|(w, m)| w + m).collect();
            vec![Cow::Owned(first), Cow::Owned(minima.into_iter().map(|m| -m).collect())]
        }
    }
}

/// The same elements of every part.
pub fn slice<'p>(parts: &'p [Cow<'_, [f64]>], range: Range<usize>) -> Vec<&'p [f64]> {
    parts.iter().map(|part| &part[range.clone()]).collect()
}

/// The weight whose parts these are.
pub fn whole<'p>(parts: &[&'p [f64]]) -> Cow<'p, [f64]> {
    match parts {
        [one] => Cow::Borrowed(one),
        _ => (0..parts[0].len()).map(|i| parts.iter().map(|p| p[i]).sum()).collect(),
    }
}

/// Slack and Q of x [n, k] times a weight [o, k], with its bias: (product + 6)·M + |bias|, and
/// 3·√(K/32)·M more for block types.
pub fn matmul(
    x: &[f64],
    parts: &[&[f64]],
    dtype: DType,
    bias: Option<&[f64]>,
    k: usize,
    sums: Sums,
) -> (Vec<f64>, Vec<f64>) {
    let blocks = if dtype.is_block() { 3.0 * (k as f64 / 32.0).sqrt() } else { 0.0 };
    let factor = sums.product(k) + 6.0 + blocks;
    let outputs = parts[0].len() / k;
    let one = |at: usize| {
        let (x, o) = (&x[at / outputs * k..][..k], at % outputs);
        let rows = || parts.iter().map(|part| &part[o * k..(o + 1) * k]);
        let m: f64 = rows().map(|row| extent(x.iter().zip(row).map(|(x, w)| x * w)).0).sum();
        let whole = |i: usize| rows().map(|row| row[i]).sum::<f64>();
        let q = extent((0..k).map(|i| x[i] * whole(i))).1;
        (factor * m + bias.map_or(0.0, |b| b[o].abs()), q)
    };
    (0..x.len() / k * outputs).into_par_iter().with_min_len(16).map(one).unzip()
}

/// Whether every product of x [n, k] with a weight [o, k] is exact in f32, with its bias: all terms
/// and partial sums are multiples of one unit and smaller than 2^24 of it.
pub fn exact_product(x: &[f64], whole: &[f64], bias: Option<&[f64]>, k: usize) -> bool {
    let lowest = |row: &[f64]| row.iter().map(|v| lowest_bit(*v)).min().unwrap_or(i32::MAX);
    let rows = |m: &[f64]| m.chunks_exact(k).map(lowest).collect::<Vec<_>>();
    let (low_x, low_w) = (rows(x), rows(whole));
    let finite = |m: &[f64]| m.iter().all(|v| v.is_finite());
    finite(x)
        && finite(whole)
        && x.chunks_exact(k).zip(&low_x).all(|(x, low_x)| {
            whole.chunks_exact(k).zip(&low_w).enumerate().all(|(o, (w, low_w))| {
                let bias = bias.map_or(0.0, |b| b[o]);
                let size: f64 = x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum();
                let low = low_x.saturating_add(*low_w).min(lowest_bit(bias));
                size + bias.abs() < 2f64.powi(24) * 2f64.powi(low.min(1000))
            })
        })
}

/// The exponent of the lowest bit that is set; the largest for zero.
fn lowest_bit(x: f64) -> i32 {
    if x == 0.0 {
        return i32::MAX / 2;
    }
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let mantissa = bits & ((1 << 52) - 1) | if exponent == 0 { 0 } else { 1 << 52 };
    exponent.max(1) - 1075 + mantissa.trailing_zeros() as i32
}

/// layernorm: |gamma|/σ·(2√K·mean|x| + |mean| + 6|x₀ − mean|) + |gamma·x̂|·(√K·v/(v+eps) + 4) +
/// |beta| + |y|; the kernel sums differences to the first element.
pub fn layernorm(x: &[f64], gamma: &[f64], beta: &[f64], y: &[f64], eps: f64, s: Sums) -> Vec<f64> {
    let h = gamma.len();
    let root = s.root(h);
    let mut slack = Vec::with_capacity(x.len());
    for (x, y) in x.chunks_exact(h).zip(y.chunks_exact(h)) {
        let mean = x.iter().sum::<f64>() / h as f64;
        let size = x.iter().map(|v| v.abs()).sum::<f64>() / h as f64;
        let v = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / h as f64;
        let sigma = (v + eps).sqrt();
        slack.extend((0..h).map(|i| {
            gamma[i].abs() / sigma * (2.0 * root * size + mean.abs() + 6.0 * (x[0] - mean).abs())
                + (gamma[i] * (x[i] - mean) / sigma).abs() * (root * v / (v + eps) + 4.0)
                + beta[i].abs()
                + y[i].abs()
        }));
    }
    slack
}

/// rmsnorm: |y|·(√K·v/(v+eps) + 5), v the mean square.
pub fn rmsnorm(x: &[f64], y: &[f64], h: usize, eps: f64, s: Sums) -> Vec<f64> {
    let root = s.root(h);
    let mut slack = Vec::with_capacity(x.len());
    for (x, y) in x.chunks_exact(h).zip(y.chunks_exact(h)) {
        let v = x.iter().map(|v| v * v).sum::<f64>() / h as f64;
        slack.extend(y.iter().map(|y| y.abs() * (root * v / (v + eps) + 5.0)));
    }
    slack
}

/// softmax of z = scale · x: p·(2√K + |z − max| + 8), and |z| + Σ p·|z| where a scale is
/// multiplied in, because each z rounds; an exponential may leave f32's normal range.
pub fn softmax(row: &[f64], p: &[f64], scale: f64, s: Sums) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max) * scale;
    let root = s.root(row.len());
    let rounds = if scale == 1.0 { 0.0 } else { scale.abs() };
    let mean: f64 = row.iter().zip(p).map(|(x, p)| p * rounds * x.abs()).sum();
    let allowed = |x: f64| 2.0 * root + (scale * x - top).abs() + 8.0 + rounds * x.abs() + mean;
    row.iter().zip(p).map(|(x, p)| p * allowed(*x) + UNDERFLOW).collect()
}

/// gelu: 4|y| + 2|x|, x with the scale of the result.
pub fn gelu(x: &[f64], y: &[f64], scale: f64) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| 4.0 * y.abs() + 2.0 * (scale * x).abs()).collect()
}

/// swiglu: |y|·(8 + |gate|) + 2^-102·|gate·up|; with a slope 2·|slope·gate|, a product that rounds.
pub fn swiglu(gate: f64, up: f64, y: f64, slope: Option<f64>) -> f64 {
    let exponent = slope.map_or(gate.abs(), |slope| 2.0 * (slope * gate).abs());
    y.abs() * (8.0 + exponent) + UNDERFLOW * (gate * up).abs()
}

/// √Σ_f (w_f · error_f)² for each row of a weight [o, f]: errors of a hidden value add as squares.
fn spread(weight: &[f64], errors: &[f64]) -> Vec<f64> {
    let square = |row: &[f64]| row.iter().zip(errors).map(|(w, e)| (w * e).powi(2)).sum::<f64>();
    weight.par_chunks_exact(errors.len()).map(|row| square(row).sqrt()).collect()
}

/// The down projection of one token: its own slack plus what each of `inner` (errors of the hidden
/// value \[f\]) adds; and Q of the kept hidden value.
pub fn down(
    hidden: &[f64],
    parts: &[&[f64]],
    dtype: DType,
    bias: Option<&[f64]>,
    inner: &[Vec<f64>],
    sums: Sums,
) -> (Vec<f64>, Vec<f64>) {
    let (mut slack, q) = matmul(hidden, parts, dtype, bias, hidden.len(), sums);
    let whole = whole(parts);
    for errors in inner {
        slack.iter_mut().zip(spread(&whole, errors)).for_each(|(s, e)| *s += e);
    }
    (slack, q)
}

/// What a product that keeps its weight rounded leaves: Q, where the weight is of a block type.
pub fn rounded(dtype: DType, q: &[f64]) -> impl Fn(usize) -> f64 + '_ {
    move |i| if dtype.is_block() { q[i] } else { 0.0 }
}

/// Q of the weights of a feed-forward block for one token: that of the down projection, where it is
/// of a block type, and what each of `inner` (Q of the hidden value \[f\]) adds, as squares.
pub fn kept_weights(parts: &[&[f64]], dtype: DType, down: &[f64], inner: &[Vec<f64>]) -> Vec<f64> {
    let (whole, own) = (whole(parts), rounded(dtype, down));
    let mut squares: Vec<f64> = (0..down.len()).map(|i| own(i).powi(2)).collect();
    for errors in inner {
        squares.iter_mut().zip(spread(&whole, errors)).for_each(|(s, e)| *s += e * e);
    }
    squares.into_iter().map(f64::sqrt).collect()
}

/// The derivative of an activation, by central differences: first order is enough.
pub fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
}
