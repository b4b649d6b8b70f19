//! The pages of a report: rendered from report.json alone, sealed in it, and verified against it.
//!
//! Each page is sealed by the hash of its text. Since the gate pages, report.html and junit.xml
//! show the hash of the report, a mark replaces that hash in the text that is sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use goldgate_tensor::foreign::{Bounds, ForeignError, LARGEST_WHOLE, Links, read_foreign_text};
use sha2::{Digest, Sha256};

use crate::line::{Row, hex};
use crate::report::Report;
use crate::report::document::WITHOUT_PAGES;
use crate::report::html::html;
use crate::report::junit::junit;
use crate::report::markdown::{gate_page, invalid_page};
use crate::report::publish::PublishError;
use crate::report::summary::GateSummary;
use crate::report::verify::Finding;
use crate::report::{attestation, text};

/// Which way of rendering this program has: the hash of the pages of a fixed report. A test holds
/// it, so that no change of a page goes without a change of this name.
pub const RENDERER: &str = "b07ea8f686318c75";

/// Replaces the hash of the report in text that is sealed.
const MARK: &str = "@report-sha256@";

/// Pages for programs, which say nothing that report.json does not.
const FOR_PROGRAMS: [&str; 2] = ["junit.xml", "rows.jsonl"];

/// The most bytes of a line that a finding quotes.
const QUOTED: usize = 160;

/// Page → text.
pub type Pages = BTreeMap<String, String>;

/// Which pages a report folder must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Required {
    /// Every page that the run wrote.
    #[default]
    All,
    /// Those for people: a record leaves out junit.xml and rows.jsonl.
    Record,
    /// None: report.json was handed over alone. Pages that are present are verified all the same.
    None,
}

/// What was found about the pages of a folder.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Pages that are not as the report seals them, missing, or none of it.
    pub findings: Vec<Finding>,
    /// How many pages hold.
    pub held: usize,
    /// What was not verified, in sentences.
    pub notes: Vec<String>,
}

/// Whether a file of this name in a report folder is a page of a report.
pub fn is_page(name: &str) -> bool {
    // Some file systems ignore case, so `GATE-1.MD` would be opened as the page of a gate.
    let name = name.to_ascii_lowercase();
    let gate = name.starts_with("gate-") && name.ends_with(".md");
    gate || name == "report.html" || FOR_PROGRAMS.contains(&name.as_str())
}

/// Seals a report together with its pages, and returns the pages.
///
/// # Errors
/// Those of the templates and serializers.
pub fn seal(report: &mut Report) -> Result<Pages, PublishError> {
    // Before the report is sealed, because its hash covers this name too.
    RENDERER.clone_into(&mut report.renderer);
    let pages = rendered(report)?;
    report.pages = pages.iter().map(|(name, text)| (name.clone(), hash(text))).collect();
    report.seal()?;
    Ok(pages.into_iter().map(|(name, text)| (name, text.replace(MARK, &report.sha256))).collect())
}

/// Renders all pages, with the mark in place of the report's hash.
///
/// # Errors
/// Those of the templates and serializers.
pub fn rendered(report: &Report) -> Result<Pages, PublishError> {
    let report = &Report { sha256: MARK.to_owned(), ..report.clone() };
    let mut pages: Pages = gate_pages(report)?;
    let mut rows = String::new();
    for row in &report.rows {
        rows.push_str(&serde_json::to_string(row)?);
        rows.push('\n');
    }
    pages.insert("rows.jsonl".to_owned(), rows);
    pages.insert("junit.xml".to_owned(), junit(report)?);
    pages.insert("report.html".to_owned(), html(report)?);
    Ok(pages)
}

