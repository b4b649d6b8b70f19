//! `goldgate logits`

use std::collections::BTreeMap;
use std::path::PathBuf;

use goldgate_tensor::Tensor;
use goldgate_wire::frame;
use serde_json::{Map, Value, json};

use crate::commands::model::{ModelArgs, Said};
use crate::commands::{Exit, Failure, say, say_json};

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

fn wanted(args: &Args) -> Result<Value, Failure> {
    let mut want = json!({"trace": args.trace});
    match args.rows.as_str() {
        "last" | "all" => want["logits"] = args.rows.as_str().into(),
        list => {
            let rows: Result<Vec<u64>, _> = list.split(',').map(|r| r.trim().parse()).collect();
            let usage = |_| Failure::Usage(format!("--rows {list}: last, all or a list"));
            want["logits"] = "all".into();
            want["rows"] = json!(rows.map_err(usage)?);
        }
    }
    Ok(want)
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let want = wanted(args)?;
    let more = json!({"trace": args.trace, "trace_mode": args.trace_mode});
    let mut loaded = match args.model.load(&more, args.json)? {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let none = BTreeMap::new();
    let open = json!({"call": "open", "model": loaded.handle});
    let session = match loaded.ask(&open, &none, args.json)? {
        Said::Ok(body, _) => body["session"].clone(),
        Said::End(exit) => return Ok(exit),
    };
    let ids = BTreeMap::from([("ids".to_owned(), Tensor::from_i32(&[args.ids.len()], &args.ids))]);
    let ask = json!({"call": "extend", "session": session, "want": want, "phase": "prefill"});
    let answer = loaded.ask(&ask, &ids, args.json)?;
    let facts = loaded.facts.clone();
    loaded.finish();
    let (body, tensors) = match answer {
        Said::Ok(body, tensors) => (body, tensors),
        Said::End(exit) => return Ok(exit),
    };
    let label = |(name, t): (&String, &Value)| {
        (format!("{name}.type"), t.as_str().unwrap_or_default().to_owned())
    };
    let labels = body["types"].as_object().into_iter().flatten().map(label).collect();
    goldgate_harness::report::document::replace(&args.out, &frame::encode(&labels, &tensors))?;
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
