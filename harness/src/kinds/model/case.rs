//! The kinds of cases about whole models: *load*, *stage*, *logits*, *generation*, *perplexity*,
//! *draws*. A subject is asked them by the calls `load`, `open`, `extend`, `fork` and `generate` of
//! the wire.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_tensor::DType;
use serde_json::{Map, Value};

use crate::kinds::model::hub::Hub;
use crate::line::{Part, Place};

/// One question about one form of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCase {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its spec file.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// The label of the form; with the type of the activations, if the case names types:
    /// `q4_k_m-f32`.
    pub variant: String,
    /// Why the case exists; printed on failure.
    pub why: String,
    /// Where the model comes from.
    pub source: String,
    /// Where the case was written.
    pub place: Place,
    /// The form.
    pub form: Form,
    /// The number of positions of a session.
    pub context: usize,
    /// The type of activations that is requested; without it the subject's own.
    pub activations: Option<DType>,
    /// The question.
    pub ask: Ask,
    /// The path of its golden below golden/, if it has one.
    pub golden: Option<String>,
    /// Whether `cargo test` leaves it out.
    pub slow: bool,
    /// The time limit of one call.
    pub timeout: Duration,
    /// The part that a trial judges.
    pub part: Part,
}

impl ModelCase {
    /// The trial's name without its subject, such as `gate2::llama-tiny::first_block::f16`.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::{}", self.gate, self.stem, self.name, self.label())
    }

    /// The variant, with the part that a trial judges.
    pub fn label(&self) -> String {
        self.part.variant(&self.variant)
    }

    /// The case as the trial that compares bits; none if it is asked in one form only.
    pub fn bits(&self) -> Option<ModelCase> {
        let several = match &self.ask {
            Ask::Logits { ways, .. } => prefill(ways).count() > 1,
            Ask::Generation(g) => g.repeat > 1 || g.beside > 0,
            Ask::Draws(_) => true,
            Ask::Load(_) | Ask::Stage { .. } | Ask::Perplexity { .. } => false,
        };
        several.then(|| ModelCase { part: Part::Bits, ..self.clone() })
    }

    /// The name of its list in the spec.
    pub fn kind(&self) -> &'static str {
        match &self.ask {
            Ask::Load(_) => "load",
            Ask::Stage { .. } => "stage",
            Ask::Logits { .. } => "logits",
            Ask::Generation(_) => "generation",
            Ask::Perplexity { .. } => "perplexity",
            Ask::Draws(_) => "draws",
        }
    }
}

/// The ways that must give the same bits: one token at a time is the decode phase, which has other
/// kernels.
pub fn prefill(ways: &[Way]) -> impl Iterator<Item = &Way> {
    ways.iter().filter(|way| **way != Way::OneByOne)
}

/// One form of a model: a file, or a folder with config.json and safetensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its label.
    pub label: String,
    /// Where it is stored.
    pub at: At,
    /// The folder below golden/ that has the same model in its publisher's form, which transformers
    /// reads.
    pub hf: Option<String>,
}

/// Where a form is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Below golden/.
    Golden(String),
    /// A published checkpoint, searched first in the folder of `--models` and then in the hub's
    /// cache.
    Hub(Hub),
}

impl Form {
    /// Whether its weights are of block types: a GGUF file under another label than those of the
    /// float types.
    pub fn has_blocks(&self) -> bool {
        let file = match &self.at {
            At::Golden(path) => path.ends_with(".gguf"),
            At::Hub(hub) => hub.file.is_some(),
        };
        file && !["f32", "f16", "bf16"].contains(&self.label.as_str())
    }

    /// The path of the form on this machine.
    ///
    /// # Errors
    /// Where it was searched.
    pub fn find(&self, golden: &Path, models: &[PathBuf]) -> Result<PathBuf, String> {
        let found = match &self.at {
            At::Golden(path) => Some(golden.join(path)).filter(|path| path.exists()),
            At::Hub(hub) => models.iter().find_map(|folder| hub.find(folder)),
        };
        found.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).ok_or_else(|| {
            // Without folders of this machine, because the message appears in reports.
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

/// The question of a case.
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
        /// The rows by index; none for all.
        rows: Option<Vec<usize>>,
        /// How the tokens are cut into calls; all ways must agree.
        ways: Vec<Way>,
    },
    /// Generated text.
    Generation(Generation),
    /// The probability of a text.
    Perplexity {
        /// The text, below golden/.
        text: String,
        /// How many of its tokens.
        tokens: usize,
        /// How many tokens are fed together; each window starts from an empty session.
        window: usize,
        /// The largest relative difference of the perplexity.
        relative: f64,
        /// Why this difference is allowed.
        because: String,
    },
    /// Many short texts, whose distribution is judged.
    Draws(Draws),
}

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// A path below golden/ that replaces the form's.
    pub path: Option<String>,
    /// Fields of `load` that override the case's own.
    pub with: Map<String, Value>,
    /// The expected refusal, by kind or by the code of a file.
    pub refuses: Option<Refused>,
    /// The time limit of loading, in seconds.
    pub within_s: Option<f64>,
    /// Whether the driver must count no more memory after a second round than after the first.
    pub memory: bool,
    /// Whether `inspect` must predict the memory that `load` takes.
    pub foretold: bool,
}

