//! gate-N.md: the page of a gate for the person who signs it off.

use std::collections::BTreeSet;

use askama::Template;
use serde_json::Value;

use crate::gate::State;
use crate::line::{BrokenKind, Day, GeneratedScore, Role, Row, Verdict};
use crate::report::Report;
use crate::report::against::SlowerBench;
use crate::report::blocks::{Block, all, blocks};
use crate::report::generated;
use crate::report::summary::{Figure, GateSummary, Measured, RequirementSummary};
use crate::report::text::{code, count, line, markdown, number, short_hash};

/// The most blocks, known failures and survivors that a page lists; the rest are counted.
const MOST: usize = 10;

/// How many of the cases closest to their limit a page lists.
const CLOSEST: usize = 5;

#[derive(Template)]
#[template(path = "gate.md", escape = "none")]
struct GatePage {
    gate: String,
    title: String,
    verdict: String,
    judged: Vec<(String, String)>,
    scope: String,
    requirements: Vec<Line>,
    counts: String,
    blocks: Vec<BlockLine>,
    known: Vec<String>,
    judge: Vec<String>,
    generated: Option<String>,
    survivors: Vec<String>,
    closest: Vec<String>,
    against: Vec<String>,
    commands: Vec<String>,
    sha256: String,
}

#[derive(Template)]
#[template(path = "invalid.md", escape = "none")]
struct InvalidPage {
    gate: String,
    reasons: Vec<String>,
    commit: String,
    sha256: String,
}

struct Line {
    id: String,
    asked: String,
    on: String,
    state: String,
    passed: String,
    load: String,
    killed: String,
    figures: String,
}

struct BlockLine {
    what: String,
    again: Option<String>,
}

/// The text of a gate's page.
///
/// # Errors
/// Those of the template.
pub fn gate_page(report: &Report, gate: &GateSummary) -> askama::Result<String> {
    let blocking = blocks(report, gate);
    let page = GatePage {
        gate: gate.number(),
        title: markdown(&gate.title),
        verdict: verdict(report, gate),
        judged: judged(report),
        scope: scope(report, gate),
        requirements: gate.requirements.iter().flat_map(|r| requirement(report, r)).collect(),
        counts: counts(report, gate),
        blocks: listed(&blocking),
        known: known(report, gate),
        judge: judge(report, gate),
        generated: generated::summary(&generated_of(report, gate)),
        survivors: generated::survivors(&generated_of(report, gate)),
        closest: closest(report, gate),
        against: against(report, gate),
        commands: commands(report, gate),
        sha256: line(&report.sha256),
    };
    page.render()
}

/// The text of the page that replaces a gate's page in an INVALID report.
///
/// # Errors
/// Those of the template.
pub fn invalid_page(report: &Report, gate: String) -> askama::Result<String> {
    let reasons = report.invalid.iter().take(MOST).map(|reason| markdown(reason)).collect();
    let commit = code(&report.provenance.commit);
    InvalidPage { gate, reasons, commit, sha256: line(&report.sha256) }.render()
}

/// Why a gate cannot be released on, whatever its verdict.
pub fn not_for_release(report: &Report, gate: &GateSummary) -> Vec<String> {
    let mut reasons = Vec::new();
    match report.provenance.tree.as_str() {
        "clean" => {}
        "dirty" => reasons.push("the tree was dirty".to_owned()),
        "edited" => {
            let count = report.provenance.edited.len();
            reasons.push(format!("edited since the commit: {count} files"));
        }
        // Unknown counts as dirty: nothing shows that the sources of the commit are what ran.
        _ => reasons.push("whether the tree was clean is unknown".to_owned()),
    }
    reasons.extend(report.selection.partial());
    reasons.extend(report.incomplete.clone());
    let slower = report.against.iter().flat_map(|against| &against.slower);
    let own = |bench: &&SlowerBench| slower_of(report, gate, bench) && bench.accepted.is_none();
    let slower = slower.filter(own).count();
    if slower > 0 {
        reasons.push(format!("benches slower without an accepted reason: {slower}"));
    }
    for subject in &gate.required {
        if matches!(gate.subjects.get(subject), None | Some(State::NotRun)) {
            reasons.push(format!("{subject} is required and did not run"));
        }
    }
    reasons
}

