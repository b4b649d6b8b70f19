//! Text into ids and back, byte for byte: from tokenizer.json, or from the vocabulary of a GGUF.
//!
//! Bytes that are no UTF-8 are text like any other: each stretch of them is a piece of its own.
//! Whatever [`Tokenizer::encode`] takes, [`Tokenizer::decode`] gives back, but for what the model's
//! publisher normalises.

pub mod alphabet;
pub mod bpe;
pub mod chat;
pub mod facts;
pub mod gguf;
pub mod hf;
pub mod markup;
pub mod split;
pub mod texts;
pub mod utf8;

use std::io::Read;
use std::path::Path;

use goldgate_tensor::foreign::{Links, open_foreign};

use crate::tokenizer::bpe::Merges;
use crate::tokenizer::gguf::Vocabulary;
use crate::tokenizer::markup::{Finder, Mark};
use crate::tokenizer::split::Split;
use crate::tokenizer::texts::{Order, Texts};
pub use crate::tokenizer::utf8::Decoder;
use crate::weights::Gguf;
use crate::weights::refusal::Malformed;

/// Why there are no ids, or no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An id that no token has.
    #[error("id {id} has no token, of {len} in the vocabulary")]
    NoToken {
        /// The id.
        id: u32,
        /// Ids of the vocabulary.
        len: usize,
    },
    /// The library gave up on a text.
    #[error("tokenizers 0.23 gave up on a piece of {bytes} bytes: {reason}")]
    Library {
        /// Length of the piece.
        bytes: usize,
        /// In its words.
        reason: String,
    },
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An id without a token.
    Absent,
    /// It steers the model, and is no text.
    Control,
    /// A piece of text.
    Normal,
    /// A text that the model's publisher added, always taken whole.
    Own,
}

/// Text of tokens by id, and what they are for.
#[derive(Clone, Debug, Default)]
struct Tokens {
    bytes: Texts,
    kinds: Vec<Kind>,
}

impl Tokens {
    fn kind_of(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Absent)
    }

    /// The bytes of a token, if the id has one.
    fn get(&self, id: u32) -> Option<&[u8]> {
        (self.kind_of(id) != Kind::Absent).then(|| self.bytes.get(id as usize))
    }
}

/// What begins and ends a text, and ends a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Policy {
    before: Vec<u32>,
    after: Vec<u32>,
    bos: Option<u32>,
    eos: Vec<u32>,
}

/// Byte-level BPE of our own.
#[derive(Clone, Debug)]
struct Bytes {
    split: Split,
    /// Canonical composition first, where the publisher asks for it.
    nfc: bool,
    /// Id of each byte.
    letters: [u32; 256],
    merges: Merges,
    /// Tokens by their bytes, where a piece that is a token is taken whole.
    whole: Option<Order>,
}

/// What makes ids of text without markup.
#[derive(Debug)]
enum Words {
    Gguf(Box<Bytes>),
    Hf(Box<hf::Library>),
}

/// A vocabulary with its rules. It is shared freely between threads.
#[derive(Debug)]
pub struct Tokenizer {
    tokens: Tokens,
    words: Words,
    /// Finds tokens that are always taken whole.
    own: Finder,
    /// Finds control tokens too.
    every: Finder,
    policy: Policy,
    template: Option<String>,
}

impl Tokenizer {
    /// The tokenizer of a model: a GGUF file, a tokenizer.json, or a folder that holds the
    /// latter. A GGUF file is known by its first bytes, whatever its name.
    ///
    /// # Errors
    /// The first rule that the files break.
    pub fn open(path: &Path) -> Result<Tokenizer, Malformed> {
        if path.is_dir() {
            return Tokenizer::of_json(&path.join("tokenizer.json"));
        }
        match starts_like_gguf(path) {
            true => Tokenizer::of_gguf(&Gguf::open(path)?),
            false => Tokenizer::of_json(path),
        }
    }

    /// The tokenizer of an open GGUF file.
    ///
    /// # Errors
    /// The first rule that the vocabulary breaks, at the byte where its field begins.
    pub fn of_gguf(gguf: &Gguf) -> Result<Tokenizer, Malformed> {
        let of = || Tokenizer::of_vocabulary(Vocabulary::of_gguf(gguf)?);
        of().map_err(|refused| placed(gguf, refused))
    }

    /// Reads a tokenizer.json, and beside it, where they are, tokenizer_config.json and
    /// generation_config.json: beginning and ends of text, and the chat template.
    ///
    /// # Errors
    /// The first rule that the files break.
    pub fn of_json(path: &Path) -> Result<Tokenizer, Malformed> {
        hf::open(path)
    }

    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// The first rule that the vocabulary breaks.
    pub fn of_vocabulary(vocabulary: Vocabulary) -> Result<Tokenizer, Malformed> {
        gguf::build(vocabulary)
    }

