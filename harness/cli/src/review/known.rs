//! Checks that known failures name existing trials and have not expired.

use std::collections::BTreeSet;

use goldgate_harness::line::Day;
use goldgate_harness::spec::Specs;
use goldgate_harness::trials;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::near::guess;

const FILE: &str = "known.yaml";

/// Entries that name no trial, and entries that have expired: those of the specs, and those of the
/// subject files among them.
pub fn problems(specs: &Specs, today: Day) -> Vec<Problem> {
    let mut lists = vec![(FILE.to_owned(), "known", &specs.known.known)];
    lists.extend(specs.subjects.iter().map(|file| {
        (format!("subjects/{}.yaml", file.subject.value), "known_failures", &file.known_failures)
    }));
    let plan = trials::heads(specs);
    let names: BTreeSet<&str> = plan.iter().map(|p| p.name.as_str()).collect();
    let mut problems = Vec::new();
    for (file, list, entries) in lists.iter().filter(|(f, ..)| !specs.broken.files.contains(f)) {
        for known in *entries {
            let name = known.case.value.as_str();
            // Trials are planned without subjects, since a command may bring its own.
            let (base, subject) = name.rsplit_once("::").unwrap_or((name, ""));
            let way = [(*list, Some(name)), ("case", None)];
            if !names.contains(base) && !specs.broken.meets_trial(name) {
                let near = guess(base, names.iter().copied());
                let near = near.replace('?', &format!("::{subject}?"));
                let expected = format!("the name of a trial{near}");
                problems.push(specs.problem("GATE_REF", (file, &way), name, &expected));
            } else if known.expired(today) {
                let way = [(*list, Some(name)), ("expires", None)];
                let found = known.expires.to_string();
                let expected = format!("a day after {today}, or the failure mended and no entry");
                problems.push(specs.problem("EXPIRED", (file, &way), &found, &expected));
            }
        }
    }
    problems
}
