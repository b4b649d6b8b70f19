//! What stands between a report and a release, with one command to proceed from each item.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::State;
use crate::line::{Row, Verdict};
use crate::report::Report;
use crate::report::document::of_folder;
use crate::report::summary::GateSummary;
use crate::report::text::{kind_and_message, line, number, status};

/// One item that blocks a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it concerns: a trial, a subject or a page.
    pub name: String,
    /// The reason, in words.
    pub what: String,
    /// The command to proceed with.
    pub again: Option<String>,
}

/// Everything that keeps a gate from being met, worst first.
pub fn blocks(report: &Report, gate: &GateSummary) -> Vec<Block> {
    let mut blocks = Vec::new();
    // The order of the list is the order of severity: a broken judge comes before everything that
    // it judged.
    for word in ["BROKEN", "FAIL", "UNEXPECTED", "FLAKY", "KNOWN"] {
        let own = |row: &&Row| gate.has(row) && status(&row.verdict) == word;
        blocks.extend(report.rows.iter().filter(own).map(|row| of_row(report, row)));
    }
    blocks.extend(survivors(report, gate));
    blocks.extend(limits(report, gate));
    blocks.extend(not_run(report, gate));
    blocks.extend(never_asked(report, gate));
    blocks.extend(documents(report, gate));
    // A gate that is not met must always show a reason, even if it fits none of the lists above.
    if blocks.is_empty() && gate.state != State::Met {
        let reasons = gate.requirements.iter().flat_map(|r| {
            r.on.values().flat_map(move |m| m.reasons.iter().map(move |why| (r.id.clone(), why)))
        });
        blocks.extend(reasons.map(|(name, why)| Block { name, what: line(why), again: None }));
    }
    blocks
}

/// What the rows cannot show because nothing was asked: a part that was left out, or a required
/// subject without a row.
fn never_asked(report: &Report, gate: &GateSummary) -> Vec<Block> {
    let all = all(report, gate);
    let part = report.selection.partial();
    let part = part.map(|what| Block {
        name: "selection".to_owned(),
        what: format!("not everything was asked: {}", line(&what)),
        again: Some(all.clone()),
    });
    let rows = |subject: &str| report.rows.iter().any(|row| row.subject == subject);
    let missing = gate.required.iter().filter(|subject| !rows(subject));
    let missing = missing.map(|subject| match report.absent.get(subject) {
        Some(why) => (subject, format!("not there: {}", line(why)), "goldgate doctor".to_owned()),
        None => (subject, "required, and not asked".to_owned(), all.clone()),
    });
    let missing = missing.map(|(subject, what, again)| Block {
        name: line(subject),
        what,
        again: Some(again),
    });
    part.into_iter().chain(missing).collect()
}

/// The command that asks a whole gate.
pub fn all(report: &Report, gate: &GateSummary) -> String {
    format!("goldgate run --gate {}{}", gate.gate, line(&report.provenance.specs_option()))
}

/// The command that reruns a row.
pub fn again(report: &Report, row: &Row) -> String {
    let commands = row.page.iter().flat_map(|page| page.lines());
    let commands = commands.filter_map(|text| text.trim_start().strip_prefix("again"));
    // The page knows the options of the run, such as the command of a foreign subject.
    if let Some(command) = commands.map(str::trim).rfind(|text| text.starts_with("goldgate ")) {
        return line(command);
    }
    let folder = line(&report.provenance.specs_of(&row.folder));
    format!("goldgate run {}{}{folder}", line(&row.name), option(report, &row.subject))
}

/// The option that selects a subject; empty for one that a run asks anyway.
fn option(report: &Report, label: &str) -> String {
    report.subjects.get(label).map(|subject| line(&subject.option)).unwrap_or_default()
}

fn of_row(report: &Report, row: &Row) -> Block {
    let (kind, message) = kind_and_message(&row.verdict);
    let what = format!("{} ({kind}): {}", status(&row.verdict), line(message));
    Block { name: row.name.clone(), what, again: Some(again(report, row)) }
}

fn survivors(report: &Report, gate: &GateSummary) -> Vec<Block> {
    let ops: Vec<&str> =
        report.rows.iter().filter(|r| gate.has(r)).map(|r| r.stem.as_str()).collect();
    let own = report.faults.iter().filter(|f| f.folder == gate.folder);
    let survived = own.filter(|f| !f.killed && ops.contains(&f.op.as_str()));
    survived
        .map(|fault| {
            let name = format!("{}::{}", fault.op, fault.id);
            // Faults of questions are planted on the CPU, whichever subject the gate is about.
            let folder = report.provenance.specs_of(&gate.folder);
            let on = option(report, &fault.subject);
            let again = Some(format!("goldgate mutate {name}{on}{}", line(&folder)));
            Block { name, what: "a planted fault survived".to_owned(), again }
        })
        .collect()
}

