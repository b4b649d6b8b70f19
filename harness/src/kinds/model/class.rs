//! Classes of engines by what they do to activations, with the deviation that each may have.

use goldgate_tensor::DType;

/// The limits of one class. Distances are relative to the standard deviation of the golden's
/// logits, or to the root mean square of a slot's row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: &'static str,
    /// The relative root mean square of the difference over a row.
    pub rel_rms: f64,
    /// Mean of |Δ log-probability| over the tokens that follow.
    pub mean: f64,
    /// The 99th percentile of the same.
    pub p99: f64,
    /// The golden's log-probability of its first token minus that of the subject's first token.
    pub regret: f64,
}

/// Float32 throughout.
pub const F32: Class = Class { name: "f32", rel_rms: 1e-4, mean: 1e-4, p99: 1e-3, regret: 1e-3 };

/// Activations in f16. Measured on the tiny models; specs/README.md has the runs.
pub const F16: Class = Class { name: "f16", rel_rms: 1e-2, mean: 4e-3, p99: 2e-2, regret: 2e-2 };

/// Activations in bf16. Measured on the tiny models; specs/README.md has the runs.
pub const BF16: Class =
    Class { name: "bf16", rel_rms: 1e-1, mean: 3e-2, p99: 1.6e-1, regret: 1e-1 };

/// Activations quantised to int8 in blocks, where they enter a product with weights of a block
/// type. Measured with llama.cpp on the tiny models; specs/README.md has the runs.
pub const INT8: Class = Class { name: "int8", rel_rms: 1e-1, mean: 8e-2, p99: 4e-1, regret: 2e-1 };

impl Class {
    /// The class for an engine that quantises what enters products with weights of block types:
    /// the wider of its two roundings.
    pub fn with_int8(self) -> Class {
        let wider = self.rel_rms > INT8.rel_rms;
        if wider { self } else { INT8 }
    }

    /// The class of a subject's activations. A subject that does not report them is held to
    /// float32, so that silence cannot loosen a limit.
    pub fn for_activations(activations: Option<DType>) -> Class {
        match activations {
            Some(DType::F16) => F16,
            Some(DType::BF16) => BF16,
            _ => F32,
        }
    }

    /// Whether the golden's margin decides a position: it must exceed ten times the limit of the
    /// class.
    pub fn decides(&self, margin: f64, std: f64) -> bool {
        // The margin is between two logits, so each may be off by five times the limit of a row
        // before the token changes.
        margin > 10.0 * self.rel_rms * std
    }
}

/// Root mean square of the difference of two rows, relative to a length. Infinite if their widths
/// differ or a number is NaN.
pub fn rel_rms(got: &[f64], want: &[f64], length: f64) -> f64 {
    if got.len() != want.len() || got.is_empty() {
        return f64::INFINITY;
    }
    let sum: f64 = got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum();
    let rel = (sum / got.len() as f64).sqrt() / length;
    if rel.is_nan() { f64::INFINITY } else { rel }
}

/// The root mean square of a row.
pub fn rms(row: &[f64]) -> f64 {
    (row.iter().map(|x| x * x).sum::<f64>() / row.len().max(1) as f64).sqrt()
}

/// The log-probability of each token, given a row of logits.
pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    // Subtracting the largest logit first keeps the exponentials from overflowing.
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|l| (l - most).exp()).sum();
    row.iter().map(|l| l - most - sum.ln()).collect()
}

/// The index of the largest element; of several, the first.
pub fn argmax(row: &[f64]) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        // A NaN is never the largest, unless it comes first; then the row fails by its distance.
        if *x > row[best] {
            best = i;
        }
    }
    best
}

/// Mean and 99th percentile of magnitudes: the smallest value that at least 99 % do not exceed.
pub fn mean_and_p99(mut magnitudes: Vec<f64>) -> (f64, f64) {
    if magnitudes.is_empty() {
        return (0.0, 0.0);
    }
    let mean = magnitudes.iter().sum::<f64>() / magnitudes.len() as f64;
    magnitudes.sort_by(f64::total_cmp);
    let at = (magnitudes.len() * 99).div_ceil(100).saturating_sub(1);
    (mean, magnitudes[at])
}
