//! The written forms of a model's cases, for the JSON Schema.

use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::yaml::forms;

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
        /// Whether `inspect` must foretell what `load` takes.
        foretold: Option<bool>,
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
        /// The share of positions that must be compared and decided by the golden's margin: 0.5.
        decided_at_least: Option<f64>,
        /// How often it is asked; all must be the same.
        repeat: Option<u32>,
        /// Settings of the sampling chain; without it greedy.
        sampling: Option<SamplingSpec>,
        /// Quoted texts that end it.
        stop: Option<Vec<String>>,
        /// Ids that end it.
        stop_ids: Option<Vec<i32>>,
        /// Positions of a session, in place of the file's.
        context: Option<usize>,
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

case_schema! {
    /// Many short texts, whose distribution is judged.
    DrawsSpec {
        /// What they go on from.
        contexts: ContextsSpec,
        /// How many texts after each context, each with a seed of its own.
        seeds: usize,
        /// Settings of the sampling chain, without a seed.
        sampling: SamplingSpec,
    }
}

/// Prompts that are cut from the beginning of a text.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ContextsSpec {
    /// The text, below golden/.
    pub text: String,
    /// How many prompts.
    pub count: usize,
    /// How many tokens each has.
    pub length: usize,
    /// Texts of two tokens: how many of the likeliest first tokens the golden goes on from.
    pub follow: Option<usize>,
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

/// Settings of the sampling chain, as `generate` has them.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SamplingSpec {
    /// 0 is greedy; at most 2.
    pub temperature: Option<f64>,
    /// The most likely tokens that stay; 0: all.
    pub top_k: Option<u32>,
    /// The least mass that stays; 1: all.
    pub top_p: Option<f64>,
    /// The least share of the most likely token's mass that stays; 0: all.
    pub min_p: Option<f64>,
    /// What logits of seen tokens are divided by; 1: nothing.
    pub repetition_penalty: Option<f64>,
    /// Key of the generator.
    pub seed: Option<u64>,
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
