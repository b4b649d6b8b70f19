//! A judgement as a row of the report.

use crate::line::caller::Log;
use crate::line::page::page;
use crate::line::{Head, Judgement};
use crate::report::Row;
use crate::verdict::Verdict;

/// The row of a trial on a subject. `again` is the command that runs it again.
pub fn row(
    head: &Head,
    label: &str,
    again: &str,
    faults: (u32, u32),
    judgement: Judgement,
    log: &Log,
) -> Row {
    let name = head.on_subject(label);
    let page = page(head, &name, &judgement, again, &log.stderr);
    let failed = matches!(judgement.verdict, Verdict::Fail { .. });
    Row {
        name,
        verdict: judgement.verdict,
        gate: head.gate,
        stem: head.stem.clone(),
        kind: head.kind.to_owned(),
        subject: label.to_owned(),
        family: head.family,
        load: judgement.load,
        compared: judgement.compared,
        faults,
        time_ms: log.time.as_secs_f64() * 1e3,
        observed: judgement.observed,
        page,
        worst: judgement.worst.filter(|_| failed),
        figures: judgement.figures,
        notes: judgement.notes,
        bits: log.bits(),
    }
}

/// The row of a trial that nobody was asked.
pub fn unasked(head: &Head, label: &str, again: &str, verdict: Verdict) -> Row {
    row(head, label, again, (0, 0), Judgement::of(verdict), &Log::default())
}
