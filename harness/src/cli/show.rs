//! `goldgate show`

use serde_json::{Value, json};

use crate::case::{Case, Expect};
use crate::cli::folders::Folders;
use crate::cli::list::golden;
use crate::cli::{Exit, Failure, say, say_json};
use crate::container::ContainerCase;
use crate::fill;
use crate::golden::{ask, make::wrong_of, store::Store};
use crate::report::provenance::hex;
use crate::spec::Specs;

/// Example: goldgate show gate1::layernorm::ragged::f16
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trial's name, with or without its subject.
    trial: String,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let specs = args.folders.read_all()?;
    let store = args.folders.store()?;
    let parts: Vec<&str> = args.trial.split("::").collect();
    let base = parts[..parts.len().min(4)].join("::");
    if let Some(case) = specs.files().find(|case| case.full_name() == base) {
        return show_files(case, args.json);
    }
    let benches = specs.benches().map(|b| &b.case);
    let Some(case) = specs.cases().chain(benches).find(|c| c.full_name() == base) else {
        let files = specs.files().map(ContainerCase::full_name);
        let near = specs.cases().map(Case::full_name).chain(files).collect::<Vec<_>>();
        let guess = crate::spec::problem::nearest(&base, near.iter().map(String::as_str));
        let guess = guess.map(|g| format!("; did you mean {g}?")).unwrap_or_default();
        return Err(Failure::Usage(format!("{:?} is no trial{guess}", args.trial)));
    };
    let facts = facts(case, &specs, &store);
    if args.json {
        say_json(&facts)?;
    } else {
        print(case, &facts)?;
    }
    Ok(Exit::Yes)
}

/// The first file of a case, byte for byte, and what is awaited of it.
fn show_files(case: &ContainerCase, as_json: bool) -> Result<Exit, Failure> {
    let files = case.make(0).map_err(Failure::Usage)?;
    let bytes: Vec<(&str, Vec<u8>)> = files.bytes();
    let written = format!("{}:{}:{}", case.place.file, case.place.line, case.place.column);
    let awaited = format!("{:?}", case.awaits);
    if as_json {
        let files: Vec<Value> = bytes
            .iter()
            .map(|(name, bytes)| json!({"name": name, "bytes": bytes.len(), "hex": hex(bytes)}))
            .collect();
        say_json(&json!({
            "name": case.full_name(), "why": case.why, "source": case.source, "file": written,
            "variants": case.variants(), "files": files, "awaited": awaited,
        }))?;
        return Ok(Exit::Yes);
    }
    say(&case.full_name())?;
    say(&format!("  why      {}", case.why))?;
    say(&format!("  source   {}", case.source))?;
    say(&format!("  written  {written}"))?;
    say(&format!("  files    {}, all awaited alike; the first:", case.variants()))?;
    for (name, bytes) in &bytes {
        say(&format!("           {name}, {} bytes", bytes.len()))?;
        for (line, chunk) in bytes.chunks(16).enumerate().take(SHOWN_LINES) {
            let text: String = chunk.iter().map(|b| printable(*b)).collect();
            say(&format!("           {:6}  {:47}  {text}", line * 16, spaced(chunk)))?;
        }
    }
    say(&format!("  awaited  {awaited}"))?;
    Ok(Exit::Yes)
}

/// How many lines of sixteen bytes a file is shown by.
const SHOWN_LINES: usize = 24;

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { byte.into() } else { '.' }
}

fn spaced(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn facts(case: &Case, specs: &Specs, store: &Store) -> Value {
    let operands: Vec<Value> = case
        .ask
        .operands
        .iter()
        .map(|input| {
            let tensor = fill::fill(input);
            let mut facts = json!({
                "name": input.name,
                "type": input.meta.dtype.name(),
                "shape": input.meta.shape,
                "fill": format!("{:?}", input.fill),
                "sha256": fill::hash(&tensor),
            });
            // Block types are shown by their bytes alone: decoding them is the engine's business.
            if !input.meta.dtype.is_block() {
                facts["statistics"] = statistics(&tensor.to_f64());
            }
            facts
        })
        .collect();
    let awaited = match &case.expect {
        Expect::Refusal { kind, operand } => json!({"refusal": kind.name(), "operand": operand}),
        Expect::Answer { tolerance, .. } => {
            json!({"golden": golden(case, store), "tolerance": format!("{tolerance:?}")})
        }
    };
    let mut facts = json!({
        "name": case.full_name(),
        "why": case.why,
        "source": case.source,
        "file": format!("{}:{}:{}", case.place.file, case.place.line, case.place.column),
        "family": case.family,
        "dtype": case.ask.dtype.name(),
        "attributes": case.ask.attributes,
        "operands": operands,
        "awaited": awaited,
        "repeat": case.repeat,
        "timeout_s": case.timeout.as_secs(),
    });
    if let Some(path) = ask::path(case)
        && !store.is_pending(case)
    {
        let asked = ask::question(case, &wrong_of(specs, case));
        facts["provenance"] = match store.awaited(case, &asked) {
            Ok(golden) => json!({
                "file": path, "question": asked.hash, "exact": golden.exact,
                "witnesses": golden.witnesses, "wrong": golden.wrong.keys().collect::<Vec<_>>(),
            }),
            Err(problem) => problem.to_json(),
        };
    }
    facts
}

fn statistics(x: &[f64]) -> Value {
    let finite: Vec<f64> = x.iter().copied().filter(|x| x.is_finite()).collect();
    let n = finite.len().max(1) as f64;
    let mean = finite.iter().sum::<f64>() / n;
    let variance = finite.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    json!({
        "count": x.len(),
        "nonfinite": x.len() - finite.len(),
        "smallest": finite.iter().copied().fold(f64::INFINITY, f64::min),
        "largest": finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "mean": mean,
        "deviation": variance.sqrt(),
        "first": finite.iter().take(4).collect::<Vec<_>>(),
    })
}

fn print(case: &Case, facts: &Value) -> Result<(), Failure> {
    say(&case.full_name())?;
    say(&format!("  why      {}", case.why))?;
    say(&format!("  source   {}", case.source))?;
    say(&format!("  written  {}", facts["file"].as_str().unwrap_or_default()))?;
    say(&format!("  asked    {} {} {}", case.ask.op, case.ask.dtype, facts["attributes"]))?;
    for operand in facts["operands"].as_array().into_iter().flatten() {
        let text = |key: &str| operand[key].as_str().unwrap_or_default().to_owned();
        say(&format!("  operand  {} {} {}", text("name"), text("type"), operand["shape"]))?;
        say(&format!("           {}", text("fill")))?;
        if let Some(statistics) = operand.get("statistics") {
            say(&format!("           {statistics}"))?;
        }
        say(&format!("           sha256 {}", text("sha256")))?;
    }
    say(&format!("  awaited  {}", facts["awaited"]))?;
    if let Some(provenance) = facts.get("provenance") {
        say(&format!("  golden   {provenance}"))?;
    }
    Ok(())
}
