//! Checks of the harness itself, told as rows of the subject `harness`.

use std::sync::mpsc::Sender;
use std::time::Instant;

use crate::case::Family;
use crate::checks::HarnessCheck;
use crate::execution::Observed;
use crate::report::Row;
use crate::run::{Context, News};
use crate::verdict::{FailKind, NotRun, Verdict};

/// `gate1::tamper::golden_cut::self::harness`.
pub fn name(check: &HarnessCheck) -> String {
    format!("gate{}::{}::{}::self::harness", check.gate, check.stem, check.case)
}

pub(super) fn check_all(context: &Context<'_>, news: &Sender<News>) {
    for entry in &context.plan.unmatched {
        // Whoever listens outlives every check.
        let _ = news.send(News::Row(Box::new(entry.row()), None));
    }
    for check in &context.plan.checks {
        let start = Instant::now();
        let verdict = if context.stopped() {
            Verdict::NotRun { kind: NotRun::Stopped, message: "the run was stopped".to_owned() }
        } else {
            match (check.run)() {
                Ok(()) => Verdict::Pass,
                Err(e) => Verdict::Fail { kind: FailKind::Internal, message: e.to_string() },
            }
        };
        let row = row(check, verdict, start.elapsed().as_secs_f64() * 1e3);
        let _ = news.send(News::Row(Box::new(row), None));
    }
}

fn row(check: &HarnessCheck, verdict: Verdict, time_ms: f64) -> Row {
    let name = name(check);
    let page = match &verdict {
        Verdict::Fail { kind, message } => {
            let (why, kind) = (check.why, kind.word());
            let lines = [
                format!("FAIL {name}"),
                format!("  why      {why}"),
                format!("  failed   {kind}: {message}"),
                format!("  again    goldgate run {name}\n"),
            ];
            Some(lines.join("\n"))
        }
        _ => None,
    };
    Row {
        name,
        verdict,
        gate: check.gate,
        stem: check.stem.to_owned(),
        kind: "self".to_owned(),
        subject: "harness".to_owned(),
        family: Family::Rough,
        load: None,
        compared: 0,
        faults: (0, 0),
        time_ms,
        observed: Observed::default(),
        page,
        worst: None,
        figures: std::collections::BTreeMap::new(),
        notes: Vec::new(),
    }
}
