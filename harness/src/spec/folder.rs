//! The specs folder as a whole: reads every file and lists all errors of all files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use goldgate_engine::ops::signature::Signature;
use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign};

use crate::kinds::container::case::ContainerCase;
use crate::kinds::container::spec::{ContainerFile, container_file};
use crate::kinds::model::case::ModelCase;
use crate::kinds::model::spec::{expand as expand_models, model_file};
use crate::kinds::mutant::{MutantsFile, mutants_file};
use crate::kinds::op::case::Case;
use crate::kinds::op::expand::{Bench, Expanded, expand};
use crate::kinds::op::names;
use crate::kinds::op::read::op_file;
use crate::kinds::op::spec::OpFile;
use crate::kinds::tokens::case::TokenCase;
use crate::kinds::tokens::spec::{expand as expand_tokens, tokenizer_file};
use crate::spec::broken::Broken;
use crate::spec::equivalent::{EquivalentFile, equivalent_file};
use crate::spec::gates::{GatesFile, gates_file};
use crate::spec::known::{KnownFile, known_file};
use crate::spec::slower::{SlowerFile, slower_file};
use crate::spec::subject::{SubjectFile, subject_file};
use crate::yaml::Problem;
use crate::yaml::near::{guess, one_of};
use crate::yaml::place::{Step, dotted, first, value};
use crate::yaml::read::Reader;
use crate::yaml::tree::{Node, Source, parse};

/// The most files that are read.
pub const MAX_FILES: usize = 10_000;

/// Looks up the signature of an op by name.
pub type Vocabulary<'a> = dyn Fn(&str) -> Option<&'static Signature> + 'a;

/// The vocabulary of our engine.
pub fn vocabulary(name: &str) -> Option<&'static Signature> {
    goldgate_engine::ops::find(name).map(|op| op.signature())
}

/// The contents of a specs folder.
#[derive(Clone, Debug, Default)]
pub struct Specs {
    /// The ops, by name.
    pub ops: Vec<OpSpec>,
    /// The lists of texts, by tokenizer and form.
    pub tokens: Vec<TokenCase>,
    /// The questions about models, by model and form.
    pub models: Vec<ModelCase>,
    /// The mutants, by op.
    pub mutants: Vec<MutantsFile>,
    /// Generated faults that are equivalent to none.
    pub equivalent: EquivalentFile,
    /// The gates.
    pub gates: GatesFile,
    /// The text of gates.yaml, for the places of problems.
    pub gates_source: Option<Source>,
    /// The known failures.
    pub known: KnownFile,
    /// The accepted slowdowns.
    pub slower: SlowerFile,
    /// The engines on trial, by label.
    pub subjects: Vec<SubjectFile>,
    /// The files to be refused or opened, by stem.
    pub containers: Vec<ContainerFile>,
    /// The text of every file, for the places of problems.
    pub sources: BTreeMap<String, Source>,
    /// The files that have problems of their own.
    pub broken: Broken,
}

/// The file of one op, and what it expands to.
#[derive(Clone, Debug)]
pub struct OpSpec {
    /// The file as written.
    pub file: OpFile,
    /// Its text.
    pub source: Source,
    /// Its cases.
    pub cases: Vec<Case>,
    /// Its benches.
    pub benches: Vec<Bench>,
}

impl Specs {
    /// All cases, by op and in the order of the files.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.ops.iter().flat_map(|op| &op.cases)
    }

    /// All cases of containers.
    pub fn files(&self) -> impl Iterator<Item = &ContainerCase> {
        self.containers.iter().flat_map(|file| &file.cases)
    }

    /// The paths below golden/ of all goldens that cases need.
    pub fn golden_paths(&self) -> BTreeSet<&str> {
        let ops = self.cases().filter_map(crate::kinds::op::oracle::path);
        ops.chain(self.models.iter().filter_map(|c| c.golden.as_deref())).collect()
    }

    /// A problem at the value that was written at `path` in a file, or at the nearest existing
    /// value on the way to it.
    pub fn problem(
        &self,
        code: &'static str,
        (file, path): (&str, &[Step<'_>]),
        found: &str,
        expected: &str,
    ) -> Problem {
        let Some(source) = self.sources.get(file) else {
            return Problem::of_file(code, file, found, expected);
        };
        // From the whole path to shorter ones: of a field that is not written, the nearest parent
        // has a place.
        let ways: Vec<&[Step<'_>]> = (1..=path.len()).rev().map(|n| &path[..n]).collect();
        let (line, column) = first(source, &ways).unwrap_or_default();
        source.problem(code, line, column, &dotted(path), found, expected)
    }

    /// All benches.
    pub fn benches(&self) -> impl Iterator<Item = &Bench> {
        self.ops.iter().flat_map(|op| &op.benches)
    }
}

/// Reads a specs folder.
pub fn read_folder(root: &Path, vocabulary: &Vocabulary<'_>) -> (Specs, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut specs = Specs::default();
    for file in walk(root, &mut problems) {
        match read_foreign(&root.join(&file), Bounds::of_user(LARGEST_TEXT)) {
            Ok(bytes) => read_file(&file, &bytes, vocabulary, &mut specs, &mut problems),
            Err(e) => {
                // One file that cannot be read must not hide the mistakes in the others.
                problems.push(Problem::of_file("IO", &file, e.to_string(), "a readable file"));
            }
        }
    }
    specs.ops.sort_by(|a, b| a.file.op.value.cmp(&b.file.op.value));
    specs.containers.sort_by(|a, b| a.container.value.cmp(&b.container.value));
    specs.mutants.sort_by(|a, b| a.mutants.value.cmp(&b.mutants.value));
    // Mutants refer to cases of other files, so they are checked once all files are read.
    let of_mutants = mutant_problems(&specs);
    specs.broken.extend(&of_mutants);
    problems.extend(of_mutants);
    (specs, problems)
}

/// All files below `root` as sorted paths with `/`. Links and odd names are problems.
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
            // A folder that was named by mistake may hold any number of files, and reading must
            // end.
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
                    // A link could lead to a text that is not part of the folder and of its hash.
                    let expected = "a plain file or folder, no link";
                    problems.push(Problem::of_file("PATH", &path, "a link", expected));
                }
            }
        }
    }
    files.sort();
    files
}

