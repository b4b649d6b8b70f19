//! Rows and provenance, and the reports that are written from them.
//!
//! ```text
//! rows, specs ─conclude→ Report ─publish→ report.json, junit.xml, gate-N.md, report.html
//! ```

pub mod blocks;
pub mod diff;
pub mod document;
pub mod finite;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod merge;
pub mod provenance;
pub mod publish;
pub mod record;
#[cfg(test)]
pub mod samples;
pub mod summary;
pub mod text;
pub mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::Family;
use crate::execution::Observed;
use crate::verdict::Verdict;

pub use document::{Report, Selection};
pub use provenance::Provenance;

/// One trial's result: one line of rows.jsonl.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The trial's full name, subject last.
    pub name: String,
    /// What was judged.
    pub verdict: Verdict,
    /// The gate.
    pub gate: u8,
    /// The stem of the spec.
    pub stem: String,
    /// `op`, `bench`, `self` …
    pub kind: String,
    /// The subject's label.
    pub subject: String,
    /// Exact, rough or refused.
    pub family: Family,
    /// Largest load of any element; absent where nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "finite::maybe")]
    pub load: Option<f64>,
    /// Elements compared.
    pub compared: u64,
    /// Answer faults planted on this row's golden, and how many the judge noticed.
    pub faults: (u32, u32),
    /// The question's wall time, ms.
    #[serde(with = "finite::one")]
    pub time_ms: f64,
    /// What the subject observed.
    #[serde(default)]
    pub observed: Observed,
    /// The failure page: all that a reader needs; absent on a pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<String>,
    /// The failing element's neighbourhood; absent on a pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worst: Option<Worst>,
    /// Measured figures (benches): unit in the name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, with = "finite::map")]
    pub figures: BTreeMap<String, f64>,
    /// Notes: refused as X, undecided ids, judged by the definition.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// SHA-256 over the tensors of every answer, in order; absent where nothing was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bits: Option<String>,
}

/// The worst element and those around it along the last axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worst {
    /// The result.
    pub result: String,
    /// Index, an axis each.
    pub index: Vec<usize>,
    /// Flat index of the first neighbour.
    pub first: usize,
    /// What came.
    #[serde(with = "finite::list")]
    pub got: Vec<f64>,
    /// What was awaited, unrounded.
    #[serde(with = "finite::list")]
    pub want: Vec<f64>,
    /// Load of each.
    #[serde(with = "finite::list")]
    pub load: Vec<f64>,
    /// How many elements of the result are over.
    pub over: usize,
    /// How many there are.
    pub total: usize,
}
