//! The command line: a file a subcommand.

pub mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Judges LLM inference engines by cases in YAML and goldens by others.
#[derive(Debug, Parser)]
#[command(name = "goldgate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Worker(worker::Worker),
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Worker(command) => command.run(),
    }
}
