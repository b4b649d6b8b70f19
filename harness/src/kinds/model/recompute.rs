//! What the harness recomputes of a golden about a model: what follows from its logits.
//!
//! A row whose margin is small is not compared by its first id, and a large deviation widens what
//! is allowed, so both must be those of the logits. The logits stay those of the oracle.

use crate::kinds::model::golden::ModelGolden;

/// By what fraction of the largest logit a number may differ: logits and what follows from them are
/// stored in f32, each rounded by itself.
const DIFFERS: f64 = 4.0 / 16_777_216.0;

/// Compares margin and standard deviation of each row with its logits.
///
/// # Errors
/// The first that differs.
pub fn from_logits(golden: &ModelGolden) -> Result<(), String> {
    let rows = golden.logits.iter().zip(&golden.margin).zip(&golden.std);
    for (i, ((row, &margin), &std)) in rows.enumerate() {
        let largest = row.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        for (what, stored, computed) in
            [("margin", margin, margin_of(row)), ("std", std, deviation_of(row))]
        {
            let differs = (stored - computed).abs();
            if differs.is_nan() || differs > DIFFERS * largest {
                return Err(format!("{what} {stored:e} of row {i}, by its logits {computed:e}"));
            }
        }
    }
    Ok(())
}

/// The first minus the second.
fn margin_of(row: &[f64]) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for &x in row {
        if x > first {
            (first, second) = (x, first);
        } else {
            second = second.max(x);
        }
    }
    first - second
}

/// The standard deviation over the whole vocabulary.
fn deviation_of(row: &[f64]) -> f64 {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::model::golden::Rows;

    #[test]
    fn margin_and_deviation_follow_from_the_logits() {
        let golden = |margin: f64, std: f64| ModelGolden {
            logits: Rows { width: 4, numbers: vec![1.0, 3.0, -1.0, 1.0] },
            margin: vec![margin],
            std: vec![std],
            ..ModelGolden::default()
        };
        let std = 2f64.sqrt();
        assert_eq!(from_logits(&golden(2.0, std)), Ok(()));
        assert!(from_logits(&golden(0.0, std)).expect_err("differs").starts_with("margin"));
        assert!(from_logits(&golden(2.0, 1000.0 * std)).expect_err("differs").starts_with("std"));
        let twice = Rows { width: 2, numbers: vec![3.0, 3.0] };
        assert_eq!(margin_of(&twice.numbers), 0.0);
    }
}
