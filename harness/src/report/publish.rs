//! Writes the files of a finished run.

use std::io;
use std::path::Path;

use quick_junit::SerializeError;

use crate::report::Report;
use crate::report::document::ReadError;
use crate::report::pages::seal;
use crate::report::summary::GateSummary;
use crate::report::writer::{remove_pages, replace};

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A folder cannot be written.
    #[error("could not write the report: {0}")]
    Io(#[from] io::Error),
    /// The rows cannot be expressed in JSON.
    #[error("could not say the report in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The rows cannot be expressed in XML.
    #[error("could not say the report in XML: {0}")]
    Xml(#[from] SerializeError),
    /// A page cannot be written.
    #[error("could not write a page of the report: {0}")]
    Page(#[from] askama::Error),
    /// The report to compare with cannot be read.
    #[error(transparent)]
    Last(#[from] ReadError),
}

/// Seals a report and writes report.json, rows.jsonl, junit.xml, one page per gate, and report.html
/// into `folder`, each by rename.
///
/// # Errors
/// A file cannot be written; those written before stay.
pub fn publish(folder: &Path, report: &mut Report) -> Result<(), PublishError> {
    std::fs::create_dir_all(folder)?;
    // Rendered before anything is written, so that a template that fails leaves the old files
    // alone.
    let pages = seal(report)?;
    // An earlier run may have left pages that this one does not write, which verify would reject.
    remove_pages(folder)?;
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    // Before its pages: after a kill in between, report.json names the pages that are missing.
    replace(&folder.join("report.json"), text.as_bytes())?;
    for (name, page) in pages {
        replace(&folder.join(name), page.as_bytes())?;
    }
    Ok(())
}

/// One line per gate, as printed at the end of a run: `Gate 1: cpu MET · cuda NOT RUN (no device) →
/// INCOMPLETE`.
pub fn gate_lines(report: &Report) -> Vec<String> {
    use crate::report::text::line;
    if !report.invalid.is_empty() {
        // Nobody may rely on a gate of an INVALID report, not even on one line about it.
        let reasons = report.invalid.iter().map(|reason| format!("INVALID: {}", line(reason)));
        return reasons.collect();
    }
    let profile = report.selection.profile;
    let profile = profile.map(|p| format!(" (profile {})", p.word())).unwrap_or_default();
    let gate_line = |gate: &GateSummary| {
        let subjects = gate.subjects.iter().map(|(subject, state)| {
            let own = report.subjects.get(subject).is_none_or(|s| s.roles.own);
            let why = match report.absent.contains_key(subject) {
                true if own => " (no device)".to_owned(),
                true => " (not there)".to_owned(),
                false if own => String::new(),
                // Another engine may offer a part only, so the line says how much is met.
                false => format!(" · {} of {}", gate.met_on(subject), gate.concerning(subject)),
            };
            format!("{} {}{}{why}", line(subject), state.word(), report.declared(subject))
        });
        let subjects = subjects.collect::<Vec<_>>().join(" · ");
        format!("Gate {}{profile}: {subjects} → {}", gate.number(), gate.state.word())
    };
    report.gates.iter().map(gate_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn every_file_is_there_and_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = samples::report();
        publish(folder.path(), &mut report).expect("published");
        for file in ["report.json", "rows.jsonl", "junit.xml", "gate-1.md", "report.html"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 5);
        let back = Report::read(folder.path()).expect("read");
        assert_eq!(back.hash().expect("hashed"), report.sha256);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join("other");
        std::fs::write(&other, "keep").expect("writable");
        let link = folder.path().join("report.json");
        std::os::unix::fs::symlink(&other, &link).expect("linked");
        replace(&link, b"new").expect("replaced");
        assert_eq!(std::fs::read(&other).expect("read"), b"keep");
        assert_eq!(std::fs::read(&link).expect("read"), b"new");
    }

    #[test]
    fn a_folder_that_is_gone_leaves_no_half_report() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(replace(&folder.path().join("no/report.json"), b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn the_last_lines_say_each_gate() {
        let mut report = samples::report();
        let want = "Gate 1: cpu NOT MET · cuda NOT RUN (no device) → NOT MET";
        assert_eq!(gate_lines(&report), [want]);
        report.invalid = vec!["a\nb".into()];
        assert_eq!(gate_lines(&report), ["INVALID: a\\nb"]);
    }
}
