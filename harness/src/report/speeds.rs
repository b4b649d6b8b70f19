//! Compares the speeds of two reports: which benches are slower, and by more than their noise.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::line::Row;
use crate::report::Report;
use crate::report::text::{line, number};

/// By what fraction a bench must be slower to be worse.
pub const SLOWER: f64 = 0.05;

/// The figure by which benches are compared.
pub const MEDIAN: &str = "median_us";

/// The fastest and the slowest of the repeated medians of a bench, which bound its noise.
pub const SPREAD: (&str, &str) = ("least_median_us", "most_median_us");

/// Figures of a bench that follow from its median.
const DERIVED: [&str; 3] = ["gb_s", "share", "tflop_s"];

/// The limits of the card, which every bench of a run repeats.
const OF_THE_CARD: [&str; 4] = ["copy_gb_s", "gap_us", "mma_tflop_s", "read_gb_s"];

/// The speed of one bench in two reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// The bench.
    pub name: String,
    /// Its median before, in microseconds.
    pub was: f64,
    /// Its median now, in microseconds.
    pub is: f64,
    /// Whether the two ranges of repeated medians overlap.
    pub noise: bool,
    /// Whether the bench asks for another amount of work now, so that its speeds cannot be
    /// compared.
    pub other_work: bool,
    /// Whether it is slower by more than its noise, and by 5 % or more.
    pub worse: bool,
}

impl Speed {
    /// How many times as long it takes now.
    pub fn factor(&self) -> f64 {
        self.is / self.was
    }

    /// The comparison in one line.
    pub fn text(&self) -> String {
        let percent = (self.factor() - 1.0) * 100.0;
        let verdict = match self {
            Speed { worse: true, .. } => ", worse",
            Speed { other_work: true, .. } => ", another amount of work",
            Speed { noise: true, .. } => ", within its noise",
            _ => "",
        };
        let (was, is) = (number(self.was), number(self.is));
        format!("{}: {was} → {is} µs, {percent:+.0} %{verdict}", line(&self.name))
    }
}

/// The speed of a bench in two reports that moved by 5 % or more; none for other rows, and where
/// the two ran on different cards.
pub fn speed(old: &Report, new: &Report, before: &Row, row: &Row) -> Option<Speed> {
    let (&was, &is) = (before.figures.get(MEDIAN)?, row.figures.get(MEDIAN)?);
    // A median that is no number is a failure of its row, and has a verdict there.
    let measured = |x: f64| x.is_finite() && x > 0.0;
    if row.kind != "bench" || !measured(was) || !measured(is) {
        return None;
    }
    // Another card has another speed, so a difference would say nothing about the program.
    if card(old, &before.subject) != card(new, &row.subject) {
        return None;
    }
    let slower = is >= was * (1.0 + SLOWER);
    // The same factor in both directions, so that exchanging the reports exchanges slower and
    // faster.
    if !slower && was < is * (1.0 + SLOWER) {
        return None;
    }
    // Reports of earlier versions have one median, so there only the size of the change counts.
    let least = |row: &Row, median| row.figures.get(SPREAD.0).copied().unwrap_or(median);
    let most = |row: &Row, median| row.figures.get(SPREAD.1).copied().unwrap_or(median);
    let apart = least(row, is) > most(before, was) || least(before, was) > most(row, is);
    // Work is computed from two measured figures, so equal work is equal only up to rounding.
    let other_work = work(before).zip(work(row)).is_some_and(|(a, b)| (a / b - 1.0).abs() > 1e-3);
    let worse = slower && apart && !other_work;
    Some(Speed { name: row.name.clone(), was, is, noise: !apart, other_work, worse })
}

/// What a bench moves or computes: its rate times its median.
fn work(row: &Row) -> Option<f64> {
    let rate = row.figures.get("gb_s").or_else(|| row.figures.get("tflop_s"))?;
    Some(rate * row.figures.get(MEDIAN)?)
}

