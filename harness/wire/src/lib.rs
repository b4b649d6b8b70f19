//! The wire: how a harness talks to a subject, as docs/wire.md specifies it, for both sides.
//!
//! This crate knows messages, not processes, and no engine: a worker in Rust needs it and
//! goldgate-tensor alone.

pub mod answer;
pub mod attach;
pub mod call;
pub mod event;
mod fields;
pub mod frame;
pub mod globs;
pub mod hello;
pub mod json;
pub mod observed;
pub mod words;

pub use answer::Answer;
pub use call::{Call, Tensors};
pub use event::Event;
pub use frame::{Frame, FrameError, read_frame, write_frame};
pub use hello::Hello;
pub use observed::Observed;
pub use words::Special;
