//! Reviewed faults that no rule generates: an entry that excuses nothing was misspelt, or the rule
//! that it was written for has changed.

use std::collections::BTreeSet;

use goldgate_engine::ops;
use goldgate_harness::mutants::generated::{Group, groups};
use goldgate_harness::spec::Specs;
use goldgate_harness::spec::equivalent::EquivalentFault;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::near::guess;
use goldgate_harness::yaml::read::Reader;

/// The file of the entries.
const FILE: &str = "mutants/equivalent.yaml";

/// Entries of specs/mutants/equivalent.yaml that name no fault, or an op that does not exist.
pub fn problems(specs: &Specs) -> Vec<Problem> {
    let entries = &specs.equivalent.equivalent;
    let Some(source) = specs.sources.get(FILE).filter(|_| !entries.is_empty()) else {
        return Vec::new();
    };
    let (reader, groups) = (Reader::new(source), groups(specs));
    for entry in entries {
        let note = |field, found: &str, expected: &str| {
            reader.note_value(&entry.fault, "GATE_REF", field, found, expected);
        };
        // Cases of a broken file are unknown, and so are the variants that they have.
        let broken = entry.ops.iter().any(|op| specs.broken.has(op));
        if let Some(op) = entry.ops.iter().find(|op| ops::find(op).is_none()) {
            let known = ops::ALL.iter().map(|op| op.signature().name);
            note("equivalent.ops", op, &format!("an op{}", guess(op, known)));
        } else if !broken && !groups.iter().any(|group| names(entry, group)) {
            let all = groups.iter().flat_map(|group| &group.faults).map(|f| f.name.as_str());
            let all: BTreeSet<&str> = all.collect();
            let near = guess(&entry.fault.value, all.iter().copied());
            let expected = format!("a fault that is generated{near}");
            note("equivalent.fault", &entry.fault.value, &expected);
        }
    }
    reader.finish()
}

fn names(entry: &EquivalentFault, group: &Group<'_>) -> bool {
    group.faults.iter().any(|fault| entry.names(group.op, group.variant, &fault.name))
}
