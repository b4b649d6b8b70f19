//! Gates: which trials make which requirement, and what a run's rows make of it.
//!
//! ```text
//! heads of trials, rows, faults, documents ─weigh→ Weighed
//! ```
//!
//! Everything here is pure. Nothing passes on nothing: what is absent is never met.

pub mod coverage;
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
