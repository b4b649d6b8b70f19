//! What came of asking a subject about an op: independent of the right answer.

use std::collections::BTreeMap;

use goldgate_tensor::Tensor;
pub use goldgate_wire::Observed;

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
