//! The vocabulary of a GGUF file: byte-level BPE of our own.
//!
//! A pre-tokenizer is taken by its name and by the pattern that its publisher wrote; one that is
//! not known is refused by name, since a nearly right one gives nearly right ids.

mod read;

use std::path::{Path, PathBuf};

use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::tokenizer::bpe::Merges;
use crate::tokenizer::facts::Facts;
use crate::tokenizer::markup::Mark;
use crate::tokenizer::split::Split;
use crate::tokenizer::texts::{Order, Texts};
use crate::tokenizer::{Bytes, Kind, Policy, Tokenizer, Tokens, Words, alphabet};
use crate::weights::refusal::{Code, Malformed, Warnings};

/// What the metadata under `tokenizer.` says.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// The file, for refusals.
    pub file: PathBuf,
    /// `tokenizer.ggml.model`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Texts,
    /// `tokenizer.ggml.token_type`, by id.
    pub token_types: Option<Vec<i64>>,
    /// Length of `tokenizer.ggml.scores`.
    pub scores: Option<usize>,
    /// `tokenizer.ggml.merges`, by rank.
    pub merges: Texts,
    /// `tokenizer.ggml.<name>_token_id` by name: `bos`, `eos`, `eot`, `eom`, `unknown`, `padding`.
    pub special: Vec<(String, u64)>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// Control tokens that end a generation wherever a vocabulary has them: files name only one.
const ENDS: &[&str] = &[
    "<|call|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
];

/// A vocabulary, checked, and what makes ids of it.
struct Checked {
    split: Split,
    kinds: Vec<Kind>,
    policy: Policy,
    letters: [u32; 256],
    /// Ids of left, right and whole, by rank.
    merges: Vec<(u32, u32, u32)>,
}

/// Checks a vocabulary and builds its tokenizer.
pub(super) fn build(v: Vocabulary) -> Result<Tokenizer, Malformed> {
    let Checked { split, kinds, policy, letters, merges } = check(&v)?;
    let marks = marks(&v.tokens, &kinds);
    let tokens = Tokens { bytes: spelled(&v.tokens, &kinds), kinds };
    let whole = (split == Split::LlamaBpe).then(|| whole_pieces(&tokens));
    let nfc = split == Split::Qwen2;
    let words = Bytes { split, nfc, letters, merges: Merges::new(merges), whole };
    let words = Words::Gguf(Box::new(words));
    Ok(Tokenizer::new(tokens, words, marks, policy, v.chat_template))
}

/// Checks a vocabulary, and builds nothing.
pub(super) fn facts(v: Vocabulary) -> Result<Facts, Malformed> {
    let Checked { kinds, policy, .. } = check(&v)?;
    let tokens = Tokens { bytes: spelled(&v.tokens, &kinds), kinds };
    Ok(Facts::new("gguf-bpe", tokens, policy, v.chat_template, Warnings::default()))
}

/// Every rule, those that hold for any model of tokens first: what is broken is said before what
/// is not offered.
fn check(v: &Vocabulary) -> Result<Checked, Malformed> {
    let file = v.file.clone();
    let no = |code, field: &str, found: &str, expected: &str| {
        Err(Malformed::new(code, &file, format!("tokenizer.ggml.{field}"), found, expected))
    };
    if v.tokens.is_empty() {
        return no(Code::VocabEmpty, "tokens", "none", "at least 256");
    }
    lengths(v)?;
    let kinds = kinds(v)?;
    if v.model != "gpt2" {
        return no(Code::Model, "model", &v.model, "gpt2, which is byte-level BPE");
    }
    let named = |name: &String| Split::ALL.into_iter().find(|s| s.name() == name.as_str());
    let Some(split) = v.pre.as_ref().and_then(named) else {
        let names = Split::ALL.map(Split::name).join(", ");
        let found = v.pre.as_deref().unwrap_or("none");
        return no(Code::Pretok, "pre", found, &format!("one of {names}"));
    };
    let order = v.tokens.order();
    if let Some((first, second)) = order.twice(&v.tokens) {
        let text = String::from_utf8_lossy(v.tokens.get(first as usize));
        let found = format!("{text} as {first} and as {second}");
        return no(Code::VocabDup, "tokens", &found, "each token once");
    }
    let letters = letters(&file, &v.tokens, &order)?;
    let merges = merges(v, &order)?;
    let policy = policy(v, split, &kinds, &order)?;
    Ok(Checked { split, kinds, policy, letters, merges })
}

