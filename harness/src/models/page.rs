//! The failure page of a case about a model.

use std::fmt::Write;

use crate::models::ModelCase;
use crate::models::golden::ModelGolden;
use crate::models::judge::Judgement;
use crate::report::Row;
use crate::verdict::Verdict;

/// How many slots a page shows around the first that diverges.
const AROUND: usize = 6;

/// All that a reader needs: what failed, the slots around it, who made the golden, how to run it
/// again.
pub fn page(case: &ModelCase, row: &Row, golden: &ModelGolden, judged: &Judgement) -> String {
    let mut text = format!("FAIL {}\n", row.name);
    let mut field = |name: &str, value: &str| {
        for (i, part) in value.lines().enumerate() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {:<8} {part}", if i == 0 { name } else { "" });
        }
    };
    field("why", &case.why);
    if let Verdict::Fail { kind, message } = &row.verdict {
        field("failed", &format!("{}: {message}", kind.word()));
    }
    field("measured", &around(&judged.lines).join("\n"));
    let by: Vec<String> =
        golden.witnesses.iter().map(|w| format!("{} {}", w.name, w.version)).collect();
    if let Some(path) = &case.golden {
        field("golden", &format!("{path}, by {}", by.join(" and ")));
    }
    field("source", &case.source);
    let place = &case.place;
    field("written", &format!("{}:{}:{}", place.file, place.line, place.column));
    field("again", &format!("goldgate run {}", row.name));
    text
}

/// The head of the table, and the lines around the first that is marked.
fn around(lines: &[String]) -> Vec<&str> {
    let marked = lines.iter().position(|line| line.ends_with("<-"));
    let Some(at) = marked else {
        return lines.iter().take(2 * AROUND).map(String::as_str).collect();
    };
    let from = at.saturating_sub(AROUND).max(1);
    let to = (at + AROUND).min(lines.len());
    lines.first().into_iter().chain(&lines[from..to]).map(String::as_str).collect()
}
