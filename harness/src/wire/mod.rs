//! The wire: how the harness talks to a subject. This module knows frames, not processes.

pub mod attach;
pub mod frame;

pub use frame::{Frame, FrameError, read_frame, write_frame};
