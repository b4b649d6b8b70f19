//! Specs: what was written, with line and column, and what it asks.
//!
//! ```text
//! bytes ─Source→ text ─yaml→ Node ─read→ OpFile ─expand→ Case
//! ```

mod awaited;
pub mod broken;
pub mod cause;
pub mod container;
pub mod expand;
pub mod folder;
pub mod forms;
pub mod gates;
pub mod known;
pub mod mutants;
mod names;
pub mod near;
pub mod op;
pub mod op_read;
pub mod place;
pub mod problem;
pub mod read;
pub mod schema;
#[cfg(test)]
pub(crate) mod tests;
pub mod values;
pub mod yaml;

pub use expand::{Bench, Expanded, expand};
pub use folder::{OpSpec, Specs, read_folder, vocabulary};
pub use op::OpFile;
pub use problem::Problem;