/// The pages of all gates. For an INVALID report they state only the reasons.
fn gate_pages(report: &Report) -> Result<Pages, PublishError> {
    let name = |folder: &str, gate: u8| match folder {
        "" => format!("gate-{gate}"),
        // No label of a subject begins with a number, as the rest of this name does.
        folder => format!("gate-{folder}-{gate}"),
    };
    if !report.invalid.is_empty() {
        // An INVALID report has no gates, so only its rows say which pages to write.
        let rows = report.rows.iter().map(|row| (row.folder.as_str(), row.gate));
        let gates: BTreeSet<(&str, u8)> = rows.collect();
        let page = |(folder, gate): (&str, u8)| {
            let number = GateSummary { folder: folder.into(), gate, ..GateSummary::default() };
            let text = invalid_page(report, number.number())?;
            Ok((format!("{}.md", name(folder, gate)), text))
        };
        return gates.into_iter().map(page).collect();
    }
    let mut pages = Pages::new();
    for gate in &report.gates {
        let name = name(&gate.folder, gate.gate);
        pages.insert(format!("{name}.md"), gate_page(report, gate)?);
    }
    // Owners of other engines read what concerns theirs, without the rows of ours.
    for label in report.subjects.iter().filter(|(_, s)| !s.roles.own).map(|(label, _)| label) {
        let own = of_subject(report, label);
        for gate in &own.gates {
            let name = name(&gate.folder, gate.gate);
            pages.insert(format!("{name}-{label}.md"), gate_page(&own, gate)?);
        }
    }
    Ok(pages)
}

/// The part of a report that concerns one subject.
fn of_subject(report: &Report, label: &str) -> Report {
    let mut own = report.clone();
    own.rows.retain(|row| row.subject == label);
    own.absent.retain(|subject, _| subject == label);
    own.subjects.retain(|subject, _| subject == label);
    own.provenance.subjects.retain(|subject, _| subject == label);
    // Planted faults and documents are about this repository, and not about the engine of an owner.
    own.faults.clear();
    own.documents.clear();
    for gate in &mut own.gates {
        gate.subjects.retain(|subject, _| subject == label);
        gate.required = vec![label.to_owned()];
        gate.state = gate.subjects.get(label).copied().unwrap_or_default();
        gate.requirements.iter_mut().for_each(|r| r.on.retain(|subject, _| subject == label));
        gate.requirements.retain(|r| !r.on.is_empty());
    }
    own
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Verifies the pages in a report's folder: each must be as the report seals it, and as the
/// report's rows give it. `holds` says whether the report itself does: what was edited gives other
/// pages, and each of them would be a finding.
///
/// # Errors
/// The folder cannot be read, or the pages cannot be rendered.
pub fn verify(
    folder: &Path,
    report: &Report,
    required: Required,
    holds: bool,
) -> Result<Checked, PublishError> {
    let mut checked = Checked::default();
    if report.format == WITHOUT_PAGES {
        let note = "format 1 does not seal pages: only report.json was verified";
        checked.notes.push(note.to_owned());
        return Ok(checked);
    }
    if report.pages.is_empty() && report.incomplete.is_none() {
        // Killed after its last row and before its gates were weighed, or sealed by another hand.
        checked.findings.push(finding("PAGE_SEAL", "pages", "none", "the pages of a whole report"));
    }
    let mut expected = Pages::new();
    if holds && !report.pages.is_empty() {
        if report.renderer == RENDERER {
            expected = rendered(report)?;
            as_the_rows_give(report, &expected, &mut checked);
        } else {
            let note = "the pages were rendered by another version of goldgate: they were compared \
                        with their hashes in report.json, and not rendered again";
            checked.notes.push(note.to_owned());
        }
    }
    let mut absent = Vec::new();
    if !holds {
        rows_that_differ(folder, report, &mut checked)?;
    }
    for (name, sealed) in &report.pages {
        match page(&folder.join(name)) {
            Ok(Some(text)) => {
                let text = text.replace(&report.sha256, MARK);
                if hash(&text) == *sealed {
                    checked.held += 1;
                } else {
                    checked.findings.push(edited(name, &text, expected.get(name), sealed));
                }
            }
            Ok(None) if may_be_absent(name, required) => absent.push(name.as_str()),
            Ok(None) => checked.findings.push(finding("PAGE_GONE", name, "nothing", "this page")),
            Err(error) => {
                let expected = "a readable page";
                checked.findings.push(finding("PAGE", name, &error.to_string(), expected));
            }
        }
    }
    if !absent.is_empty() {
        checked.notes.push(format!("absent, as --pages allows: {}", absent.join(", ")));
    }
    others(folder, report, &mut checked)?;
    Ok(checked)
}

/// Whether the sealed pages are those that the rows give: someone who seals a report again can also
/// seal an edited page.
fn as_the_rows_give(report: &Report, expected: &Pages, checked: &mut Checked) {
    for (name, text) in expected {
        let (found, expected) = (report.pages.get(name).cloned().unwrap_or_default(), hash(text));
        if found != expected {
            let field = format!("pages.{name}");
            checked.findings.push(finding("PAGE_SEAL", &field, &found, &expected));
        }
    }
    for name in report.pages.keys().filter(|name| !expected.contains_key(*name)) {
        let field = format!("pages.{name}");
        checked.findings.push(finding("PAGE_SEAL", &field, "a page", "none: no row gives it"));
    }
}

/// Names the rows of an edited report that rows.jsonl tells otherwise, where that file is as it was
/// sealed.
fn rows_that_differ(folder: &Path, report: &Report, checked: &mut Checked) -> io::Result<()> {
    const NAME: &str = "rows.jsonl";
    let Ok(Some(text)) = page(&folder.join(NAME)) else { return Ok(()) };
    if report.pages.get(NAME) != Some(&hash(&text)) {
        return Ok(());
    }
    let mut sealed: BTreeMap<String, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Ok(row) = serde_json::from_str::<Row>(line) {
            sealed.insert(row.name, line);
        }
    }
    for row in &report.rows {
        let found = serde_json::to_string(row)?;
        let expected = sealed.remove(&row.name);
        if expected != Some(found.as_str()) {
            let (found, expected) = around_the_difference(&found, expected.unwrap_or("nothing"));
            checked.findings.push(finding("ROW", &row.name, &found, &expected));
        }
    }
    for name in sealed.keys() {
        checked.findings.push(finding("ROW", name, "nothing", "the row of rows.jsonl"));
    }
    Ok(())
}

