//! The pages are true: every command of a console block prints what stands below it, and every
//! spec on a page passes `goldgate check`.
//!
//! Lines that begin with `$ ` are commands, the lines after one are what it prints. A line `…`
//! stands for any lines, a `…` inside a line for any text. Commands of `goldgate` and `python3` are
//! run, from the root, and so is `cargo run -- …` as our own program where no device would join in;
//! cargo's other commands are not. A report that names no folder goes to a scratch one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use goldgate_harness::session::documents::{Shown, agrees, commands, lacks_python, skipped};

/// Codes of `goldgate check` that a spec may give because it stands alone on its page.
const ALONE: &[&str] = &["COVERAGE", "GATE_EMPTY"];

/// As [`ALONE`], for a file that only refers to others.
const REFERS: &[&str] = &["EXPIRED", "GATE_EMPTY", "GATE_REF", "ORPHAN"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// The pages: path from the root, and text.
fn pages() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "specs/README.md", "golden/README.md"]
            .iter()
            .map(|name| root().join(name))
            .collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("docs can be read").flatten() {
            let path = entry.path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("md") => paths.push(path),
                _ => {}
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        (name, text)
    };
    paths.into_iter().map(read).collect()
}

/// The blocks of one language: the number of the first line inside, and the lines.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<(usize, Vec<&'t str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize, Vec<&str>)> = None;
    for (i, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(opened), None) => open = Some((opened, i + 2, Vec::new())),
            (Some(_), Some(_)) => {
                let (opened, first, lines) = open.take().expect("matched");
                if opened == language {
                    blocks.push((first, lines));
                }
            }
            (None, Some((_, _, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

/// Both streams of a command, run from the root with our program first on the path.
fn printed(command: &str, scratch: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_goldgate"));
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = program.parent().expect("a folder").display();
    let mut command = command.replacen("cargo run -- ", "goldgate ", 1);
    if command.starts_with("goldgate run") && !command.contains("--reports") {
        let run = format!("goldgate run --reports '{}'", scratch.display());
        command = command.replacen("goldgate run", &run, 1);
    }
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(root())
        .env("PATH", format!("{folder}:{path}"))
        .env("NO_COLOR", "1")
        // A command that runs a gate must not run the pages again.
        .env("GOLDGATE_DOCUMENT", "1")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command lacks here, if it is one that is run.
fn lacks(command: &str) -> Option<String> {
    if command.starts_with("cargo run -- ") && Path::new("/dev/nvidiactl").exists() {
        return Some("it would ask the device that is here".to_owned());
    }
    lacks_python(command)
}

#[test]
fn every_console_block_prints_what_it_says() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let ours = ["goldgate ", "python3 ", "cargo run -- "];
    let (mut ran, mut broken) = (0, Vec::new());
    for (page, text) in pages() {
        for (first, lines) in blocks(&text, "console") {
            let begins = lines.first().is_some_and(|line| line.starts_with("$ "));
            assert!(begins, "{page}:{first}: a block begins with a command");
        }
        let mut shown = commands(&text);
        shown.retain(|shown| ours.iter().any(|word| shown.command.starts_with(word)));
        let reasons = skipped(&shown, lacks);
        for (Shown { line, command, expected }, reason) in shown.into_iter().zip(reasons) {
            if let Some(reason) = reason {
                eprintln!("{page}:{line}: not run: {reason}: {command}");
                continue;
            }
            ran += 1;
            let got = printed(&command, scratch.path());
            if !agrees(&expected, &got.lines().collect::<Vec<_>>()) {
                let expected = expected.join("\n");
                broken.push(format!("{page}:{line}: {command}\nsaid\n{expected}\ngot\n{got}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    assert!(ran >= 30, "only {ran} commands ran");
}

/// The word after `key: ` at the beginning of a line.
fn after<'t>(lines: &[&'t str], key: &str) -> Option<&'t str> {
    lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// Codes of the errors that `goldgate check` gives of a spec on its own, and all that it printed.
fn check(lines: &[&str]) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let specs = root().join("specs");
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    };
    let copy = |name: &str| put(name, &fs::read_to_string(specs.join(name)).expect("a spec"));
    copy("schema.json");
    let text = lines.join("\n") + "\n";
    if let Some(op) = after(lines, "op") {
        put(&format!("ops/{op}.yaml"), &text);
    } else if let Some(op) = after(lines, "mutants") {
        copy(&format!("ops/{op}.yaml"));
        put(&format!("mutants/{op}.yaml"), &text);
    } else if lines.contains(&"equivalent:") {
        copy("ops/sample.yaml");
        copy("mutants/sample.yaml");
        put("mutants/equivalent.yaml", &text);
    } else if let Some(container) = after(lines, "container") {
        put(&format!("containers/{container}.yaml"), &text);
    } else if let Some(model) = after(lines, "model") {
        put(&format!("models/{model}.yaml"), &text);
    } else if let Some(tokenizer) = after(lines, "tokenizer") {
        put(&format!("tokenizers/{tokenizer}.yaml"), &text);
    } else if let Some(subject) = after(lines, "subject") {
        put(&format!("subjects/{subject}.yaml"), &text);
    } else {
        let lists = [("known:", "known.yaml"), ("slower:", "slower.yaml")];
        let list = lists.iter().find(|(key, _)| lines.contains(key));
        put(list.map_or("gates.yaml", |(_, file)| file), &text);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_goldgate"))
        .arg("check")
        .arg(folder.path())
        .output()
        .expect("our own program");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = |line: &str| Some(line.split_once(": error[")?.1.split_once(']')?.0.to_owned());
    (told.lines().filter_map(code).collect(), told)
}

#[test]
fn every_spec_on_a_page_is_one() {
    let (mut checked, mut broken) = (0, Vec::new());
    for (page, text) in pages() {
        for (first, lines) in blocks(&text, "yaml") {
            if !lines.iter().any(|line| line.starts_with("format:")) {
                continue;
            }
            checked += 1;
            let may = if after(&lines, "op").is_some() { ALONE } else { REFERS };
            let (codes, told) = check(&lines);
            if codes.iter().any(|code| !may.contains(&code.as_str())) {
                broken.push(format!("{page}:{first}:\n{told}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    assert!(checked >= 2, "only {checked} specs");
}

#[test]
fn every_rust_block_is_a_doc_test() {
    let source = fs::read_to_string(root().join("engine/src/lib.rs")).expect("a source");
    let doc: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let doc = doc.iter().map(|l| l.strip_prefix(' ').unwrap_or(l)).collect::<Vec<_>>().join("\n");
    for (page, text) in pages() {
        for (first, lines) in blocks(&text, "rust") {
            assert!(doc.contains(&lines.join("\n")), "{page}:{first}: not in engine/src/lib.rs");
        }
    }
}

#[test]
fn a_spec_that_is_none_is_noticed() {
    let (codes, told) = check(&["format: 1", "op: gelu", "gate: one"]);
    assert!(codes.iter().any(|code| !ALONE.contains(&code.as_str())), "{told}");
}
