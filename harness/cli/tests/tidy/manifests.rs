//! What the workspace builds on: few crates, each of them used, and the compiler that is pinned.

use std::collections::BTreeSet;
use std::process::Command;

use super::{files, root, verdict};

/// Crates of others that `cargo run` compiles on Linux: build scripts and macros count, features
/// that are off do not. A dependency that needs more says in ARCHITECTURE.md why it is worth it.
const CRATES: usize = 159;

/// The folders of our packages.
const PACKAGES: [&str; 6] =
    ["engine/tensor", "engine", "harness/wire", "harness/worker", "harness", "harness/cli"];

/// Folders of a package whose sources may name its `[dependencies]`; tests may name all.
const SHIPPED: &[&str] = &["src", "mock"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The lines of a section of a manifest that say something.
fn section<'t>(manifest: &'t str, name: &str) -> Vec<&'t str> {
    let head = format!("[{name}]");
    let lines = manifest.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|l| !l.starts_with('[')).filter(|l| !l.starts_with('#')).collect()
}

/// The names of a section's dependencies.
fn names<'t>(manifest: &'t str, name: &str) -> BTreeSet<&'t str> {
    let lines = section(manifest, name).into_iter().filter(|line| line.contains('='));
    lines.filter_map(|line| line.split(['.', ' ', '=']).next()).collect()
}

/// The value of `key = "value"` in a section.
fn value<'t>(manifest: &'t str, name: &str, key: &str) -> Option<&'t str> {
    let line = section(manifest, name).into_iter().find_map(|l| l.strip_prefix(key))?;
    line.trim_start().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"')
}

#[test]
fn the_default_tree_of_dependencies_is_small() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let words = "tree --workspace --locked --offline --edges normal,build --prefix none \
        --target x86_64-unknown-linux-gnu";
    let output = Command::new(cargo).args(words.split_whitespace()).current_dir(root()).output();
    let output = output.expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A package of ours shows its folder; a package that was shown before ends in (*).
    let theirs = text.lines().filter(|line| !line.is_empty() && !line.contains(" (/"));
    let crates: BTreeSet<&str> = theirs.map(|line| line.trim_end_matches(" (*)")).collect();
    let crates: BTreeSet<&str> =
        crates.into_iter().map(|line| line.trim_end_matches(" (proc-macro)")).collect();
    assert!(crates.len() > 50, "{text}");
    assert!(crates.len() <= CRATES, "{} crates, at most {CRATES}: {crates:#?}", crates.len());
}

/// Whether a source names a crate: as the beginning of a path, or as a whole in a `use`.
fn uses(source: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(name).any(|(at, _)| {
            let rest = &line[at + name.len()..];
            let whole = line.trim_start().starts_with("use ")
                && (rest.starts_with(';') || rest.starts_with(" as "));
            !line[..at].ends_with(part) && (rest.starts_with("::") || whole)
        })
    })
}

#[test]
fn every_dependency_is_used() {
    let workspace = read("Cargo.toml");
    let mut broken = Vec::new();
    let mut asked = BTreeSet::new();
    let packages = PACKAGES.map(|folder| (folder, read(&format!("{folder}/Cargo.toml"))));
    for (folder, manifest) in &packages {
        let sources = files(folder, &["rs"]);
        let inside = |name: &str, folders: &[&str]| {
            let of = |part: &&str| name.starts_with(&format!("{folder}/{part}/"));
            folders.is_empty() || folders.iter().any(of)
        };
        for (list, folders) in [("dependencies", SHIPPED), ("dev-dependencies", &[][..])] {
            for name in names(manifest, list) {
                let word = name.replace('-', "_");
                let mut places = sources.iter().filter(|(name, _)| inside(name, folders));
                if !places.any(|(_, source)| uses(source, &word)) {
                    broken
                        .push(format!("{folder}/Cargo.toml: [{list}] {name}: no source names it"));
                }
                asked.insert(name);
            }
        }
    }
    for name in names(&workspace, "workspace.dependencies") {
        if !asked.contains(name) {
            broken.push(format!("Cargo.toml: {name}: no package asks for it"));
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    verdict(&broken);
}

#[test]
fn a_name_in_a_string_or_a_comment_is_no_use() {
    assert!(uses("use half::f16;", "half"));
    assert!(uses("    let x = half::f16::MAX;", "half"));
    assert!(uses("use rayon as pool;", "rayon"));
    assert!(!uses("// half::f16", "half"));
    assert!(!uses("use crate::half::x;", "half"));
    assert!(!uses("let s = \"half\";", "half"));
    assert!(!uses("behalf::x()", "half"));
}

/// CI has one toolchain, the pinned one, so the version that the manifest promises is that one: a
/// lower promise would be tested by nobody.
#[test]
fn the_promised_compiler_is_the_tested_one() {
    let (toolchain, workspace) = (read("rust-toolchain.toml"), read("Cargo.toml"));
    let pinned = value(&toolchain, "toolchain", "channel").expect("a channel");
    let promised = value(&workspace, "workspace.package", "rust-version").expect("a version");
    assert_eq!(pinned.rsplit_once('.').map(|(minor, _)| minor), Some(promised));
}
