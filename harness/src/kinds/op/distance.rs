//! Distance: how far an answer is from its golden, as a fraction of what is allowed beyond
//! rounding.
//!
//! With D the stored type, r the golden in `f64`, o the output and A the allowance, `load = max(0,
//! |o - r| - half an ulp of D at r) / A`. With A = 0 the load is 0 if o is r rounded to D, and
//! infinite otherwise. All comparisons are written such that NaN fails.

use std::cmp::Ordering;

use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, Tensor};

use crate::kinds::op::case::{Tolerance, ToleranceRule};
use crate::kinds::op::golden::{GoldenResult, Numbers};
use crate::line::Worst;
use crate::line::row::AROUND;

/// 2^-24: the unit of slack, half an ulp of f32 at 1.
pub const UNIT: f64 = 1.0 / 16_777_216.0;

/// The relative error of one rounding to `dtype`, in the sense of `keeps`.
pub fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0 / 2048.0,
        DType::BF16 => 1.0 / 256.0,
        // A rounding to f32 is part of the slack already, whose unit is 2^-24.
        _ => 0.0,
    }
}

/// Whether `x` is not at most `limit`. NaN on either side exceeds every limit.
pub fn exceeds(x: f64, limit: f64) -> bool {
    !matches!(x.partial_cmp(&limit), Some(Ordering::Less | Ordering::Equal))
}

/// One expected result, with everything by which its elements are judged.
#[derive(Clone, Debug)]
pub struct Ruler {
    /// The result's name.
    pub name: String,
    /// The type and shape that the answer must have.
    pub meta: Meta,
    /// The golden, unrounded.
    pub golden: Vec<f64>,
    /// The golden rounded to the stored type.
    pub want: Vec<f64>,
    /// Half an ulp of the stored type at the golden.
    pub half: Vec<f64>,
    /// The allowance beyond that.
    pub allow: Vec<f64>,
    /// The part of that which comes of declared roundings; empty if there are none.
    pub swayed: Vec<f64>,
    /// What declared roundings add to the gain, times Σ g².
    pub sway: f64,
    /// Where an answer is demanded; empty for everywhere.
    pub decided: Vec<bool>,
    /// Whether the bits must be those of `want`, including the sign of zero.
    pub exact: bool,
}

impl Ruler {
    /// The ruler of `result`, stored as `dtype`, under `tolerance`.
    pub fn new(name: &str, dtype: DType, result: &GoldenResult, tolerance: &Tolerance) -> Ruler {
        let (golden, ids) = match &result.numbers {
            Numbers::Real(x) => (x.clone(), false),
            Numbers::Ids(x) => (x.iter().map(|&id| f64::from(id)).collect(), true),
        };
        let want = golden.iter().map(|&r| dtype.round(r)).collect();
        let half: Vec<f64> = golden.iter().map(|&r| half_ulp(dtype, r)).collect();
        // A wrong id is not nearly right, so ids have no allowance.
        let allow = if ids {
            vec![0.0; golden.len()]
        } else {
            allowance(result, &golden, &half, tolerance)
        };
        let meta = Meta::new(dtype, &result.shape);
        let exact = !ids && tolerance.rule == ToleranceRule::Exact;
        Ruler {
            name: name.to_owned(),
            meta,
            golden,
            want,
            half,
            allow,
            swayed: Vec::new(),
            sway: 0.0,
            decided: result.decided.clone(),
            exact,
        }
    }

    /// How many elements the result has.
    pub fn len(&self) -> usize {
        self.golden.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.golden.is_empty()
    }

    /// Whether element `i` is compared.
    pub fn asks(&self, i: usize) -> bool {
        self.decided.get(i).copied().unwrap_or(true)
    }

    /// How many elements are compared.
    pub fn asked(&self) -> usize {
        (0..self.len()).filter(|&i| self.asks(i)).count()
    }

    /// The length of a row: that of the last axis, or 1 for a scalar.
    pub fn width(&self) -> usize {
        self.meta.shape.last().copied().unwrap_or(1).max(1)
    }

