//! `goldgate tokenize`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use goldgate_engine::tokenizer::Tokenizer;
use goldgate_harness::yaml::Problem;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};
use goldgate_wire::Special;
use serde_json::json;

use crate::commands::{Exit, Failure, say, say_json};

/// Example: goldgate tokenize --model tokenizer.json --text 'Hello world' --json
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// A GGUF file, a tokenizer.json, or a folder with one.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Text to ids.
    #[arg(long, value_name = "T", group = "what")]
    text: Option<String>,
    /// The bytes of a file to ids, whatever they are.
    #[arg(long, value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// Ids to text: every token as it is written, special ones too.
    #[arg(long, value_name = "1,2,3", group = "what", value_delimiter = ',')]
    ids: Option<Vec<u32>>,
    /// Special tokens: none; `add` those of the model's policy; `parse` those in the text.
    #[arg(long, value_name = "HOW", default_value = "none")]
    special: How,
    /// `{"ids": […]}` or `{"text": …}`, with `bytes` in hex where they are no UTF-8.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Add,
    None,
    Parse,
}

impl From<How> for Special {
    fn from(how: How) -> Special {
        match how {
            How::Add => Special::Add,
            How::None => Special::None,
            How::Parse => Special::Parse,
        }
    }
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let tokenizer = match Tokenizer::open(&args.model) {
        Ok(tokenizer) => tokenizer,
        Err(malformed) => {
            match args.json {
                true => say_json(&malformed_json(&malformed))?,
                false => eprintln!("{malformed}"),
            }
            return Ok(Exit::BadInput);
        }
    };
    if let Some(ids) = &args.ids {
        return decode(args, &tokenizer, ids);
    }
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        // Never reached, because the group `what` requires one of the three.
        (None, None) => Vec::new(),
    };
    let (add, parse) = Special::from(args.special).flags();
    match tokenizer.encode(&text, add, parse) {
        Ok(ids) if args.json => say_json(&json!({ "ids": ids }))?,
        Ok(ids) => say(&ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))?,
        Err(fault) => return Ok(bad(args, "TOKENIZE", &fault.to_string(), "another text")),
    }
    Ok(Exit::Yes)
}

fn decode(args: &Args, tokenizer: &Tokenizer, ids: &[u32]) -> Result<Exit, Failure> {
    let bytes = match tokenizer.decode(ids, false) {
        Ok(bytes) => bytes,
        Err(fault) => return Ok(bad(args, "IDS", &fault.to_string(), "ids of the vocabulary")),
    };
    if !args.json {
        // Byte for byte, without a newline added.
        io::stdout().lock().write_all(&bytes)?;
        return Ok(Exit::Yes);
    }
    let mut facts = json!({"text": String::from_utf8_lossy(&bytes)});
    // The replacement characters of the text would hide which bytes these are.
    if std::str::from_utf8(&bytes).is_err() {
        facts["bytes"] = bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into();
    }
    say_json(&facts)?;
    Ok(Exit::Yes)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_foreign(path, Bounds::of_user(LARGEST_WHOLE)).map_err(|e| {
        let file = path.display().to_string();
        let problem = Problem::of_file("IO", &file, e.to_string(), "a file that can be read");
        Failure::Problems(vec![problem])
    })
}

/// Reports a problem as one line on stderr, or as JSON.
fn bad(args: &Args, code: &'static str, found: &str, expected: &str) -> Exit {
    let problem = Problem::of_file(code, &args.model.display().to_string(), found, expected);
    match args.json {
        // If stdout is closed, the exit code still tells.
        true => drop(say_json(&problem.to_json())),
        false => eprintln!("{problem}"),
    }
    Exit::BadInput
}

fn malformed_json(m: &goldgate_engine::weights::Malformed) -> serde_json::Value {
    let mut facts = json!({
        "code": m.code.as_str(),
        "file": m.file.display().to_string(),
        "offset": m.offset,
        "field": m.field,
        "found": m.found,
        "expected": m.expected,
    });
    if let Some(place) = &m.json {
        facts["line"] = place.line.into();
        facts["column"] = place.column.into();
        facts["pointer"] = place.pointer.as_str().into();
    }
    facts
}
