//! Compiles in the commit and whether the tree was clean; outside git it says so. A release build
//! of a clean tree also keeps the hashes of its specs and goldens, so that a program which is
//! carried to a machine without the commit can still tell whether they are those that it was built
//! with.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// What the program is built of, and what it reads, from the root of the tree.
const TREE: [&str; 8] =
    [".cargo", "Cargo.lock", "Cargo.toml", "cuda", "engine", "harness", "specs", "golden"];

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    let commit = git(&["rev-parse", "HEAD"]).filter(|c| !c.is_empty());
    let dirty = git(&["status", "--porcelain"]).map(|s| !s.is_empty());
    let compiler = std::env::var("RUSTC").ok().and_then(|rustc| {
        let output = Command::new(rustc).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    });
    let tree = match dirty {
        Some(true) => "dirty",
        Some(false) => "clean",
        None => "unknown",
    };
    println!("cargo::rustc-env=GOLDGATE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=GOLDGATE_TREE={tree}");
    println!("cargo::rustc-env=GOLDGATE_RUSTC={}", compiler.as_deref().unwrap_or("unknown"));
    // A commit or a switch of branches moves these; without git they do not exist.
    if let Some(folder) = git(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo::rerun-if-changed={folder}/HEAD");
        println!("cargo::rerun-if-changed={folder}/index");
    }
    // Only a release build is carried elsewhere. In others this crate would be compiled again after
    // each change of a spec.
    let carried = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let listed = (carried && tree == "clean").then(listed).flatten().unwrap_or_default();
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    if let Err(error) = std::fs::write(out.join("tree.txt"), listed) {
        println!("cargo::error=could not write the hashes of the tree: {error}");
    }
    // This crate is compiled again after a change of what it rests on, so asking git again is
    // cheap.
    let sources = ["src", "wire/src", "../engine/src", "../engine/tensor/src", "../cuda"];
    let whole = TREE.map(|part| format!("../{part}"));
    let watched =
        sources.map(str::to_owned).into_iter().chain(whole.into_iter().filter(|_| carried));
    watched.for_each(|path| println!("cargo::rerun-if-changed={path}"));
}

/// `SHA-256 PATH`, a line for each committed file of specs/ and golden/. Goldens are left to their
/// manifest, which is one of these files and has their hashes.
fn listed() -> Option<String> {
    let top = Path::new("..");
    let files = as_committed(top)?;
    let manifest = std::fs::read_to_string(top.join("golden/MANIFEST.json")).ok()?;
    let in_manifest = |path: &str| {
        let golden = path.strip_prefix("golden/");
        golden.is_some_and(|path| manifest.contains(&format!("\n\"{path}\": {{")))
    };
    let read = |path: &&String| path.starts_with("specs/") || path.starts_with("golden/");
    let mut lines = String::new();
    for path in files.keys().filter(read).filter(|path| !in_manifest(path)) {
        let digest = Sha256::digest(std::fs::read(top.join(path)).ok()?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("{hex} {path}\n"));
    }
    Some(lines)
}

/// Path → git's hash of every file of the commit that the program is built from or reads. None if
/// the contents of one of them differ now. The files are hashed instead of asking `git status`,
/// which does not report files marked `assume-unchanged` or `skip-worktree`.
fn as_committed(top: &Path) -> Option<BTreeMap<String, String>> {
    let tree = ask_git(top, &[&["ls-tree", "-r", "-z", "HEAD", "--"], &TREE[..]].concat(), "")?;
    let entry = |line: &str| {
        let (facts, path) = line.split_once('\t')?;
        let hash = facts.split(' ').nth(2)?;
        facts.starts_with("100").then(|| (path.to_owned(), hash.to_owned()))
    };
    let files: BTreeMap<String, String> = tree.split('\0').filter_map(entry).collect();
    let paths: String = files.keys().map(|path| format!("{path}\n")).collect();
    let now = ask_git(top, &["hash-object", "--no-filters", "--stdin-paths"], &paths)?;
    now.lines().eq(files.values().map(String::as_str)).then_some(files)
}

/// What git prints in a folder, given `input` on its stdin.
fn ask_git(folder: &Path, words: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let output = std::thread::scope(|scope| {
        // On a thread of its own: git may wait for its output to be read before it reads on.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().ok()
    })?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}
