//! The program `goldgate`: its commands, the checks of `goldgate check`, and synthetic models.
//!
//! Judging is done by the library goldgate-harness. Only this crate also names the engine and its
//! worker.

pub mod commands;
pub mod review;
pub mod synth;
