//! The path of every trial, whatever its kind: a head, calls, a judgement, a row.
//!
//! ```text
//! Case ─prepare→ Question ─ask, through a Caller→ answers ─judge→ Judgement ─row→ Row
//! ```
//!
//! These types know nothing of kinds. The verdict for each event of a subject is decided once, in
//! [`caller`].

pub mod caller;
mod day;
mod family;
mod fault;
pub mod finite;
pub mod glob;
pub mod head;
mod hex;
pub mod judgement;
pub mod legible;
pub mod log;
pub mod page;
mod place;
pub mod profile;
pub mod roles;
pub mod row;
pub mod verdict;

pub use caller::{Caller, Exchange, Heard, Kept, Reply, Stopped, Transport};
pub use day::Day;
pub use family::Family;
pub use fault::{Fate, FaultResult, GeneratedScore, Planted};
pub use head::{Head, Part, Sort};
pub use hex::hex;
pub use judgement::{Judgement, Whom};
pub use place::Place;
pub use profile::Profile;
pub use roles::{AskedSubject, On, Role, Roles};
pub use row::{Row, Worst};
pub use verdict::{BrokenKind, FailKind, NotRun, Verdict};