    /// The load of `o` as element `i`. At most 1 is allowed.
    pub fn load(&self, i: usize, o: f64) -> f64 {
        let (r, want) = (self.golden[i], self.want[i]);
        // Where the definition gives NaN, only NaN is right.
        if want.is_nan() {
            return if o.is_nan() { 0.0 } else { f64::INFINITY };
        }
        // By bits: the rule `exact` tells the two zeros apart.
        if self.exact {
            return if o.to_bits() == want.to_bits() { 0.0 } else { f64::INFINITY };
        }
        if o == want {
            return 0.0;
        }
        let allow = self.allow[i];
        // No finite distance leads from or to infinity, and without an allowance any difference is
        // too much.
        if !want.is_finite() || !o.is_finite() || allow == 0.0 {
            return f64::INFINITY;
        }
        let beyond = (o - r).abs() - self.half[i];
        if beyond <= 0.0 { 0.0 } else { beyond / allow }
    }

    /// Whether `o` is not finite although a finite number is expected, or not NaN although NaN is.
    pub fn nonfinite(&self, i: usize, o: f64) -> bool {
        let want = self.want[i];
        if want.is_nan() { !o.is_nan() } else { o.is_nan() || o.is_infinite() && want.is_finite() }
    }

    /// Measures a whole answer, which must have the right number of elements.
    pub fn measure(&self, got: &[f64]) -> Distance {
        let mut found = Distance::default();
        let mut worst = None;
        for (i, &o) in got.iter().enumerate().filter(|(i, _)| self.asks(*i)) {
            found.compared += 1;
            let load = self.load(i, o);
            if self.nonfinite(i, o) {
                found.nonfinite += 1;
                found.first_nonfinite.get_or_insert(i);
            }
            if exceeds(load, 1.0) {
                found.over += 1;
            }
            // The first element counts in any case, so that a perfect answer has an element to show
            // too.
            if exceeds(load, found.load) || worst.is_none() {
                found.load = load;
                worst = Some(i);
            }
        }
        found.gain = self.gain(|i| got[i]);
        // The verdict names a non-finite element before any load, so the page shows the same one.
        let worst = found.first_nonfinite.or(worst);
        found.worst = worst.map(|at| self.worst(at, got, found.over));
        found.constant = is_constant(got) && !is_constant(&self.want);
        found
    }

    /// The neighbourhood of element `at`.
    fn worst(&self, at: usize, got: &[f64], over: usize) -> Worst {
        let row = at / self.width() * self.width();
        let first = row.max(at.saturating_sub(AROUND));
        let last = (row + self.width()).min(at + AROUND + 1).min(self.len());
        Worst {
            result: self.name.clone(),
            index: unravel(at, &self.meta.shape),
            first,
            got: got[first..last].to_vec(),
            want: self.golden[first..last].to_vec(),
            load: (first..last).map(|i| self.load(i, got[i])).collect(),
            over,
            total: self.len(),
        }
    }

    /// The gain of an answer; `None` where it means nothing for this golden, because there are
    /// fewer than 64 distinct values or a few large ones dominate the sum.
    pub fn gain(&self, got: impl Fn(usize) -> f64) -> Option<Gain> {
        let plan = self.gain_plan()?;
        let along: f64 =
            (0..self.len()).filter(|&i| self.asks(i)).map(|i| got(i) * self.want[i]).sum();
        Some(Gain { value: along / plan.squares, limit: plan.limit })
    }

    fn gain_plan(&self) -> Option<GainPlan> {
        // Rounding errors of few values do not average out, so the rule would fail correct
        // subjects.
        if self.meta.dtype == DType::I32 || self.len() < 64 {
            return None;
        }
        let (mut squares, mut fourths) = (0.0, 0.0);
        let (mut linear, mut random, mut largest) = (0.0, 0.0, 0.0f64);
        for i in (0..self.len()).filter(|&i| self.asks(i)) {
            let (g, a, ulp) = (self.want[i], self.allow[i], 2.0 * self.half[i]);
            squares += g * g;
            fourths += g * g * g * g;
            // Declared roundings are many and independent, and what they do to the whole is known.
            linear += g.abs() * (a - self.swayed.get(i).copied().unwrap_or(0.0));
            random += g * g * ulp * a.min(ulp);
            largest = largest.max(g.abs() * ulp);
        }
        // Written such that an infinity or NaN in the golden disables the rule.
        if !(squares > 0.0 && squares * squares / fourths >= 64.0 && squares.is_finite()) {
            return None;
        }
        // The allowance may point in one direction everywhere, so it adds up linearly; roundings
        // are independent, so three standard deviations of their sum suffice.
        let limit = (linear + self.sway + 3.0 * f64::sqrt(random) + 2.0 * largest) / squares;
        (self.distinct() >= 64).then_some(GainPlan { squares, limit })
    }

