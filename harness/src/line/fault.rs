//! Outcomes of planted faults, as gates weigh them.

use serde::{Deserialize, Serialize};

/// The outcome of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    /// Its case detected it.
    Killed {
        /// The variant that detected it.
        variant: String,
        /// The rule that detected it.
        by: String,
    },
    /// Its case did not detect it, or it could not be planted at all.
    Survived {
        /// The reason, in words.
        why: String,
    },
    /// The fault does not change the answer, so no case can detect it.
    Equivalent {
        /// The reason given in the spec.
        reason: String,
    },
    /// It could not be judged here: a golden or a device is missing.
    NotRun {
        /// The reason, in words.
        why: String,
    },
}

/// A mutant that was planted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The op.
    pub op: String,
    /// The mutant.
    pub id: String,
    /// The fault, in words.
    pub fault: String,
    /// `harness` for `ask` and `wrong`, `cuda` for `kernel`.
    pub subject: String,
    /// The case that must detect it.
    pub case: String,
    /// The outcome.
    pub fate: Fate,
}

impl Planted {
    /// The result as gates weigh it; none if the mutant was not run or is equivalent.
    pub fn result(&self) -> Option<FaultResult> {
        let killed = match self.fate {
            Fate::Killed { .. } => true,
            Fate::Survived { .. } => false,
            // Neither says anything about the cases, so neither counts for or against the score.
            Fate::Equivalent { .. } | Fate::NotRun { .. } => return None,
        };
        let (op, id, subject) = (self.op.clone(), self.id.clone(), self.subject.clone());
        Some(FaultResult { folder: String::new(), op, id, subject, killed })
    }
}

/// The result of one planted mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultResult {
    /// The specs folder that lists it; empty for the first one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub folder: String,
    /// The op.
    pub op: String,
    /// The mutant.
    pub id: String,
    /// `harness` for `ask` and `wrong`, `cuda` for `kernel`.
    pub subject: String,
    /// Whether its case detected it.
    pub killed: bool,
}

/// How many generated faults the cases of one op and variant detect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedScore {
    /// The op.
    pub op: String,
    /// The variant of its cases: `f16`, or `f16-q4_k`.
    pub variant: String,
    /// How many faults the rules give.
    pub generated: usize,
    /// How many of them some case detected.
    pub killed: usize,
    /// How many no case detected.
    pub survived: usize,
    /// How many nobody could detect, by review.
    pub equivalent: usize,
    /// How many could not be tried.
    pub not_run: usize,
    /// The full names of those that survived.
    pub survivors: Vec<String>,
}

impl GeneratedScore {
    /// How many were killed of those that were planted, over all scores.
    pub fn total(scores: &[GeneratedScore]) -> (usize, usize) {
        let sum = |(killed, planted), s: &GeneratedScore| {
            (killed + s.killed, planted + s.killed + s.survived)
        };
        scores.iter().fold((0, 0), sum)
    }
}