fn verdict(report: &Report, gate: &GateSummary) -> String {
    let subject = |(name, state): (&String, &State)| {
        let why = match report.absent.get(name) {
            Some(why) if *state == State::NotRun => format!(" ({})", markdown(why)),
            _ => String::new(),
        };
        format!("{} {}{}{why}", markdown(name), state.word(), report.declared(name))
    };
    let subjects: Vec<String> = gate.subjects.iter().map(subject).collect();
    let reasons = not_for_release(report, gate);
    let release = match reasons.is_empty() {
        true => String::new(),
        false => format!(" — *not for release*: {}", markdown(&reasons.join("; "))),
    };
    format!("{}: {}{release}", gate.state.word(), subjects.join(" · "))
}

fn judged(report: &Report) -> Vec<(String, String)> {
    let p = &report.provenance;
    let mut rows = vec![
        ("commit".to_owned(), format!("{}, {}", code(&p.commit), markdown(&p.tree_in_words()))),
        ("edited".to_owned(), edited(&p.edited)),
        (
            "program".to_owned(),
            format!(
                "goldgate {}, {}, {}",
                markdown(&p.version),
                markdown(&p.rustc),
                code(&short_hash(&p.program_sha256))
            ),
        ),
        (
            "hashes".to_owned(),
            format!(
                "specs {} · goldens {} · kernels {} · plan {}",
                code(&short_hash(&p.specs_sha256)),
                code(&short_hash(&p.golden_sha256)),
                code(&short_hash(&p.kernels_sha256)),
                code(&short_hash(&p.plan_sha256))
            ),
        ),
        ("host".to_owned(), markdown(&p.host)),
        ("time".to_owned(), format!("{} to {}", markdown(&p.began), markdown(&p.ended))),
    ];
    let folders = p.folders.iter().skip(1).map(|folder| {
        let (specs, golden) = (short_hash(&folder.specs_sha256), short_hash(&folder.golden_sha256));
        let hashes = format!("specs {} · goldens {}", code(&specs), code(&golden));
        (format!("folder {}", markdown(&folder.name)), hashes)
    });
    rows.extend(folders);
    // A clean tree has no edited files, and a line without content would look like a lost value.
    rows.retain(|(_, value)| !value.is_empty());
    let subjects = p.subjects.iter();
    rows.extend(subjects.map(|(label, hello)| (markdown(label), markdown(&device(hello)))));
    let absent = report.absent.iter();
    rows.extend(absent.map(|(s, why)| (markdown(s), format!("not there: {}", markdown(why)))));
    rows
}

/// Files that were read and are not those of the commit.
fn edited(files: &[String]) -> String {
    let mut shown: Vec<String> = files.iter().take(MOST).map(|file| code(file)).collect();
    let more = files.len().saturating_sub(MOST);
    shown.extend((more > 0).then(|| format!("and {more} more")));
    shown.join(" ")
}

/// A subject and its device, in one line.
pub fn device(hello: &Value) -> String {
    // A hello may come from any engine, so a field that is missing or has another type is left out.
    let text = |pointer: &str| hello.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let mut parts = vec![format!("{} {}", text("/subject/name"), text("/subject/version"))];
    parts.extend(["/device/name", "/device/driver", "/device/runtime"].map(|p| text(p).to_owned()));
    let compute = text("/device/compute");
    if !compute.is_empty() {
        parts.push(format!("compute {compute}"));
    }
    if let Some(bytes) = hello.pointer("/device/memory_bytes").and_then(Value::as_u64) {
        parts.push(format!("{} MiB", bytes >> 20));
    }
    parts.retain(|part| !part.trim().is_empty());
    parts.join(", ")
}

fn of_gate<'r>(report: &'r Report, gate: &'r GateSummary) -> impl Iterator<Item = &'r Row> {
    report.rows.iter().filter(|row| gate.has(row))
}

