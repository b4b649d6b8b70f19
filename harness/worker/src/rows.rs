//! The rows of logits that a call returns, whole or compact.

use std::collections::BTreeMap;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_wire::call::Want;
use goldgate_wire::words::Logits;

/// The tokens of a call of `count` tokens whose rows of logits are wanted.
///
/// # Errors
/// The call has no such row.
pub fn rows(want: &Want, count: usize) -> Result<Vec<usize>, Refusal> {
    let rows = match (want.logits, &want.rows) {
        (Logits::None, _) => Vec::new(),
        (Logits::Last, _) => vec![count.saturating_sub(1)],
        (Logits::All | Logits::Compact, None) => (0..count).collect(),
        (Logits::All | Logits::Compact, Some(rows)) => rows.iter().map(|r| *r as usize).collect(),
    };
    match rows.iter().find(|r| **r >= count) {
        Some(row) => {
            let message = format!("row {row} of {count} tokens");
            Err(Refusal::new(RefusalKind::IdOutOfRange, "rows", message))
        }
        None => Ok(rows),
    }
}

/// How many of the most likely tokens a compact row names.
const TOP: usize = 64;

/// Rows of logits in compact form: top ids with their log-probabilities, the log of the remaining
/// mass, the entropy, and the log-probability of the token that follows.
pub fn compact(logits: &Tensor, rows: &[usize], ids: &[u32]) -> BTreeMap<String, Tensor> {
    let vocabulary = logits.meta.shape[1];
    // Small vocabularies have fewer tokens than a compact row has places.
    let top = TOP.min(vocabulary);
    let (mut top_ids, mut top_logprobs) = (Vec::new(), Vec::new());
    let (mut tail, mut entropy, mut next) = (Vec::new(), Vec::new(), Vec::new());
    for (row, at) in logits.to_f64().chunks(vocabulary).zip(rows) {
        // Subtracting the largest logit first keeps the exponentials from overflowing.
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|l| (l - most).exp()).sum();
        let log = |l: f64| l - most - sum.ln();
        let mut order: Vec<usize> = (0..vocabulary).collect();
        // Equal logits in the order of ids, so that the list is the same on every machine.
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let outside: f64 = order[top..].iter().map(|i| log(row[*i]).exp()).sum();
        top_ids.extend(order[..top].iter().map(|i| *i as i32));
        top_logprobs.extend(order[..top].iter().map(|i| log(row[*i])));
        tail.push(outside.ln());
        // A token of probability zero adds nothing, where the product would be NaN.
        let part = |l: &f64| log(*l).exp() * log(*l);
        entropy.push(-row.iter().map(part).filter(|x| !x.is_nan()).sum::<f64>());
        // Nothing follows the last token, and NaN is no probability that could be taken for one.
        let follows = ids.get(at + 1).and_then(|id| row.get(*id as usize));
        next.push(follows.map_or(f64::NAN, |l| log(*l)));
    }
    let count = rows.len();
    let real = |shape: &[usize], x: &[f64]| Tensor::from_f64(DType::F32, shape, x);
    BTreeMap::from([
        ("top_ids".to_owned(), Tensor::from_i32(&[count, top], &top_ids)),
        ("top_logprobs".to_owned(), real(&[count, top], &top_logprobs)),
        ("tail".to_owned(), real(&[count], &tail)),
        ("entropy".to_owned(), real(&[count], &entropy)),
        ("next_logprob".to_owned(), real(&[count], &next)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_row_has_the_mass_of_all() {
        let logits = Tensor::from_f64(DType::F32, &[1, 3], &[0.0, 1.0, 2.0]);
        let row = compact(&logits, &[0], &[7, 1]);
        assert_eq!(row["top_ids"].to_i32(), [2, 1, 0]);
        let mass: f64 = row["top_logprobs"].to_f64().iter().map(|l| l.exp()).sum();
        approx::assert_relative_eq!(mass, 1.0, epsilon = 1e-6);
        assert_eq!(row["next_logprob"].to_f64()[0], row["top_logprobs"].to_f64()[1]);
    }
}
