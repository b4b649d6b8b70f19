//! `golden make` for models: asks the oracle of models the question of every case. There is one
//! golden per set of weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goldgate_wire::frame;
use serde_json::Value;

use crate::golden::make::{Made, Options, Oracle, OracleError, record_given};
use crate::kinds::model;
use crate::kinds::model::case::ModelCase;
use crate::kinds::model::golden::{Question, decode, question};
use crate::kinds::model::selfcheck::self_check;
use crate::spec::Specs;
use crate::store::{Label, Store, Witness};
use crate::yaml::Problem;

/// The default oracle of models.
pub const ORACLE: &str = "python3 golden/oracle/models.py";

/// The faults of the reference that the mutants of a case name, sorted, without repetition.
pub fn wrong_of_model(specs: &Specs, case: &ModelCase) -> Vec<String> {
    let file = specs.mutants.iter().find(|m| m.mutants.value == case.stem);
    let list = file.iter().flat_map(|f| &f.list);
    let of_case = list.filter(|m| m.killed_by.as_ref().is_some_and(|k| k.value == case.name));
    let mut wrong: Vec<String> = of_case.filter_map(|m| m.wrong.clone()).collect();
    // In one order and without repetition, because the list is part of the question's hash.
    wrong.sort();
    wrong.dedup();
    wrong
}

/// All goldens that cases about models need: path → the cases that share it. The first of them is
/// asked; it is the case of the form that the golden is named after, if that is among them.
pub fn orders(specs: &Specs) -> BTreeMap<&str, Vec<&ModelCase>> {
    let mut orders: BTreeMap<&str, Vec<&ModelCase>> = BTreeMap::new();
    for case in &specs.models {
        if let Some(path) = &case.golden {
            orders.entry(path).or_default().push(case);
        }
    }
    for (path, cases) in &mut orders {
        // The form that gives the golden its name holds the numbers, so it is the one to be asked.
        let own = |case: &&&ModelCase| path.ends_with(&format!(".{}.safetensors", case.form.label));
        if let Some(at) = cases.iter().position(|case| own(&case)) {
            cases.swap(0, at);
        }
    }
    orders
}

/// The case whose question made the golden of `case`.
pub fn asker_of<'s>(specs: &'s Specs, case: &'s ModelCase) -> &'s ModelCase {
    let path = case.golden.as_deref().unwrap_or_default();
    let own = |other: &&ModelCase| {
        other.golden == case.golden && path.ends_with(&format!(".{}.safetensors", other.form.label))
    };
    specs.models.iter().filter(|c| c.stem == case.stem).find(own).unwrap_or(case)
}

/// Makes all goldens of models that `selected` cases need and whose questions have changed.
///
/// # Errors
/// The oracle does not start, or dies.
pub fn make(
    specs: &Specs,
    store: &mut Store,
    options: &Options<'_>,
    models: &[PathBuf],
    made: &mut Made,
    selected: impl Fn(&ModelCase) -> bool,
) -> Result<(), OracleError> {
    let mut oracle = None;
    // A golden contains the hash of the model's file, so new files must be recorded first.
    record_given(store, made);
    for (path, cases) in orders(specs) {
        if !cases.iter().any(|case| selected(case)) {
            continue;
        }
        let case = cases[0];
        let wrong = wrong_of_model(specs, case);
        let root = store.root.clone();
        let asked = match question(case, &wrong, &store.manifest, &root, models) {
            Ok(asked) => asked,
            // A checkpoint that is not on this machine is not an error.
            Err(_) if path.starts_with("local/") => continue,
            Err(found) => {
                made.problems.push(Problem::of_file("IO", path, found, "a file below golden/"));
                continue;
            }
        };
        // Read as a run reads it, so that a golden that a run would refuse is made again.
        let current =
            || store.has(path) && model::golden::of_case(store, case, path, &asked).is_ok();
        if !options.again && current() {
            made.kept += 1;
            continue;
        }
        let running = match &mut oracle {
            Some(running) => running,
            empty => empty.insert(Oracle::start(options.command)?),
        };
        make_golden(store, (path, case), &asked, options, (running, made))?;
    }
    Ok(())
}

fn make_golden(
    store: &mut Store,
    (path, case): (&str, &ModelCase),
    asked: &Question,
    options: &Options<'_>,
    (oracle, made): (&mut Oracle, &mut Made),
) -> Result<(), OracleError> {
    let frame = oracle.ask(asked.json.clone(), asked.tensors.clone())?;
    let mut problem = |code, found: String, expected: &str| {
        let mut p = Problem::of_file(code, &case.place.file, found, expected);
        p.place = case.place.clone();
        p.field = case.full_name();
        made.problems.push(p);
    };
    let Some(ok) = frame.json.get("ok") else {
        problem("ORACLE", frame.json.to_string(), "an answer by the oracle");
        return Ok(());
    };
    let label = label(path, asked, ok, options);
    let bytes = frame::encode(&label.metadata(), &frame.tensors);
    let checked = match decode(path, &bytes, case.kind()) {
        // Checked before it is written: a golden that cannot show planted faults proves nothing.
        Ok((golden, _)) => self_check(case, &golden).map_err(|found| {
            Problem::of_file("GOLDEN_WEAK", path, found, "a golden that shows planted faults")
        }),
        Err(problem) => Err(problem),
    };
    if let Err(problem) = checked {
        made.problems.push(problem);
        return Ok(());
    }
    match store.write(path, &label, &frame.tensors) {
        Ok(()) => made.written.push(path.to_owned()),
        Err(e) => problem("IO", e.to_string(), "a file"),
    }
    Ok(())
}

fn label(path: &str, asked: &Question, ok: &Value, options: &Options<'_>) -> Label {
    let mut witnesses: Vec<Witness> =
        serde_json::from_value(ok["witnesses"].clone()).unwrap_or_default();
    for witness in &mut witnesses {
        witness.date = options.today.to_string();
    }
    Label {
        case: path.trim_end_matches(".safetensors").to_owned(),
        question: asked.hash.clone(),
        inputs: asked.inputs.clone(),
        witnesses,
        exact: false,
    }
}

/// The folders that are searched for checkpoints: the one that the user named, and the hub's cache.
pub fn folders(named: Option<&Path>, hub_cache: Option<&Path>) -> Vec<PathBuf> {
    named.into_iter().chain(hub_cache).map(Path::to_path_buf).collect()
}
