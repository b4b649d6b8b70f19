//! Planted faults: our tokenizer is asked another text, by another rule, or with another
//! vocabulary, and the case must notice.

use std::path::Path;

use goldgate_engine::tokenizer::gguf::Vocabulary;
use goldgate_engine::tokenizer::split::Split;
use goldgate_engine::tokenizer::{Special, Tokenizer};
use goldgate_engine::weights::Gguf;
use schemars::JsonSchema;

use crate::mutate::Fate;
use crate::spec::read::Reader;
use crate::spec::yaml::Node;
use crate::tokens::TokenCase;
use crate::tokens::judge::{Answer, judge};

/// Another question about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TokensEdit {
    /// Special tokens treated another way.
    #[schemars(with = "Option<String>")]
    pub special: Option<Special>,
    /// Another text.
    #[schemars(with = "Option<String>")]
    pub text: Option<TextEdit>,
    /// Another vocabulary; only in GGUF form.
    #[schemars(with = "Option<String>")]
    pub vocabulary: Option<VocabularyEdit>,
    /// Another way back.
    #[schemars(with = "Option<String>")]
    pub back: Option<BackEdit>,
}

/// What becomes of the text before it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEdit {
    /// A space before it.
    LeadingSpace,
    /// U+FFFD for bytes that are no text.
    Lossy,
    /// Several spaces as one.
    Squeezed,
    /// Carriage returns left out.
    WithoutReturns,
}

/// What becomes of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyEdit {
    /// The beginning of a text twice.
    BosTwice,
    /// The last merge first.
    MergesReversed,
    /// Cut by another pattern.
    Pre(Split),
}

/// What becomes of the text on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEdit {
    /// Each token by itself, U+FFFD for what is no text alone.
    Lossy,
    /// Several spaces as one.
    Squeezed,
    /// Without the control characters.
    WithoutControls,
}

/// Reads a fault.
pub fn tokens_edit(r: &Reader<'_>, node: &Node, path: &str) -> Option<TokensEdit> {
    let special = Special::ALL.map(|s| (s.name(), s));
    let text = [
        ("leading_space", TextEdit::LeadingSpace),
        ("lossy", TextEdit::Lossy),
        ("squeezed", TextEdit::Squeezed),
        ("without_returns", TextEdit::WithoutReturns),
    ];
    let mut vocabulary = vec![
        ("bos_twice", VocabularyEdit::BosTwice),
        ("merges_reversed", VocabularyEdit::MergesReversed),
    ];
    vocabulary.extend(Split::ALL.map(|s| (s.name(), VocabularyEdit::Pre(s))));
    let back = [
        ("lossy", BackEdit::Lossy),
        ("squeezed", BackEdit::Squeezed),
        ("without_controls", BackEdit::WithoutControls),
    ];
    let mut f = r.fields(node, path)?;
    let edit = TokensEdit {
        special: f.may("special", |r, n, p| r.word(n, p, &special)),
        text: f.may("text", |r, n, p| r.word(n, p, &text)),
        vocabulary: f.may("vocabulary", |r, n, p| r.word(n, p, &vocabulary)),
        back: f.may("back", |r, n, p| r.word(n, p, &back)),
    };
    f.done();
    if edit == TokensEdit::default() {
        r.note(node, "MISSING_FIELD", path, "one change at least");
    }
    Some(edit)
}

/// Plants a fault and asks the case.
pub fn try_on(case: &TokenCase, golden: &Path, edit: &TokensEdit) -> Fate {
    let file = golden.join(&case.path);
    let right = answers(case, &file, &TokensEdit::default());
    let wrong = right.and_then(|right| {
        let wrong = answers(case, &file, edit)?;
        match wrong == right {
            true => Err("the edit changes nothing".to_owned()),
            false => Ok(wrong),
        }
    });
    match wrong.map(|wrong| judge(case, &wrong)) {
        Err(why) => Fate::Survived { why: format!("{}: {why}", case.variant) },
        Ok(None) => Fate::Survived { why: format!("{}: it passes", case.variant) },
        Ok(Some(_)) => Fate::Killed { variant: case.variant.clone(), by: "bits".to_owned() },
    }
}

