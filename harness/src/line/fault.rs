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
