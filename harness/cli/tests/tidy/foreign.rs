//! Files that somebody else may have written are opened in one place: a pipe, a device or a link
//! in a place where nobody thought of one must not stop a run, and must not cost its memory.

use super::{files, verdict};

/// The ways around it.
const WAYS: [&str; 7] = [
    "File::open(",
    "File::options(",
    "OpenOptions::new(",
    "fs::copy(",
    "fs::read(",
    "fs::read_to_string(",
    "use std::fs::read",
];

/// How often a file may take one of them, each with its reason.
const TAKEN: &[(&str, usize, &str)] = &[
    ("engine/tensor/src/foreign.rs", 1, "the one place"),
    ("harness/src/report/provenance.rs", 1, "/proc: the release of the system"),
    ("harness/src/report/writer.rs", 2, "a folder to be locked; rows that it has just begun"),
    ("harness/src/run/prepare.rs", 1, "/proc: the memory that is free"),
    ("harness/src/subject/processes.rs", 3, "/proc: a process's state, environment and name"),
    ("harness/src/tamper.rs", 3, "files that it has just written into a scratch folder of its own"),
    ("harness/worker/src/cpu.rs", 1, "/proc: its own memory"),
];

/// What ships, without its tests.
fn shipped() -> Vec<(String, String)> {
    let mut all = files("engine", &["rs"]);
    all.extend(files("harness", &["rs"]));
    all.retain(|(name, _)| name.contains("/src/") && !name.ends_with("/tests.rs"));
    let code = |text: String| text.split("#[cfg(test)]\nmod ").next().unwrap_or("").to_owned();
    all.into_iter().map(|(name, text)| (name, code(text))).collect()
}

#[test]
fn files_of_others_are_opened_in_one_place() {
    let mut broken = Vec::new();
    for (name, text) in shipped() {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found: Vec<&str> = lines.filter(|l| WAYS.iter().any(|way| l.contains(way))).collect();
        let may = TAKEN.iter().find(|(file, ..)| *file == name).map_or(0, |(_, times, _)| *times);
        if found.len() != may {
            let found = found.join("\n  ");
            broken.push(format!("{name}: {may} may be here, by open_foreign else:\n  {found}"));
        }
    }
    verdict(&broken);
}
