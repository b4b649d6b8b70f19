//! `goldgate synth`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use goldgate_engine::model::Config;
use serde_json::{Value, json};

use crate::commands::{Exit, Failure, progress, say, say_json};
use crate::synth::Synth;
use crate::synth::mix::{self, Mix};
use crate::synth::models::{self, Model};

/// A model file of real shapes with random finite weights, for tests of loading, memory and speed.
/// Example: goldgate synth --arch qwen2.5-0.5b --quant q4_k_m --out qwen.gguf
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose shapes.
    #[arg(long, value_name = "NAME",
          value_parser = PossibleValuesParser::new(models::ALL.iter().map(|m| m.name)))]
    arch: String,
    /// The file, GGUF version 3.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How its matrices are stored.
    #[arg(long, value_name = "TYPE", default_value = "f16",
          value_parser = PossibleValuesParser::new(mix::WORDS))]
    quant: String,
    /// Other weights for another number.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Positions that the file claims; without it the model's own.
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// Fewer layers, for tests of what does not depend on them.
    #[arg(long, value_name = "N", hide = true)]
    layers: Option<u32>,
    /// What was written as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let usage = |e: &dyn std::fmt::Display| Failure::Usage(e.to_string());
    let mix: Mix = args.quant.parse().map_err(|e| usage(&e))?;
    let model = Model::find(&args.arch).ok_or_else(|| usage(&"no such model"))?;
    let of_model = model.config();
    let layers = args.layers.map_or(of_model.layers, |n| n as usize);
    let context = args.context.map_or(of_model.context, |n| n as usize);
    if !(1..=of_model.layers).contains(&layers) || context == 0 {
        return Err(usage(&format!(
            "--layers wants 1 to {}, --context 1 at least",
            of_model.layers
        )));
    }
    let synth = Synth::new(model, Config { layers, context, ..of_model }, mix, args.seed);
    let began = Instant::now();
    progress::shown("writing", |events| write(&synth, &args.out, &events))?;
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    synth.tensors().iter().for_each(|t| *types.entry(t.dtype.name()).or_insert(0) += 1);
    let bytes = std::fs::metadata(&args.out)?.len();
    match args.json {
        true => say_json(&json!({
            "file": args.out.to_string_lossy(), "arch": model.name, "quant": args.quant,
            "seed": args.seed, "bytes": bytes, "tensors": types,
            "seconds": began.elapsed().as_secs_f64(),
        }))?,
        false => {
            let types: Vec<String> = types.iter().map(|(t, n)| format!("{n} {t}")).collect();
            say(&format!("{}: {bytes} bytes, {}", args.out.display(), types.join(", ")))?;
        }
    }
    Ok(Exit::Yes)
}

/// Writes through a temporary file and rename, so that half a file is never taken for a model.
fn write(synth: &Synth, path: &Path, events: &Sender<Value>) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let outcome = File::create(&part).and_then(|file| {
        let mut last = Instant::now();
        let mut report = |done: u64| {
            if last.elapsed() >= Duration::from_millis(100) {
                last = Instant::now();
                // Without a receiver the progress is not shown.
                let _ =
                    events.send(json!({"event": "progress", "done": done, "total": synth.bytes()}));
            }
        };
        synth.write(&mut BufWriter::with_capacity(1 << 20, file), &mut report)
    });
    let outcome = outcome.and_then(|()| std::fs::rename(&part, path));
    // Half of a file of gigabytes must not stay on the disk.
    if outcome.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    outcome
}
