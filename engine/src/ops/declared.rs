//! Declared roundings: what an engine that rounds at places of its choice adds to the error of a
//! result, by each op's formula. The goldens carry their own, by the oracle.
//!
//! With z over the rounded numbers of a place and c = ∂r/∂z·z, one element moves by at most
//! u·Σ|c|, and by 4u·√Σc² unless roundings conspire; the result as a whole moves along itself by
//! G = √Σ_z (Σ_i g_i·c_i)², g being the result. Neither knows the type: the judge multiplies by its
//! u.

mod blocks;

use std::borrow::Cow;
use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::ops::slack::UNIT;
use crate::ops::{Asked, Values};

pub(crate) use blocks::{Block, Inside, by_step, feed_forward};

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
