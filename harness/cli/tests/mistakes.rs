//! One mistake, one error: each of a table of mistakes is made in a copy of the shipped specs.
//! `goldgate check` may say three things of it at most, the first at the right place. A validator
//! that is not ours (Python's `jsonschema`) takes every shipped spec, and refuses what a schema
//! can know to be wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use goldgate_harness::yaml::tree::{Kind, Node, Source, parse};
use serde_json::{Value, json};

/// The most errors that one mistake may give.
const MOST: usize = 3;

const TABLE: &str = include_str!("mistakes/table.txt");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// One block of the table.
struct Mistake {
    /// The file in which it is made, below specs/.
    file: &'static str,
    from: String,
    to: String,
    code: &'static str,
    /// The file that the first error is in, where it is another one.
    elsewhere: &'static str,
    /// Whether the text of the place is above the mistake.
    above: bool,
    /// The text at whose beginning the first error is.
    at: &'static str,
    /// Where a validator of the schema must complain.
    pointer: Option<&'static str>,
    goldens: bool,
}

impl Mistake {
    fn read(block: &'static str) -> Option<Mistake> {
        let lines: Vec<&str> = block.lines().filter(|l| !l.starts_with('#')).collect();
        let text = |sign: char| {
            let own = lines.iter().filter_map(|l| l.strip_prefix(sign));
            own.collect::<Vec<_>>().join("\n")
        };
        let file = lines.first()?;
        let mut want = lines.iter().find_map(|l| l.strip_prefix('=')).expect("an expectation");
        let goldens = want.ends_with(" goldens");
        want = want.trim_end_matches(" goldens");
        let mut pointer = None;
        if let Some((before, after)) = want.rsplit_once(" #") {
            (want, pointer) = (before, Some(after));
        }
        let (code, place) = want.split_once(' ').expect("a place");
        let sign = place.find(['@', '<']).expect("@ or <");
        Some(Mistake {
            file,
            from: text('-'),
            to: text('+'),
            code,
            elsewhere: &place[..sign],
            above: place[sign..].starts_with('<'),
            at: &place[sign + 1..],
            pointer,
            goldens,
        })
    }

    fn all() -> Vec<Mistake> {
        TABLE.split("\n\n").filter_map(Mistake::read).collect()
    }

    /// The text with the mistake, and the line and column at which the first error is.
    fn made(&self, text: &str, others: &Path) -> (String, (u64, u64)) {
        let at = text.find(&self.from).unwrap_or_else(|| panic!("{}: {}", self.file, self.from));
        let new = text.replacen(&self.from, &self.to, 1);
        let other = |file: &str| fs::read_to_string(others.join(file)).expect("a spec");
        let (text, found) = match (self.elsewhere, self.above) {
            ("", false) => (new.clone(), new[at..].find(self.at).map(|i| at + i)),
            ("", true) => {
                let found = new[..at + self.to.len()].rfind(self.at);
                (new.clone(), found)
            }
            (file, _) => {
                let text = other(file);
                let found = text.find(self.at);
                (text, found)
            }
        };
        let found = found.unwrap_or_else(|| panic!("{}: no {}", self.file, self.at));
        let before = &text[..found];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (new, (line as u64, column as u64))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        match entry.path() {
            path if path.is_dir() => copy(&path, &to),
            path => drop(fs::copy(path, to).expect("copied")),
        }
    }
}

/// A golden folder with models and vocabularies and no golden: what it lacks is pending.
fn without_goldens(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    for name in ["models", "tokenizers"] {
        std::os::unix::fs::symlink(root().join("golden").join(name), folder.join(name))
            .expect("a link");
    }
    let text = fs::read(root().join("golden/MANIFEST.json")).expect("the manifest");
    let mut manifest: Value = serde_json::from_slice(&text).expect("JSON");
    let files = manifest["files"].as_object_mut().expect("files");
    files.retain(|path, _| path.starts_with("models/") || path.starts_with("tokenizers/"));
    fs::write(folder.join("MANIFEST.json"), manifest.to_string()).expect("written");
}

