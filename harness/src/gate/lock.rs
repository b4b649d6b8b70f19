//! `specs/gates.lock` records the trials that each requirement rests on, so that none can disappear
//! without a reason.
//!
//! One line per case and requirement, sorted, with the variants of its trials: `G1.02
//! gate1::layernorm::ragged bf16 f16 f32`. Two people who add cases therefore never edit the same
//! line. A name that disappeared has `removed: gate1::layernorm::ragged::f16, why`. Lines that
//! begin with `#` are comments.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::vacuity::selected;
use crate::line::Head;
use crate::spec::Specs;
use crate::spec::gates::GatesFile;
use crate::yaml::Problem;

/// The contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Pairs of requirement and trial name.
    pub names: BTreeSet<(String, String)>,
    /// Name → why it was removed.
    pub removed: BTreeMap<String, String>,
}

impl Lock {
    /// A lock of everything that the requirements rest on now; the reasons of `self` are kept.
    pub fn renewed(&self, gates: &GatesFile, plan: &[Head]) -> Lock {
        let requirements = gates.gates.iter().flat_map(|g| &g.requirements);
        let names = requirements.flat_map(|r| {
            let id = r.id.value.clone();
            selected(r, plan).into_iter().map(move |p| (id.clone(), p.name.clone()))
        });
        // The reasons are kept, because the trials that they explain stay away.
        Lock { names: names.collect(), removed: self.removed.clone() }
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// A line that is neither a name, a removal nor a comment.
    pub fn parse(text: &str) -> Result<Lock, Problem> {
        let mut lock = Lock::default();
        for (i, line) in text.lines().enumerate() {
            let bad = || {
                let mut p = Problem::of_file(
                    "LOCK",
                    "gates.lock",
                    line,
                    "`REQUIREMENT CASE VARIANT…`, or `removed: NAME, reason`",
                );
                (p.place.line, p.place.column) = (i as u32 + 1, 1);
                p
            };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix("removed: ") {
                let (name, reason) = rest.split_once(", ").ok_or_else(bad)?;
                // A removal without a reason would be a way around the lock.
                if reason.trim().is_empty() {
                    return Err(bad());
                }
                lock.removed.insert(name.to_owned(), reason.trim().to_owned());
                continue;
            }
            let mut words = line.split(' ');
            let (Some(id), Some(case)) = (words.next(), words.next()) else { return Err(bad()) };
            let variants: Vec<&str> = words.collect();
            if !case.starts_with("gate") || variants.is_empty() || variants.contains(&"") {
                return Err(bad());
            }
            let name = |variant: &&str| (id.to_owned(), format!("{case}::{variant}"));
            lock.names.extend(variants.iter().map(name));
        }
        Ok(lock)
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# The trials that each requirement rests on; written by `goldgate check --lock`.\n",
        );
        let mut cases: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (id, name) in &self.names {
            let (case, variant) = name.rsplit_once("::").unwrap_or((name, ""));
            cases.entry((id, case)).or_default().push(variant);
        }
        for ((id, case), variants) in cases {
            text += &format!("{id} {case} {}\n", variants.join(" "));
        }
        for (name, reason) in &self.removed {
            text += &format!("removed: {name}, {reason}\n");
        }
        text
    }

    /// Names that were locked, have left their requirement and have no reason. One problem per
    /// stem, because trials that disappear together have one cause.
    pub fn problems(&self, specs: &Specs, plan: &[Head]) -> Vec<Problem> {
        let now = self.renewed(&specs.gates, plan);
        let gone = self.names.iter().filter(|pair| !now.names.contains(*pair));
        let gone = gone.filter(|(_, name)| !self.removed.contains_key(name));
        // One error per file of cases, because a file that goes away loses all its trials at once.
        let mut stems: BTreeMap<&str, Vec<&(String, String)>> = BTreeMap::new();
        // Trials of a broken file are missing only until it is repaired.
        for pair in gone.filter(|(_, name)| !specs.broken.meets_trial(name)) {
            stems.entry(pair.1.split("::").nth(1).unwrap_or_default()).or_default().push(pair);
        }
        let each = stems.into_iter().map(|(stem, gone)| {
            let (id, name) = gone[0];
            let more = match gone.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more of {stem}"),
            };
            let expected = format!("{id} to rest on it still, or `removed: {name}, reason`");
            Problem::of_file("LOCK", "gates.lock", format!("{id} {name}{more}"), expected)
        });
        each.collect()
    }

    /// The line of the file's text that names the trial of `problem`.
    pub fn line_of(text: &str, problem: &Problem) -> u32 {
        let mut words = problem.found.split(' ');
        let (id, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let case = name.rsplit_once("::").map_or(name, |(case, _)| case);
        // By its beginning, because the variants of a case follow on the same line.
        let begins = format!("{id} {case} ");
        let at = text.lines().position(|line| line.starts_with(&begins));
        at.map_or(0, |at| at as u32 + 1)
    }
}
