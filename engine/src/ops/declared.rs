//! Declared roundings: what an engine that rounds at places of its choice adds to the error of a
//! result, by each op's formula. The goldens carry their own, by the oracle.
//!
//! With z over the rounded numbers of a place and c = ∂r/∂z·z, one element moves by at most
//! u·Σ|c|, and by 4u·√Σc² unless roundings conspire; the result as a whole moves along itself by
//! G = √Σ_z (Σ_i g_i·c_i)², g being the result. Neither knows the type, whose u the judge multiplies.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::ops::slack::UNIT;
use crate::ops::{Asked, Values};

/// Weights, after dequantising.
pub const WEIGHTS: &str = "weights";
/// What enters a product with a weight.
pub const X: &str = "x";
/// The same, quantised to int8 in blocks of so many elements, where the weight is of a block type.
pub const INT8: [(&str, usize); 2] = [("x_int8_32", 32), ("x_int8_256", 256)];
/// A normalised row, before gamma scales it.
pub const NORM: &str = "norm";
/// Cosine and sine, and the products with them.
pub const ROPE: &str = "rope";
/// Results of products and steps of an activation function.
pub const ACTIVATION: &str = "activation";
/// Weights that a softmax gives.
pub const P: &str = "p";
/// Scores that a softmax takes.
pub const LOGITS: &str = "logits";

/// Below this f16 has fewer digits. What comes near zero in the ordinary course of things counts
/// as at least so much; weights of models and what is multiplied by them do not.
const SMALLEST: f64 = 1.0 / 16384.0;

/// Σc² and Σ|c| of each element, and G² of the result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    squares: Vec<f64>,
    sizes: Vec<f64>,
    gain: f64,
}

impl Term {
    /// 2^24 · min(4·√Σc², Σ|c|) of each element: its error in units of 2^-24, over u.
    pub fn bound(&self) -> Vec<f64> {
        let bound = |(square, size): (&f64, &f64)| UNIT * (4.0 * square.sqrt()).min(*size);
        self.squares.iter().zip(&self.sizes).map(bound).collect()
    }

    /// G; nothing is allowed where the question holds infinities.
    pub fn gain(&self) -> f64 {
        if self.gain.is_finite() { self.gain.sqrt() } else { 0.0 }
    }

    /// Adds c to one element.
    fn add(&mut self, at: usize, c: f64, times: f64) {
        self.squares[at] += times * c * c;
        self.sizes[at] += times * c.abs();
    }
}

/// The terms of one result by place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// Place → its term.
    pub terms: BTreeMap<&'static str, Term>,
    /// Place → of each element 2^24 over the u from which on a choice may be another one.
    pub shaky: BTreeMap<&'static str, Vec<f64>>,
    elements: usize,
    x: Vec<&'static str>,
}

/// c = ∂r/∂z·z with z at least 2^-14 in size.
pub(crate) fn moved(slope: f64, z: f64) -> f64 {
    // Written such that NaN stays NaN.
    slope * if z.abs() < SMALLEST { SMALLEST } else { z.abs() }
}

/// The result as a direction: what is no number has none.
pub(crate) fn direction(values: &Values) -> Vec<f64> {
    values.real().iter().map(|y| if y.is_finite() { *y } else { 0.0 }).collect()
}

/// The terms of an op whose results each depend on numbers of their own: `c` of element i.
pub(crate) fn alone(
    place: &'static str,
    values: &Values,
    c: impl Fn(usize) -> Vec<f64>,
) -> Declared {
    let g = direction(values);
    let mut declared = Declared::of(g.len());
    for (i, g) in g.iter().enumerate() {
        declared.own(place, i, *g, &c(i));
    }
    declared
}

impl Declared {
    /// No terms yet, of a result of so many elements; all terms of what enters products.
    pub(crate) fn of(elements: usize) -> Declared {
        Declared { elements, x: vec![X, INT8[0].0, INT8[1].0], ..Declared::default() }
    }

    /// Of what enters products only the terms of these places.
    pub(crate) fn with(mut self, x: &[&str]) -> Declared {
        self.x.retain(|place| x.contains(place));
        self
    }

