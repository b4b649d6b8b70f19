//! A subject that knows the answer: it returns the tensors of a file, whatever it is asked. Once
//! per run the judge meets it over the real wire, first with a golden and then with a fault.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_tensor::Tensor;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};
use goldgate_wire::call::{Op, OpAnswer};
use goldgate_wire::frame::{FrameError, decode};
use goldgate_worker::{Device, NoAnswer, Trouble};
use serde_json::{Value, json};

/// A subject that replays one answer.
#[derive(Clone, Debug)]
pub struct Replay {
    results: BTreeMap<String, Tensor>,
}

impl Replay {
    /// Reads the answer from a file.
    ///
    /// # Errors
    /// The file does not exist or is not a buffer.
    pub fn open(path: &Path) -> Result<Replay, FrameError> {
        let (_, results) = decode(
            &read_foreign(path, Bounds::of_user(LARGEST_WHOLE)).map_err(std::io::Error::from)?,
        )?;
        Ok(Replay { results })
    }
}

impl Device for Replay {
    fn hello(&self) -> Result<Value, Trouble> {
        Ok(json!({
            "wire": 1,
            "subject": {"name": "golden", "version": env!("CARGO_PKG_VERSION")},
            "device": {"kind": "cpu"},
            "calls": ["op"],
        }))
    }

    fn op(&mut self, _question: &Op) -> Result<OpAnswer, NoAnswer> {
        Ok(OpAnswer { results: self.results.clone(), ..OpAnswer::default() })
    }
}
