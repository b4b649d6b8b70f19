//! junit.xml: every row as a test case, for tools that read no other format.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::line::{Row, Verdict};
use crate::report::Report;
use crate::report::text::{kind_and_message, line, lines, number};

/// The text of junit.xml, with a suite per gate and subject. A row that does not pass is a failure
/// (`FLAKY` too), a row that the harness cannot judge is an error, and rows that did not run or are
/// known failures are skipped with their reason.
///
/// # Errors
/// Those of the serializer.
pub fn junit(report: &Report) -> Result<String, SerializeError> {
    let mut out = quick_junit::Report::new("goldgate");
    let mut suites: BTreeMap<String, TestSuite> = BTreeMap::new();
    for row in &report.rows {
        let name = format!("gate{} {}", row.gate, line(&row.subject));
        let suite = suites.entry(name.clone()).or_insert_with(|| TestSuite::new(name));
        suite.add_test_case(case(row));
    }
    for (name, mut suite) in suites {
        let rows = report.rows.iter();
        let own = rows.filter(|row| format!("gate{} {}", row.gate, line(&row.subject)) == name);
        // quick-junit counts the test cases of a suite, but leaves its time to the caller.
        suite.set_time(own.map(time).sum());
        // In every suite, because tools show them apart from each other.
        for (key, value) in origin(report) {
            suite.add_property((key, value.as_str()));
        }
        out.add_test_suite(suite);
    }
    // Tools look at test cases alone, so an INVALID report must fail as one.
    if !report.invalid.is_empty() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type("INVALID").set_message(line(&report.invalid.join("; ")));
        let mut suite = TestSuite::new("report");
        suite.add_test_case(TestCase::new("report::valid", status));
        out.add_test_suite(suite);
    }
    out.to_string()
}

fn origin(report: &Report) -> [(&'static str, String); 6] {
    let p = &report.provenance;
    [
        ("commit", line(&p.commit)),
        ("tree", line(&p.tree_in_words())),
        ("specs_sha256", line(&p.specs_sha256)),
        ("golden_sha256", line(&p.golden_sha256)),
        ("plan_sha256", line(&p.plan_sha256)),
        ("report_sha256", line(&report.sha256)),
    ]
}

fn time(row: &Row) -> Duration {
    // A report that was read from a file may have a time that is none.
    Duration::try_from_secs_f64(row.time_ms / 1e3).unwrap_or_default()
}

fn case(row: &Row) -> TestCase {
    let mut case = TestCase::new(line(&row.name), status(row));
    case.set_classname(format!("gate{}.{}", row.gate, line(&row.stem)));
    case.set_time(time(row));
    if let Some(load) = row.load {
        case.add_property(("load", number(load).as_str()));
    }
    for (name, value) in &row.figures {
        case.add_property((line(name).as_str(), number(*value).as_str()));
    }
    if !row.notes.is_empty() {
        case.set_system_out(lines(&row.notes.join("\n")));
    }
    case
}

fn status(row: &Row) -> TestCaseStatus {
    let (kind, message) = kind_and_message(&row.verdict);
    let mut status = match &row.verdict {
        Verdict::Pass => return TestCaseStatus::success(),
        Verdict::Fail { .. } | Verdict::Flaky { .. } | Verdict::Unexpected { .. } => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        // An error is one of the harness, a failure one of the subject.
        Verdict::Broken { .. } => TestCaseStatus::non_success(NonSuccessKind::Error),
        // A known failure keeps a build green, and JUnit has no other word for that than skipped.
        Verdict::Known { .. } | Verdict::NotRun { .. } => TestCaseStatus::skipped(),
    };
    let text = match &row.verdict {
        Verdict::Flaky { .. } => format!("flaky, passed alone in a fresh process: {message}"),
        Verdict::Known { reason, expires, .. } => {
            format!("known until {expires}: {reason}; {message}")
        }
        _ => message.to_owned(),
    };
    // JUnit has fewer outcomes than there are statuses, so the type keeps the word of the status.
    let word = crate::report::text::status(&row.verdict);
    status.set_type(format!("{word} {kind}")).set_message(line(&text));
    if let Some(page) = &row.page {
        status.set_description(lines(page));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn each_row_is_a_test_case() {
        let text = junit(&samples::report()).expect("written");
        let count = |what: &str| text.matches(what).count();
        assert_eq!(count("<testcase "), samples::report().rows.len());
        assert_eq!((count("<failure "), count("<error "), count("<skipped ")), (2, 0, 2));
        assert!(text.contains(r#"message="no CUDA driver""#), "{text}");
        assert!(text.contains("flaky, passed alone"), "{text}");
        assert!(text.contains("known until 2026-12-20"), "{text}");
        assert!(text.contains("why      the last row is short"), "{text}");
    }

    #[test]
    fn what_cases_say_stays_text() {
        let mut report = samples::report();
        let evil = "\u{1b}[2J</failure>]]><x a=\"\n::error::\u{0}\u{fffe}\u{ffff}";
        report.rows[0].page = Some(evil.to_owned());
        report.rows[0].verdict = samples::fail(evil);
        report.invalid = vec![evil.to_owned()];
        let text = junit(&report).expect("written");
        let none_of_xml = ['\u{1b}', '\u{0}', '\u{fffe}', '\u{ffff}'];
        assert!(!text.contains(none_of_xml), "{text}");
        assert!(text.contains("\\u{1b}[2J&lt;/failure&gt;"), "{text}");
        assert!(!text.contains("message=\"\\u{1b}[2J</failure>"), "{text}");
        assert!(text.contains("report::valid"), "{text}");
    }
}