    /// How far each number that enters a product may be off, by place: itself, and half a step of
    /// its block in int8.
    fn entering<'x>(&self, x: &'x [f64], block: bool) -> Vec<(&'static str, Cow<'x, [f64]>)> {
        entering(x, block).into_iter().filter(|(place, _)| self.x.contains(place)).collect()
    }

    /// The term of a place, empty at first.
    pub(crate) fn at(&mut self, place: &'static str) -> &mut Term {
        let empty = || vec![0.0; self.elements];
        let term = || Term { squares: empty(), sizes: empty(), gain: 0.0 };
        self.terms.entry(place).or_insert_with(term)
    }

    /// Numbers that reach element `at` alone.
    pub(crate) fn own(&mut self, place: &'static str, at: usize, g: f64, cs: &[f64]) {
        let term = self.at(place);
        for c in cs {
            term.add(at, *c, 1.0);
            term.gain += (g * c) * (g * c);
        }
    }

    /// Adds to G² alone.
    pub(crate) fn whole(&mut self, place: &'static str, gain: f64) {
        self.at(place).gain += gain;
    }

    /// A bound that is already one.
    pub(crate) fn bounded(&mut self, place: &'static str, at: usize, bound: f64) {
        let term = self.at(place);
        (term.squares[at], term.sizes[at]) = ((bound / 4.0) * (bound / 4.0), bound);
    }

    /// Numbers c \[k\] that reach the elements from `at` on through w \[o, k\]; g \[o\].
    pub(crate) fn through(
        &mut self,
        place: &'static str,
        at: usize,
        c: &[f64],
        w: &Matrix<'_>,
        g: &[f64],
    ) {
        let sums = w.squares_and_sizes(c);
        let back = w.back(g);
        let term = self.at(place);
        for (i, (square, size)) in sums.into_iter().enumerate() {
            term.squares[at + i] += square;
            term.sizes[at + i] += size;
        }
        term.gain += back.iter().zip(c).map(|(b, c)| (b * c) * (b * c)).sum::<f64>();
    }

    /// One row of y = x·wᵀ: x \[k\], w \[o, k\], g \[o\].
    pub(crate) fn product(
        &mut self,
        at: usize,
        x: &[f64],
        w: &Matrix<'_>,
        g: &[f64],
        shared: &mut Shared,
        key: usize,
    ) {
        for (place, c) in self.entering(x, w.block) {
            self.through(place, at, &c, w, g);
        }
        self.weights(at, &w.squares_and_sizes(x));
        shared.add(key, w.scale, g, x);
    }

    /// As `product`, G² alone: x \[k\] reaches the result by w \[o, k\] with slope g \[o\].
    pub(crate) fn back(&mut self, x: &[f64], w: &Matrix<'_>, g: &[f64], shared: &mut Shared) {
        let back = w.back(g);
        for (place, c) in self.entering(x, w.block) {
            self.whole(place, back.iter().zip(&*c).map(|(b, c)| (b * c) * (b * c)).sum());
        }
        shared.add(0, w.scale, g, x);
    }

    fn weights(&mut self, at: usize, sums: &[(f64, f64)]) {
        let term = self.at(WEIGHTS);
        for (i, (square, size)) in sums.iter().enumerate() {
            term.squares[at + i] += square;
            term.sizes[at + i] += size;
        }
    }

    /// One row through a feed-forward block, without what its own x contributes: several blocks may
    /// read the same x.
    pub(crate) fn feed_forward(
        &mut self,
        at: usize,
        x: &[f64],
        block: &Block<'_>,
        g: &[f64],
        shared: &mut Shared,
    ) {
        let (w, hidden) = (&block.down, &block.hidden);
        for (place, c) in self.entering(hidden, w.block) {
            self.through(place, at, &c, w, g);
        }
        for c in &block.activation {
            self.through(ACTIVATION, at, c, w, g);
        }
        let back = w.back(g);
        let mut inside: Vec<(f64, f64)> = hidden.iter().map(|h| (h * h, h.abs())).collect();
        for (inner, slope, key) in &block.inner {
            for (f, (square, size)) in inner.squares_and_sizes(x).into_iter().enumerate() {
                inside[f].0 += slope[f] * slope[f] * square;
                inside[f].1 += slope[f].abs() * size;
            }
            let left: Vec<f64> = back.iter().zip(slope).map(|(b, s)| b * s).collect();
            shared.add(*key, 1.0, &left, x);
        }
        self.weights(at, &w.spread(&inside));
        shared.add(block.key, w.scale, g, hidden);
    }

    /// What the row x \[h\] contributes through all blocks that read it.
    pub(crate) fn through_all(&mut self, at: usize, x: &[f64], blocks: &[Block<'_>], g: &[f64]) {
        let is_block = blocks.iter().any(|b| b.inner.iter().any(|(w, ..)| w.block));
        let places = self.entering(x, is_block);
        let (h, multiplications) = (x.len(), g.len() * x.len() * blocks_width(blocks));
        let exact = multiplications <= EXACT && !places.is_empty();
        let jacobian = if exact { jacobian(blocks, h) } else { Vec::new() };
        let back = blocks.iter().fold(vec![0.0; h], |mut sum, block| {
            block.back(g, &mut sum);
            sum
        });
        for (place, c) in places {
            let sums = match exact {
                true => Matrix::new(&jacobian, h, false).squares_and_sizes(&c),
                false => probed(blocks, &c, g.len()),
            };
            let term = self.at(place);
            for (i, (square, size)) in sums.into_iter().enumerate() {
                term.squares[at + i] += square;
                term.sizes[at + i] += size;
            }
            term.gain += back.iter().zip(&*c).map(|(b, c)| (b * c) * (b * c)).sum::<f64>();
        }
    }

    /// One row p = softmax(z) at `at`: c_ij = p_i·(δ_ij − p_j)·z_j, each z rounded `times` times.
    pub(crate) fn softmax(&mut self, at: usize, z: &[f64], p: &[f64], g: &[f64], times: f64) {
        let size: Vec<f64> =
            z.iter().zip(p).map(|(z, p)| if *p > 0.0 { moved(1.0, *z) } else { 0.0 }).collect();
        let sizes: Vec<f64> = p.iter().zip(&size).map(|(p, s)| p * s).collect();
        let squares = others(&sizes.iter().map(|s| s * s).collect::<Vec<_>>());
        let sizes = others(&sizes);
        let mean: f64 = g.iter().zip(p).map(|(g, p)| g * p).sum();
        let term = self.at(LOGITS);
        for (i, (p, s)) in p.iter().zip(&size).enumerate() {
            let own = (1.0 - p) * s;
            term.squares[at + i] += times * p * p * (own * own + squares[i]);
            term.sizes[at + i] += times * p * (own + sizes[i]);
            term.gain += times * (p * (g[i] - mean) * s).powi(2);
        }
    }
}