/// Whether a bench that is slower is one of a gate's.
fn slower_of(report: &Report, gate: &GateSummary, bench: &SlowerBench) -> bool {
    // Benches of a record that this run did not ask have no row; they are the first folder's.
    let folder = report.row(&bench.bench).map_or("", |row| row.folder.as_str());
    bench.of_gate(gate.gate) && folder == gate.folder
}

fn scope(report: &Report, gate: &GateSummary) -> String {
    let mut ops: Vec<&str> = of_gate(report, gate).map(|row| row.stem.as_str()).collect();
    // Rows are sorted by name, so those of one op are adjacent.
    ops.dedup();
    let whole = report.selection.partial();
    let whole = whole.map_or_else(|| "everything".to_owned(), |why| markdown(&why));
    let models = if report.selection.models { "; with real model files" } else { "" };
    format!(
        "{whole}{models}: {} trials of {} ops and checks on {}. Required: {}.",
        count(of_gate(report, gate).count() as u64),
        ops.len(),
        gate.subjects.keys().map(|s| markdown(s)).collect::<Vec<_>>().join(", "),
        gate.required.iter().map(|s| markdown(s)).collect::<Vec<_>>().join(", ")
    )
}

fn requirement(report: &Report, r: &RequirementSummary) -> Vec<Line> {
    let shown = match &r.means {
        Some(means) => format!("{} <br>*{}*", markdown(&r.asked), markdown(means)),
        None => markdown(&r.asked),
    };
    let field = if r.field { " (field)" } else { "" };
    let line = |(i, (subject, m)): (usize, (&String, &Measured))| Line {
        id: if i == 0 { format!("{}{field}", markdown(&r.id)) } else { String::new() },
        asked: if i == 0 { shown.clone() } else { String::new() },
        on: markdown(subject),
        state: format!("{}{}", m.state.word(), report.declared(subject)),
        passed: passed(m),
        load: m.load.map_or_else(|| "–".to_owned(), number),
        killed: match m.listed {
            0 => "–".to_owned(),
            listed => format!("{} of {listed}", m.killed),
        },
        figures: m.figures.iter().map(figure).collect::<Vec<_>>().join("<br>"),
    };
    r.on.iter().enumerate().map(line).collect()
}

/// How many trials passed of those that a requirement rests on.
pub(super) fn passed(m: &Measured) -> String {
    match m.not_offered {
        0 => format!("{} of {}", m.passed, m.planned),
        n => format!("{} of {}; {n} not offered", m.passed, m.planned),
    }
}

fn figure(f: &Figure) -> String {
    let value = f.value.map_or_else(|| "not measured".to_owned(), number);
    let sign = if f.at_least { "≥" } else { "below" };
    let case = f.trial.split("::").skip(1).take(2).collect::<Vec<_>>().join("::");
    format!("{}: {} {value} ({sign} {})", markdown(&case), markdown(&f.figure), number(f.limit))
}

fn counts(report: &Report, gate: &GateSummary) -> String {
    let rows = || of_gate(report, gate);
    let planned = rows().count() as u64;
    let executed = rows().filter(|r| !matches!(r.verdict, Verdict::NotRun { .. })).count() as u64;
    let passed = rows().filter(|r| r.verdict == Verdict::Pass).count() as u64;
    let compared: u64 = rows().map(|r| r.compared).sum();
    let sign = |a: u64, b: u64| if a == b { "=" } else { "≠" };
    format!(
        "Planned {} {} executed {} {} passed {}; {} elements compared.",
        count(planned),
        sign(planned, executed),
        count(executed),
        sign(executed, passed),
        count(passed),
        count(compared)
    )
}

fn listed(blocks: &[Block]) -> Vec<BlockLine> {
    let mut lines: Vec<BlockLine> = blocks
        .iter()
        .take(MOST)
        .map(|b| BlockLine {
            what: format!("{} {}", code(&b.name), markdown(&b.what)),
            again: b.again.as_deref().map(code),
        })
        .collect();
    if blocks.len() > MOST {
        let what = format!("and {} more", blocks.len() - MOST);
        lines.push(BlockLine { what, again: Some(code("goldgate report show .")) });
    }
    lines
}

