//! Gates: which trials make which requirement, and what a run's rows make of it.
//!
//! ```text
//! specs ─plan→ Planned     Planned, rows, faults, documents ─weigh→ Weighed
//! ```
//!
//! Everything here is pure. Nothing passes on nothing: what is absent is never met.

pub mod coverage;
pub mod lock;
pub mod plan;
mod tally;
#[cfg(test)]
mod tests;
pub mod vacuity;
pub mod weigh;

pub use plan::{Planned, TrialKind, plan, selects};
pub use vacuity::check;
pub use weigh::{Evidences, FaultResult, GateVerdict, RequirementVerdict, State, Weighed, weigh};
