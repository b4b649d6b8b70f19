//! `goldgate logits`

use std::path::PathBuf;

use goldgate_tensor::DType;
use goldgate_wire::call::{Extend, LoadOptions, Open, Want};
use goldgate_wire::frame;
use goldgate_wire::words::{Logits, Phase};
use serde_json::{Map, Value, json};

use crate::commands::model::ModelArgs;
use crate::commands::{Exit, Failure, numbers, say, say_json};

/// Example: goldgate logits --model tiny.gguf --ids 1,2 --trace 'layer.0.*' --out out.safetensors
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The tokens.
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', required = true)]
    ids: Vec<i32>,
    /// Rows whose logits are wanted: `last`, `all`, or a list.
    #[arg(long, value_name = "ROWS", default_value = "last")]
    rows: String,
    /// Slots that are wanted too, by name or glob.
    #[arg(long, value_name = "GLOB")]
    trace: Vec<String>,
    /// What runs: as it is, without rewrites, or each step against its own definition.
    #[arg(long, value_parser = ["as_run", "unfused", "local"], default_value = "as_run")]
    trace_mode: String,
    /// Where `logits` [rows, vocabulary] f32 and the slots go.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What came of it as JSON.
    #[arg(long)]
    json: bool,
}

fn wanted(args: &Args) -> Result<Want, Failure> {
    let (logits, rows) = match args.rows.as_str() {
        "last" => (Logits::Last, None),
        "all" => (Logits::All, None),
        list => {
            let rows: Result<Vec<u64>, _> = list.split(',').map(|r| r.trim().parse()).collect();
            let usage = |_| Failure::Usage(format!("--rows {list}: last, all or a list"));
            (Logits::All, Some(rows.map_err(usage)?))
        }
    };
    Ok(Want { trace: args.trace.clone(), logits, rows })
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let want = wanted(args)?;
    let options = LoadOptions {
        trace: args.trace.clone(),
        trace_mode: args.trace_mode.parse().ok(),
        ..args.model.options()
    };
    let mut loaded = match args.model.load(options, args.json)? {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let session = match loaded.ask(&Open { model: loaded.model.model }, args.json)? {
        Ok(opened) => opened.session,
        Err(exit) => return Ok(exit),
    };
    // Requested, because a single id would otherwise run as a decode step.
    let phase = Some(Phase::Prefill);
    let ask = Extend { session, want, phase, ids: args.ids.clone() };
    let answer = loaded.ask(&ask, args.json)?;
    let facts = loaded.facts.clone();
    loaded.finish();
    let answered = match answer {
        Ok(answered) => answered,
        Err(exit) => return Ok(exit),
    };
    // Slots are widened to f32, so a label keeps the type that they had.
    let label = |(name, dtype): (String, DType)| (format!("{name}.type"), dtype.name().to_owned());
    let labels = answered.types.into_iter().map(label).collect();
    goldgate_harness::report::writer::replace(
        &args.out,
        &frame::encode(&labels, &answered.results),
    )?;
    let tensors = answered.results;
    // Checked after writing, so that the tensors are there to find the first NaN in.
    for (name, tensor) in &tensors {
        numbers::finite(&args.model.model, name, tensor)?;
    }
    let shapes: Map<String, Value> =
        tensors.iter().map(|(n, t)| (n.clone(), t.meta.to_string().into())).collect();
    match args.json {
        true => say_json(&json!({"results": shapes, "load": facts}))?,
        false => {
            for (name, meta) in &shapes {
                say(&format!("{name} {}", meta.as_str().unwrap_or_default()))?;
            }
        }
    }
    Ok(Exit::Yes)
}
