//! `specs/gates.lock`: the trials that each requirement rests on. One that goes away needs a
//! reason.
//!
//! One line a name, sorted: `G1.02 gate1::layernorm::ragged::f16`. A name that went away has
//! `removed: gate1::layernorm::ragged::f16, why`. Lines that begin with `#` are for people.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::plan::Planned;
use crate::gate::vacuity::selected;
use crate::spec::gates::GatesFile;
use crate::spec::problem::Problem;

/// What was locked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Requirement and name.
    pub names: BTreeSet<(String, String)>,
    /// Name → why it went away.
    pub removed: BTreeMap<String, String>,
}

impl Lock {
    /// Everything that the requirements rest on now, with the reasons of `self`.
    pub fn renewed(&self, gates: &GatesFile, plan: &[Planned]) -> Lock {
        let requirements = gates.gates.iter().flat_map(|g| &g.requirements);
        let names = requirements.flat_map(|r| {
            let id = r.id.value.clone();
            selected(r, plan).into_iter().map(move |p| (id.clone(), p.name.clone()))
        });
        Lock { names: names.collect(), removed: self.removed.clone() }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// A line that is neither a name, a removal, nor a comment.
    pub fn parse(text: &str) -> Result<Lock, Problem> {
        let mut lock = Lock::default();
        for (i, line) in text.lines().enumerate() {
            let bad = || {
                let mut p = Problem::of_file(
                    "LOCK",
                    "gates.lock",
                    line,
                    "`REQUIREMENT NAME`, or `removed: NAME, reason`",
                );
                (p.place.line, p.place.column) = (i as u32 + 1, 1);
                p
            };
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(rest) = line.strip_prefix("removed: ") {
                let (name, reason) = rest.split_once(", ").ok_or_else(bad)?;
                if reason.trim().is_empty() {
                    return Err(bad());
                }
                lock.removed.insert(name.to_owned(), reason.trim().to_owned());
                continue;
            }
            match line.split_once(' ') {
                Some((id, name)) if name.starts_with("gate") && !name.contains(' ') => {
                    lock.names.insert((id.to_owned(), name.to_owned()));
                }
                _ => return Err(bad()),
            }
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "# The trials that each requirement rests on; written by `goldgate check --lock`.\n",
        );
        for (id, name) in &self.names {
            text += &format!("{id} {name}\n");
        }
        for (name, reason) in &self.removed {
            text += &format!("removed: {name}, {reason}\n");
        }
        text
    }

    /// Names that were locked, are gone from their requirement, and have no reason.
    pub fn problems(&self, gates: &GatesFile, plan: &[Planned]) -> Vec<Problem> {
        let now = self.renewed(gates, plan);
        let gone = self.names.iter().filter(|pair| !now.names.contains(*pair));
        gone.filter(|(_, name)| !self.removed.contains_key(name))
            .map(|(id, name)| {
                let expected = format!("{id} to rest on it still, or `removed: {name}, reason`");
                Problem::of_file("LOCK", "gates.lock", format!("{id} {name}"), expected)
            })
            .collect()
    }
}
