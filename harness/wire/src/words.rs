//! Words that fields of several calls take.

use std::str::FromStr;

/// Codes of refused files and kinds of refusal: the lists that docs/wire.md closes.
pub use goldgate_tensor::{Code, RefusalKind};

/// How special tokens are treated where one word says it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// None is added, and what looks like one is text.
    #[default]
    None,
    /// The model's policy adds them at the ends; what looks like one is text.
    Add,
    /// None is added; those written in the text are taken as such.
    Parse,
}

impl Special {
    /// The three, in the order of their names.
    pub const ALL: [Special; 3] = [Special::Add, Special::None, Special::Parse];

    /// As specs and the command line spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Special::Add => "add",
            Special::None => "none",
            Special::Parse => "parse",
        }
    }

    /// `add_special` and `parse_special`.
    pub const fn flags(self) -> (bool, bool) {
        (matches!(self, Special::Add), matches!(self, Special::Parse))
    }
}

/// A word that a field does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no word of this field")]
pub struct UnknownWord(pub String);

macro_rules! words {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),* }

        impl $name {
            /// Every word, in the order of docs/wire.md.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// As the wire spells it.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<$name, UnknownWord> {
                let found = $name::ALL.iter().copied().find(|w| w.name() == word);
                found.ok_or_else(|| UnknownWord(word.to_owned()))
            }
        }
    };
}

words! {
    /// What runs while slots of a model are kept.
    #[derive(Default)]
    TraceMode {
        /// What runs without: fused steps hide their inner slots.
        #[default]
        AsRun "as_run",
        /// Every slot that is traced is forced to exist.
        Unfused "unfused",
        /// As it runs, and each step is also held to its own definition on its own operands.
        Local "local",
    }
}

words! {
    /// Whether steps of a model are fused.
    Fusion {
        /// They are, as far as rewrites reach.
        Fused "fused",
        /// They run one by one.
        Plain "plain",
    }
}

words! {
    /// How the ends of YaRN's ramp are taken.
    YarnRamp {
        /// As the reference does: as they come.
        Reference "reference",
        /// Rounded to whole dimensions.
        Rounded "rounded",
    }
}

words! {
    /// How the tokens of a call are run.
    Phase {
        /// As a part of a prompt.
        Prefill "prefill",
        /// As a step of generation.
        Decode "decode",
    }
}

words! {
    /// How rows of logits are given.
    #[derive(Default)]
    Logits {
        /// Not at all.
        #[default]
        None "none",
        /// The last token's row.
        Last "last",
        /// Whole rows.
        All "all",
        /// The most likely tokens with their log-probabilities, and what is left.
        Compact "compact",
    }
}

words! {
    /// Why a text ended.
    Stop {
        /// A token that ends texts was chosen.
        Eos "eos",
        /// The text holds one of the texts that end it.
        Stop "stop",
        /// It has as many tokens as it may have.
        Length "length",
        /// Prompt and text together fill the context.
        Context "context",
    }
}
