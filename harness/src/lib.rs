//! goldgate judges engines: YAML → Case → Execution → Distance → Verdict → Report → Gate.
//!
//! Each arrow is a function in the module of its right-hand side; only running a case and the two
//! ends touch the world.

pub mod case;
pub mod checks;
pub mod cli;
pub mod container;
pub mod distance;
pub mod documents;
pub mod execution;
pub mod exit;
pub mod fill;
pub mod gate;
pub mod glob;
pub mod golden;
pub mod judge;
pub mod kinds;
pub mod line;
pub mod models;
pub mod mutate;
pub mod page;
pub mod report;
pub mod review;
pub mod run;
pub mod same_bits;
pub mod selfcheck;
pub mod session;
pub mod spec;
pub mod subject;
pub mod synth;
pub mod tokens;
pub mod verdict;

pub use goldgate_wire as wire;
pub use goldgate_wire::json;
