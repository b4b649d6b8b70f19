//! Which tokens the chain may keep if every logit may be off by as much as a distance.
//!
//! The bounds are those by which texts are decided (specs/README.md): the lowest and the highest
//! value of each logit go through the chain, which tokens are kept for certain, and which perhaps.

use crate::kinds::model::chain::Chain;

/// The lowest and highest value of every logit, and which tokens are kept.
struct Bounds {
    low: Vec<f64>,
    high: Vec<f64>,
    /// Kept whatever the logits are.
    sure: Vec<bool>,
    /// Kept for some logits.
    possible: Vec<bool>,
}

/// Whether each token may be drawn for some logits within `distance` of a row. None if a setting is
/// out of the range of its op.
pub fn possible(
    chain: &Chain,
    logits: &[f64],
    seen: &[&[i32]],
    distance: f64,
) -> Option<Vec<bool>> {
    let moved = |by: f64| chain.warmed(logits.iter().map(|x| x + by).collect(), seen);
    // Penalty and temperature keep the order of two values of one logit, so the ends stay ends.
    let (low, high) = (moved(-distance)?, moved(distance)?);
    let (sure, possible) = (vec![true; low.len()], vec![true; low.len()]);
    let mut bounds = Bounds { low, high, sure, possible };
    if chain.top_k > 0 {
        bounds.top_k(chain.top_k);
    }
    if chain.top_p < 1.0 {
        // As the op reads it: its attributes are f32.
        bounds.top_p(f64::from(chain.top_p as f32));
    }
    if chain.min_p > 0.0 {
        bounds.min_p(f64::from(chain.min_p as f32));
    }
    Some(bounds.possible)
}

impl Bounds {
    fn top_k(&mut self, k: usize) {
        let each = vec![1.0; self.low.len()];
        let (highest, lowest) = (Above::new(&self.high, &each), Above::new(&self.low, &each));
        for i in 0..self.low.len() {
            // A token is at or above its own lowest value, and does not count against itself.
            let ahead_at_most = highest.at_or_above(self.low[i]) - 1.0;
            let ahead_at_least = lowest.above(self.high[i]);
            self.sure[i] &= ahead_at_most < k as f64;
            self.possible[i] &= ahead_at_least < k as f64;
        }
    }

    fn top_p(&mut self, p: f64) {
        let most = largest(&self.high, &self.possible);
        let weight = |x: &[f64], kept: &[bool]| -> Vec<f64> {
            let weight = |(x, kept): (&f64, &bool)| if *kept { (x - most).exp() } else { 0.0 };
            x.iter().zip(kept).map(weight).collect()
        };
        let (light, heavy) = (weight(&self.low, &self.sure), weight(&self.high, &self.possible));
        let of_highest = (Above::new(&self.high, &heavy), Above::new(&self.high, &light));
        let of_lowest = (Above::new(&self.low, &light), Above::new(&self.low, &heavy));
        let (all_light, all_heavy) = (light.iter().sum::<f64>(), heavy.iter().sum::<f64>());
        for (i, own) in heavy.iter().enumerate() {
            let (low, high) = (self.low[i], self.high[i]);
            // The most mass that may be ahead, against the least that is not; and the other way
            // round.
            let ahead = (of_highest.0.at_or_above(low) - own).max(0.0);
            let behind = (all_light - of_highest.1.at_or_above(low)).max(0.0);
            let at_most = ahead / (ahead + (low - most).exp() + behind);
            self.sure[i] &= ahead <= 0.0 || at_most < p;
            let ahead = of_lowest.0.above(high);
            let behind = (all_heavy - of_lowest.1.above(high) - own).max(0.0);
            let at_least = ahead / (ahead + (high - most).exp() + behind);
            self.possible[i] &= ahead <= 0.0 || at_least < p;
        }
    }

    fn min_p(&mut self, share: f64) {
        let edge = share.ln();
        let lowest = largest(&self.low, &self.sure);
        for i in 0..self.low.len() {
            // A token is never below the edge that itself makes, so it may stand among the others.
            self.possible[i] &= self.high[i] >= lowest + edge;
        }
    }
}

/// The largest number among those that are marked.
fn largest(x: &[f64], among: &[bool]) -> f64 {
    let marked = x.iter().zip(among).filter(|(_, marked)| **marked).map(|(x, _)| *x);
    marked.fold(f64::NEG_INFINITY, f64::max)
}

/// Sums of weights of all numbers above an edge.
struct Above {
    /// The numbers, rising.
    sorted: Vec<f64>,
    /// The sum of the weights from each place on, and 0 behind the last.
    from: Vec<f64>,
}

impl Above {
    fn new(x: &[f64], weights: &[f64]) -> Above {
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
        let mut from = vec![0.0; x.len() + 1];
        for (place, i) in order.iter().enumerate().rev() {
            from[place] = from[place + 1] + weights[*i];
        }
        Above { sorted: order.iter().map(|i| x[*i]).collect(), from }
    }

    fn at_or_above(&self, edge: f64) -> f64 {
        self.from[self.sorted.partition_point(|x| *x < edge)]
    }

    fn above(&self, edge: f64) -> f64 {
        self.from[self.sorted.partition_point(|x| *x <= edge)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Chain =
        Chain { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };
    const LOGITS: [f64; 5] = [3.0, 2.0, 2.0, 1.5, -4.0];

    fn kept(chain: Chain, distance: f64) -> Vec<usize> {
        let possible = possible(&chain, &LOGITS, &[], distance).expect("in range");
        (0..possible.len()).filter(|i| possible[*i]).collect()
    }

    #[test]
    fn of_equals_each_may_be_the_one_that_stays() {
        assert_eq!(kept(Chain { top_k: 2, ..FREE }, 1e-9), [0, 1, 2]);
        assert_eq!(kept(Chain { top_k: 2, ..FREE }, 0.26), [0, 1, 2, 3]);
        assert_eq!(kept(Chain { top_k: 3, ..FREE }, 1e-9), [0, 1, 2]);
    }

    #[test]
    fn mass_and_edges_move_with_the_logits() {
        // The first has 0.51 of the mass, the first three 0.89, four 0.9995.
        assert_eq!(kept(Chain { top_p: 0.45, ..FREE }, 1e-6), [0]);
        assert_eq!(kept(Chain { top_p: 0.45, ..FREE }, 0.2), [0, 1, 2]);
        assert_eq!(kept(Chain { top_p: 0.6, ..FREE }, 1e-6), [0, 1, 2]);
        assert_eq!(kept(Chain { top_p: 0.9, ..FREE }, 1e-6), [0, 1, 2, 3]);
        // e^-1 is 0.368, e^-1.5 is 0.223.
        assert_eq!(kept(Chain { min_p: 0.3, ..FREE }, 1e-6), [0, 1, 2]);
        assert_eq!(kept(Chain { min_p: 0.3, ..FREE }, 0.2), [0, 1, 2, 3]);
        assert_eq!(kept(FREE, 0.0), [0, 1, 2, 3, 4]);
    }
}
