//! Gates: which trials serve as evidence for which requirement, and what the rows of a run prove.
//!
//! ```text
//! heads of trials, rows, faults, documents ─weigh→ Weighed
//! ```
//!
//! Everything here is pure. Absent evidence never meets a requirement.

pub mod coverage;
pub mod faults;
pub mod lock;
pub mod select;
mod tally;
#[cfg(test)]
mod tests;
pub mod vacuity;
pub mod weigh;

pub use select::selects;
pub use vacuity::check;
pub use weigh::{Evidences, GateVerdict, RequirementVerdict, State, Weighed, weigh};
