//! The specs folder as a whole: every file is read, every error of every file is listed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use goldgate_engine::ops::signature::Signature;

use crate::case::Case;
use crate::container::ContainerCase;
use crate::models::ModelCase;
use crate::models::spec::{expand as expand_models, model_file};
use crate::spec::container::{ContainerFile, container_file};
use crate::spec::expand::{Bench, expand};
use crate::spec::gates::{GatesFile, gates_file};
use crate::spec::known::{KnownFile, known_file};
use crate::spec::mutants::{MutantsFile, mutants_file};
use crate::spec::op::OpFile;
use crate::spec::op_read::op_file;
use crate::spec::problem::{Problem, nearest};
use crate::spec::read::Reader;
use crate::spec::yaml::{Kind, Node, Source, parse};
use crate::tokens::TokenCase;
use crate::tokens::spec::{expand as expand_tokens, tokenizer_file};

/// The most files that are looked at.
pub const MAX_FILES: usize = 10_000;

/// How an op's signature is found by its name.
pub type Vocabulary<'a> = dyn Fn(&str) -> Option<&'static Signature> + 'a;

/// The engine's vocabulary.
pub fn vocabulary(name: &str) -> Option<&'static Signature> {
    goldgate_engine::ops::find(name).map(|op| op.signature())
}

/// Everything that a specs folder says.
#[derive(Clone, Debug, Default)]
pub struct Specs {
    /// Ops, by name.
    pub ops: Vec<OpSpec>,
    /// Lists of texts, by tokenizer and form.
    pub tokens: Vec<TokenCase>,
    /// Questions about models, by model and form.
    pub models: Vec<ModelCase>,
    /// Mutants, by op.
    pub mutants: Vec<MutantsFile>,
    /// The gates and their file.
    pub gates: GatesFile,
    /// The text of gates.yaml, for the places of problems.
    pub gates_source: Option<Source>,
    /// Known failures.
    pub known: KnownFile,
    /// Files to be refused or opened, by stem.
    pub containers: Vec<ContainerFile>,
}

/// One op's file and what it asks.
#[derive(Clone, Debug)]
pub struct OpSpec {
    /// As written.
    pub file: OpFile,
    /// Its text.
    pub source: Source,
    /// Its cases.
    pub cases: Vec<Case>,
    /// Its benches.
    pub benches: Vec<Bench>,
}

impl Specs {
    /// Every case, by op and in the order of the files.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.ops.iter().flat_map(|op| &op.cases)
    }

    /// Every case of a container.
    pub fn files(&self) -> impl Iterator<Item = &ContainerCase> {
        self.containers.iter().flat_map(|file| &file.cases)
    }

    /// The path of every golden that a case asks for, below golden/.
    pub fn golden_paths(&self) -> BTreeSet<&str> {
        let ops = self.cases().filter_map(crate::golden::ask::path);
        ops.chain(self.models.iter().filter_map(|c| c.golden.as_deref())).collect()
    }

    /// Every bench.
    pub fn benches(&self) -> impl Iterator<Item = &Bench> {
        self.ops.iter().flat_map(|op| &op.benches)
    }
}

/// Reads a specs folder.
pub fn read_folder(root: &Path, vocabulary: &Vocabulary<'_>) -> (Specs, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut specs = Specs::default();
    for file in walk(root, &mut problems) {
        match fs::read(root.join(&file)) {
            Ok(bytes) => read_file(&file, &bytes, vocabulary, &mut specs, &mut problems),
            Err(e) => {
                problems.push(Problem::of_file("IO", &file, e.to_string(), "a readable file"));
            }
        }
    }
    specs.ops.sort_by(|a, b| a.file.op.value.cmp(&b.file.op.value));
    specs.containers.sort_by(|a, b| a.container.value.cmp(&b.container.value));
    specs.mutants.sort_by(|a, b| a.mutants.value.cmp(&b.mutants.value));
    check_mutants(&specs, &mut problems);
    (specs, problems)
}

/// Every file below `root`, as sorted paths with `/`; links and odd names are problems.
fn walk(root: &Path, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(e) => {
                let name = if folder.is_empty() { root.display().to_string() } else { folder };
                problems.push(Problem::of_file("IO", &name, e.to_string(), "a readable folder"));
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            seen += 1;
            if seen > MAX_FILES {
                let expected = format!("at most {MAX_FILES} files");
                problems.push(Problem::of_file("SIZE", &path, "more files", expected));
                files.sort();
                return files;
            }
            match entry.file_type() {
                Ok(t) if t.is_dir() && path.matches('/').count() < 4 => folders.push(path),
                Ok(t) if t.is_file() => files.push(path),
                _ => {
                    let expected = "a plain file or folder, no link";
                    problems.push(Problem::of_file("PATH", &path, "a link", expected));
                }
            }
        }
    }
    files.sort();
    files
}

