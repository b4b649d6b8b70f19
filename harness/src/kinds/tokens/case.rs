//! The kind *tokenizer*: texts, their ids, and the way back, asked of a subject over the wire.

use goldgate_wire::Special;

use crate::line::Place;

/// A list of texts with their ids, for one form of a tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenCase {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its spec file.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// The label of the form.
    pub variant: String,
    /// Why the list exists; printed on failure.
    pub why: String,
    /// Where the ids come from.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// The form's file, below golden/.
    pub path: String,
    /// What becomes of special tokens.
    pub special: Special,
    /// What is looked at.
    pub checks: Vec<Check>,
    /// The texts.
    pub vectors: Vec<Vector>,
}

impl TokenCase {
    /// `gate2::gpt2-tokens::emoji::hf`: the trial's name without its subject.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::{}", self.gate, self.stem, self.name, self.variant)
    }
}

/// A text and its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// The text's bytes.
    pub bytes: Vec<u8>,
    /// Its ids.
    pub ids: Vec<u32>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The ids back to the bytes.
    Decode,
    /// The text to the ids.
    Encode,
    /// The bytes as they come, none of them inside a code point.
    Stream,
}

impl Check {
    /// All of them, in the order of their names.
    pub const ALL: [(&str, Check); 3] =
        [("decode", Check::Decode), ("encode", Check::Encode), ("stream", Check::Stream)];
}
