//! Scores: how many generated faults the cases of an op detect, variant by variant.

use crate::line::{Fate, GeneratedScore};
use crate::mutants::generated::Outcome;

/// A score for each op and variant, in the order of the outcomes.
pub fn scores(outcomes: &[Outcome]) -> Vec<GeneratedScore> {
    let mut scores: Vec<GeneratedScore> = Vec::new();
    for outcome in outcomes {
        let same = |s: &GeneratedScore| s.op == outcome.op && s.variant == outcome.variant;
        // Outcomes of a group are adjacent.
        if !scores.last().is_some_and(same) {
            let (op, variant) = (outcome.op.clone(), outcome.variant.clone());
            scores.push(GeneratedScore { op, variant, ..GeneratedScore::default() });
        }
        let Some(score) = scores.last_mut() else { continue };
        score.generated += 1;
        match outcome.fate {
            Fate::Killed { .. } => score.killed += 1,
            Fate::Survived { .. } => {
                score.survived += 1;
                score.survivors.push(outcome.name.clone());
            }
            Fate::Equivalent { .. } => score.equivalent += 1,
            Fate::NotRun { .. } => score.not_run += 1,
        }
    }
    scores
}

/// Killed of all that were planted, in percent; none if none was.
pub fn percent(scores: &[GeneratedScore]) -> Option<f64> {
    let (killed, planted) = GeneratedScore::total(scores);
    (planted > 0).then(|| 100.0 * killed as f64 / planted as f64)
}
