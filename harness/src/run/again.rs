//! Failing rows are asked again, alone, in fresh processes: a pass is FLAKY, never a pass.

use crate::report::Row;
use crate::run::slots::{guarded, judged, launch};
use crate::run::trial::prepare;
use crate::run::{Context, Teller};
use crate::subject::pool::Slot;
use crate::verdict::Verdict;

/// How often a failing row is asked again.
const TIMES: usize = 2;

/// Asks at most [`Options::reruns`](crate::run::Options) failing rows again.
pub(super) fn ask_again(context: &Context<'_>, teller: &mut Teller<'_>) {
    let failed: Vec<String> = context
        .plan
        .trials
        .iter()
        .filter(|t| {
            matches!(teller.rows.get(&t.name).map(|r| &r.verdict), Some(Verdict::Fail { .. }))
        })
        .map(|t| t.name.clone())
        .take(context.options.reruns)
        .collect();
    for name in failed {
        if context.stopped() {
            return;
        }
        if let Some(row) = again(context, &name, teller) {
            teller.tell(row);
        }
    }
}

/// The row with what the reruns showed.
fn again(context: &Context<'_>, name: &str, teller: &Teller<'_>) -> Option<Row> {
    let trial = context.plan.trials.iter().find(|t| t.name == name)?;
    let mut row = teller.rows.get(name)?.clone();
    let mut said = Vec::new();
    let mut bits = vec![teller.bits.get(name).cloned()];
    for _ in 0..TIMES {
        let Ok(mut slot) = Slot::open(launch(context, trial.subject)) else { break };
        let ready = guarded(|| prepare(context, trial));
        let (again, hash) = judged(context, trial, ready, &mut slot);
        slot.finish();
        said.push(again.verdict);
        bits.push(hash);
    }
    let passed = said.iter().filter(|v| **v == Verdict::Pass).count();
    if passed > 0 {
        if let Verdict::Fail { kind, message } = row.verdict {
            let message = format!("{message}; asked {} times again, passed {passed}", said.len());
            row.page = row.page.map(|page| page.replacen("FAIL", "FLAKY", 1));
            row.verdict = Verdict::Flaky { kind, message };
        }
    } else if said.len() == TIMES && bits[0].is_some() {
        let same = bits.iter().all(|b| *b == bits[0]);
        let note = if same { "the same bits three times" } else { "other bits each time" };
        row.notes.push(note.to_owned());
    } else {
        return None;
    }
    Some(row)
}
