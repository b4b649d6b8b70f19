//! What the files of a tokenizer say, found whole: the check alone, without what makes ids.
//!
//! What makes ids takes more memory than its files have bytes. Whoever only wants to know whether
//! the files are good, and what is in them, asks here.

use std::path::Path;

use super::gguf::{self, Vocabulary};
use super::{Kind, Policy, Tokens, chat, hf, placed};
use crate::weights::Gguf;
use crate::weights::refusal::{Code, Malformed, Warnings, begin};

/// A vocabulary with its rules, checked.
#[derive(Clone, Debug)]
pub struct Facts {
    kind: &'static str,
    tokens: Tokens,
    policy: Policy,
    warnings: Warnings,
}

impl Facts {
    pub(super) fn new(
        kind: &'static str,
        tokens: Tokens,
        policy: Policy,
        template: Option<String>,
        mut warnings: Warnings,
    ) -> Facts {
        if template.is_some_and(|t| chat::Template::known(&t).is_none()) {
            let names = chat::Template::ALL.map(chat::Template::name).join(", ");
            warnings.add(format!("the chat template is not run: it is none of {names}"));
        }
        Facts { kind, tokens, policy, warnings }
    }

    /// Checks a tokenizer.json and the files beside it.
    ///
    /// # Errors
    /// The first rule that they break.
    pub fn of_json(path: &Path) -> Result<Facts, Malformed> {
        hf::facts(path)
    }

    /// Checks the vocabulary of an open GGUF file; `None` where it has none.
    ///
    /// # Errors
    /// The first rule that it breaks, at the byte where its field begins.
    pub fn of_gguf(gguf: &Gguf) -> Result<Option<Facts>, Malformed> {
        if gguf.metadata().get("tokenizer.ggml.model").is_none() {
            return Ok(None);
        }
        let of = || Facts::of_vocabulary(Vocabulary::of_gguf(gguf)?);
        of().map(Some).map_err(|refused| placed(gguf, refused))
    }

    /// Checks a vocabulary of a GGUF file.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn of_vocabulary(vocabulary: Vocabulary) -> Result<Facts, Malformed> {
        gguf::facts(vocabulary)
    }

    /// Whether a refusal only says that this kind of tokenizer is not offered: the files may be
    /// good, and the model that they belong to as well.
    pub fn not_offered(refused: &Malformed) -> bool {
        matches!(
            refused.code,
            Code::Decoder | Code::Model | Code::Normalizer | Code::Pretok | Code::RegexUnsafe
        )
    }

    /// `hf-json` or `gguf-bpe`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.tokens.kinds.len()
    }

    /// Never: a vocabulary without tokens is refused.
    pub fn is_empty(&self) -> bool {
        self.tokens.kinds.is_empty()
    }

    /// How many tokens steer the model.
    pub fn control(&self) -> usize {
        self.tokens.kinds.iter().filter(|kind| **kind == Kind::Control).count()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.policy.bos
    }

    /// Every token that ends a generation.
    pub fn eos(&self) -> &[u32] {
        &self.policy.eos
    }

    /// What is odd and legal.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Holds the vocabulary against the rows of the model's embedding. Models may have more rows
    /// than tokens (Qwen2 has), never fewer.
    ///
    /// # Errors
    /// `VOCAB_SIZE` with both figures.
    pub fn fits(&self, rows: usize, file: &Path) -> Result<(), Malformed> {
        if self.len() <= rows {
            return Ok(());
        }
        let (found, expected) = (self.len().to_string(), format!("at most {rows} rows"));
        Err(Malformed::new(Code::VocabSize, file, "tokens", &found, &expected))
    }

    /// Holds two vocabularies of one model against each other. A GGUF file may fill ids that have
    /// no token, up to the rows of the embedding, with texts that begin with `[PAD`.
    ///
    /// # Errors
    /// `VOCAB_DIFF` with the first five ids that differ.
    pub fn same(&self, other: &Facts, file: &Path) -> Result<(), Malformed> {
        let filler = |text: Option<&[u8]>| text.is_some_and(|t| t.starts_with(b"[PAD"));
        let ids = 0..u32::try_from(self.len().max(other.len())).unwrap_or(u32::MAX);
        let differs = |id: &u32| match (self.tokens.get(*id), other.tokens.get(*id)) {
            (None, text) | (text, None) => text.is_some() && !filler(text),
            (own, theirs) => own != theirs,
        };
        let first: Vec<u32> = ids.filter(differs).take(5).collect();
        if first.is_empty() {
            return Ok(());
        }
        let text = |t: &Facts, id: u32| match t.tokens.get(id) {
            Some(bytes) => format!("{:?}", begin(&String::from_utf8_lossy(bytes))),
            None => "none".to_owned(),
        };
        let list = |t: &Facts| {
            let each: Vec<String> = first.iter().map(|i| format!("{i}: {}", text(t, *i))).collect();
            each.join(", ")
        };
        Err(Malformed::new(Code::VocabDiff, file, "tokens", list(self), list(other)))
    }
}
