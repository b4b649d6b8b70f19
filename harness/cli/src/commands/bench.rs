//! `goldgate bench`

mod model;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use comfy_table::{Table, presets};
use goldgate_harness::line::{Row, Verdict};
use goldgate_harness::session::folders::Folders;
use goldgate_harness::session::{Request, Session};
use serde_json::{Value, json};

use crate::commands::{Exit, Failure, say, say_json};

/// Examples: goldgate bench layernorm --on cuda:0
/// goldgate bench --model model.gguf --prefill 512 --decode 128 --on cuda:0
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Benches: whole names, globs with `*`, or parts of names.
    #[arg(conflicts_with = "model")]
    filter: Vec<String>,
    /// The card; for a model any subject.
    #[arg(long, value_name = "SUBJECT", default_value = "cuda:0")]
    on: String,
    /// In place of benches a model: a GGUF file, or a folder with config.json and safetensors.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    speed: model::Speed,
    #[command(flatten)]
    folders: Folders,
    /// The figures as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(path) = &args.model {
        return model::run(&args.speed, path, &args.on, args.json);
    }
    if args.speed.loads() {
        return Err(Failure::Usage("options of a model, and no --model".to_owned()));
    }
    let session = Session::open(Request {
        filters: args.filter.clone(),
        gates: vec![1, 2, 3],
        on: vec![args.on.clone()],
        folders: args.folders.clone(),
        benches_alone: true,
        // One at a time, because two benches on a card would slow each other down.
        jobs: 1,
        program: std::env::current_exe()?,
        ..Request::default()
    })?;
    if session.plan.trials.is_empty() {
        return Err(Failure::Usage(format!("{:?} selects no bench", args.filter)));
    }
    let mut rows: Vec<Row> = Vec::new();
    let report =
        session.bench(Arc::new(AtomicBool::new(false)), &mut |row| rows.push(row.clone()))?;
    // Without its card a bench has measured nothing.
    if let Some(why) = report.absent.values().next() {
        return Err(Failure::Absent(why.clone()));
    }
    // One reason is enough, because all benches share the card.
    if let Some(Verdict::NotRun { message, .. }) = rows.first().map(|r| &r.verdict) {
        return Err(Failure::Absent(message.clone()));
    }
    match args.json {
        true => {
            let fact = |r: &Row| json!({"name": r.name, "figures": r.figures});
            say_json(&Value::Array(rows.iter().map(fact).collect()))?;
        }
        false => say(&table(&rows))?,
    }
    let red = rows.iter().any(|r| r.verdict != Verdict::Pass);
    Ok(if red { Exit::No } else { Exit::Yes })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["bench", "median µs", "rate", "limit", "share"]);
    for row in rows {
        let figure = |key: &str| row.figures.get(key).copied();
        let rate = match (figure("gb_s"), figure("tflop_s")) {
            (Some(x), _) => format!("{x:.0} GB/s"),
            (_, Some(x)) => format!("{x:.1} TFLOP/s"),
            _ => row.page.clone().unwrap_or_default(),
        };
        let limit = match (figure("gb_s"), figure("tflop_s")) {
            (_, Some(_)) => figure("mma_tflop_s").map(|x| format!("{x:.0} TFLOP/s mma.sync")),
            _ => figure("read_gb_s")
                .zip(figure("copy_gb_s"))
                .map(|(r, c)| format!("read {r:.0}, copy {c:.0} GB/s")),
        };
        table.add_row([
            row.name.clone(),
            figure("median_us").map_or_else(|| "-".into(), |x| format!("{x:.1}")),
            rate,
            limit.unwrap_or_default(),
            figure("share").map_or_else(|| "-".into(), |x| format!("{:.0} %", 100.0 * x)),
        ]);
    }
    table.to_string()
}