/// The sum of all other elements, by sums from both ends: nothing cancels.
fn others(x: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; x.len()];
    let (mut before, mut after) = (0.0, 0.0);
    for i in 0..x.len() {
        let last = x.len() - 1 - i;
        sums[i] += before;
        sums[last] += after;
        before += x[i];
        after += x[last];
    }
    sums
}

/// The most multiplications for which Σ (∂y/∂x·c)² is computed as it stands.
const EXACT: usize = 1 << 32;

/// Random signs beyond that: the mean of (∂y/∂x·σc)² over them, times 4. That is below the sum
/// itself in one of e^20 elements, by the tail of χ² with as many degrees of freedom.
const PROBES: usize = 64;

fn blocks_width(blocks: &[Block<'_>]) -> usize {
    blocks.iter().map(|block| block.hidden.len()).sum()
}

/// ∂y/∂x \[o, h\] through all blocks.
fn jacobian(blocks: &[Block<'_>], h: usize) -> Vec<f64> {
    let outputs = blocks.first().map_or(0, |b| b.down.values.len() / b.down.columns);
    let row = |o: usize| {
        let mut row = vec![0.0; h];
        for block in blocks {
            let w = &block.down;
            let w_row = &w.values[o * w.columns..(o + 1) * w.columns];
            for (inner, slope, _) in &block.inner {
                for (f, (w_of, slope)) in w_row.iter().zip(slope).enumerate() {
                    let factor = w.scale * w_of * slope;
                    let of = &inner.values[f * h..(f + 1) * h];
                    row.iter_mut().zip(of).for_each(|(r, v)| *r += factor * v);
                }
            }
        }
        row
    };
    (0..outputs).into_par_iter().flat_map_iter(row).collect()
}

/// An estimate of Σ (∂y/∂x·c)² from above, and four of its roots: of so many numbers Σ|∂y/∂x·c| is
/// larger.
fn probed(blocks: &[Block<'_>], c: &[f64], outputs: usize) -> Vec<(f64, f64)> {
    let mut squares = vec![0.0; outputs];
    // SplitMix64 (Steele, Lea & Flood 2014): the same signs in every run.
    let mut state = 0u64;
    let mut sign = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if (z ^ (z >> 31)) & 1 == 0 { 1.0 } else { -1.0 }
    };
    for _ in 0..PROBES {
        let signed: Vec<f64> = c.iter().map(|c| sign() * c).collect();
        let mut y = vec![0.0; outputs];
        for block in blocks {
            let mut hidden = vec![0.0; block.hidden.len()];
            for (inner, slope, _) in &block.inner {
                let moved = inner.times(&signed);
                hidden.iter_mut().zip(moved).zip(slope).for_each(|((h, m), s)| *h += m * s);
            }
            y.iter_mut().zip(block.down.times(&hidden)).for_each(|(y, m)| *y += m);
        }
        squares.iter_mut().zip(y).for_each(|(s, y)| *s += y * y);
    }
    let estimate = |sum: f64| 4.0 * sum / PROBES as f64;
    squares.into_iter().map(|s| (estimate(s), 4.0 * estimate(s).sqrt())).collect()
}

fn entering(x: &[f64], block: bool) -> Vec<(&'static str, Cow<'_, [f64]>)> {
    let mut all = vec![(X, Cow::Borrowed(x))];
    for (place, elements) in INT8.into_iter().filter(|(_, n)| block && x.len().is_multiple_of(*n)) {
        let height = |block: &[f64]| block.iter().fold(0.0f64, |most, x| most.max(x.abs())) / 254.0;
        let heights =
            x.chunks_exact(elements).flat_map(|b| std::iter::repeat_n(height(b), elements));
        all.push((place, heights.collect()));
    }
    all
}

/// A weight [rows, columns], multiplied by `scale`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'w> {
    values: &'w [f64],
    columns: usize,
    scale: f64,
    block: bool,
}

impl<'w> Matrix<'w> {
    /// A weight, and whether it is of a block type.
    pub fn new(values: &'w [f64], columns: usize, block: bool) -> Matrix<'w> {
        Matrix { values, columns, scale: 1.0, block }
    }

    /// Multiplied by `scale`.
    pub fn scaled(self, scale: f64) -> Matrix<'w> {
        Matrix { scale, ..self }
    }

    /// Σ (w·c)² and Σ |w·c| of each row.
    fn squares_and_sizes(&self, c: &[f64]) -> Vec<(f64, f64)> {
        let each: Vec<(f64, f64)> = c.iter().map(|c| (c * c, c.abs())).collect();
        self.spread(&each)
    }

    /// Σ w²·square and Σ |w|·size of each row.
    fn spread(&self, each: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let scale = self.scale;
        let row = |row: &[f64]| {
            row.iter().zip(each).fold((0.0, 0.0), |(squares, sizes), (w, (square, size))| {
                let w = scale * w;
                (squares + w * w * square, sizes + w.abs() * size)
            })
        };
        self.values.par_chunks_exact(self.columns).with_min_len(16).map(row).collect()
    }

    /// w·x \[rows\].
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let row = |row: &[f64]| self.scale * row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        self.values.par_chunks_exact(self.columns).with_min_len(16).map(row).collect()
    }

    /// gᵀ·w \[columns\].
    fn back(&self, g: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        for (row, g) in self.values.chunks_exact(self.columns).zip(g) {
            sums.iter_mut().zip(row).for_each(|(s, w)| *s += g * self.scale * w);
        }
        sums
    }
}

