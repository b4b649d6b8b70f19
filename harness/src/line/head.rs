//! What every trial has, whatever its kind: its name, where it was written, whom it is asked of.

use goldgate_tensor::DType;

use crate::line::{Family, Place};

/// What a trial counts as where a gate weighs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A question with a right answer.
    Case,
    /// A question that is timed.
    Bench,
    /// A check of the harness itself, or of a subject as a whole.
    Check,
}

/// The subjects that a trial is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Every subject.
    All,
    /// Every subject but the one of this label.
    AllBut(&'static str),
    /// Only subjects of these labels.
    Only(&'static [&'static str]),
}

impl On {
    /// Whether the subject of that label is asked.
    pub fn asks(self, label: &str) -> bool {
        match self {
            On::All => true,
            On::AllBut(other) => label != other,
            On::Only(labels) => labels.contains(&label),
        }
    }

    /// Those of our own two subjects that are asked, or the labels that are named.
    pub fn ours(self) -> Vec<String> {
        let own: &[&str] = match self {
            On::Only(labels) => labels,
            On::All | On::AllBut(_) => &["cpu", "cuda"],
        };
        own.iter().filter(|label| self.asks(label)).map(|&label| label.to_owned()).collect()
    }
}

/// What the run, the report and the gates know of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// `gate1::layernorm::ragged::f16`: its name without the subject.
    pub name: String,
    /// The word in reports: `op`, `bench`, `self`, `container`, `tokenizer`, `stage` …
    pub kind: &'static str,
    /// What it counts as.
    pub sort: Sort,
    /// The gate.
    pub gate: u8,
    /// The stem of its spec.
    pub stem: String,
    /// Its name in the file.
    pub case: String,
    /// The form, dtype or label that tells it from its siblings.
    pub variant: String,
    /// Why it exists.
    pub why: String,
    /// What says that it must be so; empty for checks, whose reason says it.
    pub source: String,
    /// Where it was written; none for checks, which are code.
    pub place: Option<Place>,
    /// The family, as far as the spec shows it.
    pub family: Family,
    /// The activation type, where the case names one.
    pub dtype: Option<DType>,
    /// The golden's path, or `written …`; none for refusals and definitions.
    pub golden: Option<String>,
    /// Whether the CPU definition answers in place of a golden.
    pub definition: bool,
    /// Left out of an ordinary run.
    pub slow: bool,
    /// The subjects that are asked.
    pub on: On,
    /// Trials of one group are asked in a row by one process, because they load the same thing.
    pub group: Option<String>,
}

impl Head {
    /// The trial's name on a subject.
    pub fn on_subject(&self, label: &str) -> String {
        format!("{}::{label}", self.name)
    }
}
