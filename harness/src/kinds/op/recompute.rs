//! What the harness recomputes of a golden: the allowances, and which elements are compared, by the
//! op's own formula.
//!
//! The values stay those of the oracle. An allowance is computed from the question and these
//! values, so one that was made larger, to let a wrong answer pass, differs from what the formula
//! gives.

use goldgate_engine::ops::{self, Inputs, Values};

use crate::fill::fill;
use crate::kinds::op::case::{Accumulate, Case, Expect, Tolerance};
use crate::kinds::op::declared;
use crate::kinds::op::golden::{Golden, Numbers};
use crate::kinds::op::question::{self, OpQuestion};
use crate::yaml::Problem;

/// By what fraction an allowance may differ from the formula: both sum the same terms in f64, in
/// other orders, and the golden's is stored in f32.
pub const DIFFERS: f64 = 1e-6;

/// Compares the slack and the allowances of kept values in the golden at `path` with the op's
/// formula, and gives the largest relative difference.
///
/// # Errors
/// `GOLDEN_SLACK` for an allowance that differs, `GOLDEN_DECLARED` for a term of a declared
/// rounding, `GOLDEN_DECIDED` for a flag that does,
/// `QUESTION` for a question that the op refuses.
pub fn slack(path: &str, case: &Case, golden: &Golden) -> Result<f64, Problem> {
    let Expect::Answer { tolerance, .. } = &case.expect else { return Ok(0.0) };
    let bad =
        |found: String| Problem::of_file("QUESTION", path, found, "a question that the op answers");
    let asked = OpQuestion::from_case(case, fill);
    let op = ops::find(&asked.op).ok_or_else(|| bad(format!("no op {}", asked.op)))?;
    let checked = question::check(&asked, op).map_err(|refusal| bad(refusal.to_string()))?;
    let inputs = Inputs::of(asked.tensors.iter().map(|(name, t)| (name.as_str(), t)));
    let sums = sums(tolerance);
    let mut values = Vec::new();
    let mut names = Vec::new();
    for (name, _) in checked.results() {
        let result = golden.results.get(name).ok_or_else(|| bad(format!("no result {name}")))?;
        values.push(match &result.numbers {
            Numbers::Real(x) => Values::Real(x.clone()),
            Numbers::Ids(x) => Values::Ids(x.clone()),
        });
        names.push(name);
    }
    let asked = ops::Asked { question: &checked, inputs: &inputs, tensors: &asked.tensors, sums };
    let decided = op.decided(&asked);
    for (name, result) in &golden.results {
        flags(&result.decided, decided.as_deref()).map_err(|(found, expected)| {
            let mut problem = Problem::of_file("GOLDEN_DECIDED", path, found, expected);
            problem.field = format!("{name}.decided");
            problem
        })?;
    }
    let mut worst = 0.0;
    for (name, slack) in names.into_iter().zip(op.slack(&asked, &values)) {
        let result = &golden.results[name];
        // Ids have no slack.
        let Numbers::Real(values) = &result.numbers else { continue };
        let compare = |field: String, stored: &[f32], formula: &[f64]| {
            compare(stored, formula, values).map_err(|(found, expected)| {
                let mut problem = Problem::of_file("GOLDEN_SLACK", path, found, expected);
                problem.field = field;
                problem
            })
        };
        worst = compare(format!("{name}.slack"), &result.slack, &slack.slack)?.max(worst);
        for (kept, stored) in &result.keeps {
            let formula = slack.keeps.get(kept.as_str()).map_or(&[][..], Vec::as_slice);
            worst = compare(format!("{name}.keeps.{kept}"), stored, formula)?.max(worst);
        }
    }
    Ok(terms(path, case, golden, tolerance)?.max(worst))
}

/// The places of what enters a product.
const X: [&str; 3] = ["x", "x_int8_32", "x_int8_256"];

