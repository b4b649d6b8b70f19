//! Finds mutants that cannot be planted: a run would count them as survivors, or plant nothing.

use std::collections::BTreeSet;

use goldgate_engine::ops;
use goldgate_engine::weights::Gguf;
use goldgate_harness::kinds::model::case::{At, ModelCase};
use goldgate_harness::kinds::mutant::model::ModelEdit;
use goldgate_harness::kinds::mutant::{AskEdit, Mutant, MutantsFile};
use goldgate_harness::kinds::op::case::Case;
use goldgate_harness::mutants::kernel;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::cause::causes;
use goldgate_harness::yaml::near::{guess, one_of};
use goldgate_harness::yaml::place::Step;

use crate::review::{distinct, models};

/// Mutants whose edits name things that do not exist.
pub fn problems(specs: &Specs, store: Option<&Store>) -> Vec<Problem> {
    let files = specs.mutants.iter().filter(|f| !specs.broken.has(&f.mutants.value));
    files.flat_map(|file| causes(of_file(specs, store, file))).collect()
}

fn of_file(specs: &Specs, store: Option<&Store>, file: &MutantsFile) -> Vec<Problem> {
    let stem = file.mutants.value.as_str();
    let path = format!("mutants/{stem}.yaml");
    let cases: Vec<&ModelCase> = specs.models.iter().filter(|c| c.stem == stem).collect();
    let mut problems = Vec::new();
    // Equivalent mutants are never planted.
    for mutant in file.list.iter().filter(|m| m.equivalent.is_none()) {
        let id = ("list", Some(mutant.id.value.as_str()));
        let mut note = |way: &[Step<'_>], found: &str, expected: &str| {
            let way: Vec<Step<'_>> = [&[id], way].concat();
            problems.push(specs.problem("EDIT", (&path, &way), found, expected));
        };
        if let Some(edit) = &mutant.kernel {
            let page = edit.file.clone().unwrap_or_else(|| format!("{stem}.cu"));
            if let Err(why) = kernel::edited(&page, edit) {
                let way = [("kernel", None), ("replace", None)];
                note(&way, &why, "text that occurs once in a page of cuda/");
            }
        }
        // A model has no operands: its edits are compared with its file below.
        if let Some(edit) = mutant.ask.as_ref().filter(|_| cases.is_empty()) {
            for (key, name, expected) in of_ask(specs, stem, mutant, edit) {
                note(&[("ask", None), (key, Some(&name))], &name, &expected);
            }
        }
        // What follows compares with goldens, which a folder of specs alone does not have.
        let Some(store) = store else { continue };
        if let Some(name) = &mutant.wrong
            && let Some(known) = formulas(specs, store, stem, mutant)
            && !known.contains(name.as_str())
        {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let expected = format!(
                "a formula that the golden holds: {}; a new one of the oracle's comes by goldgate \
                 golden make {stem}",
                one_of(name, &known)
            );
            note(&[("wrong", None)], name, &expected);
        }
        if let Some(edit) = mutant.ask.as_ref().and_then(|ask| ask.model.as_ref()) {
            for (key, name, expected) in of_model(store, &cases, mutant, edit) {
                note(&[("ask", None), ("model", None), (key, None)], &name, &expected);
            }
        }
    }
    problems
}

