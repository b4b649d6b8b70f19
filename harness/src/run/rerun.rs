//! Reruns failing rows alone in fresh processes. A rerun that passes makes the row FLAKY, never a
//! pass.

use std::sync::Mutex;

use crate::line::page::renamed;
use crate::line::{FailKind, NotRun, Row, Verdict};
use crate::run::lanes::{Lane, guarded, prepared};
use crate::run::teller::Teller;
use crate::run::{Context, News};

/// How often a failing row is rerun.
const TIMES: usize = 2;

/// Reruns at most [`Options::reruns`](crate::run::Options) failing rows. Leaks and measurements are
/// left out: they are no answers that could be compared.
pub(super) fn ask_again(context: &Context<'_>, teller: &mut Teller<'_>) {
    let failed = |name: &str| match teller.known(name).map(|row| &row.verdict) {
        Some(Verdict::Fail { kind, .. }) => *kind != FailKind::Leak,
        _ => false,
    };
    let names: Vec<String> = context
        .plan
        .trials
        .iter()
        .filter(|entry| failed(&entry.name))
        .map(|entry| entry.name.clone())
        .take(context.options.reruns)
        .collect();
    for name in names {
        if context.stopped() {
            return;
        }
        let (row, news) = again(context, &name, teller);
        news.into_iter().for_each(|item| teller.hear(item));
        if let Some(row) = row {
            teller.row(row);
        }
    }
}

/// Reruns one row. Returns the changed row, if it changed, and what was learnt about the subject.
fn again(context: &Context<'_>, name: &str, teller: &Teller<'_>) -> (Option<Row>, Vec<News>) {
    let heard = Mutex::new(Vec::new());
    let row = repeated(context, name, teller, &heard);
    let heard = heard.into_inner().unwrap_or_default();
    // Findings about the subject count, but they are charged to no trial: the row has failed
    // already.
    let unblamed = |item| match item {
        News::Incidents(subject, found, _) => Some(News::Incidents(subject, found, None)),
        News::Hello(..) => Some(item),
        News::Row(_) | News::Absent(..) => None,
    };
    (row, heard.into_iter().filter_map(unblamed).collect())
}

fn repeated(
    context: &Context<'_>,
    name: &str,
    teller: &Teller<'_>,
    heard: &Mutex<Vec<News>>,
) -> Option<Row> {
    let entry = context.plan.entry(name)?;
    let mut row = teller.known(name)?.clone();
    let tell = |item: News| {
        if let Ok(mut heard) = heard.lock() {
            heard.push(item);
        }
    };
    let mut reruns: Vec<Row> = Vec::new();
    for _ in 0..TIMES {
        let Ok(mut lane) = Lane::open(context, entry.subject, &tell) else { break };
        reruns.push(lane.row(entry, || guarded(|| prepared(context, entry))));
        lane.finish();
    }
    let stopped =
        Verdict::NotRun { kind: NotRun::Stopped, message: "the run was stopped".to_owned() };
    // An interrupted rerun proves nothing, so the row stays as it is.
    if reruns.iter().any(|again| again.verdict == stopped) {
        return None;
    }
    let passed = reruns.iter().filter(|again| again.verdict == Verdict::Pass).count();
    if passed > 0 {
        if let Verdict::Fail { kind, message } = row.verdict {
            let message = format!("{message}; asked {} times again, passed {passed}", reruns.len());
            row.page = row.page.map(|page| renamed(&page, "FLAKY"));
            row.verdict = Verdict::Flaky { kind, message };
        }
        return Some(row);
    }
    if reruns.len() < TIMES || row.bits.is_none() {
        return None;
    }
    // Equal bits point to a wrong computation, different bits to a race or to uninitialised memory.
    let same = reruns.iter().all(|again| again.bits == row.bits);
    let note = if same { "the same bits three times" } else { "other bits each time" };
    row.notes.push(note.to_owned());
    Some(row)
}
