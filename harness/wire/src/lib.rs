//! The wire: how a harness talks to a subject, as docs/wire.md specifies it, for both sides.
//!
//! This crate knows messages, not processes, and no engine: a worker in Rust needs it and
//! goldgate-tensor alone.

pub mod attach;
pub mod frame;
pub mod hello;
pub mod json;
pub mod words;

pub use frame::{Frame, FrameError, read_frame, write_frame};
pub use hello::Hello;
pub use words::Special;