/// Lists by id have one length.
fn lengths(v: &Vocabulary) -> Result<(), Malformed> {
    let types = v.token_types.as_ref().map(Vec::len);
    for (name, len) in [("token_type", types), ("scores", v.scores)] {
        let tokens = v.tokens.len();
        if len.is_some_and(|len| len != tokens) {
            return Err(Malformed::new(
                Code::VocabLen,
                &v.file,
                format!("tokenizer.ggml.{name}"),
                len.unwrap_or_default().to_string(),
                format!("{tokens}, as many as tokens"),
            ));
        }
    }
    for (name, id) in &v.special {
        if *id >= v.tokens.len() as u64 {
            return Err(Malformed::new(
                Code::VocabId,
                &v.file,
                format!("tokenizer.ggml.{name}_token_id"),
                id.to_string(),
                format!("an id below {}", v.tokens.len()),
            ));
        }
    }
    Ok(())
}

/// `llama_token_type`, and the tokens that stand for bytes.
fn kinds(v: &Vocabulary) -> Result<Vec<Kind>, Malformed> {
    let no = |code, field: String, found: &str, expected: &str| {
        Err(Malformed::new(code, &v.file, format!("tokenizer.ggml.{field}"), found, expected))
    };
    let mut kinds = Vec::with_capacity(v.tokens.len());
    let mut bytes = [false; 256];
    for (id, text) in v.tokens.iter().enumerate() {
        if text.is_empty() {
            return no(Code::VocabToken, format!("tokens[{id}]"), "no text", "a text");
        }
        kinds.push(match v.token_types.as_ref().map_or(1, |types| types[id]) {
            1 | 5 => Kind::Normal,
            2 | 3 => Kind::Control,
            4 => Kind::Own,
            6 => {
                let Some(byte) = byte_token(text) else {
                    let found = String::from_utf8_lossy(text);
                    return no(
                        Code::VocabByte,
                        format!("tokens[{id}]"),
                        &found,
                        "<0x00> to <0xFF>",
                    );
                };
                bytes[usize::from(byte)] = true;
                Kind::Normal
            }
            other => {
                let found = other.to_string();
                return no(Code::VocabType, format!("token_type[{id}]"), &found, "1 to 6");
            }
        });
    }
    let missing = (0u8..=255).find(|b| !bytes[usize::from(*b)]);
    match missing.filter(|_| bytes.contains(&true)) {
        Some(byte) => {
            let found = format!("no <0x{byte:02X}>");
            no(Code::VocabByte, "tokens".to_owned(), &found, "all of <0x00> to <0xFF>, or none")
        }
        None => Ok(kinds),
    }
}

/// The byte of `<0x41>`.
pub(super) fn byte_token(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let whole = digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
    whole.then(|| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()).flatten()
}

/// The id of every byte's letter.
pub(super) fn letters(file: &Path, tokens: &Texts, order: &Order) -> Result<[u32; 256], Malformed> {
    let mut letters = [0; 256];
    let mut missing = Vec::new();
    for (slot, byte) in letters.iter_mut().zip(0u8..=255) {
        let mut letter = [0; 4];
        let letter = alphabet::letter(byte).encode_utf8(&mut letter);
        match order.find(tokens, letter.as_bytes()) {
            Some(id) => *slot = id,
            None => missing.push(format!("0x{byte:02x}")),
        }
    }
    if missing.is_empty() {
        return Ok(letters);
    }
    let found = format!("no token for {} of 256 bytes: {}", missing.len(), missing.join(" "));
    Err(Malformed::new(Code::ByteAlphabet, file, "tokens", &found, "a token for every byte"))
}

/// Merges as ids of left, right and whole.
fn merges(v: &Vocabulary, order: &Order) -> Result<Vec<(u32, u32, u32)>, Malformed> {
    let mut ranked = Vec::with_capacity(v.merges.len());
    let mut whole = Vec::new();
    for (rank, line) in v.merges.iter().enumerate() {
        let no = |expected: &str| {
            let field = format!("tokenizer.ggml.merges[{rank}]");
            let found = String::from_utf8_lossy(line);
            Err(Malformed::new(Code::Merge, &v.file, &field, &found, expected))
        };
        let mut parts = line.split(|b| *b == b' ');
        let (Some(left), Some(right), None) = (parts.next(), parts.next(), parts.next()) else {
            return no("two tokens with one space between");
        };
        whole.clear();
        whole.extend_from_slice(left);
        whole.extend_from_slice(right);
        let id = |text: &[u8]| order.find(&v.tokens, text);
        let (Some(left), Some(right)) = (id(left), id(right)) else {
            return no("two tokens of the vocabulary");
        };
        let Some(whole) = id(&whole) else {
            return no("two tokens whose whole is one too");
        };
        ranked.push((left, right, whole));
    }
    Ok(ranked)
}