/// Reads one file, according to its place in the folder.
pub fn read_file(
    file: &str,
    bytes: &[u8],
    vocabulary: &Vocabulary<'_>,
    specs: &mut Specs,
    problems: &mut Vec<Problem>,
) {
    // These belong to the folder, but are not specs.
    if matches!(file, "README.md" | "schema.json" | "gates.lock") {
        return;
    }
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let Some(stem) = name.strip_suffix(".yaml") else {
        let expected = "a .yaml file of a known kind";
        // What rests on this file cannot be judged before it is mended.
        specs.broken.note(file, "");
        problems.push(Problem::of_file("UNCLAIMED", file, name, expected));
        return;
    };
    let parsed = Source::new(file, bytes).and_then(|s| parse(&s).map(|node| (s, node)));
    let (source, node) = match parsed {
        Ok(pair) => pair,
        Err(problem) => {
            specs.broken.note(file, "");
            return problems.push(problem);
        }
    };
    // Kept for mistakes that are found only when all files have been read.
    specs.sources.insert(file.to_owned(), source.clone());
    let reader = Reader::new(&source);
    read_kind(&reader, &node, (folder, stem), vocabulary, specs);
    // A file with errors may still name its stem, and trials of that stem would be missing as well.
    let own = reader.finish();
    if !own.is_empty() {
        let name = |key: &&str| value(&node, key).and_then(Node::text);
        specs.broken.note(file, KINDS.iter().find_map(name).unwrap_or_default());
    }
    problems.extend(own);
}

/// Reads a file as the kind of spec that its folder holds.
fn read_kind(
    reader: &Reader<'_>,
    node: &Node,
    (folder, stem): (&str, &str),
    vocabulary: &Vocabulary<'_>,
    specs: &mut Specs,
) {
    let file = reader.source.file.as_str();
    match (folder, stem) {
        ("ops", _) => {
            if let Some(op) = read_op(reader, node, stem, vocabulary) {
                specs.ops.push(op);
            }
        }
        ("mutants", "equivalent") => {
            specs.equivalent = equivalent_file(reader, node).unwrap_or_default();
        }
        ("mutants", _) => {
            if let Some(mutants) = mutants_file(reader, node) {
                same_stem(reader, node, "mutants", stem, &mutants.mutants.value);
                specs.mutants.push(mutants);
            }
        }
        ("containers", _) => {
            if let Some(container) = container_file(reader, node) {
                same_stem(reader, node, "container", stem, &container.container.value);
                specs.containers.push(container);
            }
        }
        ("tokenizers", _) => {
            if let Some(tokens) = tokenizer_file(reader, node) {
                same_stem(reader, node, "tokenizer", stem, &tokens.tokenizer.value);
                specs.tokens.extend(expand_tokens(&tokens, file));
            }
        }
        ("models", _) => {
            if let Some(model) = model_file(reader, node) {
                same_stem(reader, node, "model", stem, &model.model.value);
                specs.models.extend(expand_models(&model, file));
            }
        }
        ("subjects", _) => {
            if let Some(subject) = subject_file(reader, node) {
                same_stem(reader, node, "subject", stem, &subject.subject.value);
                specs.subjects.push(subject);
            }
        }
        ("", "gates") => {
            specs.gates = gates_file(reader, node).unwrap_or_default();
            specs.gates_source = Some(reader.source.clone());
        }
        ("", "known") => specs.known = known_file(reader, node).unwrap_or_default(),
        ("", "slower") => specs.slower = slower_file(reader, node).unwrap_or_default(),
        _ => {
            // A file that nobody reads would look as if its cases were asked.
            let folders =
                ["containers/", "models/", "mutants/", "ops/", "subjects/", "tokenizers/"];
            let near = guess(&format!("{folder}/"), folders);
            let expected = format!("{}{near}", folders.join(", "));
            reader.push(Problem::of_file("UNCLAIMED", file, folder, expected));
        }
    }
}

