//! The failure page: everything that a reader needs, on one screen, for every kind of trial.

use std::fmt::Write;

use crate::line::{Head, Judgement, Row, Verdict};

// A page must fit on one screen, and the cause of a crash is usually in the last lines.
/// How many lines of stderr a page shows.
const STDERR_LINES: usize = 12;

/// The page of a trial that failed; none for one that passed or did not run.
pub fn page(
    head: &Head,
    name: &str,
    judgement: &Judgement,
    again: &str,
    stderr: &str,
) -> Option<String> {
    // A verdict without a headline needs no page.
    let (word, message) = headline(&judgement.verdict)?;
    let mut text = format!("{word} {name}\n");
    field(&mut text, "why", &head.why);
    field(&mut text, "failed", &message);
    for (name, value) in &judgement.detail {
        field(&mut text, name, value);
    }
    // Benches and checks have no source.
    if !head.source.is_empty() {
        field(&mut text, "source", &head.source);
    }
    // Checks are code, so no spec says where they were written.
    if let Some(place) = &head.place {
        field(&mut text, "written", &format!("{}:{}:{}", place.file, place.line, place.column));
    }
    let lines: Vec<&str> = stderr.lines().collect();
    let last = &lines[lines.len().saturating_sub(STDERR_LINES)..];
    field(&mut text, "stderr", &last.join("\n"));
    field(&mut text, "again", again);
    Some(text)
}

/// The page of a row whose verdict known.yaml has changed.
pub fn page_of(row: &Row, verdict: &Verdict) -> Option<String> {
    let (word, message) = headline(verdict)?;
    match &row.page {
        // The page stays: what failed is the same, only its meaning has changed.
        Some(page) => Some(renamed(page, word)),
        // A pass where a failure was expected had nothing to diagnose, and has no page yet.
        None => Some(format!("{word} {}\n  failed   {message}\n", row.name)),
    }
}

/// The page under another headline: a failure that passes when rerun alone is FLAKY, and an
/// expected one is KNOWN.
pub fn renamed(page: &str, word: &str) -> String {
    match page.split_once(' ') {
        Some((_, rest)) => format!("{word} {rest}"),
        None => page.to_owned(),
    }
}

fn field(text: &mut String, name: &str, value: &str) {
    for (i, part) in value.lines().enumerate() {
        // Continuation lines align with the first, below an empty field name.
        let name = if i == 0 { name } else { "" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {name:<8} {part}");
    }
}

fn headline(verdict: &Verdict) -> Option<(&'static str, String)> {
    let labelled = |kind: &str, message: &str| format!("{kind}: {message}");
    match verdict {
        // There is nothing to diagnose in either.
        Verdict::Pass | Verdict::NotRun { .. } => None,
        Verdict::Fail { kind, message } => Some(("FAIL", labelled(kind.word(), message))),
        Verdict::Flaky { kind, message } => Some(("FLAKY", labelled(kind.word(), message))),
        Verdict::Known { kind, message, .. } => Some(("KNOWN", labelled(kind.word(), message))),
        Verdict::Unexpected { message } => Some(("UNEXPECTED", message.clone())),
        Verdict::Broken { kind, message } => Some(("BROKEN", labelled(kind.word(), message))),
    }
}