    /// How many distinct values the rounded golden has, counted up to 64.
    fn distinct(&self) -> usize {
        let mut seen = std::collections::HashSet::new();
        for want in &self.want {
            seen.insert(want.to_bits());
            if seen.len() == 64 {
                break;
            }
        }
        seen.len()
    }
}

struct GainPlan {
    squares: f64,
    limit: f64,
}

/// How much larger an answer is than its golden, over all elements together. A small common factor
/// can hide in the allowance of each single element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Σ o·g / Σ g².
    pub value: f64,
    /// How much it may differ from 1.
    pub limit: f64,
}

impl Gain {
    /// Whether the answer is within the limit; NaN is not.
    pub fn holds(&self) -> bool {
        (self.value - 1.0).abs() <= self.limit
    }
}

/// How far an answer is from its golden.
#[derive(Clone, Debug, Default)]
pub struct Distance {
    /// The largest load.
    pub load: f64,
    /// How many elements have a load that is not at most 1.
    pub over: usize,
    /// How many elements were compared.
    pub compared: u64,
    /// How many elements are not finite where the rounded golden is, or vice versa.
    pub nonfinite: usize,
    /// The first of them.
    pub first_nonfinite: Option<usize>,
    /// The gain, where it is meaningful.
    pub gain: Option<Gain>,
    /// The worst element and its neighbours.
    pub worst: Option<Worst>,
    /// Whether the answer is the same number everywhere although the golden is not.
    pub constant: bool,
}

/// The elements of a tensor in the form that the judge compares.
pub fn elements(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64()
}

fn half_ulp(dtype: DType, r: f64) -> f64 {
    if r.is_finite() { dtype.half_ulp(r) } else { 0.0 }
}

fn allowance(
    result: &GoldenResult,
    golden: &[f64],
    half: &[f64],
    tolerance: &Tolerance,
) -> Vec<f64> {
    let at = |list: &[f32], i: usize| list.get(i).map_or(0.0, |&x| f64::from(x));
    let kept: Vec<(f64, &Vec<f32>)> = tolerance
        .keeps
        .iter()
        .filter_map(|(name, dtype)| Some((unit_roundoff(*dtype), result.keeps.get(name)?)))
        .collect();
    (0..golden.len())
        .map(|i| {
            let written = result.absolute.get(i).copied().unwrap_or(0.0);
            match tolerance.rule {
                ToleranceRule::Exact => 0.0,
                ToleranceRule::Derived => {
                    let keeps: f64 = kept.iter().map(|(u, terms)| u * at(terms, i)).sum();
                    UNIT * (at(&result.slack, i) + keeps) + written
                }
                ToleranceRule::Number { absolute, relative, ulp } => {
                    let size = if golden[i].is_finite() { golden[i].abs() } else { 0.0 };
                    absolute + relative * size + ulp * 2.0 * half[i] + written
                }
            }
        })
        .collect()
}

fn is_constant(x: &[f64]) -> bool {
    x.len() > 1 && x.iter().all(|v| v.to_bits() == x[0].to_bits())
}

/// The index of flat element `at`, one number per axis.
pub fn unravel(at: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = at;
    let mut index = vec![0; shape.len()];
    for (place, &axis) in index.iter_mut().zip(shape).rev() {
        let axis = axis.max(1);
        *place = rest % axis;
        rest /= axis;
    }
    index
}

#[cfg(test)]
mod tests;