/// What `goldgate check --format json` says.
fn check(specs: &Path, golden: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_goldgate"))
        .args(["check", "--format", "json", "--golden"])
        .args([golden, specs])
        .output()
        .expect("our own program");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What is wrong with the answer to one mistake.
fn wrong(mistake: &Mistake, specs: &Path, golden: &Path) -> Option<String> {
    let path = specs.join(mistake.file);
    let good = fs::read_to_string(&path).expect("a spec");
    let (bad, place) = mistake.made(&good, specs);
    fs::write(&path, bad).expect("written");
    let whole = root().join("golden");
    let said = check(specs, if mistake.goldens { &whole } else { golden });
    fs::write(&path, good).expect("written");
    let problems = said["problems"].as_array().expect("problems");
    let first = problems.first().unwrap_or(&Value::Null);
    let file = if mistake.elsewhere.is_empty() { mistake.file } else { mistake.elsewhere };
    let (line, column) = place;
    let want = json!([mistake.code, file, line, column]);
    let got = json!([first["code"], first["file"], first["line"], first["column"]]);
    let few = !problems.is_empty() && problems.len() <= MOST;
    let said = || format!("{}: {}\nwant {want}\n{problems:#?}", mistake.file, mistake.to);
    (got != want || !few).then(said)
}

#[test]
fn one_mistake_is_one_error() {
    let mistakes = Mistake::all();
    assert!(mistakes.len() >= 80, "only {} mistakes", mistakes.len());
    let broken: Vec<String> = std::thread::scope(|scope| {
        let parts = mistakes.chunks(mistakes.len().div_ceil(4));
        let workers: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || {
                    let folder = tempfile::tempdir().expect("a folder");
                    let (specs, golden) = (folder.path().join("specs"), folder.path().join("g"));
                    copy(&root().join("specs"), &specs);
                    without_goldens(&golden);
                    let clean = check(&specs, &golden);
                    assert_eq!(clean["problems"], json!([]), "without a mistake");
                    part.iter().filter_map(|m| wrong(m, &specs, &golden)).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn errors_are_written_for_terminals_and_for_workflows() {
    let folder = tempfile::tempdir().expect("a folder");
    let specs = folder.path().join("specs");
    copy(&root().join("specs"), &specs);
    let path = specs.join("ops/layernorm.yaml");
    let text = fs::read_to_string(&path).expect("a spec");
    fs::write(&path, text.replacen("gate: 1", "gate: 4", 1)).expect("written");
    let said = |here: &Path, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
        let output = command.args(words).current_dir(here).output().expect("our own program");
        assert_eq!(output.status.code(), Some(3));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let rest = "specs/ops/layernorm.yaml:4:7: error[ENUM]: gate: found 4, expected one of 1, 2, 3";
    let (out, err) = said(folder.path(), &["check"]);
    assert!(err.starts_with(&format!("{rest}\n")), "{err}");
    assert!(out.contains("left out until it is mended: what else rests on ops/layernorm.yaml"));
    let (_, err) = said(&specs.join("ops"), &["check"]);
    let rest = rest.strip_prefix("specs/").expect("below specs/");
    assert!(err.starts_with(&format!("../{rest}\n")), "{err}");
    let (out, err) = said(folder.path(), &["check", "--format", "github"]);
    let line = "::error file=specs/ops/layernorm.yaml,line=4,col=7,title=ENUM::gate: found 4,";
    assert!(out.starts_with(line) && err.is_empty(), "{out}{err}");
}

/// A tree as JSON, by the core schema of YAML 1.2.
fn to_json(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar { text, plain: true } => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            "null" | "~" | "" => Value::Null,
            _ => serde_json::from_str::<serde_json::Number>(text)
                .map_or_else(|_| text.as_str().into(), Value::Number),
        },
        Kind::Scalar { text, .. } => text.as_str().into(),
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => {
            let pair = |(key, value): &(Node, Node)| {
                (key.text().unwrap_or_default().to_owned(), to_json(value))
            };
            Value::Object(entries.iter().map(pair).collect())
        }
    }
}

fn document(name: &str, text: &str) -> Value {
    let source = Source::new(name, text.as_bytes()).expect("text");
    to_json(&parse(&source).expect("YAML"))
}

/// What Python's `jsonschema` says of each document: the pointers of its errors. None without it.
fn validated(documents: &[Value]) -> Option<Vec<Vec<String>>> {
    let script = root().join("golden/oracle/schema.py");
    let mut child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let schema = fs::read_to_string(root().join("specs/schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let question = json!({"schema": schema, "documents": documents}).to_string();
    // A script that ends at once, without its package, reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(question.as_bytes());
    let output = child.wait_with_output().ok()?;
    match output.status.code() {
        Some(0) => Some(serde_json::from_slice(&output.stdout).expect("lists of pointers")),
        code => {
            let asked = std::env::var_os("GOLDGATE_NEEDS_JSONSCHEMA").is_some();
            assert!(!asked && code == Some(4), "{code:?}");
            eprintln!("not run, no python3 with jsonschema here");
            None
        }
    }
}

#[test]
fn a_foreign_validator_agrees_with_the_schema() {
    let specs = root().join("specs");
    let mut documents = Vec::new();
    let mut names: Vec<(String, Option<&str>)> = Vec::new();
    for folder in ["", "containers", "models", "mutants", "ops", "tokenizers"] {
        for entry in fs::read_dir(specs.join(folder)).expect("a folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "yaml") {
                let text = fs::read_to_string(&path).expect("a spec");
                documents.push(document("a spec", &text));
                names.push((path.display().to_string(), None));
            }
        }
    }
    let shipped = names.len();
    assert!(shipped >= 100, "only {shipped} specs");
    let mistakes = Mistake::all();
    for mistake in &mistakes {
        let Some(pointer) = mistake.pointer else { continue };
        let good = fs::read_to_string(specs.join(mistake.file)).expect("a spec");
        let (bad, _) = mistake.made(&good, &specs);
        documents.push(document(mistake.file, &bad));
        names.push((format!("{}: {}", mistake.file, mistake.to), Some(pointer)));
    }
    assert!(names.len() - shipped >= 40, "only {} bad files", names.len() - shipped);
    let Some(errors) = validated(&documents) else { return };
    for ((name, pointer), errors) in names.iter().zip(errors) {
        match pointer {
            None => assert!(errors.is_empty(), "{name}: {errors:?}"),
            Some(pointer) => assert!(errors.iter().any(|e| e == pointer), "{name}: {errors:?}"),
        }
    }
}