fn policy(
    v: &Vocabulary,
    split: Split,
    kinds: &[Kind],
    order: &Order,
) -> Result<Policy, Malformed> {
    let named = |name: &str| {
        let (_, id) = v.special.iter().find(|(n, _)| n == name)?;
        u32::try_from(*id).ok()
    };
    let mut eos: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(named).collect();
    let known = ENDS.iter().filter_map(|text| order.find(&v.tokens, text.as_bytes()));
    eos.extend(known.filter(|id| kinds[*id as usize] == Kind::Control));
    let mut seen = Vec::new();
    eos.retain(|id| {
        !seen.contains(id) && {
            seen.push(*id);
            true
        }
    });
    // Llama 3 begins every text with its token, also where a file does not say so.
    let add_bos = v.add_bos.unwrap_or(split == Split::LlamaBpe && named("bos").is_some());
    let end = |wanted: bool, name: &str| match (wanted, named(name)) {
        (false, _) => Ok(Vec::new()),
        (true, Some(id)) => Ok(vec![id]),
        (true, None) => Err(Malformed::new(
            Code::BosPolicy,
            &v.file,
            format!("tokenizer.ggml.add_{name}_token"),
            "true",
            format!("tokenizer.ggml.{name}_token_id beside it"),
        )),
    };
    Ok(Policy {
        before: end(add_bos, "bos")?,
        after: end(v.add_eos.unwrap_or(false), "eos")?,
        bos: named("bos"),
        eos,
    })
}

/// Control tokens and the publisher's own.
fn marks(tokens: &Texts, kinds: &[Kind]) -> Vec<Mark> {
    let marked = |kind: &Kind| matches!(kind, Kind::Control | Kind::Own);
    let ids = (0u32..).zip(kinds).filter(|(_, kind)| marked(kind));
    ids.map(|(id, kind)| Mark {
        id,
        text: tokens.get(id as usize).to_vec(),
        takes_left: false,
        takes_right: false,
        control: *kind == Kind::Control,
    })
    .collect()
}

/// Normal tokens as the bytes that their letters stand for; the others as written.
pub(super) fn spelled(tokens: &Texts, kinds: &[Kind]) -> Texts {
    let mut bytes = Vec::new();
    let each = tokens.iter().zip(kinds).map(|(text, kind)| {
        bytes.clear();
        match (kind, byte_token(text), std::str::from_utf8(text)) {
            (Kind::Normal, Some(byte), _) => bytes.push(byte),
            (Kind::Normal, None, Ok(text)) => alphabet::bytes(text, &mut bytes),
            _ => bytes.extend_from_slice(text),
        }
        bytes.clone()
    });
    each.collect()
}

/// Normal tokens by their bytes.
fn whole_pieces(tokens: &Tokens) -> Order {
    let mut order = tokens.bytes.order();
    order.retain(|id| tokens.kinds[id as usize] == Kind::Normal);
    order
}

impl Bytes {
    /// Ids of a text without markup.
    pub(super) fn text(&self, text: &str, tokens: &Tokens, ids: &mut Vec<u32>) {
        if self.nfc && !is_nfc(text) {
            let composed: String = text.nfc().collect();
            return self.pieces(&composed, tokens, ids);
        }
        self.pieces(text, tokens, ids);
    }

    fn pieces(&self, text: &str, tokens: &Tokens, ids: &mut Vec<u32>) {
        let mut start = 0;
        for end in self.split.ends(text) {
            self.piece(&text.as_bytes()[start..end], tokens, ids);
            start = end;
        }
    }

    /// Ids of one piece.
    pub(super) fn piece(&self, piece: &[u8], tokens: &Tokens, ids: &mut Vec<u32>) {
        let whole = self.whole.as_ref().and_then(|order| order.find(&tokens.bytes, piece));
        match whole {
            Some(id) => ids.push(id),
            None => self.merges.apply(piece.iter().map(|b| self.letters[usize::from(*b)]), ids),
        }
    }
}
