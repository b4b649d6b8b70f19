//! The line that every trial goes along, whatever its kind: a head, calls, a judgement, a row.
//!
//! ```text
//! Case ─prepare→ Question ─ask, through a Caller→ answers ─judge→ Judgement ─row→ Row
//! ```
//!
//! These types know no kind. What an event of a subject is called is decided in [`caller`], once.

pub mod caller;
pub mod head;
pub mod judgement;
pub mod page;
pub mod row;

pub use caller::{Caller, Exchange, Heard, Kept, Reply, Stopped, Transport};
pub use head::{Head, On, Sort};
pub use judgement::{Judgement, Whom};