/// The key, the name it gives, and the names it may give.
type Wrong = (&'static str, String, String);

/// Operands that no variant of the case has, and attributes and ops that do not exist.
fn of_ask(specs: &Specs, stem: &str, mutant: &Mutant, edit: &AskEdit) -> Vec<Wrong> {
    let cases = cases_of(specs, stem, mutant);
    let operands: Vec<&str> =
        distinct(cases.iter().flat_map(|c| &c.ask.operands).map(|i| i.name.as_str()));
    if operands.is_empty() {
        return Vec::new(); // a tokenizer's, or a case of no operand
    }
    let mut wrong = Vec::new();
    let lists = [
        ("swap", edit.swap.iter().flatten().collect::<Vec<_>>()),
        ("transpose", edit.transpose.iter().collect()),
        ("roll", edit.roll.keys().collect()),
        ("zero", edit.zero.iter().collect()),
        ("last_row_only", edit.last_row_only.iter().collect()),
        ("round", edit.round.keys().collect()),
        ("shift", edit.shift.keys().collect()),
        ("omit", edit.omit.iter().collect()),
    ];
    for (key, names) in lists {
        for name in names.into_iter().filter(|name| !operands.contains(&name.as_str())) {
            let expected = format!("an operand of its case: {}", one_of(name, &operands));
            wrong.push((key, name.clone(), expected));
        }
    }
    // Attributes belong to the op that is asked in the end.
    let asked = edit.op.as_deref().unwrap_or(stem);
    let Some(op) = ops::find(asked) else {
        let near = guess(asked, ops::ALL.iter().map(|op| op.signature().name));
        wrong.push(("op", asked.to_owned(), format!("an op of the vocabulary{near}")));
        return wrong;
    };
    let known: Vec<&str> = op.signature().attributes.iter().map(|a| a.name).collect();
    for name in edit.attributes.keys().filter(|name| !known.contains(&name.as_str())) {
        let expected = format!("an attribute of {asked}: {}", one_of(name, &known));
        wrong.push(("attributes", name.clone(), expected));
    }
    wrong
}

/// The wrong formulas in the goldens of a mutant's case; none if there is no golden.
fn formulas(specs: &Specs, store: &Store, stem: &str, mutant: &Mutant) -> Option<BTreeSet<String>> {
    let name = mutant.killed_by.as_ref()?.value.as_str();
    let models = specs.models.iter().filter(|c| c.stem == stem && c.name == name);
    let ops = cases_of(specs, stem, mutant)
        .into_iter()
        .filter_map(goldgate_harness::kinds::op::oracle::path);
    let paths = distinct(models.filter_map(|c| c.golden.as_deref()).chain(ops));
    // One golden is enough, because all variants of a case are made with the same formulas.
    let path = paths.into_iter().find(|path| store.has(path))?;
    // A golden that cannot be read is reported by the review of goldens, not once more per mutant.
    let bytes = store.bytes(path).ok()?;
    let (_, tensors) = goldgate_harness::store::read_bytes(path, &bytes).ok()?;
    let formula = |name: &String| name.strip_prefix("wrong.")?.split('.').next().map(str::to_owned);
    Some(tensors.keys().filter_map(formula).collect())
}

/// Tensors, keys and slots that no GGUF form of the case has.
fn of_model(store: &Store, cases: &[&ModelCase], mutant: &Mutant, edit: &ModelEdit) -> Vec<Wrong> {
    let killer = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    let own: Vec<&ModelCase> = cases.iter().filter(|c| c.name == killer).copied().collect();
    let files = distinct(own.iter().filter_map(|case| match &case.form.at {
        At::Golden(path) if path.ends_with(".gguf") => Some(path.as_str()),
        _ => None,
    }));
    let open = |path: &&str| Gguf::open(&store.root.join(path)).ok();
    let files: Vec<Gguf> = files.iter().filter_map(open).collect();
    if files.is_empty() {
        return Vec::new();
    }
    let tensors: BTreeSet<&str> =
        files.iter().flat_map(|f| f.tensors()).map(|t| t.name.as_str()).collect();
    let mut wrong = Vec::new();
    for (key, name) in [("tensor", &edit.tensor), ("copy", &edit.copy), ("swap", &edit.swap)] {
        if let Some(name) = name.as_ref().filter(|name| !tensors.contains(name.as_str())) {
            let near = guess(name, tensors.iter().copied());
            wrong.push((key, name.clone(), format!("a tensor of a GGUF form of its case{near}")));
        }
    }
    if let Some(key) = &edit.key
        && !files.iter().any(|f| f.metadata().entry(key).is_some())
    {
        let known = files.iter().flat_map(|f| f.metadata().entries()).map(|e| e.key.as_str());
        wrong.push(("key", key.clone(), format!("a key of the metadata{}", guess(key, known))));
    }
    if let Some(slot) = &edit.diverges_at {
        let slots = models::slots(store, &own);
        // Without a form that opens no slot is known, and nothing can be said.
        if !slots.is_empty() && !slots.contains(slot) {
            let near = guess(slot, slots.iter().map(String::as_str));
            wrong.push(("diverges_at", slot.clone(), format!("a slot of its case{near}")));
        }
    }
    wrong
}

/// The variants of the op's case that should detect a mutant.
fn cases_of<'s>(specs: &'s Specs, op: &str, mutant: &Mutant) -> Vec<&'s Case> {
    let name = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    specs.cases().filter(|case| case.stem == op && case.name == name).collect()
}