    fn new(
        tokens: Tokens,
        words: Words,
        marks: Vec<Mark>,
        policy: Policy,
        template: Option<String>,
    ) -> Tokenizer {
        let own = Finder::new(marks.iter().filter(|m| !m.control).cloned().collect());
        let every = Finder::new(marks);
        Tokenizer { tokens, words, own, every, policy, template }
    }

    /// The ids of a text.
    ///
    /// `add_special` adds what the model's policy puts at the ends; `parse_special` takes control
    /// tokens written in the text as such. Without it no text can steer the model.
    ///
    /// # Errors
    /// A text that the library gives up on; none is known.
    pub fn encode(
        &self,
        text: &[u8],
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>, Fault> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special {
            ids.extend_from_slice(&self.policy.before);
        }
        let finder = if parse_special { &self.every } else { &self.own };
        let mut at = 0;
        for (id, range) in finder.all(text) {
            self.plain(&text[at..range.start], &mut ids)?;
            ids.push(id);
            at = range.end;
        }
        self.plain(&text[at..], &mut ids)?;
        if add_special {
            ids.extend_from_slice(&self.policy.after);
        }
        Ok(ids)
    }

    /// Text without markup: UTF-8 by the words' rules, each stretch of other bytes as one piece.
    fn plain(&self, text: &[u8], ids: &mut Vec<u32>) -> Result<(), Fault> {
        let mut other = Vec::new();
        for chunk in text.utf8_chunks() {
            if !chunk.valid().is_empty() {
                self.piece(&std::mem::take(&mut other), ids)?;
                match &self.words {
                    Words::Gguf(bytes) => bytes.text(chunk.valid(), &self.tokens, ids),
                    Words::Hf(library) => library.text(chunk.valid(), ids)?,
                }
            }
            other.extend_from_slice(chunk.invalid());
        }
        self.piece(&other, ids)
    }

    fn piece(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<(), Fault> {
        match &self.words {
            _ if bytes.is_empty() => Ok(()),
            Words::Gguf(ours) => {
                ours.piece(bytes, &self.tokens, ids);
                Ok(())
            }
            Words::Hf(library) => library.piece(bytes, ids),
        }
    }

    /// The text of ids, byte for byte; `skip_special` leaves control tokens out.
    ///
    /// # Errors
    /// An id without a token.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::with_capacity(ids.len() * 4);
        for id in ids {
            text.extend_from_slice(self.bytes(*id, skip_special)?);
        }
        Ok(text)
    }

    /// Decodes ids as they come, control tokens left out.
    pub fn stream(&self) -> Decoder<'_> {
        Decoder::new(self, true)
    }

    /// Decodes ids as they come; `skip_special` leaves control tokens out.
    pub fn stream_of(&self, skip_special: bool) -> Decoder<'_> {
        Decoder::new(self, skip_special)
    }

    /// The bytes of one token.
    fn bytes(&self, id: u32, skip_special: bool) -> Result<&[u8], Fault> {
        match self.kind_of(id) {
            Kind::Absent => Err(Fault::NoToken { id, len: self.len() }),
            Kind::Control if skip_special => Ok(&[]),
            _ => Ok(self.tokens.bytes.get(id as usize)),
        }
    }

    /// What the token of an id is for.
    pub fn kind_of(&self, id: u32) -> Kind {
        self.tokens.kind_of(id)
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.tokens.kinds.len()
    }

    /// Never: a vocabulary without tokens is refused.
    pub fn is_empty(&self) -> bool {
        self.tokens.kinds.is_empty()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.policy.bos
    }

    /// Every token that ends a generation.
    pub fn eos(&self) -> &[u32] {
        &self.policy.eos
    }

    /// `hf-json` or `gguf-bpe`.
    pub fn kind(&self) -> &'static str {
        match self.words {
            Words::Gguf(_) => "gguf-bpe",
            Words::Hf(_) => "hf-json",
        }
    }

    /// The chat template as it is written. It is a program, and nothing here runs it; [`chat`]
    /// knows the published ones.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

/// A refusal of a field of metadata, at the byte where its value begins.
fn placed(gguf: &Gguf, refused: Malformed) -> Malformed {
    let key = refused.field.split('[').next().unwrap_or_default();
    match gguf.metadata().entry(key) {
        Some(entry) if refused.offset.is_none() => refused.at(entry.offset),
        _ => refused,
    }
}

/// Whether a file begins as GGUF does.
fn starts_like_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = open_foreign(path, Links::Followed)
        .map_err(std::io::Error::from)
        .and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && &magic == b"GGUF"
}

#[cfg(test)]
mod tests;
