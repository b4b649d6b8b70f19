//! What every trial has, whatever its kind: its name, where it was written, and which subjects are
//! asked.

use goldgate_tensor::DType;

use crate::line::{Family, On, Place};

/// How a gate counts a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A question with a right answer.
    Case,
    /// A question whose answer is timed.
    Bench,
    /// A check of the harness itself, or of a subject as a whole.
    Check,
}

/// Which part of a case a trial judges. Numbers and invariance are two trials, so that an engine
/// which claims no determinism is still judged by its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The answer against what is expected.
    #[default]
    Numbers,
    /// Answers to the same question in several forms against each other, bit by bit.
    Bits,
}

impl Part {
    /// The variant of a trial, given that of its case.
    pub fn variant(self, of_case: &str) -> String {
        match self {
            Part::Numbers => of_case.to_owned(),
            Part::Bits => format!("{of_case}.bits"),
        }
    }
}

/// What the run, the report and the gates know of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The name without the subject, such as `gate1::layernorm::ragged::f16`.
    pub name: String,
    /// The kind as reports name it: `op`, `bench`, `self`, `container`, `tokenizer`, `stage` …
    pub kind: &'static str,
    /// How gates count it.
    pub sort: Sort,
    /// The number of its gate.
    pub gate: u8,
    /// The stem of its spec file.
    pub stem: String,
    /// The name of its case in that file.
    pub case: String,
    /// The form, dtype or label that distinguishes it from other trials of the same case.
    pub variant: String,
    /// Why the case exists.
    pub why: String,
    /// The authority for the expected answer; empty for checks, whose `why` states it.
    pub source: String,
    /// Where the case was written; none for checks, which are code.
    pub place: Option<Place>,
    /// The family of its inputs, as far as the spec determines it.
    pub family: Family,
    /// The activation type, where the case names one.
    pub dtype: Option<DType>,
    /// The path of the golden, or `written …`; none for refusals and definitions.
    pub golden: Option<String>,
    /// Whether the CPU definition stands in for a golden.
    pub definition: bool,
    /// Whether an ordinary run leaves it out.
    pub slow: bool,
    /// The subjects that are asked.
    pub on: On,
    /// Trials of one group run consecutively in one process, because they load the same model.
    pub group: Option<String>,
}

impl Head {
    /// The trial's name on the subject with this label.
    pub fn on_subject(&self, label: &str) -> String {
        format!("{}::{label}", self.name)
    }
}
