//! Numbers on the command line and in results: what is out of range is refused where it is read,
//! and results that are not numbers end a command.

use std::path::Path;

use goldgate_tensor::Tensor;

use crate::commands::Failure;

/// The largest integer that every reader of JSON keeps exactly: 2^53 - 1.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Reads a temperature: 0, or a normal f32 up to 2. Logits are divided by it in f32, where anything
/// smaller is 0 or loses its digits.
///
/// # Errors
/// What it must be.
pub fn temperature(text: &str) -> Result<f64, String> {
    // Logits are divided by it in f32, where a subnormal number has lost its digits.
    let least = f64::from(f32::MIN_POSITIVE);
    read(text, |x| x == 0.0 || (least..=2.0).contains(&x), &format!("0, or {least:e} to 2"))
}

/// Reads a share of probability.
///
/// # Errors
/// What it must be.
pub fn probability(text: &str) -> Result<f64, String> {
    read(text, |x| (0.0..=1.0).contains(&x), "0 to 1")
}

/// Reads a divisor of logits: a normal f32 up to 2.
///
/// # Errors
/// What it must be.
pub fn penalty(text: &str) -> Result<f64, String> {
    let least = f64::from(f32::MIN_POSITIVE);
    read(text, |x| (least..=2.0).contains(&x), &format!("{least:e} to 2"))
}

/// Reads a seed, which travels in JSON.
///
/// # Errors
/// What it must be.
pub fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|seed| *seed <= MAX_INTEGER);
    seed.ok_or_else(|| format!("wants a whole number from 0 to {MAX_INTEGER}, 2^53 - 1"))
}

fn read(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    // NaN fits no range, so it needs no rule of its own.
    text.parse().ok().filter(|x| fits(*x)).ok_or_else(|| format!("wants {expected}"))
}

/// Refuses a result with elements that are NaN or infinite: figures made of it would mean nothing.
///
/// # Errors
/// How many elements of which result are not finite.
pub fn finite(model: &Path, name: &str, result: &Tensor) -> Result<(), Failure> {
    if !result.meta.dtype.is_float() {
        return Ok(());
    }
    all_finite(model, name, &result.to_f64())
}

/// Refuses numbers of which one is NaN or infinite.
///
/// # Errors
/// How many of them are not finite.
pub fn all_finite(model: &Path, name: &str, numbers: &[f64]) -> Result<(), Failure> {
    let bad = numbers.iter().filter(|x| !x.is_finite()).count();
    if bad == 0 {
        return Ok(());
    }
    let (model, all) = (model.display(), numbers.len());
    Err(Failure::NotFinite(format!("{model}: {name}: {bad} of {all} numbers are NaN or infinite")))
}

#[cfg(test)]
mod tests {
    use goldgate_tensor::DType;

    use super::*;

    #[test]
    fn what_is_no_number_of_the_range_is_refused() {
        for text in ["nan", "inf", "-inf", "-1", "2.5", "1e-39", "x", ""] {
            assert!(temperature(text).is_err(), "{text}");
        }
        for text in ["nan", "inf", "-0.1", "1.1"] {
            assert!(probability(text).is_err(), "{text}");
        }
        for text in ["nan", "0", "-1", "inf"] {
            assert!(penalty(text).is_err(), "{text}");
        }
        assert_eq!(temperature("1e-39"), Err("wants 0, or 1.1754943508222875e-38 to 2".to_owned()));
        assert_eq!((temperature("0"), temperature("0.7")), (Ok(0.0), Ok(0.7)));
        assert_eq!(
            (probability("0"), probability("1"), penalty("1.1")),
            (Ok(0.0), Ok(1.0), Ok(1.1))
        );
    }

    #[test]
    fn a_seed_is_one_that_json_keeps() {
        assert_eq!(seed("9007199254740991"), Ok(9_007_199_254_740_991));
        for text in ["9007199254740992", "18446744073709551615", "-1", "1.5"] {
            assert!(seed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn results_that_are_not_numbers_are_counted() {
        let logits = Tensor::from_f64(DType::F32, &[3], &[1.0, f64::NAN, f64::INFINITY]);
        let error = finite(Path::new("m.gguf"), "logits", &logits).expect_err("not finite");
        assert_eq!(error.to_string(), "m.gguf: logits: 2 of 3 numbers are NaN or infinite");
        assert_eq!(error.exit() as u8, 3);
        assert!(finite(Path::new("m.gguf"), "ids", &Tensor::from_i32(&[1], &[1])).is_ok());
    }
}
