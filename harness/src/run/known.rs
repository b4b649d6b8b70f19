//! What known.yaml makes of a row: an awaited failure is KNOWN, an unawaited pass UNEXPECTED.

use crate::report::Row;
use crate::spec::known::{Day, KnownFailure};
use crate::verdict::Verdict;

/// The row as the entries of known.yaml leave it. It never becomes a pass.
pub fn apply(entries: &[KnownFailure], today: Day, row: Row, device: &str) -> Row {
    let here =
        |e: &&KnownFailure| e.case.value == row.name && (e.device == "*" || e.device == device);
    let Some(entry) = entries.iter().find(here) else { return row };
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
    Row { verdict, ..row }
}

/// Entries that no planned trial has: they await nothing.
pub fn unmatched<'k>(entries: &'k [KnownFailure], planned: &[String]) -> Vec<&'k str> {
    let names = entries.iter().map(|e| e.case.value.as_str());
    names.filter(|name| planned.binary_search_by(|p| p.as_str().cmp(name)).is_err()).collect()
}
