//! The wire: how a harness talks to a subject, as specified in docs/wire.md, for both sides.
//!
//! This crate knows messages, but neither processes nor an engine: a worker in Rust depends only on
//! it and on goldgate-tensor.

pub mod answer;
pub mod arithmetic;
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
