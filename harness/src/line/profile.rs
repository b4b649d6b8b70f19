//! Profiles: which part of the trials the verdict on a gate covers.

use serde::{Deserialize, Serialize};

/// What an engine is measured by. A verdict names its profile, and covers nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Everything.
    Full,
    /// Ops: kernels by themselves.
    Kernels,
    /// Model files, which must be opened or refused.
    Files,
    /// Text to ids, and back.
    Tokenizer,
    /// Logits and perplexity of whole models.
    Logits,
    /// Texts that models generate.
    Text,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 6] = [
        Profile::Full,
        Profile::Kernels,
        Profile::Files,
        Profile::Tokenizer,
        Profile::Logits,
        Profile::Text,
    ];

    /// The word on command lines and in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Profile::Full => "full",
            Profile::Kernels => "kernels",
            Profile::Files => "files",
            Profile::Tokenizer => "tokenizer",
            Profile::Logits => "logits",
            Profile::Text => "text",
        }
    }

    /// The profile of that name.
    pub fn find(word: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.word() == word)
    }

    /// Whether it covers trials of a kind, as reports name kinds.
    pub fn covers(self, kind: &str) -> bool {
        match self {
            Profile::Full => true,
            Profile::Kernels => matches!(kind, "op" | "bench" | "self"),
            Profile::Files => kind == "container",
            Profile::Tokenizer => kind == "tokenizer",
            Profile::Logits => matches!(kind, "logits" | "perplexity"),
            Profile::Text => matches!(kind, "generation" | "draws"),
        }
    }
}
