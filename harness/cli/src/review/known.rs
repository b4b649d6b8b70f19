//! Checks that known failures name existing trials and have not expired.

use std::collections::BTreeSet;

use goldgate_harness::line::Day;
use goldgate_harness::spec::Specs;
use goldgate_harness::trials;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::near::guess;

const FILE: &str = "known.yaml";

/// Entries that name no trial, and entries that have expired.
pub fn problems(specs: &Specs, today: Day) -> Vec<Problem> {
    if specs.broken.files.contains(FILE) {
        return Vec::new();
    }
    let plan = trials::heads(specs);
    let names: BTreeSet<&str> = plan.iter().map(|p| p.name.as_str()).collect();
    let mut problems = Vec::new();
    for known in &specs.known.known {
        let name = known.case.value.as_str();
        // Trials are planned without subjects, since a command may bring its own.
        let (base, subject) = name.rsplit_once("::").unwrap_or((name, ""));
        let way = [("known", Some(name)), ("case", None)];
        if !names.contains(base) && !specs.broken.meets_trial(name) {
            let near = guess(base, names.iter().copied());
            let near = near.replace('?', &format!("::{subject}?"));
            let expected = format!("the name of a trial{near}");
            problems.push(specs.problem("GATE_REF", (FILE, &way), name, &expected));
        } else if known.expired(today) {
            let way = [("known", Some(name)), ("expires", None)];
            let found = known.expires.to_string();
            let expected = format!("a day after {today}, or the failure mended and no entry");
            problems.push(specs.problem("EXPIRED", (FILE, &way), &found, &expected));
        }
    }
    problems
}