/// One row's feed-forward block.
pub(crate) struct Block<'w> {
    /// The inner products: weight [f, h], ∂hidden/∂product \[f\], and the weight's key.
    pub inner: Vec<(Matrix<'w>, Vec<f64>, usize)>,
    /// c of the numbers between the products, a list \[f\] each.
    pub activation: Vec<Vec<f64>>,
    /// The hidden value \[f\].
    pub hidden: Vec<f64>,
    /// The down weight [o, f].
    pub down: Matrix<'w>,
    /// Its key.
    pub key: usize,
}

impl Block<'_> {
    /// Adds gᵀ·∂y/∂x \[h\].
    fn back(&self, g: &[f64], sum: &mut [f64]) {
        let back = self.down.back(g);
        for (inner, slope, _) in &self.inner {
            let left: Vec<f64> = back.iter().zip(slope).map(|(b, s)| b * s).collect();
            sum.iter_mut().zip(inner.back(&left)).for_each(|(sum, b)| *sum += b);
        }
    }
}

/// Gradients of weights that several rows share, by key.
#[derive(Debug, Default)]
pub(crate) struct Shared(BTreeMap<usize, Vec<f64>>);

impl Shared {
    fn add(&mut self, key: usize, scale: f64, left: &[f64], right: &[f64]) {
        let gradient = self.0.entry(key).or_insert_with(|| vec![0.0; left.len() * right.len()]);
        let rows = gradient.par_chunks_exact_mut(right.len()).with_min_len(16);
        rows.zip(left).for_each(|(row, left)| {
            row.iter_mut().zip(right).for_each(|(g, right)| *g += scale * left * right);
        });
    }