/// Compares the terms of declared roundings with the op's formula, and gives the largest relative
/// difference.
fn terms(path: &str, case: &Case, golden: &Golden, tolerance: &Tolerance) -> Result<f64, Problem> {
    let mut worst = 0.0f64;
    for (name, (declared, shaky)) in declared::terms(case, &golden.results, tolerance, &X) {
        let result = &golden.results[&name];
        let differs = |field: String, found: String, expected: String| {
            let mut problem = Problem::of_file("GOLDEN_DECLARED", path, found, expected);
            problem.field = field;
            problem
        };
        let places = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let stored = places(result.declared.keys().chain(result.shaky.keys()).collect());
        let formula = places(declared.keys().chain(shaky.keys()).collect());
        // A place that is missing would be one at which no rounding can be declared.
        if stored != formula {
            return Err(differs(format!("{name}.declared"), stored, formula));
        }
        // Choices are made of values that are no part of the golden, so all are compared.
        let ones = vec![1.0; result.numbers.len()];
        let values = match &result.numbers {
            Numbers::Real(x) => x,
            Numbers::Ids(_) => &ones,
        };
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        for (place, term) in &declared {
            let (stored, gain) = (&result.declared[place], format!("{name}.gain.{place}"));
            let field = format!("{name}.declared.{place}");
            worst = compare(&stored.bound, &wide(&term.bound), values)
                .map_err(|(found, expected)| differs(field, found, expected))?
                .max(worst);
            let part = (stored.gain - term.gain).abs() / stored.gain.max(f64::MIN_POSITIVE);
            if part > DIFFERS {
                let expected = format!("{:e}, by the op's formula", term.gain);
                return Err(differs(gain, format!("{:e}", stored.gain), expected));
            }
            worst = worst.max(part);
        }
        for (place, term) in &shaky {
            let field = format!("{name}.shaky.{place}");
            worst = compare(&result.shaky[place], &wide(term), &ones)
                .map_err(|(found, expected)| differs(field, found, expected))?
                .max(worst);
        }
    }
    Ok(worst)
}

/// How a legal engine sums under a tolerance.
pub fn sums(tolerance: &Tolerance) -> ops::Sums {
    ops::Sums { tensor: tolerance.accumulate == Accumulate::Tensor, linear: tolerance.linear_sum }
}

/// Compares which elements a golden has compared with those that the op's formula decides: an
/// element that is not compared may be anything.
fn flags(stored: &[bool], formula: Option<&[bool]>) -> Result<(), (String, String)> {
    let says = |decided: bool| if decided { "decided" } else { "undecided" };
    for (i, &stored) in stored.iter().enumerate() {
        let formula = formula.is_none_or(|flags| flags.get(i).copied().unwrap_or(true));
        if stored != formula {
            let found = format!("{} at {i}", says(stored));
            return Err((found, format!("{}, by the op's formula", says(formula))));
        }
    }
    Ok(())
}

/// The largest relative difference of two lists of allowances; else the first that differs too
/// much.
fn compare(stored: &[f32], formula: &[f64], values: &[f64]) -> Result<f64, (String, String)> {
    if stored.len() != formula.len() {
        return Err((format!("{} elements", stored.len()), format!("{} elements", formula.len())));
    }
    let mut worst = 0.0f64;
    let pairs = stored.iter().map(|x| f64::from(*x)).zip(formula).enumerate();
    // An infinity or NaN is judged without an allowance.
    for (i, (stored, &formula)) in pairs.filter(|(i, _)| values[*i].is_finite()) {
        // The formula multiplies zero by an infinity of the same row: nothing is allowed there.
        let formula = if formula.is_nan() { 0.0 } else { formula };
        // Below its normal range f32 has fewer digits than the comparison needs.
        let size = stored.max(formula).max(f64::from(f32::MIN_POSITIVE));
        let part = (stored - formula).abs() / size;
        // Two infinities are no less equal for it.
        if stored != formula && (part.is_nan() || part > DIFFERS) {
            let expected = format!("{formula:e}, by the op's formula");
            return Err((format!("{stored:e} at {i}"), expected));
        }
        worst = worst.max(part);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_what_the_formula_decides() {
        assert!(flags(&[], None).is_ok() && flags(&[true], None).is_ok());
        assert!(flags(&[false], None).is_err());
        assert!(flags(&[true, false], Some(&[true, false])).is_ok());
        assert!(flags(&[false, false], Some(&[true, false])).is_err());
        assert!(flags(&[true, true], Some(&[true, false])).is_err());
    }

    #[test]
    fn an_allowance_is_that_of_the_formula_where_it_is_used() {
        let formula = [8.0, f64::NAN, f64::NAN, 1e-40];
        let values = [1.0, 0.0, f64::INFINITY, 1.0];
        let differs = |stored: [f32; 4]| compare(&stored, &formula, &values).is_err();
        assert!(!differs([8.0, 0.0, 0.0, 1e-40]));
        assert!(!differs([8.000_002, 0.0, 7.0, 1.000_01e-40]));
        assert!(differs([8.000_02, 0.0, 0.0, 1e-40]));
        assert!(differs([8.0, 1e-30, 0.0, 1e-40]));
        assert!(differs([7.0, 0.0, 0.0, 1e-40]));
        assert!(compare(&[8.0], &formula, &values).is_err());
    }
}