/// The keys by which files name their stem.
const KINDS: [&str; 6] = ["op", "container", "tokenizer", "model", "mutants", "subject"];

fn read_op(
    reader: &Reader<'_>,
    node: &Node,
    stem: &str,
    vocabulary: &Vocabulary<'_>,
) -> Option<OpSpec> {
    let file = op_file(reader, node)?;
    let Some(signature) = vocabulary(&file.op.value) else {
        let known: Vec<_> =
            goldgate_engine::ops::ALL.iter().map(|op| op.signature().name).collect();
        let expected = format!("an op: {}", one_of(&file.op.value, &known));
        reader.note_value(&file.op, "ENUM", "op", &file.op.value, &expected);
        return None;
    };
    same_stem(reader, node, "op", stem, &file.op.value);
    // A mistake in the head would be noted again by every case.
    let lists = ["cases", "bench"];
    if reader.is_clean_outside(&lists) {
        names::head(reader, node, &file, signature);
    }
    let mut expanded = Expanded::default();
    if reader.is_clean_outside(&lists) {
        names::cases(reader, node, &file, signature);
        expanded = expand(reader, &file, signature);
    }
    // Cases that could not be read are reported already, and must not count as none.
    if file.cases.is_empty() && reader.count() == 0 {
        reader.note_value(&file.op, "GATE_EMPTY", "cases", "none", "one case at least");
    }
    let source = reader.source.clone();
    Some(OpSpec { file, source, cases: expanded.cases, benches: expanded.benches })
}

fn same_stem(reader: &Reader<'_>, node: &Node, field: &str, stem: &str, name: &str) {
    // Stem and name agree, so that the name of a trial leads to its file.
    if stem != name {
        let at = value(node, field).unwrap_or(node);
        let expected = format!("{stem}, the stem of the file");
        reader.note_at(at.line, at.column, "ID_FORM", field, name, &expected);
    }
}

/// Problems of mutants whose stem or case does not exist, or whose case refuses. Only intact files
/// are checked.
fn mutant_problems(specs: &Specs) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Cases of a broken file are unknown, and each mutant that names one would be reported.
    for file in specs.mutants.iter().filter(|f| !specs.broken.has(&f.mutants.value)) {
        let stem = file.mutants.value.as_str();
        let path = format!("mutants/{stem}.yaml");
        let reader = match specs.sources.get(&path) {
            Some(source) => Reader::new(source),
            None => continue,
        };
        // `all` includes the cases that refuse, so that the message can say what is wrong with such
        // a one.
        let (known, all) = killers(specs, stem);
        if all.is_empty() {
            let ops = specs.ops.iter().map(|op| op.file.op.value.as_str());
            let stems = ops.chain(specs.tokens.iter().map(|c| c.stem.as_str()));
            let stems = stems.chain(specs.models.iter().map(|c| c.stem.as_str()));
            let near = guess(stem, stems);
            let expected = format!("the name of an op, a tokenizer or a model with a spec{near}");
            reader.note_value(&file.mutants, "ENUM", "mutants", stem, &expected);
        } else {
            for mutant in &file.list {
                let Some(killer) = &mutant.killed_by else { continue };
                if !known.contains(killer.value.as_str()) {
                    let that =
                        if all.contains(killer.value.as_str()) { " that answers" } else { "" };
                    let near = guess(&killer.value, known.iter().copied());
                    let expected = format!("a case of {stem}{that}{near}");
                    let field = format!("list.{}.killed_by", mutant.id.value);
                    reader.note_value(killer, "GATE_REF", &field, &killer.value, &expected);
                }
            }
        }
        problems.extend(reader.finish());
    }
    problems
}

/// The cases of a stem that a mutant may name, and all of its cases.
fn killers<'s>(specs: &'s Specs, stem: &str) -> (BTreeSet<&'s str>, BTreeSet<&'s str>) {
    let op = specs.ops.iter().filter(|op| op.file.op.value == stem);
    let cases = op.flat_map(|op| &op.cases);
    let tokens = specs.tokens.iter().filter(|c| c.stem == stem).map(|c| c.name.as_str());
    let models = specs.models.iter().filter(|c| c.stem == stem).map(|c| c.name.as_str());
    let others: BTreeSet<&str> = tokens.chain(models).collect();
    // A mutant changes an answer, so a case that must be refused cannot notice it.
    let answer = cases.clone().filter(|c| answers(c)).map(|c| c.name.as_str());
    let known = answer.chain(others.iter().copied()).collect();
    (known, cases.map(|c| c.name.as_str()).chain(others).collect())
}

fn answers(case: &Case) -> bool {
    matches!(case.expect, crate::kinds::op::case::Expect::Answer { .. })
}
