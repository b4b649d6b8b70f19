//! Models as Programs: each file reads like the paper.

pub mod gpt2;
