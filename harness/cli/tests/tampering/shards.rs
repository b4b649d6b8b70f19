//! Two shards of one small run, to be edited.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use goldgate_harness::report::Report;
use tempfile::TempDir;

/// A few quick cases, of which each of two shards has some.
pub const CASES: &str = "layernorm::one_to_four";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

pub fn goldgate_in(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.args(words).current_dir(folder).output().expect("our own program")
}

/// The exit code and everything that is printed.
#[track_caller]
pub fn said(words: &[&str]) -> (Option<i32>, String) {
    let output = goldgate_in(&root(), words);
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn run(reports: &Path, more: &[&str]) {
    let reports = reports.to_str().expect("a path");
    let words = [&["run", CASES, "--on", "cpu", "--reports", reports], more].concat();
    let (code, text) = said(&words);
    assert_eq!(code, Some(0), "{text}");
}

/// Two shards of one run, made once.
pub fn made() -> &'static TempDir {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for shard in ["1", "2"] {
            run(&folder.path().join(shard), &["--shard", &format!("{shard}/2")]);
        }
        folder
    })
}

/// A copy of both shards, which may be edited.
pub struct Shards(TempDir);

impl Shards {
    pub fn new() -> Shards {
        let folder = tempfile::tempdir().expect("a folder");
        for shard in ["1", "2"] {
            copy(&made().path().join(shard), &folder.path().join(shard));
        }
        Shards(folder)
    }

    pub fn path(&self, shard: &str) -> PathBuf {
        self.0.path().join(shard)
    }

    pub fn text(&self, shard: &str) -> String {
        self.path(shard).to_str().expect("a path").to_owned()
    }

    /// A shard whose report is not empty.
    pub fn full(&self) -> String {
        let full = |shard: &&str| !self.report(shard).rows.is_empty();
        ["1", "2"].into_iter().find(full).expect("rows").to_owned()
    }

    pub fn report(&self, shard: &str) -> Report {
        Report::read(&self.path(shard)).expect("read")
    }

    /// Replaces text in a file of a shard.
    #[track_caller]
    pub fn replace(&self, shard: &str, name: &str, from: &str, to: &str) {
        let path = self.path(shard).join(name);
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from), "{name} does not hold {from}");
        fs::write(path, text.replacen(from, to, 1)).expect("written");
    }

    /// Seals an edited report again, and leaves its pages alone.
    pub fn seal_again(&self, shard: &str, edit: impl FnOnce(&mut Report)) {
        let mut report = self.report(shard);
        edit(&mut report);
        report.seal().expect("sealed");
        let text = serde_json::to_string(&report).expect("written");
        fs::write(self.path(shard).join("report.json"), text).expect("written");
    }

    pub fn verify(&self, shard: &str, more: &[&str]) -> (Option<i32>, String) {
        said(&[&["report", "verify", &self.text(shard)], more].concat())
    }

    pub fn merge(&self, shards: &[&str]) -> (Option<i32>, String, PathBuf) {
        let out = self.0.path().join("whole");
        let shards: Vec<String> = shards.iter().map(|s| self.text(s)).collect();
        let mut words = vec!["report", "merge", "--out", out.to_str().expect("a path")];
        words.extend(shards.iter().map(String::as_str));
        let (code, text) = said(&words);
        (code, text, out)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let name = entry.file_name();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            fs::copy(entry.path(), to.join(name)).expect("copied");
        }
    }
}

#[track_caller]
pub fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}
