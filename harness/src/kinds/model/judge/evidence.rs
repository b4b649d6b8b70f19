//! How strongly drawn tokens speak against the distribution that they should have.
//!
//! A bet on other distributions: for each alternative the stake is multiplied, token by token, by
//! `(0.98 q + 0.02 p) / p`, with p the right probability of the token and q that of the
//! alternative. Under p each factor has the mean 1 whatever was drawn before, so the mean of all
//! stakes, E, is a martingale from 1, and exceeds c with a probability of at most 1/c (Ville 1939).
//! No token needs to be independent of the others, and the list of alternatives costs no more than
//! its logarithm.

use crate::kinds::model::chain::Chain;
use crate::kinds::model::class::argmax;

/// The largest ln E: an honest subject exceeds it in about one of 1e9 rows at most.
pub(crate) const LIMIT: f64 = 20.7;

/// The share of a bet that is left on the right distribution, so that one token cannot ruin it.
const KEPT: f64 = 0.02;

/// Logits behind one context, and the tokens that were drawn there.
pub(super) struct Site<'a> {
    pub logits: &'a [f64],
    /// The tokens of the prompt.
    pub prompt: &'a [i32],
    /// The tokens of the text before this one.
    pub text: &'a [i32],
    /// Token → how often it was drawn.
    pub counts: Vec<(usize, f64)>,
}

/// A distribution that a wrong subject may have, made of the right one.
#[derive(Clone, Copy, Debug)]
enum Other {
    /// Other settings.
    Settings(Chain),
    /// Tokens of the text are not penalised.
    TextForgotten,
    /// Tokens of the prompt are not penalised.
    PromptForgotten,
    /// The most likely token always.
    First,
    /// Every token that is kept equally often.
    Uniform,
    /// The number u of a draw raised to a power.
    Power(f64),
    /// u replaced by `from + scale * u`.
    Line { from: f64, scale: f64 },
}

/// The alternatives for a chain, with their names. The list depends on nothing that was drawn.
fn alternatives(chain: &Chain, tokens: usize) -> Vec<(String, Other)> {
    let mut all = Vec::new();
    let mut settings = |name: String, chain: Chain| all.push((name, Other::Settings(chain)));
    for factor in [0.8, 0.9, 1.1, 1.25] {
        let temperature = chain.temperature * factor;
        settings(format!("temperature x {factor}"), Chain { temperature, ..*chain });
    }
    if chain.top_k > 1 {
        settings("top_k - 1".to_owned(), Chain { top_k: chain.top_k - 1, ..*chain });
    }
    if chain.top_p < 1.0 {
        for less in [0.05, 0.1] {
            settings(format!("top_p - {less}"), Chain { top_p: chain.top_p - less, ..*chain });
        }
    }
    if chain.min_p > 0.0 {
        for factor in [1.25, 2.0] {
            let min_p = chain.min_p * factor;
            settings(format!("min_p x {factor}"), Chain { min_p, ..*chain });
        }
    }
    if chain.repetition_penalty != 1.0 {
        for factor in [0.0, 0.5, 1.5, 2.0] {
            let repetition_penalty = 1.0 + (chain.repetition_penalty - 1.0) * factor;
            let name = format!("(repetition_penalty - 1) x {factor}");
            settings(name, Chain { repetition_penalty, ..*chain });
        }
        if tokens > 1 {
            all.push(("no penalty of the text".to_owned(), Other::TextForgotten));
            all.push(("no penalty of the prompt".to_owned(), Other::PromptForgotten));
        }
    }
    let of_number = [
        ("the most likely token", Other::First),
        ("any token that is kept", Other::Uniform),
        ("u^0.8", Other::Power(0.8)),
        ("u^1.25", Other::Power(1.25)),
        ("0.95 u", Other::Line { from: 0.0, scale: 0.95 }),
        ("0.05 + 0.95 u", Other::Line { from: 0.05, scale: 0.95 }),
    ];
    all.extend(of_number.map(|(name, other)| (name.to_owned(), other)));
    all
}

impl Other {
    /// ln of its probability of every token; none if it has no such distribution.
    fn log_probabilities(&self, chain: &Chain, site: &Site<'_>, right: &[f64]) -> Option<Vec<f64>> {
        let (logits, prompt, text) = (site.logits, site.prompt, site.text);
        Some(match *self {
            Other::Settings(chain) => chain.log_probabilities(logits, &[prompt, text])?,
            Other::TextForgotten => chain.log_probabilities(logits, &[prompt])?,
            Other::PromptForgotten => chain.log_probabilities(logits, &[text])?,
            Other::First => {
                let best = argmax(right);
                let share = |id| if id == best { 0.0 } else { f64::NEG_INFINITY };
                (0..right.len()).map(share).collect()
            }
            Other::Uniform => right.iter().map(|p| if p.is_finite() { 0.0 } else { *p }).collect(),
            Other::Power(power) => through(right, |u| u.powf(1.0 / power)),
            Other::Line { from, scale } => through(right, |u| ((u - from) / scale).clamp(0.0, 1.0)),
        })
    }
}

