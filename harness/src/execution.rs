//! What came of asking a subject about an op: independent of the right answer.

use std::collections::BTreeMap;

use goldgate_engine::Tensor;
use serde_json::Value;

/// What a subject made of a question about an op.
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

impl Observed {
    /// Reads what a subject says about itself.
    ///
    /// # Errors
    /// A field that is none, or of another type.
    pub fn read(value: &Value) -> Result<Observed, String> {
        serde_json::from_value(value.clone()).map_err(|e| format!("observed: {e}"))
    }
}
