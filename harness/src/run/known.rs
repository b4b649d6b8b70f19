//! The effect of known.yaml on a row: an expected failure becomes KNOWN, an unexpected pass
//! UNEXPECTED.

use std::collections::{BTreeMap, BTreeSet};

use goldgate_wire::Observed;

use crate::line::{Day, Family, Head, On, Roles, Row, Verdict};
use crate::spec::known::KnownFailure;
use crate::subject::launch::builtin;

/// The row after the entries of known.yaml have been applied. It never becomes a pass.
pub fn apply(entries: &[KnownFailure], today: Day, row: Row, device: &str) -> Row {
    let unrun = matches!(row.verdict, Verdict::NotRun { .. });
    // If nothing ran, the device that it would have run on is unknown.
    let device_fits = |e: &KnownFailure| unrun || e.device == "*" || e.device == device;
    let mut here = entries.iter().filter(|e| e.case.value == row.name && device_fits(e));
    if unrun {
        return match here.find(|e| e.expired(today)) {
            Some(entry) => {
                // An expired entry must not hide behind a device that is missing.
                let message = format!("known until {}, and did not run since", entry.expires);
                Row { verdict: Verdict::Unexpected { message }, ..row }
            }
            None => row,
        };
    }
    let Some(entry) = here.next() else { return row };
    let verdict = match &row.verdict {
        Verdict::Pass => Verdict::Unexpected {
            message: format!("passes, though known.yaml awaits {}", entry.fails.word()),
        },
        Verdict::Fail { kind, message } if entry.covers(*kind, row.load, device) => {
            if entry.expired(today) {
                let message = format!("known until {}, and still fails: {message}", entry.expires);
                Verdict::Unexpected { message }
            } else {
                Verdict::Known {
                    kind: *kind,
                    message: message.clone(),
                    reason: entry.reason.clone(),
                    expires: entry.expires.to_string(),
                }
            }
        }
        _ => return row,
    };
    let page = crate::line::page::page_of(&row, &verdict);
    Row { verdict, page, ..row }
}

/// An entry of known.yaml that matches no trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// The trial name that it gives.
    pub name: String,
}

impl Unmatched {
    /// The unmatched ones of `entries`, given all trials that the specs plan.
    pub fn among(entries: &[KnownFailure], planned: &[Head]) -> Vec<Unmatched> {
        let matches = |name: &str| {
            let (base, label) = name.rsplit_once("::").unwrap_or((name, ""));
            let asked = |p: &Head| match label {
                "harness" => p.on == On::Harness,
                _ => p.on.asks(builtin(label).unwrap_or(Roles::UNKNOWN)),
            };
            planned.iter().any(|p| p.name == base && asked(p))
        };
        let names = entries.iter().map(|e| &e.case.value).filter(|name| !matches(name));
        let names: BTreeSet<&String> = names.collect();
        names.into_iter().map(|name| Unmatched { name: name.clone() }).collect()
    }