/// What our tokenizer says under an edit.
fn answers(case: &TokenCase, file: &Path, edit: &TokensEdit) -> Result<Vec<Answer>, String> {
    let tokenizer = tokenizer(file, edit.vocabulary)?;
    let (add, parse) = edit.special.unwrap_or(case.special).flags();
    let mut answers = Vec::new();
    for vector in &case.vectors {
        let text = edit.text.map_or_else(|| vector.bytes.clone(), |e| edited(e, &vector.bytes));
        let ids = tokenizer.encode(&text, add, parse).map_err(|e| e.to_string())?;
        let text = tokenizer.decode(&vector.ids, false).map_err(|e| e.to_string())?;
        let mut stream = (Vec::new(), Vec::new());
        let mut decoder = tokenizer.stream_of(false);
        for id in &vector.ids {
            let piece = match edit.back {
                Some(BackEdit::Lossy) => {
                    let alone = tokenizer.decode(&[*id], false).map_err(|e| e.to_string())?;
                    String::from_utf8_lossy(&alone).into_owned().into_bytes()
                }
                _ => decoder.push(*id).map_err(|e| e.to_string())?,
            };
            stream.0.extend(piece);
            stream.1.push(i64::try_from(stream.0.len()).unwrap_or(i64::MAX));
        }
        stream.0.extend(decoder.finish());
        let text = edit.back.map_or_else(|| text.clone(), |back| returned(back, &text));
        answers.push(Answer { ids: ids.into_iter().map(i64::from).collect(), text, stream });
    }
    Ok(answers)
}

fn tokenizer(file: &Path, edit: Option<VocabularyEdit>) -> Result<Tokenizer, String> {
    let Some(edit) = edit else { return Tokenizer::open(file).map_err(|e| e.to_string()) };
    let gguf = Gguf::open(file).map_err(|_| "another vocabulary wants the GGUF form".to_owned())?;
    let mut vocabulary = Vocabulary::of_gguf(&gguf).map_err(|e| e.to_string())?;
    match edit {
        VocabularyEdit::BosTwice => {
            // An end that is the beginning stands at the wrong side, and once too often.
            let bos = vocabulary.special.iter().find(|(name, _)| name == "bos").map(|(_, id)| *id);
            let bos = bos.ok_or("the vocabulary has no beginning of text")?;
            vocabulary.special.retain(|(name, _)| name != "eos");
            vocabulary.special.push(("eos".to_owned(), bos));
            vocabulary.add_eos = Some(true);
        }
        VocabularyEdit::MergesReversed => {
            let mut merges: Vec<Vec<u8>> = vocabulary.merges.iter().map(<[u8]>::to_vec).collect();
            merges.reverse();
            vocabulary.merges = merges.into_iter().collect();
        }
        VocabularyEdit::Pre(split) => vocabulary.pre = Some(split.name().to_owned()),
    }
    Tokenizer::of_vocabulary(vocabulary).map_err(|e| e.to_string())
}

fn edited(edit: TextEdit, bytes: &[u8]) -> Vec<u8> {
    match edit {
        TextEdit::LeadingSpace => [b" ", bytes].concat(),
        TextEdit::Lossy => String::from_utf8_lossy(bytes).into_owned().into_bytes(),
        TextEdit::Squeezed => squeezed(bytes),
        TextEdit::WithoutReturns => bytes.iter().copied().filter(|b| *b != b'\r').collect(),
    }
}

fn returned(edit: BackEdit, text: &[u8]) -> Vec<u8> {
    match edit {
        BackEdit::Lossy => text.to_vec(),
        BackEdit::Squeezed => squeezed(text),
        BackEdit::WithoutControls => {
            text.iter().copied().filter(|b| !b.is_ascii_control()).collect()
        }
    }
}

fn squeezed(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = bytes.to_vec();
    out.dedup_by(|b, a| *a == b' ' && *b == b' ');
    out
}
