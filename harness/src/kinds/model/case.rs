//! The kinds of whole models: *load*, *stage*, *logits*, *generation*, *perplexity*, asked of a
//! subject over the calls `load`, `open`, `extend`, `fork` and `generate` of the wire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_tensor::DType;
use serde_json::{Map, Value};

use crate::kinds::model::hub::Hub;
use crate::line::Place;

/// One question about one form of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCase {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its spec file.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// The label of the form; where the case names types of activations, `q4_k_m-f32`.
    pub variant: String,
    /// Why the case exists; printed on failure.
    pub why: String,
    /// Where the model comes from.
    pub source: String,
    /// Where the case was written.
    pub place: Place,
    /// The form.
    pub form: Form,
    /// Positions of a session.
    pub context: usize,
    /// The type of activations that is asked for; without it the subject's own.
    pub activations: Option<DType>,
    /// What is asked.
    pub ask: Ask,
    /// The path of its golden below golden/, where it has one.
    pub golden: Option<String>,
    /// Left out of `cargo test`.
    pub slow: bool,
    /// Longest that one call may take.
    pub timeout: Duration,
}

impl ModelCase {
    /// `gate2::llama-tiny::first_block::f16`: the trial's name without its subject.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::{}", self.gate, self.stem, self.name, self.variant)
    }

    /// The list in which it stands.
    pub fn kind(&self) -> &'static str {
        match &self.ask {
            Ask::Load(_) => "load",
            Ask::Stage { .. } => "stage",
            Ask::Logits { .. } => "logits",
            Ask::Generation(_) => "generation",
            Ask::Perplexity { .. } => "perplexity",
        }
    }
}

/// One form of a model: a file, or a folder with config.json and safetensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its label.
    pub label: String,
    /// Where it lies.
    pub at: At,
    /// The folder of the same model in the form of its publisher, below golden/: what
    /// transformers reads.
    pub hf: Option<String>,
}

/// Where a form lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Below golden/.
    Golden(String),
    /// A published checkpoint: looked for in the folder of `--models`, then in the hub's cache.
    Hub(Hub),
}

impl Form {
    /// Where the form is on this machine.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn find(&self, golden: &Path, models: &[PathBuf]) -> Result<PathBuf, String> {
        let found = match &self.at {
            At::Golden(path) => Some(golden.join(path)).filter(|path| path.exists()),
            At::Hub(hub) => models.iter().find_map(|folder| hub.find(folder)),
        };
        found.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).ok_or_else(|| {
            // No folder of this machine: what is said here stands in reports.
            match &self.at {
                At::Golden(path) => format!("{path} is not below golden/"),
                At::Hub(hub) => {
                    let file = hub.file.as_ref().map(|f| format!("{f} of ")).unwrap_or_default();
                    let repo = &hub.repo;
                    let place = "neither below --models nor in the hub's cache";
                    format!("{file}{repo} is {place}; goldgate fetch gets it")
                }
            }
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Whether it loads, in which time and memory, or is refused.
    Load(Load),
    /// The values of its slots.
    Stage {
        /// The tokens.
        prompt: Prompt,
        /// Globs of slots.
        slots: Vec<String>,
    },
    /// Logits of rows.
    Logits {
        /// The tokens.
        prompt: Prompt,
        /// Rows by index; none: all.
        rows: Option<Vec<usize>>,
        /// How the tokens are cut into calls; all must agree.
        ways: Vec<Way>,
    },
    /// Text that goes on.
    Generation(Generation),
    /// The probability of a text.
    Perplexity {
        /// The text, below golden/.
        text: String,
        /// How many of its tokens.
        tokens: usize,
        /// Tokens that are fed together; each window begins from nothing.
        window: usize,
        /// The largest relative difference of the perplexity.
        relative: f64,
        /// Why that much is allowed.
        because: String,
    },
}

/// A model is loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Another path than the form's, below golden/.
    pub path: Option<String>,
    /// Fields of `load` over the case's own.
    pub with: Map<String, Value>,
    /// The refusal that is awaited, by kind or by the code of a file.
    pub refuses: Option<Refused>,
    /// The longest that loading may take, in seconds.
    pub within_s: Option<f64>,
    /// Whether the memory that the driver counts must be what `load` says.
    pub memory: bool,
    /// Whether `inspect` must foretell the memory that `load` takes.
    pub foretold: bool,
}

/// An awaited refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The kind of refusal.
    pub kind: String,
    /// The operand that it names.
    pub operand: String,
}

/// Tokens to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Ids.
    Ids(Vec<i32>),
    /// A text, without special tokens.
    Text(String),
}

/// How tokens are cut into calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One call.
    Whole,
    /// Calls of so many.
    Chunks(usize),
    /// So many, then a fork of the session that goes on.
    Prefix(usize),
    /// A call each, in the decode phase.
    OneByOne,
}

impl Way {
    /// As it is written: `chunks_of_7`.
    pub fn name(self) -> String {
        match self {
            Way::Whole => "whole".to_owned(),
            Way::Chunks(n) => format!("chunks_of_{n}"),
            Way::Prefix(n) => format!("cached_prefix_of_{n}"),
            Way::OneByOne => "one_by_one".to_owned(),
        }
    }
}

/// Text that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// What it goes on from.
    pub prompt: Prompt,
    /// How many tokens.
    pub max_tokens: usize,
    /// The share of positions at which the golden's margin must decide.
    pub decided_at_least: f64,
    /// How often it is asked; all must be the same.
    pub repeat: u32,
    /// Settings of the sampling chain; empty: greedy.
    pub sampling: Map<String, Value>,
    /// Sequences that generate beside it in one batch.
    pub beside: usize,
    /// Texts that end it.
    pub stop: Vec<String>,
    /// Ids that end it.
    pub stop_ids: Vec<i32>,
    /// Positions of a session, in place of the file's.
    pub context: Option<usize>,
}

impl Generation {
    /// Whether tokens are drawn, so that the golden rests on a generator.
    pub fn is_drawn(&self) -> bool {
        self.sampling.get("temperature").is_some_and(|t| t.as_f64() != Some(0.0))
    }

    /// Whether each token is the first of the model's own logits.
    pub fn is_greedy(&self) -> bool {
        let usual = |key: &str| self.sampling.get(key).is_none_or(|x| x.as_f64() == Some(1.0));
        !self.is_drawn() && usual("repetition_penalty")
    }

    /// Whether something may end it before all tokens are there.
    pub fn has_stops(&self) -> bool {
        !self.stop.is_empty() || !self.stop_ids.is_empty()
    }
}
