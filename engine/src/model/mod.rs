//! Models as Programs: each file reads like the paper.

pub mod build;
pub mod config;
pub mod detect;
pub mod gpt2;
pub mod llama;
pub mod map;
pub mod tensors;

pub use config::{Config, ConfigError, Experts, Rope, Scaling};
pub use detect::Architecture;

use build::{Capacity, Types};

use crate::program::{Program, ProgramError};
use crate::shape::Meta;

/// Builds the Program of a model: `tokens` \[n\] in, `logits` [m, vocabulary] f32 out. `found`
/// tells type and shape of each tensor by its canonical name.
///
/// # Errors
/// Every weight that does not fit, by name, with both shapes; a family without a Program.
pub fn program(
    config: &Config,
    types: Types,
    capacity: Capacity,
    found: impl Fn(&str) -> Option<Meta>,
) -> Result<Program, ProgramError> {
    match config.architecture {
        Architecture::Gpt2 => gpt2::program(config, types, capacity, found),
        Architecture::Llama | Architecture::Qwen2 => llama::program(config, types, capacity, found),
        Architecture::GptOss => Err(ProgramError::Config {
            field: "architecture",
            found: config.architecture.name().to_owned(),
            wanted: "gpt2, llama or qwen2".to_owned(),
        }),
    }
}