    /// Σ (w·gradient)² over all weights; `weight` finds the values of a key.
    pub fn gain<'w>(&self, weight: impl Fn(usize) -> &'w [f64]) -> f64 {
        let one = |(key, gradient): (&usize, &Vec<f64>)| -> f64 {
            weight(*key).iter().zip(gradient).map(|(w, g)| (w * g) * (w * g)).sum()
        };
        self.0.iter().map(one).sum()
    }
}

/// Terms of y = x·wᵀ, w of the operand `name`.
pub(crate) fn of_product(asked: &Asked, name: &str, k: usize, values: &Values) -> Declared {
    let g = direction(values);
    let w = asked.inputs.real(name);
    let matrix = Matrix::new(w, k, asked.tensors[name].meta.dtype.is_block());
    let outputs = w.len() / k;
    let (mut declared, mut shared) = (Declared::of(g.len()), Shared::default());
    let rows = asked.inputs.real("x").chunks_exact(k).zip(g.chunks_exact(outputs));
    for (i, (x, g)) in rows.enumerate() {
        declared.product(i * outputs, x, &matrix, g, &mut shared, 0);
    }
    declared.whole(WEIGHTS, shared.gain(|_| w));
    declared
}

/// Lists of each element as lists of each step.
pub(crate) fn by_step(elements: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut steps: Vec<Vec<f64>> = Vec::new();
    for element in elements {
        steps.resize_with(element.len(), Vec::new);
        steps.iter_mut().zip(element).for_each(|(step, c)| step.push(c));
    }
    steps
}

/// Inner weights with their slopes, c of the numbers between the products, and the hidden value.
pub(crate) type Inside = (Vec<(&'static str, Vec<f64>)>, Vec<Vec<f64>>, Vec<f64>);

/// Terms of a feed-forward block with the operands x, w_up and w_down, of width f; `inside` says
/// what a row becomes between the products.
pub(crate) fn feed_forward(
    asked: &Asked,
    values: &Values,
    f: usize,
    x: &[&str],
    inside: impl Fn(&[f64]) -> Inside,
) -> Declared {
    let h = asked.question.dims.get("h");
    let is_block = |name: &str| asked.tensors[name].meta.dtype.is_block();
    let matrix =
        |name: &str, columns: usize| Matrix::new(asked.inputs.real(name), columns, is_block(name));
    let (g, mut shared) = (direction(values), Shared::default());
    let mut declared = Declared::of(g.len()).with(x);
    const NAMES: [&str; 3] = ["w_down", "w_up", "w_gate"];
    let key = |name: &str| NAMES.iter().position(|n| *n == name).unwrap_or_default();
    for (i, x) in asked.inputs.real("x").chunks_exact(h).enumerate() {
        let (inner, activation, hidden) = inside(x);
        let inner = inner.into_iter().map(|(name, slope)| (matrix(name, h), slope, key(name)));
        let (inner, down) = (inner.collect(), matrix("w_down", f));
        let block = Block { inner, activation, hidden, down, key: key("w_down") };
        let (at, g) = (i * h, &g[i * h..(i + 1) * h]);
        declared.feed_forward(at, x, &block, g, &mut shared);
        declared.through_all(at, x, &[block], g);
    }
    declared.whole(WEIGHTS, shared.gain(|key| asked.inputs.real(NAMES[key])));
    // The block's own result rounds before the residual is added.
    if let Some(residual) = asked.inputs.find_real("residual") {
        for (i, (y, residual)) in values.real().iter().zip(residual).enumerate() {
            declared.own(ACTIVATION, i, g[i], &[moved(1.0, y - residual)]);
        }
    }
    declared
}
