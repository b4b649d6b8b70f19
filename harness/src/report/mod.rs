//! Rows and provenance, and the files that are written from them.
//!
//! ```text
//! rows, specs ─conclude→ Report ─seal→ report.json → gate-N.md, report.html, junit.xml, rows.jsonl
//! ```

pub mod against;
pub mod attestation;
pub mod blocks;
pub mod built;
pub mod diff;
pub mod document;
pub mod generated;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod merge;
pub mod pages;
pub mod provenance;
pub mod publish;
pub mod record;
#[cfg(test)]
pub mod samples;
pub mod speeds;
pub mod summary;
pub mod text;
pub mod tree;
pub mod verify;
pub mod writer;

pub use document::{Report, Selection};
pub use provenance::Provenance;