/// Two texts from a little before the place where they differ.
fn around_the_difference(a: &str, b: &str) -> (String, String) {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let from = |text: &str| text.chars().skip(same.saturating_sub(QUOTED / 4)).collect::<String>();
    (quote(&from(a)), quote(&from(b)))
}

fn may_be_absent(name: &str, required: Required) -> bool {
    match required {
        Required::All => false,
        Required::Record => FOR_PROGRAMS.contains(&name),
        Required::None => true,
    }
}

/// The text of a page; none if there is no such file.
fn page(path: &Path) -> io::Result<Option<String>> {
    // A link may be aimed elsewhere after it was verified.
    let bounds = Bounds { links: Links::Refused, ..Bounds::of_user(LARGEST_WHOLE) };
    match read_foreign_text(path, bounds) {
        Ok(text) => Ok(Some(text)),
        Err(ForeignError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The finding for a page that is not as it was sealed: its first other line, where the page could
/// be rendered again.
fn edited(name: &str, found: &str, expected: Option<&String>, sealed: &str) -> Finding {
    // Lines are compared with the rendered page only where it is the sealed one.
    let Some(expected) = expected.filter(|expected| hash(expected) == sealed) else {
        return finding("PAGE", name, &hash(found), sealed);
    };
    let (mut there, mut here) = (found.split('\n'), expected.split('\n'));
    let mut number = 1;
    loop {
        match (there.next(), here.next()) {
            (Some(a), Some(b)) if a == b => number += 1,
            (a, b) => {
                let quoted = |line: Option<&str>| line.map_or("the end".to_owned(), quote);
                return finding("PAGE", &format!("{name}:{number}"), &quoted(a), &quoted(b));
            }
        }
    }
}

fn quote(line: &str) -> String {
    // Slicing at a fixed byte would panic inside a character of several bytes.
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Names files of the folder that the report does not seal.
fn others(folder: &Path, report: &Report, checked: &mut Checked) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    // A folder is listed in no fixed order, and findings should be the same at every call.
    names.sort();
    // While a run goes on, or after it was killed, its rows so far are there and no page yet.
    let unfinished = report.incomplete.is_some() && report.pages.is_empty();
    let mut foreign = Vec::new();
    for name in names.iter().filter(|name| !report.pages.contains_key(*name)) {
        if name == "rows.jsonl" && unfinished {
            checked.notes.push("rows.jsonl is not sealed: the run did not end".to_owned());
        } else if is_page(name) {
            checked.findings.push(finding("PAGE_EXTRA", name, "a page", "none of this name"));
        } else if name != "report.json" && !attestation::FILES.contains(&name.as_str()) {
            foreign.push(text::line(name));
        }
    }
    if !foreign.is_empty() {
        checked.notes.push(format!("not of the report, not verified: {}", foreign.join(", ")));
    }
    Ok(())
}

fn finding(code: &'static str, field: &str, found: &str, expected: &str) -> Finding {
    let (field, found, expected) = (field.to_owned(), found.to_owned(), expected.to_owned());
    Finding { code, field, found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::against::{Against, SlowerBench};
    use crate::report::publish::publish;
    use crate::report::samples;

    /// Reports that between them show everything that a page can show.
    fn all_that_is_shown() -> [Report; 3] {
        let slower = |accepted: Option<&str>| SlowerBench {
            bench: "gate1::layernorm::sprint::f16::cuda".into(),
            record: "record/a".into(),
            was: 10.0,
            is: 12.5,
            accepted: accepted.map(str::to_owned),
        };
        let mut report = samples::report();
        report.against = Some(Against {
            record: "record/b".into(),
            slower: vec![slower(Some("until 2026-12-20: two passes")), slower(None)],
            ..Against::default()
        });
        report.provenance.tree = "edited".into();
        report.provenance.edited = vec!["specs/ops/gelu.yaml".into()];
        report.incomplete = Some("stopped".into());
        let invalid = Report { invalid: vec!["x".into()], ..samples::report() };
        [samples::report(), report, invalid]
    }

    #[test]
    fn who_changes_a_page_changes_the_name_of_the_renderer() {
        let mut all = Sha256::new();
        for report in all_that_is_shown() {
            let pages = rendered(&report).expect("rendered");
            pages.iter().for_each(|(name, text)| all.update(format!("{name}\n{text}\n")));
            all.update(attestation::statement(&report, MARK));
        }
        assert_eq!(RENDERER, &hex(&all.finalize())[..16]);
    }

    /// The codes and fields of what is found after `edit` has changed the folder of a report.
    fn after(edit: impl Fn(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        publish(folder.path(), &mut samples::report()).expect("published");
        edit(folder.path());
        found(folder.path(), Required::All)
    }

    fn found(folder: &Path, required: Required) -> Vec<String> {
        let report = Report::read(folder).expect("read");
        let checked = verify(folder, &report, required, true).expect("verified");
        checked.findings.iter().map(|f| format!("{} {}", f.code, f.field)).collect()
    }

    fn replaced(folder: &Path, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(folder.join(name)).expect("read");
        assert!(text.contains(from), "{name} does not hold {from}");
        fs::write(folder.join(name), text.replacen(from, to, 1)).expect("written");
    }

    #[test]
    fn pages_hold_as_they_were_written() {
        assert_eq!(after(|_| {}), [""; 0]);
    }

    #[test]
    fn each_page_that_was_touched_is_named() {
        let gate = after(|f| replaced(f, "gate-1.md", "**NOT MET", "**MET"));
        assert_eq!(gate, ["PAGE gate-1.md:3"]);
        let cut = after(|f| {
            let text = fs::read_to_string(f.join("rows.jsonl")).expect("read");
            let lines: Vec<&str> = text.split_inclusive('\n').take(2).collect();
            fs::write(f.join("rows.jsonl"), lines.concat()).expect("written");
        });
        assert_eq!(cut, ["PAGE rows.jsonl:3"]);
        let gone = after(|f| fs::remove_file(f.join("junit.xml")).expect("removed"));
        assert_eq!(gone, ["PAGE_GONE junit.xml"]);
        let more = after(|f| fs::write(f.join("Gate-2.md"), "MET").expect("written"));
        assert_eq!(more, ["PAGE_EXTRA Gate-2.md"]);
        let link = after(|f| {
            fs::rename(f.join("report.html"), f.join("elsewhere")).expect("moved");
            std::os::unix::fs::symlink("elsewhere", f.join("report.html")).expect("linked");
        });
        assert_eq!(link, ["PAGE report.html"]);
        let ends = after(|f| replaced(f, "gate-1.md", "\n", "\r\n"));
        assert_eq!(ends, ["PAGE gate-1.md:1"]);
        // A page that shows the hash of another report is of another run.
        let own = samples_sha256();
        let other = after(|f| replaced(f, "gate-1.md", &own, &"0".repeat(64)));
        assert_eq!(other.len(), 1);
    }

    fn samples_sha256() -> String {
        let mut report = samples::report();
        seal(&mut report).expect("sealed");
        report.sha256
    }

    #[test]
    fn a_page_that_was_sealed_again_is_not_what_the_rows_give() {
        let again = after(|f| {
            replaced(f, "gate-1.md", "**NOT MET", "**MET");
            let mut report = Report::read(f).expect("read");
            let text = fs::read_to_string(f.join("gate-1.md")).expect("read");
            let old = report.sha256.clone();
            report.pages.insert("gate-1.md".into(), hash(&text.replace(&old, MARK)));
            report.seal().expect("sealed");
            let json = serde_json::to_string(&report).expect("written");
            fs::write(f.join("report.json"), json).expect("written");
            for name in ["gate-1.md", "report.html", "junit.xml"] {
                let text = fs::read_to_string(f.join(name)).expect("read");
                fs::write(f.join(name), text.replace(&old, &report.sha256)).expect("written");
            }
        });
        assert_eq!(again, ["PAGE_SEAL pages.gate-1.md"]);
    }

    #[test]
    fn a_record_may_leave_out_what_is_for_programs() {
        let folder = tempfile::tempdir().expect("a folder");
        publish(folder.path(), &mut samples::report()).expect("published");
        for name in FOR_PROGRAMS {
            fs::remove_file(folder.path().join(name)).expect("removed");
        }
        assert_eq!(found(folder.path(), Required::All).len(), 2);
        assert_eq!(found(folder.path(), Required::Record), [""; 0]);
        fs::remove_file(folder.path().join("gate-1.md")).expect("removed");
        assert_eq!(found(folder.path(), Required::Record), ["PAGE_GONE gate-1.md"]);
        assert_eq!(found(folder.path(), Required::None), [""; 0]);
    }

    #[test]
    fn pages_of_another_renderer_are_held_to_their_hashes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = samples::report();
        publish(folder.path(), &mut report).expect("published");
        report.renderer = "another".into();
        let checked = verify(folder.path(), &report, Required::All, true).expect("verified");
        assert_eq!((checked.findings.len(), checked.notes.len(), checked.held), (0, 1, 4));
        replaced(folder.path(), "gate-1.md", "**NOT MET", "**MET");
        let checked = verify(folder.path(), &report, Required::All, true).expect("verified");
        assert_eq!(checked.findings.len(), 1);
    }
}