fn known(report: &Report, gate: &GateSummary) -> Vec<String> {
    // The clock of the run, not of the reader: the same report always gives the same page.
    let today = report.provenance.ended.get(..10).and_then(Day::parse);
    let shown = |row: &Row| {
        let Verdict::Known { kind, reason, expires, .. } = &row.verdict else { return None };
        let days = Day::parse(expires).zip(today).map(|(end, now)| end.number() - now.number());
        let days = days.map_or_else(|| "unknown".to_owned(), |d| d.to_string());
        let (name, reason) = (code(&row.name), markdown(reason));
        let end = markdown(expires);
        Some(format!("{name} {}: {reason}; ends {end}, days left: {days}", kind.word()))
    };
    let mut all: Vec<String> = of_gate(report, gate).filter_map(shown).collect();
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    all.extend((more > 0).then(|| format!("and {more} more")));
    all
}

fn judge(report: &Report, gate: &GateSummary) -> Vec<String> {
    let self_check =
        |row: &&Row| matches!(&row.verdict, Verdict::Broken { kind: BrokenKind::SelfCheck, .. });
    let failed = of_gate(report, gate).filter(self_check).count();
    let mut lines = vec![format!("self checks failed before a question: {failed}")];
    let on_card = |row: &Row| report.subjects.get(&row.subject).is_some_and(|s| s.roles.card);
    for (card, tier) in [(true, "GPU"), (false, "CPU")] {
        let own = |row: &&Row| on_card(row) == card;
        let faults = of_gate(report, gate).filter(own).map(|row| row.faults);
        let (asked, noticed) =
            faults.fold((0, 0), |(a, n), f| (a + u64::from(f.0), n + u64::from(f.1)));
        let (asked, noticed) = (count(asked), count(noticed));
        lines.push(format!("{tier} tier, faults on answers: {noticed} of {asked} noticed"));
    }
    let ops: Vec<&str> = of_gate(report, gate).map(|row| row.stem.as_str()).collect();
    // Faults of answers are planted by the harness, and those of kernels on a card.
    for (card, tier) in [(true, "GPU"), (false, "CPU")] {
        let own: Vec<_> = report
            .faults
            .iter()
            .filter(|f| f.folder == gate.folder)
            .filter(|f| (f.subject != Role::Harness.word()) == card)
            .filter(|f| ops.contains(&f.op.as_str()))
            .collect();
        let killed = own.iter().filter(|f| f.killed).count();
        lines.push(format!("{tier} tier, listed mutants: {killed} of {} killed", own.len()));
        let survivors = own.iter().filter(|f| !f.killed);
        let names: Vec<String> =
            survivors.take(MOST).map(|f| code(&format!("{}::{}", f.op, f.id))).collect();
        if !names.is_empty() {
            lines.push(format!("survived: {}", names.join(" ")));
        }
    }
    lines
}

/// The scores of the generated faults of a gate's ops.
fn generated_of(report: &Report, gate: &GateSummary) -> Vec<GeneratedScore> {
    let ops: BTreeSet<&str> = of_gate(report, gate).map(|row| row.stem.as_str()).collect();
    report.generated.iter().filter(|s| ops.contains(s.op.as_str())).cloned().collect()
}

