//! `goldgate inspect`

use std::path::PathBuf;

use crate::cli::{Exit, Failure, say, say_json};
use crate::subject::inspect::{Inspected, refusal};

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
    match Inspected::open(&args.path) {
        Ok(found) if args.json => say_json(&found.facts())?,
        Ok(found) => say(found.text().trim_end())?,
        Err(malformed) if args.json => {
            say_json(&refusal(&malformed))?;
            return Ok(Exit::BadInput);
        }
        Err(malformed) => return Err(Failure::Malformed(Box::new(malformed))),
    }
    Ok(Exit::Yes)
}
