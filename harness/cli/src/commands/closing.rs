//! The last lines of a run: what did not run and why, the outcomes of the mutants, the place of the
//! report, and the time taken.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use goldgate_harness::line::{Fate, Planted, Row, Verdict};
use goldgate_harness::report::generated;
use goldgate_harness::report::text::line;
use goldgate_harness::session::RunOutcome;

/// Lines that state what a passing line cannot, so that nothing is left out silently.
pub fn lines(outcome: &RunOutcome, report: Option<&Path>, took: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    // First, because all other lines are then about a part of the run.
    lines.extend(stopped(outcome));
    lines.extend(not_run(&outcome.report.rows));
    lines.extend(mutants(&outcome.mutants));
    let generated = generated::summary(&outcome.report.generated);
    // Survivors by name are in the report: there are hundreds of them.
    lines.extend(generated.map(|killed| format!("generated    {killed}")));
    if let Some(folder) = report {
        lines.push(format!("report       {}", folder.display()));
    }
    lines.push(format!("time         {:.0} s", took.as_secs_f64()));
    lines
}

/// `NOT RUN 30: no_model 30`, with one example of the reason per kind.
fn not_run(rows: &[Row]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for row in rows {
        if let Verdict::NotRun { kind, message } = &row.verdict {
            reasons.entry(kind.word()).or_insert((0, message)).0 += 1;
        }
    }
    let total: usize = reasons.values().map(|(count, _)| count).sum();
    if total == 0 {
        return Vec::new();
    }
    let each = reasons.iter().map(|(word, (count, _))| format!("{word} {count}"));
    let mut lines = vec![format!("NOT RUN {total}: {}", each.collect::<Vec<_>>().join(" · "))];
    // The person who stopped the run knows the reason for `stopped`.
    let examples = reasons.iter().filter(|(word, _)| **word != "stopped");
    // On one line: it may be a subject's message, and must not look like lines of ours.
    lines.extend(examples.map(|(word, (_, message))| format!("  {word}: {}", line(message))));
    lines
}

/// `mutants killed 899 of 900; 7 equivalent; 15 not planted: no device`, then the survivors.
fn mutants(planted: &[Planted]) -> Vec<String> {
    let (mut killed, mut survived, mut equivalent) = (0, 0, 0);
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for mutant in planted {
        match &mutant.fate {
            Fate::Killed { .. } => killed += 1,
            Fate::Survived { .. } => survived += 1,
            Fate::Equivalent { .. } => equivalent += 1,
            Fate::NotRun { why } => *waiting.entry(why).or_default() += 1,
        }
    }
    if planted.is_empty() {
        return Vec::new();
    }
    // Equivalent mutants and those that were not planted say nothing about the cases.
    let asked = killed + survived;
    let mut line = format!("mutants      killed       {killed:>6} of {asked}");
    if equivalent > 0 {
        line.push_str(&format!("; {equivalent} equivalent, with reasons"));
    }
    for (why, count) in waiting {
        line.push_str(&format!("; {count} not planted: {why}"));
    }
    let mut lines = vec![line];
    // By name: a count does not say where a fault can hide.
    lines.extend(planted.iter().filter_map(|mutant| {
        let Fate::Survived { why } = &mutant.fate else { return None };
        let Planted { op, id, fault, case, .. } = mutant;
        Some(format!("SURVIVED {op} {id}: {fault} (must be noticed by {case}): {why}"))
    }));
    lines
}

/// How much of a stopped run was not asked, and how many rows had failed.
fn stopped(outcome: &RunOutcome) -> Option<String> {
    outcome.report.incomplete.as_ref()?;
    let rows = &outcome.report.rows;
    let unasked = rows.iter().filter(|row| matches!(row.verdict, Verdict::NotRun { .. })).count();
    let failed = rows.iter().filter(|row| matches!(row.verdict, Verdict::Fail { .. })).count();
    Some(format!("STOPPED      {unasked} of {} not asked, {failed} had failed", rows.len()))
}
