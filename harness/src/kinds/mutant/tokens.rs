//! A fault in a question about texts, or in its answer.

use goldgate_engine::tokenizer::split::Split;
use goldgate_wire::Special;
use schemars::JsonSchema;

use crate::yaml::read::Reader;
use crate::yaml::tree::Node;

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