    /// The number of its gate, taken from its name.
    pub fn gate(&self) -> u8 {
        let (gate, _) = self.name.split_once("::").unwrap_or_default();
        gate.strip_prefix("gate").and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// The row that fails the run.
    pub fn row(&self) -> Row {
        let message = "stands in known.yaml, and no trial has this name".to_owned();
        let mut parts = self.name.split("::");
        let page = format!("UNEXPECTED {}\n  failed   {message}\n", self.name);
        Row {
            name: self.name.clone(),
            folder: String::new(),
            verdict: Verdict::Unexpected { message },
            gate: self.gate(),
            stem: parts.nth(1).unwrap_or_default().to_owned(),
            kind: "known".to_owned(),
            subject: parts.last().unwrap_or_default().to_owned(),
            // Every row has a family. That of this one decides nothing: gates only weigh rows of
            // trials, and this row is about an entry that has none.
            family: Family::Rough,
            load: None,
            compared: 0,
            faults: (0, 0),
            time_ms: 0.0,
            observed: Observed::default(),
            page: Some(page),
            worst: None,
            figures: BTreeMap::new(),
            notes: Vec::new(),
            bits: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{FailKind, NotRun, Sort};
    use crate::yaml::read::At;

    fn day(text: &str) -> Day {
        Day::parse(text).expect("a day")
    }

    fn entry(name: &str, device: &str) -> KnownFailure {
        KnownFailure {
            case: At { value: name.into(), line: 1, column: 1 },
            fails: FailKind::Load,
            at_most: Some(4.0),
            device: device.into(),
            reason: "r".into(),
            owner: "o".into(),
            since: day("2026-11-20"),
            expires: day("2026-12-20"),
        }
    }

    fn row_with(verdict: Verdict, load: Option<f64>) -> Row {
        let name = "gate1::a::b::f16::cuda".to_owned();
        Row { verdict, load, ..Unmatched { name }.row() }
    }

    fn failure() -> Verdict {
        Verdict::Fail { kind: FailKind::Load, message: "m".into() }
    }

    fn status(entries: &[KnownFailure], today: &str, row: Row) -> &'static str {
        match apply(entries, day(today), row, "A").verdict {
            Verdict::Pass => "pass",
            Verdict::Fail { .. } => "fail",
            Verdict::Known { .. } => "known",
            Verdict::Unexpected { .. } => "unexpected",
            _ => "not run",
        }
    }

    #[test]
    fn what_passes_or_has_expired_is_unexpected() {
        let unrun = || Verdict::NotRun { kind: NotRun::NoDevice, message: "none".into() };
        let name = "gate1::a::b::f16::cuda";
        let (any, other) = ([entry(name, "*")], [entry(name, "B")]);
        let (before, after) = ("2026-12-19", "2026-12-20");
        for (entries, today, row, want) in [
            (&any, before, row_with(failure(), Some(2.0)), "known"),
            (&any, before, row_with(failure(), Some(9.0)), "fail"),
            (&any, before, row_with(Verdict::Pass, None), "unexpected"),
            (&any, before, row_with(unrun(), None), "not run"),
            (&any, after, row_with(failure(), Some(2.0)), "unexpected"),
            (&any, after, row_with(Verdict::Pass, None), "unexpected"),
            (&any, after, row_with(unrun(), None), "unexpected"),
            (&other, after, row_with(failure(), Some(2.0)), "fail"),
            (&other, after, row_with(unrun(), None), "unexpected"),
        ] {
            assert_eq!(status(entries, today, row.clone()), want, "{today} {:?}", row.verdict);
        }
    }

    #[test]
    fn an_entry_that_no_trial_has_is_a_red_row() {
        let planned = |name: &str, on: On| {
            let mut parts = name.split("::").skip(1).map(str::to_owned);
            let mut part = || parts.next().expect("four parts");
            Head {
                name: name.into(),
                kind: "op",
                sort: Sort::Case,
                gate: 1,
                stem: part(),
                case: part(),
                variant: part(),
                family: Family::Rough,
                dtype: None,
                golden: None,
                definition: false,
                why: String::new(),
                source: String::new(),
                place: None,
                slow: false,
                on,
                group: None,
            }
        };
        let plan =
            [planned("gate1::a::b::f16", On::Engines), planned("gate1::a::c::f16", On::Cards)];
        let entries = [
            entry("gate1::a::b::f16::cuda", "*"),
            entry("gate1::a::c::f16::cpu", "A"),
            entry("gate1::a::c::f16::cpu", "B"),
            entry("gate1::a::c::f16::mine", "*"),
            entry("gate2::a::gone::f16::cuda", "*"),
        ];
        let found = Unmatched::among(&entries, &plan);
        let names: Vec<&str> = found.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(names, ["gate1::a::c::f16::cpu", "gate2::a::gone::f16::cuda"]);
        let row = found[1].row();
        assert!(row.is_red());
        assert_eq!((row.gate, row.stem.as_str(), row.subject.as_str()), (2, "a", "cuda"));
    }
}
