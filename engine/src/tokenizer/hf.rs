//! tokenizer.json, read by the library `tokenizers` once it has passed our own check.
//!
//! The library gets what the check has understood and nothing else: a vocabulary, merges, a known
//! pattern. Added tokens, templates, decoding and bytes that are no text stay on our side, so that
//! no file can reach those parts of the library that panic or abort.

mod beside;
mod check;
mod refuse;
mod steps;

use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split as SplitStep, SplitPattern};
use tokenizers::tokenizer::{Model, SplitDelimiterBehavior};
use unicode_normalization::UnicodeNormalization;

use crate::tokenizer::facts::Facts;
use crate::tokenizer::split::Split;
use crate::tokenizer::{Fault, Tokenizer, Tokens, Words, alphabet, gguf};
use crate::weights::refusal::{Code, Malformed};

/// Bytes that a tokenizer.json may have; the largest published ones have a third of it.
const LARGEST: u64 = 64 << 20;

/// White space in a row from which on the library's regular expressions give up without a word
/// (at a million); longer runs are cut by our own splitter, which has no such end.
const LONG_RUN: usize = 1 << 17;

/// The library with one vocabulary.
pub(super) struct Library {
    inner: tokenizers::Tokenizer,
    split: Split,
    nfc: bool,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("split", &self.split).field("nfc", &self.nfc).finish()
    }
}

/// A checked file, and the chat template.
fn read(path: &Path) -> Result<(check::Parts, Option<String>), Malformed> {
    let bytes = beside::read(path, LARGEST)?;
    let mut parts = check::parts(&bytes, path)?;
    drop(bytes);
    let template = beside::settle(path, &mut parts)?;
    Ok((parts, template))
}

/// Opens a tokenizer.json.
pub(super) fn open(path: &Path) -> Result<Tokenizer, Malformed> {
    let (mut parts, template) = read(path)?;
    let inner = library(&mut parts, path)?;
    let library = Library { inner, split: parts.split, nfc: parts.nfc };
    let tokens = Tokens { bytes: gguf::spelled(&parts.texts, &parts.kinds), kinds: parts.kinds };
    let words = Words::Hf(Box::new(library));
    Ok(Tokenizer::new(tokens, words, parts.marks, parts.policy, template))
}

/// Checks a tokenizer.json and the files beside it, as [`open`] does before the library hears of
/// them.
pub(super) fn facts(path: &Path) -> Result<Facts, Malformed> {
    let (parts, template) = read(path)?;
    let tokens = Tokens { bytes: gguf::spelled(&parts.texts, &parts.kinds), kinds: parts.kinds };
    Ok(Facts::new("hf-json", tokens, parts.policy, template, parts.warnings))
}

fn library(parts: &mut check::Parts, file: &Path) -> Result<tokenizers::Tokenizer, Malformed> {
    let failed = |step: &str, error: &dyn std::fmt::Display| {
        Malformed::new(Code::Model, file, step, error.to_string(), "what tokenizers 0.23 takes")
    };
    let text = |id: u32| String::from_utf8_lossy(parts.texts.get(id as usize)).into_owned();
    let vocabulary: Vocab = parts.words.iter().map(|id| (text(*id), *id)).collect();
    let merges = std::mem::take(&mut parts.merges);
    let merges = merges.iter().map(|[left, right]| (text(*left), text(*right))).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(parts.ignore_merges)
        .build()
        .map_err(|e| failed("model", &e))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    if parts.nfc {
        inner.with_normalizer(Some(NFC)).map_err(|e| failed("normalizer", &e))?;
    }
    let pattern = SplitPattern::Regex(parts.split.pattern());
    let split = SplitStep::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| failed("pre_tokenizer", &e))?;
    let steps = vec![split.into(), ByteLevel::new(false, true, false).into()];
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(inner)
}

impl Library {
    /// Ids of a text without markup.
    pub(super) fn text(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Fault> {
        if longest_space(text) < LONG_RUN {
            let encoding = self.inner.encode_fast(text, false).map_err(|e| gave_up(text, &e))?;
            ids.extend_from_slice(encoding.get_ids());
            return Ok(());
        }
        let composed: String = if self.nfc { text.nfc().collect() } else { text.to_owned() };
        let mut start = 0;
        for end in self.split.ends(&composed) {
            self.piece(&composed.as_bytes()[start..end], ids)?;
            start = end;
        }
        Ok(())
    }

    /// Ids of one piece.
    pub(super) fn piece(&self, bytes: &[u8], ids: &mut Vec<u32>) -> Result<(), Fault> {
        let spelled = alphabet::spell(bytes);
        let tokens =
            self.inner.get_model().tokenize(&spelled).map_err(|e| gave_up(&spelled, &e))?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

fn gave_up(text: &str, error: &tokenizers::Error) -> Fault {
    Fault::Library { bytes: text.len(), reason: error.to_string() }
}

/// Characters of the longest run of white space.
fn longest_space(text: &str) -> usize {
    let (mut run, mut longest) = (0, 0);
    for letter in text.chars() {
        run = if letter.is_whitespace() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests;
