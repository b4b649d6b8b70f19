//! Specs: the contents of a specs folder.
//!
//! ```text
//! files ─read_folder→ Specs { ops, models, tokens, containers, mutants, gates, known, slower,
//!                             subjects }
//! ```

pub mod broken;
pub mod equivalent;
pub mod folder;
pub mod gates;
pub mod known;
pub mod schema;
pub mod slower;
pub mod subject;
#[cfg(test)]
pub(crate) mod tests;

pub use folder::{OpSpec, Specs, read_folder, vocabulary};