fn limits(report: &Report, gate: &GateSummary) -> Vec<Block> {
    let measured = gate.requirements.iter().flat_map(|r| r.on.values());
    let asked = measured.filter(|m| m.state == State::NotMet);
    let figures = asked.flat_map(|m| &m.figures);
    let beyond = figures.filter(|f| f.share().is_some_and(|share| share > 1.0));
    beyond
        .map(|f| {
            let value = number(f.value.unwrap_or(f64::NAN));
            let what = format!("{} is {value}, the limit is {}", f.figure, number(f.limit));
            let label = f.trial.rsplit("::").next().unwrap_or_default();
            let again = Some(format!("goldgate bench {}{}", f.trial, option(report, label)));
            Block { name: f.trial.clone(), what, again }
        })
        .collect()
}

/// Rows that did not run, grouped by subject and reason: a missing device would fill the page.
fn not_run(report: &Report, gate: &GateSummary) -> Vec<Block> {
    // Grouped by cause, because one missing card would otherwise fill the page with its rows.
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&Row>> = BTreeMap::new();
    for row in report.rows.iter().filter(|r| gate.has(r)) {
        if let Verdict::NotRun { kind, message } = &row.verdict {
            // Only for a missing device does the message name the cause of the whole group.
            let message = if kind.word() == "no_device" { message } else { "" };
            groups.entry((&row.subject, kind.word(), message)).or_default().push(row);
        }
    }
    groups
        .into_iter()
        .map(|((subject, kind, message), rows)| {
            // The rows of a group have one cause, so the message of the first is that of all.
            let first = rows[0];
            let message =
                if message.is_empty() { kind_and_message(&first.verdict).1 } else { message };
            let (name, again) = match rows.len() {
                1 => (first.name.clone(), again(report, first)),
                n => (
                    format!("{n} trials on {subject}"),
                    again_of_group(report, (kind, gate), first),
                ),
            };
            let what = format!("NOT RUN ({kind}): {}", line(message));
            Block { name, what, again: Some(again) }
        })
        .collect()
}

fn again_of_group(report: &Report, (kind, gate): (&str, &GateSummary), first: &Row) -> String {
    // Without a card or a golden another run would end the same way, so the missing part comes
    // first.
    match kind {
        "no_device" => "goldgate doctor".to_owned(),
        "no_golden" => "goldgate golden make".to_owned(),
        _ => format!("{}{}", all(report, gate), option(report, &first.subject)),
    }
}

fn documents(report: &Report, gate: &GateSummary) -> Vec<Block> {
    let repository = gate.requirements.iter().filter_map(|r| r.on.get("repository"));
    let reasons: BTreeSet<&String> = repository.flat_map(|m| &m.reasons).collect();
    // Documents belong to no gate, so the reasons tell which of them this one rests on.
    let concerned = |path: &str| reasons.iter().any(|why| why.contains(path));
    let own = report.documents.iter().filter(|(_, good)| !**good);
    let own = own.filter_map(|(name, _)| of_folder(name, &gate.folder));
    let mut blocks: Vec<Block> = own
        .filter(|path| concerned(path))
        .map(|path| Block {
            name: path,
            what: "the page does not hold what is asked of it".to_owned(),
            again: Some(all(report, gate)),
        })
        .collect();
    let unseen = reasons.iter().filter(|why| why.ends_with("was not looked at"));
    blocks.extend(unseen.map(|why| Block {
        name: "repository".to_owned(),
        what: line(why),
        again: Some(all(report, gate)),
    }));
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn each_block_has_its_command() {
        let report = samples::report();
        let listed: Vec<(String, Option<String>)> =
            blocks(&report, &report.gates[0]).into_iter().map(|b| (b.name, b.again)).collect();
        let want = [
            (
                "gate1::layernorm::ragged::f16::cpu",
                "goldgate run gate1::layernorm::ragged::f16::cpu --on cpu",
            ),
            ("gate1::gelu::wide::f32::cpu", "goldgate run gate1::gelu::wide::f32::cpu --on cpu"),
            (
                "gate1::layernorm::prime::f32::cpu",
                "goldgate run gate1::layernorm::prime::f32::cpu --on cpu",
            ),
            ("layernorm::M-002", "goldgate mutate layernorm::M-002"),
            (
                "gate1::layernorm::ragged::f16::cuda",
                "goldgate run gate1::layernorm::ragged::f16::cuda --on cuda:0",
            ),
        ];
        let want = want.map(|(name, again)| (name.to_owned(), Some(again.to_owned())));
        assert_eq!(listed, want);
    }

    #[test]
    fn what_nobody_asked_blocks_too() {
        let mut report = samples::report();
        report.rows.retain(|row| row.subject != "cuda");
        report.absent.clear();
        report.selection.filters = vec!["gelu".into()];
        let listed = never_asked(&report, &report.gates[0]);
        let listed: Vec<&str> = listed.iter().map(|b| b.what.as_str()).collect();
        assert_eq!(listed, ["not everything was asked: only gelu", "required, and not asked"]);
    }
}