/// The name of the card that a subject ran on; none without one.
pub fn card<'r>(report: &'r Report, subject: &str) -> Option<&'r str> {
    report.provenance.subjects.get(subject)?.pointer("/device/name")?.as_str()
}

/// The figures of a row that have no verdict: load times, sizes of arenas, errors that are judged
/// as loads, limits of the card. What follows from a median is left out.
pub fn other_figures(row: &Row) -> BTreeMap<String, f64> {
    let bench = row.kind == "bench";
    let median = [MEDIAN, SPREAD.0, SPREAD.1];
    let own = row.figures.iter().filter(|(figure, _)| {
        let figure = figure.as_str();
        !bench || !(median.contains(&figure) || DERIVED.contains(&figure))
    });
    own.map(|(figure, x)| {
        // Measured once per run and repeated in each row, so one line is enough.
        let shared = bench && OF_THE_CARD.contains(&figure.as_str());
        let name = if shared { "card" } else { row.name.as_str() };
        (format!("{name} {figure}"), *x)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::samples;

    fn report(card: &str) -> Report {
        let mut report = samples::report();
        let hello = json!({"device": {"kind": "cuda", "name": card}});
        report.provenance.subjects = [("cuda".to_owned(), hello)].into();
        report
    }

    fn bench(median: f64, spread: Option<(f64, f64)>) -> Row {
        let mut row = samples::row("gate1::gelu::wide::f16::cuda", 0.0);
        row.kind = "bench".into();
        row.figures.insert(MEDIAN.into(), median);
        if let Some((least, most)) = spread {
            row.figures.insert(SPREAD.0.into(), least);
            row.figures.insert(SPREAD.1.into(), most);
        }
        row
    }

    fn compared(was: &Row, is: &Row) -> Option<(bool, bool)> {
        let report = report("NVIDIA H200");
        speed(&report, &report, was, is).map(|s| (s.noise, s.worse))
    }

    #[test]
    fn a_bench_is_worse_by_5_percent_and_beyond_its_noise() {
        let at = |median: f64| bench(median, Some((median - 1.0, median + 1.0)));
        assert_eq!(compared(&at(100.0), &at(105.0)), Some((false, true)));
        assert_eq!(compared(&at(100.0), &at(104.9)), None);
        assert_eq!(compared(&at(105.0), &at(100.0)), Some((false, false)));
        let noisy = bench(110.0, Some((99.0, 140.0)));
        assert_eq!(compared(&at(100.0), &noisy), Some((true, false)));
        // Without a known spread the size alone decides.
        assert_eq!(compared(&bench(100.0, None), &bench(105.0, None)), Some((false, true)));
    }

    #[test]
    fn a_bench_that_asks_for_more_is_not_slower() {
        let with = |median: f64, rate: f64| {
            let mut row = bench(median, None);
            row.figures.insert("gb_s".into(), rate);
            row
        };
        assert_eq!(compared(&with(1.0, 100.0), &with(2.0, 100.0)), Some((false, false)));
        assert_eq!(compared(&with(1.0, 100.0), &with(2.0, 50.0)), Some((false, true)));
    }

    #[test]
    fn another_card_and_other_rows_have_no_speed() {
        let (was, is) = (bench(1.0, None), bench(2.0, None));
        let (here, there) = (report("NVIDIA H200"), report("NVIDIA A100"));
        assert!(speed(&here, &there, &was, &is).is_none());
        assert!(speed(&here, &here, &was, &Row { kind: "load".into(), ..is.clone() }).is_none());
        assert!(speed(&here, &here, &was, &bench(f64::INFINITY, None)).is_none());
    }

    #[test]
    fn what_follows_from_a_median_is_listed_once() {
        let mut row = bench(1.0, Some((1.0, 1.0)));
        for figure in ["gb_s", "share", "copy_gb_s"] {
            row.figures.insert(figure.into(), 1.0);
        }
        assert_eq!(other_figures(&row).keys().collect::<Vec<_>>(), ["card copy_gb_s"]);
        row.kind = "load".into();
        assert_eq!(other_figures(&row).len(), 6);
    }
}
