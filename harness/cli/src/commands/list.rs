//! `goldgate list`

use std::collections::BTreeMap;

use goldgate_harness::gate::coverage::{Coverage, coverage};
use goldgate_harness::kinds::Kind;
use goldgate_harness::kinds::container::case::{ContainerCase, FileExpectation};
use goldgate_harness::kinds::model::Model;
use goldgate_harness::kinds::model::case::ModelCase;
use goldgate_harness::kinds::op::case::{Case, Expect, GoldenSource};
use goldgate_harness::kinds::op::golden::is_pending;
use goldgate_harness::kinds::tokens::case::TokenCase;
use goldgate_harness::line::On;
use goldgate_harness::session::Suite;
use goldgate_harness::session::folders::{Folders, nothing, selects};
use goldgate_harness::store::Store;
use goldgate_harness::subject::launch::builtins;
use serde_json::{Value, json};

use crate::commands::{Exit, Failure, say, say_json};

/// Example: goldgate list layernorm --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whole names, globs with `*`, or parts of names.
    filter: Vec<String>,
    #[command(flatten)]
    folders: Folders,
    /// How many cases each op has, by type and family, and its faults.
    #[arg(long, conflicts_with = "filter")]
    coverage: bool,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

/// Our own subjects that are asked a trial, as one of them may share the answer of another.
fn asked(on: On) -> Vec<&'static str> {
    let all = builtins().into_iter();
    all.filter(|(_, roles)| on.asks(*roles)).map(|(label, _)| label).collect()
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let suites = args.folders.read_all()?;
    if args.coverage {
        let each = suites.iter().flat_map(|suite| coverage(&suite.specs));
        return covered(&each.collect::<Vec<_>>(), args.json);
    }
    let mut rows: Vec<Value> = suites.iter().flat_map(rows_of).collect();
    // All of them, because a filter that selects nothing gets its suggestion from here.
    let heads = suites.into_iter().flat_map(|suite| suite.heads);
    let on: BTreeMap<String, On> = heads.map(|head| (head.name, head.on)).collect();
    for row in &mut rows {
        let on = row["name"].as_str().and_then(|name| on.get(name));
        row["subjects"] = json!(on.map(|on| asked(*on)).unwrap_or_default());
    }
    let names: Vec<String> =
        rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    rows.retain(|row| {
        let base = row["name"].as_str().unwrap_or_default();
        let subjects = row["subjects"].as_array().into_iter().flatten();
        let mut subjects = subjects.filter_map(Value::as_str);
        // A filter may name a subject, which the names of cases do not contain.
        subjects.any(|subject| selects(&args.filter, &format!("{base}::{subject}")))
    });
    if rows.is_empty() {
        return Err(nothing(&args.filter, names.iter().map(String::as_str)).into());
    }
    if args.json {
        say_json(&Value::Array(rows))?;
        return Ok(Exit::Yes);
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let slow = if row["slow"] == true { " slow" } else { "" };
        say(&format!("{:<72} {:<5} {}{slow}", text("name"), text("kind"), text("golden")))?;
    }
    let own = asked(On::Engines).join(" and ");
    say(&format!("{} cases, those of ops on {own} each", rows.len()))?;
    Ok(Exit::Yes)
}

/// The cases and benches of a folder.
fn rows_of(suite: &Suite) -> Vec<Value> {
    let (specs, store) = (&suite.specs, &suite.store);
    let mut rows: Vec<Value> = specs.cases().map(|case| row(case, "op", store)).collect();
    rows.extend(specs.benches().map(|bench| row(&bench.case, "bench", store)));
    rows.extend(specs.files().map(of_files));
    rows.extend(specs.tokens.iter().map(tokens));
    rows.extend(specs.models.iter().map(|case| model(case, store)));
    rows
}

/// One block per op: a line per type, the reasons for empty cells, and the faults.
fn covered(table: &[Coverage], json: bool) -> Result<Exit, Failure> {
    if json {
        say_json(&json!(table))?;
        return Ok(Exit::Yes);
    }
    for op in table {
        say(&op.op)?;
        for line in &op.lines {
            let [exact, rough, refused] = line.cases.map(|n| match n {
                0 => "-".to_owned(),
                n => n.to_string(),
            });
            let stored = &line.stored;
            say(&format!(
                "  {stored:<9} exact {exact:>4}  rough {rough:>4}  refused {refused:>4}"
            ))?;
        }
        for (family, reason) in &op.without {
            let word = format!("{family:?}").to_lowercase();
            say(&format!("  no {word} case where it says -: {reason}"))?;
        }
        say(&format!("  {} faults: {}", op.faults.len(), op.faults.join(", ")))?;
    }
    Ok(Exit::Yes)
}

fn row(case: &Case, kind: &str, store: &Store) -> Value {
    json!({
        "name": case.full_name(),
        "gate": case.gate,
        "kind": kind,
        "family": case.family,
        "golden": golden(case, store),
        "slow": case.slow,
        "why": case.why,
    })
}

fn of_files(case: &ContainerCase) -> Value {
    let golden = match &case.expected {
        FileExpectation::Refused { .. } => "refusal",
        FileExpectation::Opened { .. } => "opened",
    };
    json!({
        "name": case.full_name(),
        "gate": case.gate,
        "kind": "container",
        "family": case.family(),
        "golden": golden,
        "slow": false,
        "why": case.why,
    })
}

fn tokens(case: &TokenCase) -> Value {
    json!({
        "name": case.full_name(),
        "gate": case.gate,
        "kind": "tokenizer",
        "family": goldgate_harness::line::Family::Exact,
        "golden": "written",
        "slow": false,
        "why": case.why,
    })
}

fn model(case: &ModelCase, store: &Store) -> Value {
    json!({
        "name": case.full_name(),
        "gate": case.gate,
        "kind": case.kind(),
        "family": Model.head(case).family,
        "golden": match &case.golden {
            None => "not needed",
            Some(path) if store.has(path) => "present",
            Some(_) => "pending",
        },
        "slow": case.slow,
        "why": case.why,
    })
}

/// The source of a case's expected numbers, in one word.
pub fn golden(case: &Case, store: &Store) -> &'static str {
    match &case.expect {
        Expect::Refusal { .. } => "refusal",
        Expect::Answer { golden: GoldenSource::Definition, .. } => "definition",
        Expect::Answer { golden: GoldenSource::Written(_), .. } => "written",
        Expect::Answer { .. } if is_pending(store, case) => "pending",
        Expect::Answer { .. } => "present",
    }
}
