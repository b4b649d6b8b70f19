//! Verifies that a report is complete and unchanged since it was written.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Report;
use crate::report::document::hash_names;

/// What a report is compared with, apart from itself.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The hash that was signed off, taken from the gate's page.
    pub sha256: Option<String>,
    /// The commit that it must come from.
    pub commit: Option<String>,
    /// The hash of the program that must have written it.
    pub program_sha256: Option<String>,
    /// The hash of the specs that it must be based on.
    pub specs_sha256: Option<String>,
    /// The hash of the goldens that it must be based on.
    pub golden_sha256: Option<String>,
    /// The earliest acceptable end of the run, RFC 3339 in UTC.
    pub not_before: Option<String>,
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The codes are listed in `docs/report.md`.
    pub code: &'static str,
    /// The field of the report.
    pub field: String,
    /// Its content.
    pub found: String,
    /// What it must contain.
    pub expected: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // All three come from the file that is being verified, and could control a terminal.
        let line = crate::report::text::line;
        write!(
            f,
            "error[{}] field={} found={} expected={}",
            self.code,
            line(&self.field),
            line(&self.found),
            line(&self.expected)
        )
    }
}

/// All checks that failed; none for a report that is as it was written.
///
/// # Errors
/// Those of the serializer.
pub fn verify(report: &Report, expected: &Expected) -> serde_json::Result<Vec<Finding>> {
    let mut findings = Findings::default();
    findings.same("ROWS_HASH", "rows_sha256", &report.rows_sha256, &report.hash_rows()?);
    let whole = report.hash()?;
    findings.same("REPORT_HASH", "sha256", &report.sha256, &whole);
    // Compared with the computed hash: the recorded one could have been copied from the page.
    if let Some(signed) = &expected.sha256 {
        findings.same("SIGNED", "sha256", &whole, signed);
    }
    let plan = hash_names(report.planned.iter().map(String::as_str));
    findings.same("PLAN_HASH", "provenance.plan_sha256", &report.provenance.plan_sha256, &plan);
    rows(report, &mut findings);
    gates(report, &mut findings);
    let p = &report.provenance;
    let subject = [
        ("provenance.commit", &p.commit, &expected.commit),
        ("provenance.program_sha256", &p.program_sha256, &expected.program_sha256),
        ("provenance.specs_sha256", &p.specs_sha256, &expected.specs_sha256),
        ("provenance.golden_sha256", &p.golden_sha256, &expected.golden_sha256),
    ];
    for (field, found, expected) in subject {
        if let Some(expected) = expected {
            findings.same("SUBJECT", field, found, expected);
        }
    }
    // A run that read edited files proves nothing about the commit, whatever the program was.
    if expected.commit.is_some() {
        findings.same("SUBJECT", "provenance.tree", &p.tree, "clean");
        if let Some(file) = p.edited.first() {
            let found = format!("{} files, {file} among them", p.edited.len());
            findings.add("EDITED", "provenance.edited", &found, "none");
        }
    }
    // Times of one format in UTC compare as text.
    if let Some(first) = &expected.not_before
        && p.ended < *first
    {
        findings.add("AGE", "provenance.ended", &p.ended, &format!("{first} or later"));
    }
    Ok(findings.0)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, code: &'static str, field: &str, found: &str, expected: &str) {
        let (field, found, expected) = (field.to_owned(), found.to_owned(), expected.to_owned());
        self.0.push(Finding { code, field, found, expected });
    }

    fn same(&mut self, code: &'static str, field: &str, found: &str, expected: &str) {
        if found != expected {
            self.add(code, field, found, expected);
        }
    }
}

/// Checks that every planned trial has exactly one row, and that there is no other row.
fn rows(report: &Report, findings: &mut Findings) {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &report.rows {
        *count.entry(&row.name).or_default() += 1;
    }
    for (name, n) in &count {
        if *n > 1 {
            findings.add("ROW_DUP", name, &format!("{n} rows"), "one row");
        }
    }
    let planned: std::collections::BTreeSet<&str> =
        report.planned.iter().map(String::as_str).collect();
    // One name is enough to reject the report: with an edited plan there could be thousands.
    let unplanned = count.keys().find(|name| !planned.contains(**name));
    if let Some(name) = unplanned {
        findings.add("ROWS", name, "a row", "nothing: it is in no plan");
    }
    let lost = planned.iter().find(|name| !count.contains_key(**name));
    // A run that was killed is marked INCOMPLETE; its rows are in rows.jsonl.
    if let (Some(name), None) = (lost, &report.incomplete) {
        let found = format!("{} rows of {} planned", report.rows.len(), report.planned.len());
        findings.add("ROWS", name, &found, "a row");
    }
}

