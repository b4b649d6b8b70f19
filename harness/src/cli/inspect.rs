//! `goldgate inspect`

use std::path::PathBuf;

use crate::cli::{Exit, Failure, bad_input, say, say_json};
use crate::subject::inspect::Inspected;

/// Opens a model file without a device. Example: goldgate inspect model.gguf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a .safetensors file or index, a folder that holds one with its config.json, or
    /// a tokenizer.json.
    path: PathBuf,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    bad_input(open(args), args.json)
}

fn open(args: &Args) -> Result<Exit, Failure> {
    let found = Inspected::open(&args.path).map_err(|m| Failure::Malformed(Box::new(m)))?;
    match args.json {
        true => say_json(&found.facts())?,
        false => say(found.text().trim_end())?,
    }
    Ok(Exit::Yes)
}
