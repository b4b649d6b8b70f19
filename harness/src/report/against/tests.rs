//! Which benches are slower, and which of them are accepted.

use serde_json::json;

use super::*;
use crate::report::samples;
use crate::yaml::read::At;

const BENCH: &str = "gate1::layernorm::wide::f16::cuda";

fn report(median: f64) -> Report {
    let mut report = samples::report();
    let hello = json!({"device": {"kind": "cuda", "name": "NVIDIA H200"}});
    report.provenance.subjects = [("cuda".to_owned(), hello)].into();
    let mut row = samples::row(BENCH, 0.0);
    row.kind = "bench".into();
    row.figures.insert(MEDIAN.into(), median);
    report.rows.push(row);
    report.rows.sort_by(|a, b| a.name.cmp(&b.name));
    report
}

fn entry(at_most: f64, until: &str, device: &str) -> AcceptedSlowdown {
    AcceptedSlowdown {
        bench: At { value: BENCH.into(), line: 1, column: 1 },
        device: device.into(),
        record: "a".into(),
        was_us: 100.0,
        at_most,
        reason: "two passes".into(),
        since: Day::parse("2026-11-01").expect("a day"),
        until: Day::parse(until).expect("a day"),
    }
}

/// Whether each slower bench is accepted, and since which record it is slower.
fn slower(was: f64, is: f64, accepted: &[AcceptedSlowdown]) -> Vec<(String, bool)> {
    let found = against(&report(is), ("record/b", &report(was)), accepted);
    found.slower.into_iter().map(|s| (s.record, s.accepted.is_some())).collect()
}

#[test]
fn a_slower_bench_is_accepted_by_its_entry_alone() {
    let of = |record: &str, accepted| vec![(record.to_owned(), accepted)];
    let good = entry(1.6, "2026-12-01", "NVIDIA H200");
    assert_eq!(slower(100.0, 104.0, &[]), []);
    assert_eq!(slower(100.0, 150.0, &[]), of("record/b", false));
    assert_eq!(slower(100.0, 150.0, std::slice::from_ref(&good)), of("record/a", true));
    // The record before is as slow, and the entry does not forget.
    assert_eq!(slower(150.0, 150.0, std::slice::from_ref(&good)), of("record/a", true));
    assert_eq!(slower(150.0, 101.0, std::slice::from_ref(&good)), []);
    // Slower than accepted, expired, or of another card.
    assert_eq!(slower(150.0, 170.0, std::slice::from_ref(&good)), of("record/b", false));
    let expired = entry(1.6, "2026-11-20", "NVIDIA H200");
    assert_eq!(slower(150.0, 150.0, &[expired]), of("record/a", false));
    let other = entry(1.6, "2026-12-01", "NVIDIA A100");
    assert_eq!(slower(100.0, 150.0, &[other]), of("record/b", false));
}
