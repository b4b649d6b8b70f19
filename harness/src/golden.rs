//! Goldens: answers by somebody else, with slack and provenance.

pub mod ask;
pub mod make;
pub mod make_models;
pub mod manifest;
pub mod store;
pub mod strength;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

/// The golden of one case.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// By result name.
    pub results: BTreeMap<String, GoldenResult>,
    /// Wrong formula → result → its values: mutants computed when the golden was made.
    pub wrong: BTreeMap<String, BTreeMap<String, Numbers>>,
    /// Whether the oracle verified that every partial sum is exact.
    pub exact: bool,
    /// Who computed it.
    pub witnesses: Vec<Witness>,
}

/// One awaited result.
#[derive(Clone, Debug, PartialEq)]
pub struct GoldenResult {
    /// Logical shape.
    pub shape: Vec<usize>,
    /// The awaited numbers or ids.
    pub numbers: Numbers,
    /// Allowed error in units of 2^-24, an element each; empty for ids and written goldens.
    pub slack: Vec<f32>,
    /// Kept value → 2^24 · 4 · Q, an element each; the judge multiplies by its type's u.
    pub keeps: BTreeMap<String, Vec<f32>>,
    /// Absolute allowance beside the slack, an element each (written goldens); empty if none.
    pub absolute: Vec<f64>,
    /// Whether an exact match is demanded, an element each; empty: everywhere.
    pub decided: Vec<bool>,
}

/// Numbers or ids.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Unrounded, in f64.
    Real(Vec<f64>),
    /// Ids.
    Ids(Vec<i32>),
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Real(x) => x.len(),
            Numbers::Ids(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An independent program that computed a golden.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Witness {
    /// `formula`, `torch` …
    pub name: String,
    /// Versions of what it rests on.
    pub version: String,
    /// SHA-256 of its script; empty where it has none of its own.
    #[serde(default)]
    pub script: String,
    /// The day that it answered, ISO 8601.
    #[serde(default)]
    pub date: String,
}
