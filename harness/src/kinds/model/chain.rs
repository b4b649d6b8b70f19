//! The sampling chain between logits and a draw, by the definitions of its ops.

pub mod bounds;

use std::collections::BTreeMap;

use goldgate_engine::ops::{self, Inputs, Question, Values, sample::uniform};
use goldgate_tensor::DType;
use goldgate_tensor::shape::Meta;
use serde_json::{Map, Value, json};

use crate::kinds::model::class::log_softmax;

/// The settings of the chain. A setting without effect leaves its step out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain {
    /// The divisor of the logits.
    pub temperature: f64,
    /// How many of the most likely tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// The fraction of the probability mass that is kept; 1 keeps all.
    pub top_p: f64,
    /// The least probability that is kept, as a fraction of the largest; 0 keeps all.
    pub min_p: f64,
    /// What logits of tokens that occurred before are divided by; 1 leaves them as they are.
    pub repetition_penalty: f64,
}

impl Chain {
    /// The chain of a case's settings.
    pub fn from_settings(settings: &Map<String, Value>) -> Chain {
        let real = |key: &str, off: f64| settings.get(key).and_then(Value::as_f64).unwrap_or(off);
        Chain {
            temperature: real("temperature", 1.0),
            top_k: settings.get("top_k").and_then(Value::as_u64).unwrap_or(0) as usize,
            top_p: real("top_p", 1.0),
            min_p: real("min_p", 0.0),
            repetition_penalty: real("repetition_penalty", 1.0),
        }
    }

    /// The log-probability of every token after tokens `seen`: minus infinity for those that the
    /// chain removes. None if a setting is out of the range of its op.
    pub fn log_probabilities(&self, logits: &[f64], seen: &[&[i32]]) -> Option<Vec<f64>> {
        let mut row = self.warmed(logits.to_vec(), seen)?;
        if self.top_k > 0 {
            row = step("top_k", json!(self.top_k), row, None)?;
        }
        if self.top_p < 1.0 {
            row = step("top_p", json!(self.top_p), row, None)?;
        }
        if self.min_p > 0.0 {
            row = step("min_p", json!(self.min_p), row, None)?;
        }
        Some(log_softmax(&row))
    }

    /// The logits after the steps that remove none: penalty and temperature.
    fn warmed(&self, mut row: Vec<f64>, seen: &[&[i32]]) -> Option<Vec<f64>> {
        if self.repetition_penalty != 1.0 {
            let bits = bits(seen, row.len());
            row = step("repetition_penalty", json!(self.repetition_penalty), row, Some(bits))?;
        }
        step("temperature", json!(self.temperature), row, None)
    }
}

/// Applies one op of the chain to a row of logits.
fn step(op: &str, value: Value, row: Vec<f64>, seen: Option<Vec<i32>>) -> Option<Vec<f64>> {
    let op = ops::find(op)?;
    let logits = ("logits".to_owned(), Meta::new(DType::F32, &[row.len()]));
    let mut metas = BTreeMap::from([logits]);
    let mut inputs = Inputs::default();
    if let Some(bits) = seen {
        metas.insert("seen".to_owned(), Meta::new(DType::I32, &[bits.len()]));
        inputs.set("seen", Values::Ids(bits));
    }
    inputs.set("logits", Values::Real(row));
    let attributes = Map::from_iter([("value".to_owned(), value)]);
    let question = Question::new(op, DType::F32, &attributes, &metas).ok()?;
    match op.define(&question, &inputs).ok()?.pop()? {
        Values::Real(row) => Some(row),
        Values::Ids(_) => None,
    }
}

/// The set of tokens as the op `repetition_penalty` takes it: one bit per id.
fn bits(seen: &[&[i32]], vocabulary: usize) -> Vec<i32> {
    let mut words = vec![0i32; vocabulary.div_ceil(32)];
    for id in seen.iter().copied().flatten() {
        if let Some(word) = usize::try_from(*id).ok().and_then(|id| words.get_mut(id / 32)) {
            *word |= 1 << (*id % 32);
        }
    }
    words
}

/// The token that the wire's generator draws: the first whose cumulative probability exceeds the
/// number of `seed` and `index`.
pub fn draw(log_probabilities: &[f64], seed: u64, index: u64) -> i32 {
    let shares: Vec<f64> = log_probabilities.iter().map(|l| l.exp()).collect();
    let aim = uniform(seed, index) * shares.iter().sum::<f64>();
    let mut sum = 0.0;
    let crossed = shares.iter().position(|share| {
        sum += share;
        sum > aim
    });
    crossed.map_or(0, |id| id as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_follow_each_other_in_the_order_of_the_wire() {
        let settings = json!({
            "temperature": 2.0, "top_k": 3, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 2.0
        });
        let chain = Chain::from_settings(settings.as_object().expect("settings"));
        // Id 0 was seen twice and is penalised once, to 2; after the temperature: 1, 1.5, 0.5, -1.
        let row = chain.log_probabilities(&[4.0, 3.0, 1.0, -2.0], &[&[0], &[0]]).expect("a row");
        let sum = 1f64.exp() + 1.5f64.exp();
        // The largest two have 0.81 of what top_k keeps, so top_p removes the third.
        let expected = [1.0 - sum.ln(), 1.5 - sum.ln(), f64::NEG_INFINITY, f64::NEG_INFINITY];
        for (got, want) in row.iter().zip(expected) {
            assert!(got == &want || (got - want).abs() < 1e-12, "{row:?}");
        }
        assert!(Chain { temperature: 2.5, ..chain }.log_probabilities(&[1.0], &[]).is_none());
    }

    #[test]
    fn a_draw_never_gives_what_the_chain_removed() {
        let row = [f64::NEG_INFINITY, 0.5f64.ln(), f64::NEG_INFINITY, 0.5f64.ln()];
        let drawn: Vec<i32> = (0..64).map(|seed| draw(&row, seed, 0)).collect();
        assert!(drawn.contains(&1) && drawn.contains(&3));
        assert!(drawn.iter().all(|id| [1, 3].contains(id)));
    }
}
