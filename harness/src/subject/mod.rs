//! Subjects: whatever is being asked, in worker processes over the wire (docs/wire.md).

mod ended;
pub mod launch;
pub mod pool;
pub mod text;
pub mod worker;

/// Which slots a question names.
pub mod want {
    pub use goldgate_wire::globs::any as matches;
}

pub use launch::{How, Launch, SubjectError, SubjectSpec};
pub use pool::Slot;
