//! The comparison of a report with an earlier record, as its pages show it.
//!
//! It is made once, when the run ends, and kept in report.json: the record that it was made with
//! may be gone later, and the pages must still be rendered again to be verified.

use serde::{Deserialize, Serialize};

use crate::line::{Day, finite};
use crate::report::Report;
use crate::report::diff::{Changed, diff};
use crate::report::speeds::{MEDIAN, SLOWER, card};
use crate::report::text::number;
use crate::spec::slower::AcceptedSlowdown;

/// The most changes for the worse that are kept; the count line has the number of all.
pub const MOST: usize = 10;

/// How a report differs from an earlier record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// The name of the record, such as `record/2026-11-21-nvidia-h200-dc9ccf1`.
    pub record: String,
    /// The hash of its report.
    pub sha256: String,
    /// The number of changes of each sort.
    pub counts: String,
    /// The first gates, verdicts and faults that changed for the worse.
    pub worse: Vec<Changed>,
    /// Benches that are slower than they were, the slowest first.
    pub slower: Vec<SlowerBench>,
}

/// A bench that is slower than it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowerBench {
    /// The bench.
    pub bench: String,
    /// The record that it was faster in.
    pub record: String,
    /// Its median in that record, in microseconds.
    #[serde(with = "finite::one")]
    pub was: f64,
    /// Its median now, in microseconds.
    #[serde(with = "finite::one")]
    pub is: f64,
    /// Why that is accepted, and until which day; absent where it is not accepted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted: Option<String>,
}

impl SlowerBench {
    /// Whether it is a bench of this gate.
    pub fn of_gate(&self, gate: u8) -> bool {
        self.bench.starts_with(&format!("gate{gate}::"))
    }

    /// The comparison, without the name of the bench.
    pub fn text(&self) -> String {
        let percent = (self.is / self.was - 1.0) * 100.0;
        let (was, is) = (number(self.was), number(self.is));
        format!("{was} → {is} µs, {percent:.0} % slower than in {}", self.record)
    }
}

/// Compares a report with a record. A bench is slower if it is so in comparison with the record, or
/// with the earlier record that an accepted slowdown names: else a slowdown would be forgotten as
/// soon as one record holds it.
pub fn against(
    report: &Report,
    (name, record): (&str, &Report),
    accepted: &[AcceptedSlowdown],
) -> Against {
    let diff = diff(record, report);
    let worse = diff.gates.iter().chain(&diff.verdicts).chain(&diff.faults).filter(|c| c.worse);
    let mut slower: Vec<SlowerBench> = Vec::new();
    for entry in accepted {
        slower.extend(still_slower(report, entry));
    }
    let new = diff.speeds.iter().filter(|speed| speed.worse);
    for speed in new.filter(|s| !accepted.iter().any(|e| covers(e, report, &s.name, s.is))) {
        let (bench, record) = (speed.name.clone(), name.to_owned());
        // Two lines about one bench would be counted as two slowdowns on the page of its gate.
        slower.retain(|known| known.bench != bench);
        let (was, is) = (speed.was, speed.is);
        slower.push(SlowerBench { bench, record, was, is, accepted: None });
    }
    slower.sort_by(|a, b| (b.is / b.was).total_cmp(&(a.is / a.was)));
    Against {
        record: name.to_owned(),
        sha256: record.sha256.clone(),
        counts: diff.count_line(),
        worse: worse.take(MOST).cloned().collect(),
        slower,
    }
}

/// Whether an entry accepts that a bench of this report takes `is` microseconds.
fn covers(entry: &AcceptedSlowdown, report: &Report, bench: &str, is: f64) -> bool {
    entry.bench.value == bench
        && of_this_card(entry, report)
        && is <= entry.was_us * entry.at_most
        && ended(report).is_some_and(|day| !entry.expired(day))
}

/// The bench of an entry, if it is still slower than it was.
fn still_slower(report: &Report, entry: &AcceptedSlowdown) -> Option<SlowerBench> {
    let row = report.row(&entry.bench.value).filter(|_| of_this_card(entry, report))?;
    let is = *row.figures.get(MEDIAN)?;
    let covered = covers(entry, report, &entry.bench.value, is);
    // By size alone: an entry holds one median, and no range that would bound its noise.
    (is >= entry.was_us * (1.0 + SLOWER)).then(|| SlowerBench {
        bench: entry.bench.value.clone(),
        record: format!("record/{}", entry.record),
        was: entry.was_us,
        is,
        accepted: covered.then(|| format!("until {}: {}", entry.until, entry.reason)),
    })
}

fn of_this_card(entry: &AcceptedSlowdown, report: &Report) -> bool {
    let subject = entry.bench.value.rsplit("::").next().unwrap_or_default();
    card(report, subject) == Some(entry.device.as_str())
}

/// The day on which a run ended. The clock of the run decides, so that its pages do not change with
/// the day on which they are rendered.
fn ended(report: &Report) -> Option<Day> {
    report.provenance.ended.get(..10).and_then(Day::parse)
}

#[cfg(test)]
mod tests;
