//! Rows and provenance, and the files that are written from them.
//!
//! ```text
//! rows, specs ─conclude→ Report ─publish→ report.json, junit.xml, gate-N.md, report.html
//! ```

pub mod blocks;
pub mod diff;
pub mod document;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod merge;
pub mod provenance;
pub mod publish;
pub mod record;
#[cfg(test)]
pub mod samples;
pub mod speeds;
pub mod summary;
pub mod text;
pub mod verify;

pub use document::{Report, Selection};
pub use provenance::Provenance;