/// The distribution of a draw by another number than a uniform one, whose cumulative distribution
/// is `below`: tokens share the unit interval in the order of their ids.
fn through(right: &[f64], below: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut sum = 0.0;
    let mut last = below(0.0);
    let share = |p: &f64| {
        sum = (sum + p.exp()).min(1.0);
        let (before, here) = (last, below(sum));
        last = here;
        (here - before).max(0.0).ln()
    };
    right.iter().map(share).collect()
}

/// ln of the stake that an alternative makes of one token. `scale` is ln of the mass that the
/// alternative has on tokens that are kept.
fn factor(right: f64, other: f64, scale: f64) -> f64 {
    let (bet, kept) = ((1.0 - KEPT).ln() + other - scale - right, KEPT.ln());
    // Added in logarithms, because a token of 1e-300 may have been drawn.
    let most = bet.max(kept);
    most + ((bet - most).exp() + (kept - most).exp()).ln()
}

/// The result of all bets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    /// ln E.
    pub ln_e: f64,
    /// ln of the stake on each alternative.
    pub each: Vec<(String, f64)>,
    /// How many tokens were bet on.
    pub tokens: u64,
}

/// Bets on every alternative. Tokens that the chain removes have no factor: whether they may occur
/// is another question.
pub(super) fn evidence(chain: &Chain, tokens: usize, sites: &[Site<'_>]) -> Evidence {
    let alternatives = alternatives(chain, tokens);
    let mut stakes = vec![0.0; alternatives.len()];
    let mut found = Evidence::default();
    for site in sites {
        let Some(right) = chain.log_probabilities(site.logits, &[site.prompt, site.text]) else {
            continue;
        };
        let drawn = site.counts.iter().filter(|(id, _)| right[*id].is_finite());
        let drawn: Vec<(usize, f64)> = drawn.copied().collect();
        found.tokens += drawn.iter().map(|(_, count)| *count as u64).sum::<u64>();
        for ((_, other), stake) in alternatives.iter().zip(&mut stakes) {
            let Some(other) = other.log_probabilities(chain, site, &right) else { continue };
            let kept = other.iter().zip(&right).filter(|(_, p)| p.is_finite());
            let scale = log_sum(kept.map(|(q, _)| *q));
            // An alternative without mass on what is kept bets on nothing.
            if !scale.is_finite() {
                continue;
            }
            let factors = drawn.iter().map(|(id, n)| n * factor(right[*id], other[*id], scale));
            *stake += factors.sum::<f64>();
        }
    }
    found.ln_e = log_sum(stakes.iter().copied()) - (stakes.len() as f64).ln();
    found.each = alternatives.into_iter().map(|(name, _)| name).zip(stakes).collect();
    found
}

/// ln of a sum, given the logarithms of its terms.
fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + terms.map(|x| (x - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: Chain =
        Chain { temperature: 1.0, top_k: 3, top_p: 0.9, min_p: 0.05, repetition_penalty: 1.5 };
    const LOGITS: [f64; 6] = [2.0, 1.0, 1.0, 0.5, -1.0, -3.0];

    /// The mean of a bet over the right distribution is 1: an honest subject cannot lose it.
    #[test]
    fn every_bet_is_fair() {
        let counts = Vec::new();
        let site = Site { logits: &LOGITS, prompt: &[1], text: &[0], counts };
        let right = CHAIN.log_probabilities(&LOGITS, &[&[1], &[0]]).expect("in range");
        let alternatives = alternatives(&CHAIN, 2);
        assert_eq!(alternatives.len(), 4 + 1 + 2 + 2 + 4 + 2 + 6);
        for (name, other) in alternatives {
            let Some(other) = other.log_probabilities(&CHAIN, &site, &right) else {
                panic!("{name} is out of range")
            };
            let kept: Vec<usize> = (0..LOGITS.len()).filter(|id| right[*id].is_finite()).collect();
            let scale = log_sum(kept.iter().map(|id| other[*id]));
            let mean: f64 = kept
                .iter()
                .map(|id| (right[*id] + factor(right[*id], other[*id], scale)).exp())
                .sum();
            assert!((mean - 1.0).abs() < 1e-12, "{name}: {mean}");
        }
    }

    #[test]
    fn a_token_that_is_nearly_impossible_is_evidence_and_no_overflow() {
        let logits = [0.0, -2000.0];
        let free = Chain { top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, ..CHAIN };
        let site = Site { logits: &logits, prompt: &[], text: &[], counts: vec![(1, 1.0)] };
        let found = evidence(&free, 1, &[site]);
        assert!(found.ln_e.is_finite() && found.ln_e > LIMIT, "{found:?}");
    }
}
