//! What came of asking a subject: independent of the right answer.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_engine::Tensor;

/// One question asked of one subject.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What came back.
    pub outcome: Outcome,
    /// Wall time by the supervisor's clock.
    pub time: Duration,
    /// The end of the subject's stderr during the question.
    pub stderr: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Results by name, and what the subject says about itself.
    Answered {
        /// Results by name.
        results: BTreeMap<String, Tensor>,
        /// What it observed.
        observed: Observed,
    },
    /// It says that the question is malformed.
    Refused {
        /// Kind as said; a foreign subject may have its own.
        kind: String,
        /// Operand as said.
        operand: String,
        /// In words.
        message: String,
    },
    /// A fair question that it does not offer.
    Unsupported {
        /// What it does not offer.
        what: String,
        /// Whether hello had promised it.
        promised: bool,
    },
    /// It tried and could not.
    Failed {
        /// `oom device io cancelled bad_request internal`.
        class: String,
        /// In words.
        message: String,
    },
    /// The process ended with the question open.
    Crashed {
        /// Signal name or exit status.
        how: String,
    },
    /// Past its limit.
    TimedOut,
    /// Something that is not the wire.
    Protocol {
        /// What, with the first bytes as text.
        what: String,
    },
    /// Never asked.
    NotAsked(crate::verdict::NotRun, String),
}

/// What a subject says about itself; absent is *not observed*, not *intact*.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Observed {
    /// `intact`, or which guard broke.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guards: Option<String>,
    /// `unchanged`, or which input changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inputs: Option<String>,
    /// `overwritten`, or what was left.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub poison: Option<String>,
    /// Kernel entries that ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<Vec<String>>,
    /// Most bytes held: of the device by an op, of the host by a file beyond those before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_bytes: Option<u64>,
    /// Largest single host allocation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largest_request: Option<u64>,
    /// Processor time that a file took, µs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu_us: Option<u64>,
}
