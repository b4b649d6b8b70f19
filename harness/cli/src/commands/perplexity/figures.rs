//! Figures computed from the log-probabilities of the tokens of a text.

use serde_json::{Value, json};

/// How well one model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// How many tokens were predicted.
    pub count: usize,
    /// Their mean negative log-probability, in nats.
    pub mean: f64,
    /// The standard error of that mean.
    pub error: f64,
}

impl Figures {
    /// The figures of log-probabilities.
    pub fn from_log_probabilities(log_probabilities: &[f64]) -> Figures {
        let count = log_probabilities.len();
        let mean = -log_probabilities.iter().sum::<f64>() / count as f64;
        let squares: f64 = log_probabilities.iter().map(|l| (l + mean).powi(2)).sum();
        // One less than the count, because the mean was estimated from the same numbers.
        let variance = squares / count.saturating_sub(1).max(1) as f64;
        Figures { count, mean, error: (variance / count as f64).sqrt() }
    }

    /// The number of tokens among which a uniform choice would predict as well.
    pub fn perplexity(&self) -> f64 {
        self.mean.exp()
    }

    /// The figures as JSON. The error of the perplexity follows from that of the mean, to first
    /// order.
    pub fn json(&self) -> Value {
        json!({
            "foretold": self.count, "mean_nll": self.mean, "mean_nll_error": self.error,
            "perplexity": self.perplexity(), "perplexity_error": self.perplexity() * self.error,
        })
    }

    /// Two lines for people; `whose` is appended to the names.
    pub fn lines(&self, whose: &str) -> [String; 2] {
        let (perplexity, mean, error) = (self.perplexity(), self.mean, self.error);
        let name = |name: &str| format!("{name}{whose}");
        [
            format!("{:<19} {mean:.4} ± {error:.4}", name("mean -log p")),
            format!("{:<19} {perplexity:.4} ± {:.4}", name("perplexity"), perplexity * error),
        ]
    }
}

/// One model compared with another, token by token.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// The log-probabilities of the tokens that followed.
    pub own: Vec<f64>,
    theirs: Vec<f64>,
    divergences: Vec<f64>,
    agreed: usize,
}

impl Compared {
    /// Adds one position: the log-probabilities of all tokens by both models, and the token that
    /// followed.
    pub fn add(&mut self, own: &[f64], theirs: &[f64], next: usize) {
        let part = |(own, theirs): (&f64, &f64)| match theirs.exp() {
            // A token with probability zero contributes nothing, where the formula would give NaN.
            0.0 => 0.0,
            mass => mass * (theirs - own),
        };
        self.divergences.push(own.iter().zip(theirs).map(part).sum());
        self.agreed += usize::from(first_largest(own) == first_largest(theirs));
        // An id beyond the vocabulary has no probability, and NaN shows in every figure.
        self.own.push(own.get(next).copied().unwrap_or(f64::NAN));
        self.theirs.push(theirs.get(next).copied().unwrap_or(f64::NAN));
    }

    fn changes(&self) -> Vec<f64> {
        self.own.iter().zip(&self.theirs).map(|(own, theirs)| (own - theirs).abs()).collect()
    }

    /// The comparison as JSON.
    pub fn json(&self) -> Value {
        let changes = self.changes();
        json!({
            "perplexity": Figures::from_log_probabilities(&self.theirs).perplexity(),
            "kl_mean": mean(&self.divergences), "kl_p99": p99(&self.divergences),
            "logprob_change_mean": mean(&changes), "logprob_change_p99": p99(&changes),
            "top1_agreement": self.agreed as f64 / self.own.len() as f64,
        })
    }

    /// The comparison as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let changes = self.changes();
        let pair = |name: &str, list: &[f64]| {
            format!("{name:<19} mean {:.6}, 99% below {:.6}", mean(list), p99(list))
        };
        let same = 100.0 * self.agreed as f64 / self.own.len() as f64;
        let theirs = Figures::from_log_probabilities(&self.theirs).lines(" against");
        let own = [
            pair("KL divergence", &self.divergences),
            pair("change of log p", &changes),
            format!("{:<19} {same:.2}%", "same first token"),
        ];
        theirs.into_iter().chain(own).collect()
    }
}

/// The logarithms of a row's softmax.
pub fn log_probabilities(logits: &[f64]) -> Vec<f64> {
    // Subtracting the largest logit first keeps the exponentials from overflowing.
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = logits.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
    logits.iter().map(|l| l - most - sum).collect()
}

fn first_largest(row: &[f64]) -> Option<usize> {
    let larger = |best: Option<usize>, i: usize| match best {
        Some(b) if row[b] >= row[i] => Some(b),
        _ => Some(i),
    };
    (0..row.len()).fold(None, larger)
}

fn mean(list: &[f64]) -> f64 {
    list.iter().sum::<f64>() / list.len() as f64
}

/// The value that 99 % do not exceed.
fn p99(list: &[f64]) -> f64 {
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_coin_has_a_perplexity_of_two() {
        let figures = Figures::from_log_probabilities(&[0.5f64.ln(); 10]);
        approx::assert_relative_eq!(figures.perplexity(), 2.0);
        assert!(figures.error < 1e-12);
        let spread = Figures::from_log_probabilities(&[-1.0, -3.0]);
        assert_eq!((spread.mean, spread.error), (2.0, 1.0));
    }

    #[test]
    fn two_distributions_by_hand() {
        let mut compared = Compared::default();
        let (half, quarter) = (0.5f64.ln(), 0.25f64.ln());
        let (own, theirs) = ([half, half], [quarter, 0.75f64.ln()]);
        compared.add(&own, &theirs, 0);
        compared.add(&theirs, &theirs, 1);
        let facts = compared.json();
        let divergence = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        approx::assert_relative_eq!(facts["kl_mean"].as_f64().expect("a number"), divergence / 2.0);
        approx::assert_relative_eq!(facts["kl_p99"].as_f64().expect("a number"), divergence);
        assert_eq!(facts["top1_agreement"], 0.5);
        let change = facts["logprob_change_p99"].as_f64().expect("a number");
        approx::assert_relative_eq!(change, 2f64.ln());
    }

    #[test]
    fn a_token_that_cannot_be_costs_nothing() {
        let row = log_probabilities(&[0.0, f64::NEG_INFINITY]);
        assert_eq!(row, [0.0, f64::NEG_INFINITY]);
        let mut compared = Compared::default();
        compared.add(&row, &row, 0);
        assert_eq!(compared.json()["kl_mean"], 0.0);
    }
}
