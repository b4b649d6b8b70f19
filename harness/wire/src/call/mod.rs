//! One type for each call of docs/wire.md. The harness writes its question and reads its answer; a
//! worker reads the question and writes the answer. As both ends share the type, they cannot
//! disagree about its form.
//!
//! ```
//! use goldgate_wire::call::{Call, Open, OpenAnswer, Tensors};
//!
//! // The harness.
//! let (question, tensors) = Open { model: 1 }.question();
//! assert_eq!(question.to_string(), r#"{"call":"open","model":1}"#);
//! // The worker.
//! let open = Open::read(&question, tensors)?;
//! let answer = OpenAnswer { session: open.model + 1, bytes_session: Some(4096) };
//! let (body, tensors) = Open::write_answer(answer);
//! // The harness again.
//! assert_eq!(Open::read_answer(body, tensors)?.session, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bench;
mod check;
mod generate;
mod load;
mod op;
mod session;
mod start;
mod text;

use goldgate_tensor::Refusal;
use serde_json::Value;

pub use crate::fields::BadField;
pub use crate::frame::Tensors;

pub use bench::{BenchCopy, BenchModel, BenchOp, Limits, OpTimes, StepPart, StepTimes};
pub use check::{Check, Checked, Inspect, Inspected, Memory, MemoryAnswer};
pub use generate::{Generate, Generated, Sampling};
pub use load::{Load, LoadOptions, Loaded, Unload};
pub use op::{Op, OpAnswer};
pub use session::{Close, Extend, Extended, Fork, Forked, Open, OpenAnswer, Want};
pub use start::{Hello, Ping};
pub use text::{Detokenize, Detokenized, Tokenize, Tokenized, Vocabulary};

/// The names of all calls, in alphabetical order.
pub const NAMES: [&str; 16] = [
    "bench",
    "check",
    "close",
    "detokenize",
    "extend",
    "fork",
    "generate",
    "hello",
    "inspect",
    "load",
    "memory",
    "op",
    "open",
    "ping",
    "tokenize",
    "unload",
];

/// A call: its question, and the contents of its `ok`. Refusals and failures are the same for all
/// calls, and belong to [`crate::answer::Answer`].
pub trait Call: Sized {
    /// The value of the field `call`.
    const NAME: &'static str;

    /// The contents of an `ok`.
    type Answer;

    /// For the harness: the JSON of the question, without its id, and its operands.
    fn question(&self) -> (Value, Tensors);

    /// For the worker: reads a question. Unknown fields are ignored, so that later versions may add
    /// some.
    ///
    /// # Errors
    /// What is wrong with it, as the answer must report it.
    fn read(question: &Value, tensors: Tensors) -> Result<Self, BadQuestion>;

    /// For the worker: the value of `ok` and its tensors.
    fn write_answer(answer: Self::Answer) -> (Value, Tensors);

    /// For the harness: reads the value of `ok` and its tensors.
    ///
    /// # Errors
    /// A field or tensor is missing or has the wrong type.
    fn read_answer(body: Value, tensors: Tensors) -> Result<Self::Answer, BadField>;
}

/// Why a question cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuestion {
    /// A field is missing or makes no sense: `failed` with class `bad_request`.
    #[error("{0}")]
    Field(String),
    /// An operand or attribute must be `refused`.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<BadField> for BadQuestion {
    fn from(bad: BadField) -> BadQuestion {
        // A worker answers all of them with `bad_request`; only the harness judges them
        // differently.
        BadQuestion::Field(bad.to_string())
    }
}

impl From<String> for BadQuestion {
    fn from(message: String) -> BadQuestion {
        BadQuestion::Field(message)
    }
}
