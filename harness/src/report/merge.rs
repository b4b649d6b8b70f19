//! Merges the reports of shards into one.

use std::collections::{BTreeMap, BTreeSet};

use crate::line::{GeneratedScore, Row};
use crate::report::document::hash_names;
use crate::report::{Provenance, Report, Selection};

/// Why reports cannot be merged at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// No report was given.
    #[error("no report to merge")]
    Nothing,
    /// A report that is not of a shard.
    #[error("report {0} is no shard of a run")]
    NoShard(usize),
}

/// Merges shards into one report, whose gates are not weighed yet. All shards must have the same
/// plan, specs, goldens and program. A different hash, or a shard or row that occurs twice, makes
/// the result INVALID; a missing shard makes it INCOMPLETE and is named.
///
/// # Errors
/// There is nothing to merge, or a report is not of a shard.
pub fn merge(shards: &[Report]) -> Result<Report, MergeError> {
    let first = shards.first().ok_or(MergeError::Nothing)?;
    let whole = first.selection.shard.clone().ok_or(MergeError::NoShard(1))?;
    let mut merged = Report { provenance: first.provenance.clone(), ..Report::default() };
    merged.selection = first.selection.clone();
    merged.selection.shard = None;
    let mut seen = BTreeSet::new();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut planned = BTreeSet::new();
    for (at, report) in shards.iter().enumerate() {
        let shard = report.selection.shard.as_ref().ok_or(MergeError::NoShard(at + 1))?;
        let name = format!("shard {} of {}", shard.index, shard.of);
        // Shards of different plans may leave out what none of them planned.
        if (shard.of, &shard.plan_sha256) != (whole.of, &whole.plan_sha256) {
            merged.invalid.push(format!("{name} is of another plan"));
        }
        if !seen.insert(shard.index) {
            merged.invalid.push(format!("{name} stands twice"));
        }
        same(first, report, &name, &mut merged.invalid);
        merged.invalid.extend(report.invalid.iter().map(|why| format!("{name}: {why}")));
        if let Some(why) = &report.incomplete {
            add(&mut merged.incomplete, format!("{name}: {why}"));
        }
        for row in &report.rows {
            // Of two verdicts on one trial nobody could say which counts.
            if rows.insert(row.name.clone(), row.clone()).is_some() {
                merged.invalid.push(format!("{} stands twice in the rows", row.name));
            }
        }
        planned.extend(report.planned.iter().cloned());
        merge_metadata(report, &mut merged);
    }
    // Incomplete and not invalid, because the missing shard may still be run.
    for missing in (1..=whole.of).filter(|index| !seen.contains(index)) {
        add(&mut merged.incomplete, format!("shard {missing} of {} is missing", whole.of));
    }
    merged.planned = planned.into_iter().collect();
    merged.rows = rows.into_values().collect();
    let plan = hash_names(merged.planned.iter().map(String::as_str));
    // With a shard missing the plans differ anyway, and the missing shard is already named.
    if merged.incomplete.is_none() && plan != whole.plan_sha256 {
        merged.invalid.push("the shards together are not the plan".to_owned());
    }
    merged.provenance.plan_sha256 = plan;
    if merged.incomplete.is_none() {
        merged.hold_to_plan();
    }
    Ok(merged)
}

fn add(to: &mut Option<String>, why: String) {
    *to = Some(match to.take() {
        Some(before) => format!("{before}; {why}"),
        None => why,
    });
}

/// Checks that the shards agree in everything that must not differ between them.
fn same(first: &Report, report: &Report, name: &str, invalid: &mut Vec<String>) {
    let (a, b) = (&first.provenance, &report.provenance);
    for (what, a, b) in [
        ("commit", &a.commit, &b.commit),
        ("program", &a.program_sha256, &b.program_sha256),
        ("specs", &a.specs_sha256, &b.specs_sha256),
        ("goldens", &a.golden_sha256, &b.golden_sha256),
        ("kernels", &a.kernels_sha256, &b.kernels_sha256),
    ] {
        // A report is about one program, one set of specs and one set of goldens.
        if a != b {
            invalid.push(format!("{name}: another hash of {what}"));
        }
    }
    let names = |p: &Provenance| p.folders.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
    // Rows and gates carry these names, so another one would tell of another folder.
    if names(a) != names(b) {
        invalid.push(format!("{name}: other names of specs folders"));
    }
    for (subject, hello) in &b.subjects {
        // Shards may run on different machines, but not on different engines or models of card.
        let other = a.subjects.get(subject).is_some_and(|first| {
            let who =
                |h: &serde_json::Value| (h["subject"].clone(), h.pointer("/device/name").cloned());
            who(first) != who(hello)
        });
        if other {
            invalid.push(format!("{name}: another {subject}"));
        }
    }
    let (a, b) = (&first.selection, &report.selection);
    let scope = |s: &Selection| Selection { shard: None, ..s.clone() };
    if scope(a) != scope(b) {
        invalid.push(format!("{name}: another selection"));
    }
}