/// Checks that no gate claims more than its rows show: MET, although a row of it did not pass.
fn gates(report: &Report, findings: &mut Findings) {
    if !report.invalid.is_empty() && !report.gates.is_empty() {
        findings.add("GATES", "gates", "gates in a report that is INVALID", "none");
    }
    // Only MET could mislead a release, so only that needs to be supported by the figures.
    for gate in report.gates.iter().filter(|g| g.state == crate::gate::State::Met) {
        let open = |m: &crate::report::summary::Measured| {
            m.state == crate::gate::State::Met && (m.passed < m.planned || m.killed < m.listed)
        };
        for r in gate.requirements.iter().filter(|r| r.on.values().any(open)) {
            findings.add("GATES", &r.id, "MET", "as many passed as planned, every fault killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Verdict;
    use crate::report::samples;

    fn codes(report: &Report, expected: &Expected) -> Vec<&'static str> {
        let findings = verify(report, expected).expect("verified");
        findings.into_iter().map(|f| f.code).collect()
    }

    fn alone(report: &Report) -> Vec<&'static str> {
        codes(report, &Expected::default())
    }

    /// Writes, edits the text, reads again.
    fn edited(edit: impl Fn(String) -> String) -> Result<Report, (&'static str, String)> {
        let text = serde_json::to_string(&samples::report()).expect("written");
        let changed = edit(text.clone());
        assert_ne!(text, changed, "the edit changes nothing");
        Report::parse(&changed)
    }

    #[test]
    fn as_it_was_written_it_holds() {
        assert_eq!(alone(&samples::report()), [""; 0]);
    }

    #[test]
    fn go_21_a_verdict_turned_to_pass() {
        let mut report = samples::report();
        report.rows[4].verdict = Verdict::Pass;
        assert_eq!(alone(&report), ["ROWS_HASH", "REPORT_HASH"]);
        // A report that was sealed again is detected by the hash that was signed off.
        let signed = Some(report.sha256.clone());
        report.seal().expect("sealed");
        assert_eq!(alone(&report), [""; 0]);
        assert_eq!(codes(&report, &Expected { sha256: signed, ..Expected::default() }), ["SIGNED"]);
    }

    #[test]
    fn go_22_a_case_removed() {
        let mut report = samples::report();
        report.rows.remove(4);
        report.seal().expect("sealed");
        assert_eq!(alone(&report), ["ROWS"]);
        report.planned.remove(4);
        report.seal().expect("sealed");
        assert_eq!(alone(&report), ["PLAN_HASH"]);
    }

    #[test]
    fn a_row_doubled_or_from_elsewhere() {
        let mut report = samples::report();
        report.rows.insert(1, report.rows[0].clone());
        report.seal().expect("sealed");
        assert_eq!(alone(&report), ["ROW_DUP"]);
        report.rows[1].name.push('x');
        report.seal().expect("sealed");
        assert_eq!(alone(&report), ["ROWS"]);
    }

    #[test]
    fn go_23_another_commit_or_program() {
        let other = Some("other".to_owned());
        let commit = Expected { commit: other.clone(), ..Expected::default() };
        let program = Expected { program_sha256: other, ..Expected::default() };
        for expected in [commit, program] {
            assert_eq!(codes(&samples::report(), &expected), ["SUBJECT"]);
        }
    }

    #[test]
    fn go_24_an_old_report() {
        let day = |day: &str| Expected {
            not_before: Some(format!("2026-11-{day}T00:00:00Z")),
            ..Expected::default()
        };
        assert_eq!(codes(&samples::report(), &day("20")), [""; 0]);
        assert_eq!(codes(&samples::report(), &day("21")), ["AGE"]);
    }

    #[test]
    fn go_25_one_meaning_has_one_hash() {
        let written = samples::report();
        let pretty = serde_json::to_string_pretty(&written).expect("written");
        assert_eq!(alone(&Report::parse(&pretty).expect("read")), [""; 0]);
        let moved = edited(|text| {
            text.replacen(r#""load":0.93,"compared":1000"#, r#""compared": 1000, "load":9.3e-1"#, 1)
        });
        assert_eq!(alone(&moved.expect("read")), [""; 0]);
        let hello = edited(|text| {
            text.replacen(r#""kind":"cpu","name":"a CPU""#, r#""name":"a CPU","kind":"cpu""#, 1)
        });
        assert_eq!(alone(&hello.expect("read")), [""; 0]);
        let real = edited(|text| text.replacen(r#""compared":1000"#, r#""compared":1000.0"#, 1));
        assert_eq!(real.expect_err("no count").0, "FORM");
        let more = edited(|text| text.replacen(r#"[{"name":"#, r#"[{"nome":1,"name":"#, 1));
        assert_eq!(more.expect_err("unknown").0, "FORM");
    }

    #[test]
    fn go_26_a_key_twice() {
        let twice = edited(|text| text.replacen(r#""load":0.93"#, r#""load":0.93,"load":0.93"#, 1));
        assert_eq!(twice.expect_err("twice").0, "JSON_DUP");
    }

    #[test]
    fn go_27_numbers_that_are_none() {
        for bad in ["1e400", "-0", "NaN", "-0.0", "\"nan\""] {
            let text = edited(|t| t.replacen(r#""load":0.93"#, &format!(r#""load":{bad}"#), 1));
            assert_eq!(text.expect_err(bad).0, "FORM", "{bad}");
        }
    }

    #[test]
    fn a_gate_may_not_say_better_than_its_rows() {
        let mut report = samples::report();
        report.gates[0].state = crate::gate::State::Met;
        let on = report.gates[0].requirements[0].on.get_mut("cpu").expect("there");
        on.state = crate::gate::State::Met;
        report.seal().expect("sealed");
        assert_eq!(alone(&report), ["GATES"]);
    }
}