/// Reads one file by its place in the folder.
pub fn read_file(
    file: &str,
    bytes: &[u8],
    vocabulary: &Vocabulary<'_>,
    specs: &mut Specs,
    problems: &mut Vec<Problem>,
) {
    if matches!(file, "README.md" | "schema.json" | "gates.lock") {
        return;
    }
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let Some(stem) = name.strip_suffix(".yaml") else {
        let expected = "a .yaml file of a known kind";
        problems.push(Problem::of_file("UNCLAIMED", file, name, expected));
        return;
    };
    let parsed = Source::new(file, bytes).and_then(|s| parse(&s).map(|node| (s, node)));
    let (source, node) = match parsed {
        Ok(pair) => pair,
        Err(problem) => return problems.push(problem),
    };
    let reader = Reader::new(&source);
    match (folder, stem) {
        ("ops", _) => {
            if let Some(op) = read_op(&reader, &node, stem, vocabulary) {
                specs.ops.push(op);
            }
        }
        ("mutants", _) => {
            if let Some(mutants) = mutants_file(&reader, &node) {
                same_stem(&reader, &node, "mutants", stem, &mutants.mutants.value);
                specs.mutants.push(mutants);
            }
        }
        ("containers", _) => {
            if let Some(container) = container_file(&reader, &node) {
                same_stem(&reader, &node, "container", stem, &container.container.value);
                specs.containers.push(container);
            }
        }
        ("tokenizers", _) => {
            if let Some(tokens) = tokenizer_file(&reader, &node) {
                same_stem(&reader, &node, "tokenizer", stem, &tokens.tokenizer.value);
                specs.tokens.extend(expand_tokens(&tokens, file));
            }
        }
        ("models", _) => {
            if let Some(model) = model_file(&reader, &node) {
                same_stem(&reader, &node, "model", stem, &model.model.value);
                specs.models.extend(expand_models(&model, file));
            }
        }
        ("", "gates") => {
            specs.gates = gates_file(&reader, &node).unwrap_or_default();
            specs.gates_source = Some(source.clone());
        }
        ("", "known") => specs.known = known_file(&reader, &node).unwrap_or_default(),
        _ => {
            let folders = ["containers", "models", "mutants", "ops", "tokenizers"];
            let guess = nearest(folder, folders).map(|g| format!("; did you mean {g}/?"));
            let guess = guess.unwrap_or_default();
            let expected = format!("containers/, models/, mutants/, ops/ or tokenizers/{guess}");
            reader.push(Problem::of_file("UNCLAIMED", file, folder, expected));
        }
    }
    problems.extend(reader.finish());
}

fn read_op(
    reader: &Reader<'_>,
    node: &Node,
    stem: &str,
    vocabulary: &Vocabulary<'_>,
) -> Option<OpSpec> {
    let file = op_file(reader, node)?;
    same_stem(reader, node, "op", stem, &file.op.value);
    let Some(signature) = vocabulary(&file.op.value) else {
        let known: Vec<_> =
            goldgate_engine::ops::ALL.iter().map(|op| op.signature().name).collect();
        let expected = match nearest(&file.op.value, known.iter().copied()) {
            Some(guess) => format!("an op; did you mean {guess}?"),
            None => format!("one of {}", known.join(", ")),
        };
        reader.note_value(&file.op, "ENUM", "op", &file.op.value, &expected);
        return None;
    };
    let expanded = expand(reader, &file, signature);
    if file.cases.is_empty() && reader.count() == 0 {
        reader.note_value(&file.op, "GATE_EMPTY", "cases", "none", "one case at least");
    }
    let source = reader.source.clone();
    Some(OpSpec { file, source, cases: expanded.cases, benches: expanded.benches })
}

fn same_stem(reader: &Reader<'_>, node: &Node, field: &str, stem: &str, name: &str) {
    if stem != name {
        let key = match &node.kind {
            Kind::Map(entries) => entries.iter().find(|(k, _)| k.text() == Some(field)),
            _ => None,
        };
        let at = key.map_or(node, |(_, value)| value);
        let expected = format!("{stem}, the stem of the file");
        reader.note_at(at.line, at.column, "ID_FORM", field, name, &expected);
    }
}

/// A mutant's case exists in its op's file and does not refuse.
fn check_mutants(specs: &Specs, problems: &mut Vec<Problem>) {
    for file in &specs.mutants {
        let path = format!("mutants/{}.yaml", file.mutants.value);
        let op = specs.ops.iter().find(|op| op.file.op.value == file.mutants.value);
        let tokens: Vec<&TokenCase> =
            specs.tokens.iter().filter(|c| c.stem == file.mutants.value).collect();
        let models: Vec<&ModelCase> =
            specs.models.iter().filter(|c| c.stem == file.mutants.value).collect();
        if op.is_none() && tokens.is_empty() && models.is_empty() {
            let expected = "the name of an op, a tokenizer or a model with a spec";
            problems.push(Problem::of_file("ENUM", &path, &*file.mutants.value, expected));
        }
        for mutant in &file.list {
            let at = |mut p: Problem| {
                (p.place.line, p.place.column) = (mutant.id.line, mutant.id.column);
                p.field = format!("list.{}", mutant.id.value);
                p
            };
            if let Some(killer) = &mutant.killed_by
                && op.is_none()
                && !tokens.iter().any(|c| c.name == killer.value)
                && !models.iter().any(|c| c.name == killer.value)
            {
                let expected = format!("a case of {}", file.mutants.value);
                problems.push(at(Problem::of_file("GATE_REF", &path, &*killer.value, expected)));
            }
            let (Some(op), Some(killer)) = (op, &mutant.killed_by) else { continue };
            let named = |c: &Case| c.name == killer.value;
            if !op.file.cases.iter().any(|c| c.name.value == killer.value)
                || op.cases.iter().any(named) && !op.cases.iter().any(|c| named(c) && answers(c))
            {
                let expected = format!("a case of {} that answers", file.mutants.value);
                problems.push(at(Problem::of_file("GATE_REF", &path, &*killer.value, expected)));
            }
        }
    }
}

fn answers(case: &Case) -> bool {
    matches!(case.expect, crate::case::Expect::Answer { .. })
}
