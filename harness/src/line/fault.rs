//! Planted faults: what became of each, as gates weigh it.

use serde::{Deserialize, Serialize};

/// What came of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    /// Its case noticed.
    Killed {
        /// The variant that did.
        variant: String,
        /// By which rule.
        by: String,
    },
    /// Its case let it through, or it could not be planted at all.
    Survived {
        /// In words.
        why: String,
    },
    /// Nobody could tell it from the right answer.
    Equivalent {
        /// The written reason.
        reason: String,
    },
    /// Nothing to judge by here: no golden, no device.
    NotRun {
        /// In words.
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
    /// What is wrong, in words.
    pub fault: String,
    /// `harness` for `ask` and `wrong`, `cuda` for `kernel`.
    pub subject: String,
    /// The case that must notice it.
    pub case: String,
    /// What came of it.
    pub fate: Fate,
}

impl Planted {
    /// As the gates weigh it; nothing for what was not asked or is equivalent.
    pub fn result(&self) -> Option<FaultResult> {
        let killed = match self.fate {
            Fate::Killed { .. } => true,
            Fate::Survived { .. } => false,
            Fate::Equivalent { .. } | Fate::NotRun { .. } => return None,
        };
        let (op, id, subject) = (self.op.clone(), self.id.clone(), self.subject.clone());
        Some(FaultResult { op, id, subject, killed })
    }
}

/// One mutant that was planted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultResult {
    /// The op.
    pub op: String,
    /// The mutant.
    pub id: String,
    /// `harness` for `ask` and `wrong`, `cuda` for `kernel`.
    pub subject: String,
    /// Whether its case noticed.
    pub killed: bool,
}
