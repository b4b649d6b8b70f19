//! Reads YAML: a tree that knows where its parts were written, values read from it, and a list of
//! every mistake.
//!
//! ```text
//! bytes ─Source→ text ─parse→ Node ─Reader→ values, problems
//! ```

pub mod cause;
pub mod fields;
pub mod forms;
pub mod near;
pub mod place;
pub mod problem;
pub mod read;
pub mod tree;

pub use problem::Problem;
