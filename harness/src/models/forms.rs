//! The written forms of a model's cases, for the JSON Schema.

use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::spec::forms;

macro_rules! case_schema {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub struct $name {
            /// Its name, once in the file.
            pub name: forms::Id,
            /// Why the case exists.
            pub why: String,
            /// Another gate than the file's, a later one.
            pub gate: Option<u8>,
            /// The forms that are asked; without it all.
            pub files: Option<Vec<String>>,
            /// Types of activations, a row each; without it the subject's own.
            pub activations: Option<Vec<forms::Activation>>,
            /// Left out of `cargo test`.
            pub slow: Option<bool>,
            /// Longest that one call may take, in seconds.
            pub timeout_s: Option<u32>,
            $($(#[$field_doc])* pub $field: $type,)*
        }
    };
}

case_schema! {
    /// A model is loaded, or refused.
    LoadSpec {
        /// Another path than the form's, below golden/.
        path: Option<String>,
        /// Fields of `load` over the case's own.
        with: Option<Map<String, Value>>,
        /// The refusal that is awaited.
        refuses: Option<RefusedSpec>,
        /// The longest that loading may take, in seconds.
        within_s: Option<f64>,
        /// Whether the driver must count what `load` says.
        memory: Option<bool>,
    }
}
case_schema! {
    /// The values of slots.
    StageSpec {
        /// The tokens.
        prompt: PromptSpec,
        /// Globs of slots.
        slots: Vec<String>,
    }
}
case_schema! {
    /// Logits of rows.
    LogitsSpec {
        /// The tokens.
        prompt: PromptSpec,
        /// Rows by index; without it all.
        rows: Option<Vec<usize>>,
        /// `whole`, `chunks_of_7`, `cached_prefix_of_5`, `one_by_one`.
        ways: Option<Vec<String>>,
    }
}
case_schema! {
    /// Text that goes on.
    GenerationSpec {
        /// What it goes on from.
        prompt: PromptSpec,
        /// How many tokens.
        max_tokens: usize,
        /// The share of positions at which the golden's margin must decide: 0.5.
        decided_at_least: Option<f64>,
        /// How often it is asked; all must be the same.
        repeat: Option<u32>,
        /// Settings of the sampling chain; without it greedy.
        sampling: Option<Map<String, Value>>,
        /// Sequences that generate beside it, 1 to 7: each must have the ids that it has alone.
        beside: Option<usize>,
    }
}
case_schema! {
    /// The probability of a text.
    PerplexitySpec {
        /// The text, below golden/.
        text: String,
        /// How many of its tokens.
        tokens: usize,
        /// Tokens that are fed together; without it the context.
        window: Option<usize>,
        /// How far the perplexity may be off.
        within: WithinSpec,
    }
}

/// An awaited refusal.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RefusedSpec {
    /// Its kind.
    pub kind: String,
    /// The operand that it names.
    pub operand: String,
}

/// Exactly one of them.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PromptSpec {
    /// Ids.
    pub ids: Option<Vec<i32>>,
    /// Quoted text, encoded without special tokens.
    pub text: Option<String>,
}

/// How far a perplexity may be off.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WithinSpec {
    /// Relative to the golden.
    pub relative: f64,
    /// Why.
    pub because: String,
}
