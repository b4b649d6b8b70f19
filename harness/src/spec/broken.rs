//! Files that have errors of their own. Whatever depends on them is not judged until they are
//! repaired, so that one mistake is not reported hundreds of times.

use std::collections::BTreeSet;

use crate::line::glob::glob;
use crate::yaml::Problem;

/// The files, and the stems of their trials, that cannot be relied on for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// The files, by path below the specs folder.
    pub files: BTreeSet<String>,
    /// The stems of their trials: the file's own, and the one that it names if that differs.
    stems: BTreeSet<String>,
}

impl Broken {
    /// Adds the files of `problems`.
    pub fn extend(&mut self, problems: &[Problem]) {
        for problem in problems {
            self.note(&problem.place.file, "");
        }
    }

    /// Adds a file, and the stem that it names.
    pub fn note(&mut self, file: &str, named: &str) {
        self.files.insert(file.to_owned());
        let name = file.rsplit('/').next().unwrap_or(file);
        // Also of `.yml`: that file is refused, but its name shows which trials are missing because
        // of it.
        let stem = name.split_once(".y").map_or(name, |(stem, _)| stem);
        // Files at the top, such as gates.yaml, have no trials named after them.
        if file.contains('/') {
            self.stems.insert(stem.to_owned());
        }
        if !named.is_empty() {
            self.stems.insert(named.to_owned());
        }
    }

    /// Whether gates.yaml is one of the files.
    pub fn has_gates(&self) -> bool {
        self.files.contains("gates.yaml")
    }

    /// Whether trials of this stem may be missing.
    pub fn has(&self, stem: &str) -> bool {
        self.stems.contains(stem)
    }

    /// Whether a pattern `stem`, `stem::case` … selects trials that may be missing.
    pub fn meets(&self, pattern: &str) -> bool {
        // The stem alone decides, because a broken file hides all of its cases.
        let stem = pattern.split("::").next().unwrap_or_default();
        self.stems.iter().any(|own| glob(stem, own))
    }

    /// Whether a trial `gate1::stem::case…` may be missing.
    pub fn meets_trial(&self, name: &str) -> bool {
        name.split("::").nth(1).is_some_and(|stem| self.has(stem))
    }

    /// Whether a golden `ops/stem/…` belongs to a case that may be missing.
    pub fn meets_golden(&self, path: &str) -> bool {
        path.split('/').nth(1).is_some_and(|stem| self.has(stem))
    }
}
