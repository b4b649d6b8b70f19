//! Declared roundings of feed-forward blocks: what they leave reaches a result through products
//! behind them.

use rayon::prelude::*;

use crate::ops::declared::{ACTIVATION, Declared, Matrix, Shared, WEIGHTS, direction, moved};
use crate::ops::{Asked, Values};

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

impl Declared {
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
