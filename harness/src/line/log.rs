//! What is kept of the calls of one trial: their time, their last words, a hash of their answers.

use std::time::Duration;

use goldgate_wire::answer::RawAnswer;
use sha2::{Digest, Sha256};

use crate::line::hex;

/// What the calls of one trial add up to.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Time from question to answer, summed over all calls.
    pub time: Duration,
    /// The tail of stderr of the last call.
    pub stderr: String,
    bits: Option<Sha256>,
}

impl Log {
    /// A hash over the tensors and refusals of all answers in order; none without an answer.
    pub fn bits(&self) -> Option<String> {
        self.bits.as_ref().map(|hash| hex(&hash.clone().finalize()))
    }

    /// Adds one answer to the hash. Of an `ok` mostly the tensors are hashed, because times and
    /// memory differ from run to run.
    pub(super) fn hash(&mut self, call: &str, RawAnswer { key, body, tensors }: &RawAnswer) {
        // These answers hold only measurements, which differ between equal runs.
        if ["bench", "memory", "unload", "close"].contains(&call) {
            return;
        }
        // A model that the process holds already is not loaded again, so whether there is an answer
        // to `load` depends on the row before.
        if call == "load" && *key == "ok" {
            return;
        }
        let hash = self.bits.get_or_insert_default();
        // The call is a part of the hash, so that the answers of two calls cannot be exchanged.
        hash.update(format!("{call} {key}\n"));
        if *key == "refused" {
            // Not the message: its wording may change, what is refused and why may not.
            for field in ["kind", "operand", "code", "field", "offset"] {
                hash.update(format!("{}\n", body[field]));
            }
        }
        // These fields of an `ok` are results, not measurements.
        for field in ["stop", "stops", "holds"] {
            if !body[field].is_null() {
                hash.update(format!("{field} {}\n", body[field]));
            }
        }
        for (name, tensor) in tensors {
            // The same bytes in another type or shape are another answer.
            hash.update(format!("{name} {}\n", tensor.meta));
            hash.update(&tensor.bytes);
        }
    }
}