/// An expected refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The kind of refusal.
    pub kind: String,
    /// The operand that it names.
    pub operand: String,
}

/// The tokens to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Ids.
    Ids(Vec<i32>),
    /// A text, without special tokens.
    Text(String),
}

/// A way of cutting tokens into calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One call.
    Whole,
    /// Calls of this many tokens.
    Chunks(usize),
    /// This many tokens, then the rest in a fork of the session.
    Prefix(usize),
    /// One call per token, in the decode phase.
    OneByOne,
}

impl Way {
    /// The name as it is written, such as `chunks_of_7`.
    pub fn name(self) -> String {
        match self {
            Way::Whole => "whole".to_owned(),
            Way::Chunks(n) => format!("chunks_of_{n}"),
            Way::Prefix(n) => format!("cached_prefix_of_{n}"),
            Way::OneByOne => "one_by_one".to_owned(),
        }
    }
}

/// The settings of generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The prompt.
    pub prompt: Prompt,
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// The fraction of positions that the golden's margin must decide.
    pub decided_at_least: f64,
    /// How often it is asked; all texts must be the same.
    pub repeat: u32,
    /// Settings of the sampling chain; empty for greedy.
    pub sampling: Map<String, Value>,
    /// How many other sequences are generated alongside in one batch.
    pub beside: usize,
    /// Texts that end it.
    pub stop: Vec<String>,
    /// Ids that end it.
    pub stop_ids: Vec<i32>,
    /// The number of positions of a session, which overrides the file's.
    pub context: Option<usize>,
}

/// Many short texts that are drawn with the same settings. A subject may draw them with any
/// generator, because their distribution is judged and not their ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    /// The prompts.
    pub contexts: Contexts,
    /// How many texts are drawn after each context; each has a seed that no other text has.
    pub seeds: usize,
    /// Settings of the sampling chain, without a seed.
    pub sampling: Map<String, Value>,
}

/// Prompts that are cut from the beginning of a text, one after the other. Cases that differ only
/// in their settings share them, and with them their golden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contexts {
    /// The text, below golden/.
    pub text: String,
    /// How many contexts.
    pub count: usize,
    /// How many tokens each of them has.
    pub length: usize,
    /// How many of the most likely tokens behind each context have logits in the golden, for texts
    /// of two tokens; 0 for texts of one.
    pub follow: usize,
}

impl Contexts {
    /// The name of the golden that all cases with these contexts share.
    pub fn name(&self) -> String {
        let stem = Path::new(&self.text).file_stem().unwrap_or_default().to_string_lossy();
        let Contexts { count, length, follow, .. } = self;
        match follow {
            0 => format!("{stem}-{count}x{length}"),
            _ => format!("{stem}-{count}x{length}-{follow}"),
        }
    }

    /// How many tokens each text has.
    pub fn tokens(&self) -> usize {
        if self.follow > 0 { 2 } else { 1 }
    }
}

impl Draws {
    /// The seed of a text, given its index among all texts of the case. A bijection spreads the
    /// indices over 31 bits, because a generator may be poor for seeds that follow each other, and
    /// many take no more bits.
    pub fn seed(index: usize) -> u64 {
        (index as u64 + 1).wrapping_mul(0x9E37_79B1) & 0x7FFF_FFFF
    }
}

impl Generation {
    /// Whether tokens are drawn, so that the golden depends on a generator.
    pub fn is_drawn(&self) -> bool {
        self.sampling.get("temperature").is_some_and(|t| t.as_f64() != Some(0.0))
    }

    /// Whether each token is the largest of the model's own logits.
    pub fn is_greedy(&self) -> bool {
        let usual = |key: &str| self.sampling.get(key).is_none_or(|x| x.as_f64() == Some(1.0));
        !self.is_drawn() && usual("repetition_penalty")
    }

    /// Whether something may end it before all tokens are generated.
    pub fn has_stops(&self) -> bool {
        !self.stop.is_empty() || !self.stop_ids.is_empty()
    }
}