/// Merges what a report has apart from its rows.
fn merge_metadata(report: &Report, merged: &mut Report) {
    let p = &report.provenance;
    let into = &mut merged.provenance;
    // Times in UTC by ISO 8601 sort as text.
    if p.began < into.began {
        into.began.clone_from(&p.began);
    }
    if p.ended > into.ended {
        into.ended.clone_from(&p.ended);
    }
    // One shard of an edited tree is enough to make the whole one.
    if into.tree == "clean" || p.tree == "edited" {
        into.tree.clone_from(&p.tree);
    }
    // What one shard compared with less than the commit, the whole did.
    if into.compared_with.is_empty() {
        into.compared_with.clone_from(&p.compared_with);
    }
    let edited: BTreeSet<&String> = into.edited.iter().chain(&p.edited).collect();
    into.edited = edited.into_iter().cloned().collect();
    let subjects = p.subjects.iter().map(|(s, hello)| (s.clone(), hello.clone()));
    into.subjects.extend(subjects);
    // A card that one shard had and another lacked is one all the same.
    for (label, subject) in &report.subjects {
        let into = merged.subjects.entry(label.clone()).or_insert_with(|| subject.clone());
        into.asked |= subject.asked;
        into.roles.card |= subject.roles.card;
        // A shard in which it did not start knows nothing of what it declares.
        if into.declared.is_empty() {
            into.declared.clone_from(&subject.declared);
        }
    }
    merged.absent.extend(report.absent.iter().map(|(s, why)| (s.clone(), why.clone())));
    merged.incidents.extend(report.incidents.iter().cloned());
    merged.replaced += report.replaced;
    // Every shard plants the mutants of its stems, so the same result may come from several.
    for fault in &report.faults {
        if !merged.faults.contains(fault) {
            merged.faults.push(fault.clone());
        }
    }
    for score in &report.generated {
        let same = |s: &GeneratedScore| s.op == score.op && s.variant == score.variant;
        if !merged.generated.iter().any(same) {
            merged.generated.push(score.clone());
        }
    }
    for (page, good) in &report.documents {
        // A page holds only if it held wherever it was looked at.
        *merged.documents.entry(page.clone()).or_insert(true) &= good;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Shard;
    use crate::report::samples;

    fn shards() -> Vec<Report> {
        let whole = samples::report();
        let plan = hash_names(whole.planned.iter().map(String::as_str));
        let part = |index: u64| {
            let mut report = whole.clone();
            let own = |name: &str| u64::from(name.ends_with("cuda") || name.contains("gelu")) + 1;
            report.planned.retain(|name| own(name) == index);
            report.rows.retain(|row| own(&row.name) == index);
            let plan_sha256 = plan.clone();
            report.selection.shard = Some(Shard { index, of: 2, plan_sha256 });
            report
        };
        vec![part(1), part(2)]
    }

    #[test]
    fn all_shards_are_the_whole() {
        let merged = merge(&shards()).expect("merged");
        assert_eq!((merged.invalid.len(), merged.incomplete), (0, None));
        assert_eq!(merged.planned, samples::report().planned);
        assert_eq!(merged.rows.len(), merged.planned.len());
        assert_eq!(merged.provenance.plan_sha256, samples::report().provenance.plan_sha256);
    }

    #[test]
    fn a_missing_shard_is_named() {
        let merged = merge(&shards()[..1]).expect("merged");
        assert_eq!(merged.incomplete.as_deref(), Some("shard 2 of 2 is missing"));
        assert!(merged.invalid.is_empty());
    }

    #[test]
    fn what_does_not_belong_together_is_invalid() {
        let invalid = |edit: fn(&mut Vec<Report>)| {
            let mut parts = shards();
            edit(&mut parts);
            merge(&parts).expect("merged").invalid.join("; ")
        };
        let specs = invalid(|parts| parts[1].provenance.specs_sha256 = "other".into());
        assert_eq!(specs, "shard 2 of 2: another hash of specs");
        let twice = invalid(|parts| parts.push(parts[0].clone()));
        assert!(twice.contains("shard 1 of 2 stands twice"), "{twice}");
        assert!(twice.contains("stands twice in the rows"), "{twice}");
        let lost = invalid(|parts| drop(parts[1].planned.pop()));
        assert!(lost.contains("the shards together are not the plan"), "{lost}");
        let bad = invalid(|parts| parts[0].invalid.push("x".into()));
        assert_eq!(bad, "shard 1 of 2: x");
    }

    #[test]
    fn a_report_of_everything_is_no_shard() {
        assert_eq!(merge(&[]).err(), Some(MergeError::Nothing));
        assert_eq!(merge(&[samples::report()]).err(), Some(MergeError::NoShard(1)));
    }
}
