//! Which planted faults a requirement rests on.

use crate::gate::select::any_selects;
use crate::kinds::mutant::{Mutant, MutantsFile};
use crate::line::glob::glob;
use crate::line::{Head, Role, Roles};
use crate::spec::gates::{Evidence, Requirement};

/// The subject under which the result of a mutant is recorded, for a requirement on `label`: faults
/// of answers are planted once, by the harness; faults of kernels where our own kernels run. None
/// if the mutant says nothing about that subject.
pub fn tier<'l>(mutant: &Mutant, label: &'l str, roles: Option<Roles>) -> Option<&'l str> {
    if mutant.kernel.is_none() {
        return Some(Role::Harness.word());
    }
    roles.is_some_and(|roles| roles.own && roles.card).then_some(label)
}

/// The mutants that an item of `kill` names: `ID` among the ops of the requirement's own cases, or
/// `op::ID` with `*` inside a part.
pub fn mutants_of<'m>(
    mutants: &'m [MutantsFile],
    plan: &[Head],
    spec: &Requirement,
    kill: &str,
) -> Vec<(&'m str, &'m Mutant)> {
    let (stem, id) = match kill.split_once("::") {
        Some((stem, id)) => (Some(stem), id),
        None => (None, kill),
    };
    let own = |op: &str| {
        let cases = |e: &Evidence| match e {
            Evidence::Cases(c) => plan.iter().any(|p| p.stem == op && any_selects(&c.select, p)),
            _ => false,
        };
        spec.evidence.iter().any(|e| cases(&e.value))
    };
    mutants
        .iter()
        .filter(|file| match stem {
            Some(stem) => glob(stem, &file.mutants.value),
            None => own(&file.mutants.value),
        })
        .flat_map(|file| file.list.iter().map(|m| (file.mutants.value.as_str(), m)))
        .filter(|(_, mutant)| glob(id, &mutant.id.value))
        .collect()
}
