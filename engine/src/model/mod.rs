//! Models as Programs: each file reads like the paper.

pub mod config;
pub mod detect;
pub mod gpt2;
pub mod tensors;

pub use config::{Config, ConfigError, Experts, Rope, Scaling};
pub use detect::Architecture;