/// The passing rows and figures with the least margin: the fraction used, and the line to print.
fn closest(report: &Report, gate: &GateSummary) -> Vec<String> {
    let passing = of_gate(report, gate).filter(|row| row.verdict == Verdict::Pass);
    let mut all: Vec<(f64, String)> = passing
        .filter_map(|row| {
            // A load of 0 has its whole limit left, so it is never among the closest.
            let load = row.load.filter(|load| *load > 0.0)?;
            Some((load, format!("{} load {} of 1", code(&row.name), number(load))))
        })
        .collect();
    let measured = gate.requirements.iter().flat_map(|r| r.on.values());
    for f in measured.flat_map(|m| &m.figures) {
        // A figure beyond its limit blocks the gate, and is listed there.
        if let Some(share) = f.share().filter(|share| *share <= 1.0) {
            let (value, limit) = (number(f.value.unwrap_or(f64::NAN)), number(f.limit));
            let figure = markdown(&f.figure);
            all.push((share, format!("{} {figure} {value}, limit {limit}", code(&f.trial))));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(CLOSEST);
    all.into_iter().map(|(_, line)| line).collect()
}

/// How a report differs from an earlier record, in lines. Benches are those of `gate`.
fn against(report: &Report, gate: &GateSummary) -> Vec<String> {
    let Some(against) = &report.against else {
        return vec!["There is no earlier record.".to_owned()];
    };
    let mut lines = vec![format!("{}: {}", code(&against.record), markdown(&against.counts))];
    let worse = against.worse.iter();
    lines.extend(
        worse.map(|c| format!("{} {} → {}", code(&c.name), markdown(&c.was), markdown(&c.is))),
    );
    let slower = against.slower.iter().filter(|bench| slower_of(report, gate, bench));
    lines.extend(slower.map(|bench| {
        let accepted = match &bench.accepted {
            Some(why) => format!("accepted {}", markdown(why)),
            None => "**not accepted**".to_owned(),
        };
        format!("{} {}; {accepted}", code(&bench.bench), markdown(&bench.text()))
    }));
    lines
}

fn commands(report: &Report, gate: &GateSummary) -> Vec<String> {
    // Only subjects that answered: with an option for an absent one this run could not be repeated.
    let there = report.provenance.subjects.keys();
    let on = there.filter_map(|label| report.subjects.get(label));
    let mut on: Vec<String> = on.map(|subject| line(&subject.option)).collect();
    on.extend(report.selection.profile.map(|profile| format!(" --profile {}", profile.word())));
    let sha256 = line(&report.sha256);
    vec![
        format!("git checkout {}", line(&report.provenance.commit)),
        format!("{}{}", all(report, gate), on.concat()),
        format!("goldgate report verify . --pages record --sha256 {sha256}"),
        "goldgate report attest . --key KEY".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::against;
    use crate::report::samples;

    /// The page as it must be; another one is shown line by line.
    #[track_caller]
    fn hold(page: &str, snapshot: &str) {
        if page != snapshot {
            let diff = similar::TextDiff::from_lines(snapshot, page);
            panic!("the page is another:\n{}", diff.unified_diff());
        }
    }

    #[test]
    fn a_gate_is_reported_on_one_page() {
        let mut report = samples::report();
        report.sha256 = "ee".repeat(32);
        let mut last = report.clone();
        last.rows[4].verdict = Verdict::Pass;
        report.against = Some(against::against(&report, ("record/a", &last), &[]));
        let slower = |accepted: Option<&str>| SlowerBench {
            bench: "gate1::layernorm::sprint::f16::cuda".into(),
            record: "record/a".into(),
            was: 10.0,
            is: 12.5,
            accepted: accepted.map(str::to_owned),
        };
        let list = &mut report.against.as_mut().expect("compared").slower;
        list.extend([slower(Some("until 2026-12-20: two passes | <soon> one")), slower(None)]);
        let page = gate_page(&report, &report.gates[0]);
        hold(&page.expect("rendered"), include_str!("gate_page.md"));
    }

    #[test]
    fn an_invalid_report_has_no_table() {
        let mut report = samples::report();
        report.invalid = vec!["x::y is BROKEN | <b>".to_owned()];
        let page = invalid_page(&report, "1".to_owned()).expect("rendered");
        assert!(page.contains("- x::y is BROKEN \\| \\<b\\>\n"), "{page}");
        assert!(!page.contains("|---"), "{page}");
    }

    #[test]
    fn a_dirty_filtered_or_partial_report_is_not_for_release() {
        let mut report = samples::report();
        report.gates[0].subjects.insert("cuda".into(), State::Met);
        assert!(not_for_release(&report, &report.gates[0]).is_empty());
        report.provenance.tree = "dirty".into();
        report.selection.filters = vec!["gelu".into()];
        report.gates[0].subjects.remove("cuda");
        let want = ["the tree was dirty", "only gelu", "cuda is required and did not run"];
        assert_eq!(not_for_release(&report, &report.gates[0]), want);
    }
}
