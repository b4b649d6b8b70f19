//! `goldgate report`

mod sealed;

use std::path::{Path, PathBuf};

use goldgate_harness::line::{Row, Verdict};
use goldgate_harness::report::Report as Document;
use goldgate_harness::report::blocks::again;
use goldgate_harness::report::diff::{Bits, bits, diff};
use goldgate_harness::report::document::ReadError;
use goldgate_harness::report::publish::gate_lines;
use goldgate_harness::report::text::{kind_and_message, line, lines, number, status};
use goldgate_harness::session::folders::{nothing, selects};
use goldgate_harness::yaml::Problem;
use serde_json::json;

use crate::commands::{Exit, Failure, say, say_json};

/// What to do with reports. PATH is a report.json, or the folder that it stands in.
#[derive(Debug, clap::Subcommand)]
pub enum Report {
    /// Prints the gates and what does not pass. Example: goldgate report show reports/latest
    Show(Show),
    /// Two reports side by side. Example: goldgate report diff reports/record/a reports/latest
    Diff(Diff),
    /// Shards into one, each verified first.
    ///
    /// Example: goldgate report merge --out whole shard-1 shard-2
    Merge(sealed::Merge),
    /// Writes a statement about a report that holds, in the form of in-toto, and its signature by
    /// an SSH key.
    ///
    /// Example: goldgate report attest reports/latest --key ~/.ssh/id_ed25519
    Attest(sealed::Attest),
    /// Whether a report and its pages are whole and as written; 6 where it is incomplete.
    ///
    /// Example: goldgate report verify reports/latest
    Verify(sealed::Verify),
}

#[derive(Debug, clap::Args)]
pub struct Show {
    /// The report.
    path: PathBuf,
    /// Only these rows, passing ones too: whole names, globs, or parts of names.
    filters: Vec<String>,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Diff {
    /// The report before.
    old: PathBuf,
    /// The report after.
    new: PathBuf,
    /// Compare the bits of every answer that both have; exit 1 where some differ.
    #[arg(long)]
    bits: bool,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(report: &Report) -> Result<Exit, Failure> {
    match report {
        Report::Show(args) => show(args),
        Report::Diff(args) => compare(args),
        Report::Merge(args) => sealed::merge_all(args),
        Report::Attest(args) => sealed::attest_report(args),
        Report::Verify(args) => sealed::verify_report(args),
    }
}

/// The most rows that are shown in full.
const MOST: usize = 20;

fn read(path: &Path) -> Result<Document, Failure> {
    Document::read(path).map_err(|error| match error {
        // A report that is not there is no malformed one.
        ReadError::Io { .. } => Failure::Absent(error.to_string()),
        ReadError::Form { code, path, message } => {
            let file = path.display().to_string();
            let expected = "a report of this format";
            Failure::Problems(vec![Problem::of_file(code, &file, line(&message), expected)])
        }
    })
}

fn show(args: &Show) -> Result<Exit, Failure> {
    let report = read(&args.path)?;
    // Without a filter only rows that need attention are shown: passes are by far the most.
    let own = |row: &&Row| match args.filters.is_empty() {
        true => !matches!(row.verdict, Verdict::Pass | Verdict::NotRun { .. }),
        false => selects(&args.filters, &row.name),
    };
    let rows: Vec<&Row> = report.rows.iter().filter(own).collect();
    if !args.filters.is_empty() && rows.is_empty() {
        return Err(nothing(&args.filters, report.rows.iter().map(|r| r.name.as_str())).into());
    }
    if args.json {
        say_json(&json!({
            "gates": report.gates, "invalid": report.invalid, "incomplete": report.incomplete,
            "provenance": report.provenance, "sha256": report.sha256, "rows": rows,
        }))?;
        return Ok(Exit::Yes);
    }
    for row in rows.iter().take(MOST) {
        say(&row_text(&report, row))?;
    }
    if rows.len() > MOST {
        say(&format!("and {} more rows\n", rows.len() - MOST))?;
    }
    say(&totals(&report))?;
    if let Some(why) = &report.incomplete {
        say(&format!("INCOMPLETE: {}", line(why)))?;
    }
    for text in gate_lines(&report) {
        say(&text)?;
    }
    Ok(Exit::Yes)
}

/// A row in full: its page, or the available facts if it has none.
fn row_text(report: &Document, row: &Row) -> String {
    if let Some(page) = &row.page {
        return lines(page);
    }
    let (kind, message) = kind_and_message(&row.verdict);
    let mut text = format!("{} {}\n", status(&row.verdict), line(&row.name));
    let load = row.load.map(|load| format!("{}, {} compared", number(load), row.compared));
    let figures = row.figures.iter().map(|(name, x)| format!("{} {}", line(name), number(*x)));
    let figures = figures.collect::<Vec<_>>().join(", ");
    let failed =
        if message.is_empty() { String::new() } else { format!("{kind}: {}", line(message)) };
    for (name, value) in [
        ("failed", failed),
        ("load", load.unwrap_or_default()),
        ("figures", figures),
        ("notes", line(&row.notes.join("; "))),
        ("again", again(report, row)),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<8} {value}\n"));
        }
    }
    text
}

fn totals(report: &Document) -> String {
    let words = ["PASS", "FAIL", "FLAKY", "KNOWN", "UNEXPECTED", "BROKEN", "NOT RUN"];
    let count = |word: &str| report.rows.iter().filter(|r| status(&r.verdict) == word).count();
    let parts: Vec<String> = words
        .iter()
        .map(|word| (word, count(word)))
        .filter(|(_, n)| *n > 0)
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    format!("{} rows of {} planned: {}", report.rows.len(), report.planned.len(), parts.join(", "))
}

fn compare(args: &Diff) -> Result<Exit, Failure> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    if args.bits {
        return compare_bits(&bits(&old, &new), args.json);
    }
    let diff = diff(&old, &new);
    if args.json {
        say_json(&serde_json::to_value(&diff).map_err(std::io::Error::from)?)?;
    } else {
        for text in diff.lines(MOST) {
            say(&text)?;
        }
        say(if diff.nothing() { "nothing moved" } else { "" }.trim_end())?;
    }
    Ok(if diff.worse() { Exit::No } else { Exit::Yes })
}

fn compare_bits(found: &Bits, json: bool) -> Result<Exit, Failure> {
    if json {
        say_json(&serde_json::to_value(found).map_err(std::io::Error::from)?)?;
    } else {
        let Bits { same, other, one_sided } = found;
        for name in other.iter().take(MOST) {
            say(&format!("other bits  {name}"))?;
        }
        let (others, one_sided) = (other.len(), one_sided.len());
        say(&format!("{same} rows have the same bits, {others} others, {one_sided} on one side"))?;
        // Two reports without hashes would otherwise count as equal.
        if *same + others == 0 {
            return Err(Failure::Absent("no row has bits in both reports".to_owned()));
        }
    }
    Ok(if found.other.is_empty() { Exit::Yes } else { Exit::No })
}
