//! goldgate judges engines: YAML → Case → Execution → Distance → Verdict → Report → Gate.
//!
//! ```text
//! line ← yaml, store, fill ← kinds ← spec, golden ← mutants ← run ← gate ← report ← session
//! ```
//!
//! Each arrow is a function in the module on its right-hand side. Only running a case and the two
//! ends have side effects. The program `goldgate` is a separate crate, in cli/.

pub mod fill;
pub mod gate;
pub mod golden;
pub mod kinds;
pub mod line;
pub mod mutants;
pub mod report;
pub mod run;
pub mod session;
pub mod spec;
pub mod store;
pub mod subject;
pub mod tamper;
pub mod trials;
pub mod yaml;
