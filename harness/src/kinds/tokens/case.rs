//! The kind *tokenizer*: texts to ids and back, asked of a subject over the wire.

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
    /// The source of the ids.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// The path of the form's file below golden/.
    pub path: String,
    /// How special tokens are treated.
    pub special: Special,
    /// What is checked.
    pub checks: Vec<Check>,
    /// The texts.
    pub vectors: Vec<Vector>,
}

impl TokenCase {
    /// A case for each check: a subject that does not stream is still judged by its ids.
    pub fn each(&self) -> impl Iterator<Item = TokenCase> + '_ {
        let own = self.checks.iter().filter(|check| match check {
            // With special tokens the text does not come back as it went in; what comes back is
            // compared with its stream.
            Check::Decode => self.special == Special::None,
            Check::Encode | Check::Stream => true,
        });
        own.map(|check| TokenCase {
            variant: format!("{}.{}", self.variant, check.name()),
            checks: vec![*check],
            ..self.clone()
        })
    }

    /// The trial's name without its subject, such as `gate2::gpt2-tokens::emoji::hf`.
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

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The ids give back the bytes of the text.
    Decode,
    /// The text gives the ids.
    Encode,
    /// The bytes are handed out piece by piece, and no piece ends inside a code point.
    Stream,
}

impl Check {
    /// The name in specs, which is also its word on the wire.
    pub fn name(self) -> &'static str {
        Check::ALL.iter().find(|(_, check)| *check == self).map_or("", |(name, _)| name)
    }

    /// All checks, in the order of their names.
    pub const ALL: [(&str, Check); 3] =
        [("decode", Check::Decode), ("encode", Check::Encode), ("stream", Check::Stream)];
}
