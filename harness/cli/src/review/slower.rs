//! Checks that accepted slowdowns name benches and records that exist, and are still needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use goldgate_harness::line::{Day, Sort};
use goldgate_harness::report::Report;
use goldgate_harness::report::record;
use goldgate_harness::report::speeds::{MEDIAN, SLOWER, card};
use goldgate_harness::spec::Specs;
use goldgate_harness::spec::slower::AcceptedSlowdown;
use goldgate_harness::trials;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::near::guess;

const FILE: &str = "slower.yaml";

/// By what fraction the median that an entry states may differ from that of its record.
const WRITTEN: f64 = 1e-3;

/// Entries that name no bench, have expired, say what their record does not, or are not needed.
/// `records` is the folder of records.
pub fn problems(specs: &Specs, today: Day, records: &Path) -> Vec<Problem> {
    if specs.broken.files.contains(FILE) || specs.slower.slower.is_empty() {
        return Vec::new();
    }
    let plan = trials::heads(specs);
    let benches = plan.iter().filter(|head| head.sort == Sort::Bench);
    let benches: BTreeSet<&str> = benches.map(|head| head.name.as_str()).collect();
    // Without any record every entry would be reported.
    let looked = records.is_dir();
    let records: BTreeMap<String, Report> = record::all(records, &mut |_| {}).into_iter().collect();
    let mut problems = Vec::new();
    for entry in &specs.slower.slower {
        let name = entry.bench.value.as_str();
        let mut add = |code, field: &str, found: &str, expected: &str| {
            let way = [("slower", Some(name)), (field, None)];
            problems.push(specs.problem(code, (FILE, &way), found, expected));
        };
        let (base, subject) = name.rsplit_once("::").unwrap_or((name, ""));
        if !benches.contains(base) && !specs.broken.meets_trial(name) {
            let near = guess(base, benches.iter().copied());
            let near = near.replace('?', &format!("::{subject}?"));
            add("GATE_REF", "bench", name, &format!("the name of a bench{near}"));
        } else if entry.expired(today) {
            let expected = format!("a day after {today}, or the kernel mended and no entry");
            add("EXPIRED", "until", &entry.until.to_string(), &expected);
        } else if let Some((field, found, expected)) =
            looked.then(|| of_records(entry, &records)).flatten()
        {
            add("SLOWER", field, &found, &expected);
        }
    }
    problems
}

/// What of an entry its records do not bear out: field, found, expected.
fn of_records(
    entry: &AcceptedSlowdown,
    records: &BTreeMap<String, Report>,
) -> Option<(&'static str, String, String)> {
    let record = format!("record/{}", entry.record);
    let median = |report: &Report| {
        let subject = entry.bench.value.rsplit("::").next().unwrap_or_default();
        let row = report.row(&entry.bench.value)?;
        (card(report, subject) == Some(entry.device.as_str())).then_some(())?;
        row.figures.get(MEDIAN).copied()
    };
    let Some(was) = records.get(&record).and_then(median) else {
        let expected = format!("a record with {} on {}", entry.bench.value, entry.device);
        return Some(("record", entry.record.clone(), expected));
    };
    if (entry.was_us / was - 1.0).abs() > WRITTEN {
        let expected = format!("{was:.3}, the median in that record");
        return Some(("was_us", entry.was_us.to_string(), expected));
    }
    let timed = records.values().filter(|report| median(report).is_some());
    let newest = timed.max_by(|a, b| a.provenance.ended.cmp(&b.provenance.ended))?;
    let is = median(newest)?;
    (is < was * (1.0 + SLOWER)).then(|| {
        let found = format!("{is:.3} µs in the newest record");
        ("bench", found, "a bench that is slower, or no entry".to_owned())
    })
}
