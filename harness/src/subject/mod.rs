//! Subjects: the processes on trial, asked over the wire (docs/wire.md).

mod ended;
pub mod launch;
pub mod pool;
mod processes;
mod streams;
pub mod worker;

pub use launch::{How, Launch, SubjectError, SubjectSpec};
pub use pool::Slot;
