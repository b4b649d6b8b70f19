//! Words that several calls use as values of fields.

use std::str::FromStr;

/// The codes of refused files and the kinds of refusal: the closed lists of docs/wire.md.
pub use goldgate_tensor::{Code, RefusalKind};

/// How special tokens are treated, as a single word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// None is added, and text that looks like one is plain text.
    #[default]
    None,
    /// The model's policy adds them at the ends; text that looks like one is plain text.
    Add,
    /// None is added; those written in the text are recognised.
    Parse,
}

impl Special {
    /// All three, in the order of their names.
    pub const ALL: [Special; 3] = [Special::Add, Special::None, Special::Parse];

    /// The word in specs and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Special::Add => "add",
            Special::None => "none",
            Special::Parse => "parse",
        }
    }

    /// The flags `add_special` and `parse_special`.
    pub const fn flags(self) -> (bool, bool) {
        (matches!(self, Special::Add), matches!(self, Special::Parse))
    }
}

/// A word that is not allowed in a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no word of this field")]
pub struct UnknownWord(pub String);

// One list per type, so that writing and reading a word cannot disagree.
macro_rules! words {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),* }

        impl $name {
            /// All words, in the order of docs/wire.md.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word on the wire.
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
    /// What is executed while slots of a model are kept.
    #[derive(Default)]
    TraceMode {
        /// The normal execution: fused steps hide their inner slots.
        #[default]
        AsRun "as_run",
        /// Every traced slot is forced to exist.
        Unfused "unfused",
        /// The normal execution, and each step is also compared with its own definition on its own
        /// operands.
        Local "local",
    }
}

words! {
    /// Whether the steps of a model are fused.
    Fusion {
        /// Fused, as far as the rewrites apply.
        Fused "fused",
        /// Executed one by one.
        Plain "plain",
    }
}

words! {
    /// How the ends of YaRN's ramp are computed.
    YarnRamp {
        /// As in the reference, without rounding.
        Reference "reference",
        /// Rounded to whole dimensions.
        Rounded "rounded",
    }
}

words! {
    /// How the tokens of a call are run.
    Phase {
        /// As part of a prompt.
        Prefill "prefill",
        /// As a step of generation.
        Decode "decode",
    }
}

words! {
    /// How rows of logits are returned.
    #[derive(Default)]
    Logits {
        /// Not at all.
        #[default]
        None "none",
        /// Only the row of the last token.
        Last "last",
        /// Whole rows.
        All "all",
        /// The most likely tokens with their log-probabilities, and a summary of the rest.
        Compact "compact",
    }
}

words! {
    /// Why a text ended.
    Stop {
        /// A token that ends texts was chosen.
        Eos "eos",
        /// The text contains one of the texts that end it.
        Stop "stop",
        /// It has reached its maximal number of tokens.
        Length "length",
        /// Prompt and text together fill the context.
        Context "context",
    }
}

words! {
    /// A kind of determinism that a subject may claim: the same question has the same bits.
    Claim {
        /// Asked again in the same process.
        Run "run",
        /// Asked of another process on the same device.
        Process "process",
        /// Whatever shares the call: a row among other rows, a sequence among others.
        Batch "batch",
        /// However a prompt is cut into calls.
        Chunk "chunk",
        /// Behind a prefix that another session has computed.
        Prefix "prefix",
    }
}

words! {
    /// What a subject does with texts.
    Texts {
        /// Text to ids.
        Encode "encode",
        /// Ids to text.
        Decode "decode",
        /// Ids to text, handed out piece by piece.
        Stream "stream",
    }
}
