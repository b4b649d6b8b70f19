//! Specs: everything that a specs folder says.
//!
//! ```text
//! files ─read_folder→ Specs { ops, models, tokens, containers, mutants, gates, known }
//! ```

pub mod broken;
pub mod folder;
pub mod gates;
pub mod known;
pub mod schema;
#[cfg(test)]
pub(crate) mod tests;

pub use folder::{OpSpec, Specs, read_folder, vocabulary};
