//! Compiles in the commit and whether the tree was clean; outside git it says so.

use std::process::Command;

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
    // This crate is compiled again after a change of what it rests on, so asking git again is
    // cheap.
    for sources in ["src", "wire/src", "../engine/src", "../engine/tensor/src", "../cuda"] {
        println!("cargo::rerun-if-changed={sources}");
    }
}
