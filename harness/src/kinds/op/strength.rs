//! A golden that any answer would meet, or that nobody could meet, is none.

use goldgate_engine::ops;
use goldgate_tensor::{DType, Tensor};

use crate::kinds::op::case::{Case, Expect, GoldenSource, ToleranceRule};
use crate::kinds::op::golden::{Golden, GoldenResult, Numbers};
use crate::kinds::op::oracle::{self, Asked};
use crate::yaml::Problem;

/// Shapes are those of the case; numbers are finite where the inputs are, and not all the same.
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
    if golden.results.len() != results.len() && !results.is_empty() {
        let found = format!("{:?}", golden.results.keys());
        return at("GOLDEN_SHAPE", "", found, "the op's results and no others");
    }
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
    let weak = golden.results.values().all(is_weak);
    if weak && case.constant_golden.is_none() && !is_written(case) {
        let expected = "a result that varies, or `constant_golden` with the reason";
        return at("GOLDEN_WEAK", &case.name, "a constant".into(), expected);
    }
    Ok(())
}

/// A tolerance by hand is never looser than the bound that the op's formula gives.
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
            if r.is_finite() && by_hand > derived {
                return Some((name, format!("{by_hand:e} at {i}, derived is {derived:e}")));
            }
        }
    }
    None
}

/// The largest relative error of rounding to a type; none of f32 counts.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    }
}

/// A rounding inside the formula may overflow, and what follows is then infinite or NaN.
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

/// Sampling takes a logit out by making it minus infinity.
fn removed(result: &str, x: f64) -> bool {
    result == "logits" && x == f64::NEG_INFINITY
}

fn has_nonfinite(tensor: &Tensor) -> bool {
    let dtype = tensor.meta.dtype;
    // A scale byte of 255 is NaN; other block types have finite scales by construction.
    let block = || tensor.bytes.chunks(dtype.bytes()).any(|b| b[0] == 255);
    match dtype {
        DType::Mxfp4 => block(),
        d if d.is_float() => tensor.to_f64().iter().any(|x| !x.is_finite()),
        _ => false,
    }
}

/// Whether every element is the same; a single one is weak only where it is zero. One id is a whole
/// answer; many equal ones are what a kernel that writes nothing leaves.
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
