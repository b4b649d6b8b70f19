//! Models as Programs: each file reads like the paper.

pub mod build;
pub mod config;
pub mod gpt2;
pub mod llama;
