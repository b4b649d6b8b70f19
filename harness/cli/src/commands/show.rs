//! `goldgate show`

use std::fmt::Write;

use goldgate_harness::fill::{self, Fill, Grid};
use goldgate_harness::golden::make::wrong_of;
use goldgate_harness::kinds::container::case::ContainerCase;
use goldgate_harness::kinds::op::case::{Case, Expect};
use goldgate_harness::kinds::op::golden::{self, is_pending};
use goldgate_harness::kinds::op::oracle as ask;
use goldgate_harness::kinds::op::page::{expectation, number};
use goldgate_harness::line::{Sort, hex};
use goldgate_harness::session::Suite;
use goldgate_harness::session::folders::Folders;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::near::guess;
use serde_json::{Value, json};

use crate::commands::list::golden;
use crate::commands::{Exit, Failure, say, say_json};

/// How many of the written values a page shows.
const SHOWN: usize = 8;

/// Example: goldgate show gate1::layernorm::ragged::f16
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The trial's name, or so many of its parts that only one is meant.
    trial: String,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let suites = args.folders.read_all()?;
    let names: Vec<String> = suites.iter().flat_map(names).collect();
    let base = meant(&args.trial, &names)?;
    let suite = suites.iter().find(|suite| suite.has(&base));
    let Suite { specs, store, .. } = suite.ok_or_else(|| no_trial(&args.trial, &names))?;
    if let Some(case) = specs.files().find(|case| case.full_name() == base) {
        return show_files(case, args.json);
    }
    let benches = specs.benches().map(|b| &b.case);
    if let Some(case) = specs.cases().chain(benches).find(|c| c.full_name() == base) {
        let facts = facts(case, specs, store);
        match args.json {
            true => say_json(&facts)?,
            false => say(&page(case, &facts))?,
        }
        return Ok(Exit::Yes);
    }
    let tokens = specs.tokens.iter().find(|c| c.full_name() == base);
    let tokens = tokens.map(|c| (&c.why, &c.source, &c.place, format!("{:?}", c.vectors)));
    let model = specs.models.iter().find(|c| c.full_name() == base);
    let model = model.map(|c| (&c.why, &c.source, &c.place, format!("{:?}", c.ask)));
    let (why, source, place, asks) = tokens.or(model).ok_or_else(|| no_trial(&args.trial, &[]))?;
    let written = format!("{}:{}:{}", place.file, place.line, place.column);
    if args.json {
        say_json(&json!({"name": base, "why": why, "source": source, "file": written,
            "asks": asks}))?;
        return Ok(Exit::Yes);
    }
    say(&format!("{base}\n  why      {why}\n  source   {source}\n  written  {written}"))?;
    say(&format!("  asks     {asks}"))?;
    Ok(Exit::Yes)
}

/// The names of all trials, without subjects.
fn names(suite: &Suite) -> Vec<String> {
    // A check has no question that could be shown.
    let plan = suite.heads.iter().filter(|head| head.sort != Sort::Check);
    plan.map(|head| head.name.clone()).collect()
}

/// The trial that adjacent parts of a name select, with or without a subject at the end.
fn meant(written: &str, names: &[String]) -> Result<String, Failure> {
    let parts: Vec<&str> = written.split("::").collect();
    // In a name of three or more parts the last one may be a subject.
    let short = if parts.len() > 2 { parts.len() - 1 } else { parts.len() };
    for parts in [&parts[..], &parts[..short]] {
        let has = |name: &&String| {
            let own: Vec<&str> = name.split("::").collect();
            own.windows(parts.len()).any(|window| window == parts)
        };
        match names.iter().filter(has).collect::<Vec<_>>().as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            // Refused, because the page of another trial than the one that was meant would mislead.
            several => {
                let shown = several.iter().take(SHOWN).map(|n| format!("\n  {n}"));
                let shown = shown.collect::<String>();
                let text = format!("{written:?} is {} trials, among them{shown}", several.len());
                return Err(Failure::Usage(text));
            }
        }
    }
    Err(no_trial(written, names))
}

fn no_trial(written: &str, names: &[String]) -> Failure {
    // Suggested with and without the outer parts, because both forms may be written.
    let short = names.iter().filter_map(|name| name.split_once("::")).map(|(_, rest)| rest);
    let cases = short.clone().filter_map(|name| name.rsplit_once("::")).map(|(case, _)| case);
    let known = names.iter().map(String::as_str).chain(short).chain(cases);
    Failure::Usage(format!("{written:?} is no trial{}", guess(written, known)))
}

