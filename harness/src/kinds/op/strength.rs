//! Refuses goldens that any answer would meet, or that none could meet.

use goldgate_engine::ops;
use goldgate_tensor::{DType, Tensor};

use crate::kinds::op::case::{Case, Expect, GoldenSource, ToleranceRule};
use crate::kinds::op::golden::{Golden, GoldenResult, Numbers};
use crate::kinds::op::oracle::{self, Asked};
use crate::yaml::Problem;

/// Checks that the shapes are those of the case, and that the numbers are finite if the inputs are,
/// and not all the same.
///
/// # Errors
/// `QUESTION`, `GOLDEN_SHAPE`, `GOLDEN_NONFINITE` with the index, `GOLDEN_WEAK`.
pub fn check(case: &Case, asked: &Asked, golden: &Golden) -> Result<(), Problem> {
    let at = |code, field: &str, found: String, expected: &str| {
        let file = oracle::path(case).unwrap_or(&case.place.file);
        let mut problem = Problem::of_file(code, file, found, expected);
        problem.field = field.to_owned();
        Err(problem)
    };
    let results = match oracle::results(case) {
        Ok(results) => results,
        Err(refusal) => {
            return at("QUESTION", &case.name, refusal.to_string(), "a question that the op takes");
        }
    };
    for (name, meta) in &results {
        match golden.results.get(*name) {
            Some(r) if r.shape == meta.shape => {}
            Some(r) => {
                let found = format!("{:?}", r.shape);
                return at("GOLDEN_SHAPE", name, found, &format!("{:?}", meta.shape));
            }
            None => return at("GOLDEN_SHAPE", name, "nothing".into(), &meta.to_string()),
        }
    }
    // A result that the op does not have would be compared with nothing.
    if golden.results.len() != results.len() && !results.is_empty() {
        let found = format!("{:?}", golden.results.keys());
        return at("GOLDEN_SHAPE", "", found, "the op's results and no others");
    }
    // Not finite in, not finite out is legal; anything else is a mistake of the oracle.
    let odd_inputs = asked.tensors.values().any(has_nonfinite) || overflows_inside(case, golden);
    for (name, result) in &golden.results {
        let Numbers::Real(values) = &result.numbers else { continue };
        let legal = |x: f64| x.is_finite() || odd_inputs || removed(name, x) || is_written(case);
        if let Some(i) = values.iter().position(|&x| !legal(x)) {
            let found = format!("{} at {i}", values[i]);
            let expected = "finite numbers, as the inputs are finite";
            return at("GOLDEN_NONFINITE", name, found, expected);
        }
    }
    if let Some((name, found)) = too_loose(case, golden) {
        return at("TOL_CEILING", name, found, "no more than the derived bound");
    }
    // All results must be weak: one that varies is enough to judge by.
    let weak = golden.results.values().all(is_weak);
    if weak && case.constant_golden.is_none() && !is_written(case) {
        let expected = "a result that varies, or `constant_golden` with the reason";
        return at("GOLDEN_WEAK", &case.name, "a constant".into(), expected);
    }
    Ok(())
}

/// Checks that a tolerance set by hand is not looser than the bound that follows from the op's
/// formula.
fn too_loose<'g>(case: &Case, golden: &'g Golden) -> Option<(&'g str, String)> {
    let Expect::Answer { tolerance, .. } = &case.expect else { return None };
    let ToleranceRule::Number { absolute, relative, ulp } = tolerance.rule else { return None };
    let dtype = case.ask.dtype;
    for (name, result) in &golden.results {
        let Numbers::Real(values) = &result.numbers else { continue };
        for (i, (&r, &slack)) in values.iter().zip(&result.slack).enumerate() {
            let by_hand = absolute + relative * r.abs() + ulp * 2.0 * dtype.half_ulp(r);
            let kept: f64 = tolerance
                .keeps
                .iter()
                .filter_map(|(kept, t)| {
                    Some(unit(*t) * f64::from(*result.keeps.get(kept)?.get(i)?))
                })
                .sum();
            let derived = (f64::from(slack) + kept) * 2f64.powi(-24);
            // Of an infinite reference any relative part is infinite, which says nothing about the
            // tolerance.
            if r.is_finite() && by_hand > derived {
                return Some((name, format!("{by_hand:e} at {i}, derived is {derived:e}")));
            }
        }
    }
    None
}

/// The largest relative error of rounding to a type; for f32 it counts as none.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    }
}

/// Whether a rounding inside the formula overflows: later values are then legally infinite or NaN.
fn overflows_inside(case: &Case, golden: &Golden) -> bool {
    let rounds = ops::find(&case.ask.op).is_some_and(|op| op.signature().rounds_inside);
    let infinite = |r: &GoldenResult| match &r.numbers {
        Numbers::Real(x) => x.iter().any(|x| x.is_infinite()),
        Numbers::Ids(_) => false,
    };
    rounds && golden.results.values().any(infinite)
}

fn is_written(case: &Case) -> bool {
    matches!(&case.expect, Expect::Answer { golden: GoldenSource::Written(_), .. })
}

/// Sampling removes a logit by setting it to minus infinity.
fn removed(result: &str, x: f64) -> bool {
    result == "logits" && x == f64::NEG_INFINITY
}

fn has_nonfinite(tensor: &Tensor) -> bool {
    let dtype = tensor.meta.dtype;
    // A scale byte of 255 is NaN; the scales of other block types are finite by construction.
    let block = || tensor.bytes.chunks(dtype.bytes()).any(|b| b[0] == 255);
    match dtype {
        DType::Mxfp4 => block(),
        d if d.is_float() => tensor.to_f64().iter().any(|x| !x.is_finite()),
        _ => false,
    }
}

/// Whether all elements are the same. A single number is weak only if it is zero. A single id is a
/// full answer, but many equal ids are what a kernel leaves that writes nothing.
pub fn is_weak(result: &GoldenResult) -> bool {
    match &result.numbers {
        Numbers::Real(x) => match x.split_first() {
            Some((first, [])) => *first == 0.0,
            Some((first, rest)) => rest.iter().all(|y| y == first || y.is_nan() && first.is_nan()),
            None => true,
        },
        Numbers::Ids(x) => x.len() != 1 && x.iter().all(|y| Some(y) == x.first()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn result(numbers: Numbers) -> GoldenResult {
        GoldenResult {
            shape: vec![numbers.len()],
            numbers,
            slack: Vec::new(),
            keeps: BTreeMap::new(),
            absolute: Vec::new(),
            decided: Vec::new(),
            declared: BTreeMap::new(),
            shaky: BTreeMap::new(),
        }
    }

    /// GO-11.
    #[test]
    fn constant_and_zero_goldens_are_weak() {
        let nan = f64::NAN;
        for (values, weak) in [
            (vec![], true),
            (vec![0.0], true),
            (vec![2.0], false),
            (vec![2.0, 2.0], true),
            (vec![nan, nan], true),
            (vec![nan, 2.0], false),
            (vec![0.0, 1.0], false),
        ] {
            assert_eq!(is_weak(&result(Numbers::Real(values.clone()))), weak, "{values:?}");
        }
        for (ids, weak) in
            [(vec![], true), (vec![0], false), (vec![3, 3], true), (vec![3, 4], false)]
        {
            assert_eq!(is_weak(&result(Numbers::Ids(ids.clone()))), weak, "{ids:?}");
        }
    }
}
