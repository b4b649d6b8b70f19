//! The outcome of asking a subject about an op, independent of the right answer.

use std::collections::BTreeMap;

use goldgate_tensor::Tensor;
pub use goldgate_wire::Observed;

/// The outcome of a question about an op.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The results, and what the subject reported about itself.
    Answered {
        /// The results by name.
        results: BTreeMap<String, Tensor>,
        /// What it observed.
        observed: Observed,
    },
    /// The subject considers the question malformed.
    Refused {
        /// The kind as reported; a foreign subject may use its own.
        kind: String,
        /// The operand as reported.
        operand: String,
        /// The reason, in words.
        message: String,
    },
}