/// Shows the first file of a case byte by byte, and what is expected of it.
fn show_files(case: &ContainerCase, as_json: bool) -> Result<Exit, Failure> {
    // The first variant is enough to read, because the others differ from it in a value.
    let files = case.make(0).map_err(Failure::Usage)?;
    let bytes: Vec<(&str, Vec<u8>)> = files.bytes();
    let written = format!("{}:{}:{}", case.place.file, case.place.line, case.place.column);
    let expectation = format!("{:?}", case.expected);
    if as_json {
        let files: Vec<Value> = bytes
            .iter()
            .map(|(name, bytes)| json!({"name": name, "bytes": bytes.len(), "hex": hex(bytes)}))
            .collect();
        say_json(&json!({
            "name": case.full_name(), "why": case.why, "source": case.source, "file": written,
            "variants": case.variants(), "files": files, "awaited": expectation,
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
    say(&format!("  awaited  {expectation}"))?;
    Ok(Exit::Yes)
}

/// How many lines of sixteen bytes are shown of a file.
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
                "fill": words(&input.fill),
                "grid": match input.grid {
                    Grid::Common => "common",
                    Grid::Full => "full",
                },
                "sha256": fill::hash(&tensor),
            });
            // Block types are shown as bytes only: decoding them is up to the engine.
            if !input.meta.dtype.is_block() {
                facts["statistics"] = statistics(&tensor.to_f64());
            }
            facts
        })
        .collect();
    let expect = match &case.expect {
        Expect::Refusal { kind, operand } => json!({"refusal": kind.name(), "operand": operand}),
        Expect::Answer { tolerance, .. } => json!({
            "golden": golden(case, store),
            "tolerance": expectation(case),
            "because": tolerance.because,
        }),
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
        "awaited": expect,
        "repeat": case.repeat,
        "timeout_s": case.timeout.as_secs(),
    });
    if let Some(path) = ask::path(case)
        && !is_pending(store, case)
    {
        let asked = ask::question(case, &wrong_of(specs, case));
        facts["provenance"] = match golden::of_case(store, case, &asked) {
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
    // One NaN would make every figure NaN, so such elements are counted apart.
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

/// A fill in the form that specs use.
fn words(fill: &Fill) -> String {
    let n = |x: &f64| number(*x);
    match fill {
        Fill::Uniform(lo, hi) => format!("uniform: [{}, {}]", n(lo), n(hi)),
        Fill::Normal(mean, std) => format!("normal: [{}, {}]", n(mean), n(std)),
        Fill::Integers(lo, hi) => format!("integers: [{lo}, {hi}]"),
        Fill::Powers(lo, hi) => format!("powers: [{lo}, {hi}]"),
        Fill::Outliers { std, every, times } => {
            format!("outliers: {{ std: {}, every: {every}, times: {} }}", n(std), n(times))
        }
        Fill::Ramp(from, to) => format!("ramp: [{}, {}]", n(from), n(to)),
        Fill::Constant(c) => format!("constant: {}", n(c)),
        Fill::OneHotLast => "one_hot: last".to_owned(),
        Fill::Values(values) => {
            let shown: Vec<String> = values.iter().take(SHOWN).map(n).collect();
            let more = if values.len() > SHOWN { ", …" } else { "" };
            format!("values: [{}{more}]", shown.join(", "))
        }
        Fill::Ids(lo, hi) => format!("ids: [{lo}, {hi}]"),
        Fill::Blocks(lo, hi) => format!("blocks: {{ scale: [{}, {}] }}", n(lo), n(hi)),
        Fill::EveryCode => "blocks: every_code".to_owned(),
    }
}

/// Statistics in words.
fn in_words(statistics: &Value) -> String {
    let n = |key: &str| number(statistics[key].as_f64().unwrap_or(f64::NAN));
    let first = statistics["first"].as_array().into_iter().flatten();
    let first: Vec<String> = first.filter_map(Value::as_f64).map(number).collect();
    let nonfinite = match statistics["nonfinite"].as_u64() {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} of them not finite"),
    };
    let count = n("count");
    if first.is_empty() {
        return format!("{count} elements{nonfinite}");
    }
    let (smallest, largest) = (n("smallest"), n("largest"));
    let (mean, deviation, first) = (n("mean"), n("deviation"), first.join(", "));
    format!(
        "{count} elements{nonfinite}, {smallest} to {largest}, mean {mean}, deviation {deviation}; \
         first {first}"
    )
}

/// An attribute, a shape or a list as YAML.
fn yaml(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}: {}", yaml(v))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(yaml).collect::<Vec<_>>().join(", "))
        }
        // Attributes were rounded to f32, so f32 digits reproduce what was written.
        Value::Number(x) if x.is_f64() => match x.as_f64().unwrap_or(f64::NAN) {
            x if f64::from(x as f32) == x => format!("{:?}", x as f32),
            x => number(x),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A witness with its version and date.
fn witness_line(witness: &Value) -> String {
    let [name, version, date] = ["name", "version", "date"].map(|key| yaml(&witness[key]));
    format!("{name}, {version}, {date}")
}

/// The page of a case.
fn page(case: &Case, facts: &Value) -> String {
    let mut page = case.full_name();
    let mut field = |name: &str, text: &str| {
        // Writing into a string cannot fail.
        let _ = write!(page, "\n  {name:<8} {text}");
    };
    let text = |value: &Value, key: &str| yaml(&value[key]);
    field("why", &case.why);
    field("source", &case.source);
    field("written", &text(facts, "file"));
    field("family", &text(facts, "family"));
    let (op, dtype, attributes) = (&case.ask.op, case.ask.dtype, text(facts, "attributes"));
    field("asked", &format!("{op} {dtype} {attributes}"));
    for operand in facts["operands"].as_array().into_iter().flatten() {
        let (name, dtype, shape) =
            (text(operand, "name"), text(operand, "type"), text(operand, "shape"));
        field("operand", &format!("{name} {dtype} {shape}"));
        field("", &format!("fill {}, grid {}", text(operand, "fill"), text(operand, "grid")));
        if let Some(statistics) = operand.get("statistics") {
            field("", &in_words(statistics));
        }
        field("", &format!("sha256 {}", text(operand, "sha256")));
    }
    field("awaited", &expectation(case));
    if let Some(because) = facts["awaited"]["because"].as_str() {
        field("because", because);
    }
    if let Some(golden) = facts["awaited"]["golden"].as_str() {
        field("golden", golden);
    }
    for (key, value) in facts["provenance"].as_object().into_iter().flatten() {
        let each = value.as_array().filter(|l| l.iter().any(Value::is_object));
        match each {
            Some(list) => list.iter().for_each(|v| field("", &format!("by {}", witness_line(v)))),
            None => field("", &format!("{key}: {}", yaml(value))),
        }
    }
    field("repeat", &text(facts, "repeat"));
    field("timeout", &format!("{} s", text(facts, "timeout_s")));
    page
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The printed page of a case whose golden is written, so that no new golden changes it.
    #[test]
    fn the_page_is_readable() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
        let folders = Folders {
            specs: vec![root.join("specs")],
            golden: vec![root.join("golden")],
            models: None,
        };
        let suites = folders.read_all().unwrap_or_else(|_| panic!("specs that can be read"));
        let Suite { specs, store, .. } = &suites[0];
        let name = "gate1::layernorm::one_to_four::f32";
        let case = specs.cases().find(|c| c.full_name() == name).expect("the worked example");
        let page = page(case, &facts(case, specs, store));
        // Its line moves with the file above it.
        let lines = page.lines().filter(|l| !l.starts_with("  written "));
        let page: String = lines.map(|l| format!("{l}\n")).collect();
        assert_eq!(page, include_str!("../../tests/pages/show.txt"), "\n{page}");
    }

    #[test]
    fn fills_read_as_they_are_written() {
        for (fill, want) in [
            (Fill::Uniform(0.5, 1.5), "uniform: [0.5, 1.5]"),
            (
                Fill::Outliers { std: 1.0, every: 97, times: 200.0 },
                "outliers: { std: 1, every: 97, times: 200 }",
            ),
            (Fill::Blocks(0.01, 0.1), "blocks: { scale: [0.01, 0.1] }"),
            (Fill::Values(vec![1.0; 9]), "values: [1, 1, 1, 1, 1, 1, 1, 1, …]"),
        ] {
            assert_eq!(words(&fill), want);
        }
        assert_eq!(in_words(&statistics(&[f64::NAN])), "1 elements, 1 of them not finite");
    }
}
