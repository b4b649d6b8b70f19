//! `goldgate inspect`

use std::path::PathBuf;

use goldgate_engine::cuda::Card;
use goldgate_wire::Call;
use goldgate_wire::call::{Inspect, LoadOptions};
use goldgate_worker::{Inspected, NoAnswer};
use serde_json::json;

use crate::commands::model::Sizing;
use crate::commands::{Exit, Failure, bad_input, say, say_json};

/// Opens a model file without a device. Example: goldgate inspect model.gguf --context 8192
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file, a .safetensors file or index, a folder that holds one with its config.json, or
    /// a tokenizer.json.
    path: PathBuf,
    #[command(flatten)]
    sizing: Sizing,
    /// Sequences that generate side by side, 1 to 8.
    #[arg(long, value_name = "B")]
    sequences: Option<u64>,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    bad_input(open(args), args.json)
}

fn open(args: &Args) -> Result<Exit, Failure> {
    let found = Inspected::open(&args.path).map_err(|m| Failure::Malformed(Box::new(m)))?;
    let given = LoadOptions { sequences: args.sequences, ..args.sizing.options() };
    // Impossible options are checked by the same code as in a subject: where options are read.
    let (question, _) = Inspect { path: String::new(), options: given }.question();
    let options = LoadOptions::read(&question).map_err(NoAnswer::bad_request);
    let needed = options.and_then(|options| found.need(&Card::h200(), &options));
    let (need, refused) = match needed {
        Ok(need) => (need, None),
        Err(why) => {
            let (kind, field, message) = refusal_parts(why);
            let line = format!("error[{kind}] field={field} found={message:?}");
            (json!({"refused": {"kind": kind, "operand": field, "message": message}}), Some(line))
        }
    };
    match args.json {
        true => {
            let mut facts = found.facts();
            facts["need"] = need;
            say_json(&facts)?;
        }
        false => say(found.text(&need).trim_end())?,
    }
    // A file that cannot run here is still a valid file, but impossible options are a mistake.
    match refused.filter(|_| args.sizing.is_given() || args.sequences.is_some()) {
        Some(line) => {
            eprintln!("{line}");
            Ok(Exit::BadInput)
        }
        None => Ok(Exit::Yes),
    }
}

/// Kind, field and message of what `load` would answer.
fn refusal_parts(why: NoAnswer) -> (&'static str, String, String) {
    match why {
        NoAnswer::Refused(r) => (r.kind.name(), r.operand, r.message),
        NoAnswer::File(m) => ("Malformed", m.field.clone(), m.to_string()),
        NoAnswer::Unsupported(what) => ("NotSupported", String::new(), what),
        NoAnswer::Failed(trouble) => ("NotSupported", String::new(), trouble.message),
    }
}
