//! The program `goldgate`: its commands, what `goldgate check` finds, and synthetic models.
//!
//! Judging is the library goldgate-harness; this crate alone names the engine and its worker too.

pub mod commands;
pub mod review;
pub mod synth;
