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

/// How the text is changed before it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEdit {
    /// A space is put before it.
    LeadingSpace,
    /// Bytes that are not text become U+FFFD.
    Lossy,
    /// Several spaces become one.
    Squeezed,
    /// Carriage returns are removed.
    WithoutReturns,
}

/// How the vocabulary is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyEdit {
    /// The token that begins a text is added twice.
    BosTwice,
    /// The merges are in reverse order.
    MergesReversed,
    /// Texts are split by another pattern.
    Pre(Split),
}

/// How the text is changed on its way back from ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEdit {
    /// Each token is decoded on its own, and bytes that are not text by themselves become U+FFFD.
    Lossy,
    /// Several spaces become one.
    Squeezed,
    /// Control characters are removed.
    WithoutControls,
}

/// Reads an edit of a question about texts.
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
    // By the engine's own list, so that each pre-tokenizer that it gains can be planted at once.
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
    // Without a change the right answer would count as a survivor.
    if edit == TokensEdit::default() {
        r.note(node, "MISSING_FIELD", path, "one change at least");
    }
    Some(edit)
}
