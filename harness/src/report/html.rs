//! report.html: a single self-contained page, made from the same rows as the other files.
//!
//! Rows go into the page as a compact array of arrays, and the page draws only those in sight, so
//! that it opens at once even with 20,000 of them.

use std::collections::BTreeMap;

use askama::Template;
use serde_json::{Map, Value, json};

use crate::line::row::AROUND;
use crate::line::{Row, Verdict, Worst};
use crate::report::Report;
use crate::report::blocks::again;
use crate::report::generated::{self, OpScore};
use crate::report::markdown::{device, not_for_release, passed};
use crate::report::summary::{Figure, GateSummary};
use crate::report::text::{kind_and_message, line, lines, number, status};

const CSS: &str = include_str!("../../templates/report.css");
const JS: &str = include_str!("../../templates/report.js");

/// The statuses, in the order in which rows are counted.
const STATUSES: [&str; 7] = ["PASS", "FAIL", "FLAKY", "KNOWN", "UNEXPECTED", "BROKEN", "NOT RUN"];

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    commit: &'a str,
    tree: String,
    host: &'a str,
    ended: &'a str,
    totals: Vec<(&'static str, usize)>,
    invalid: Vec<String>,
    incomplete: Option<String>,
    gates: Vec<Gate>,
    generated: Option<String>,
    survivors: Vec<OpScore>,
    against: Vec<String>,
    origin: Vec<(String, String)>,
    css: &'static str,
    js: &'static str,
    data: String,
}

struct Gate {
    gate: String,
    title: String,
    state: &'static str,
    subjects: Vec<(String, String)>,
    reasons: String,
    requirements: Vec<Line>,
}

struct Line {
    id: String,
    asked: String,
    means: Option<String>,
    on: String,
    state: &'static str,
    declared: String,
    passed: String,
    load: String,
    killed: String,
    figures: Vec<String>,
}

/// The text of the page.
///
/// # Errors
/// Those of the template.
pub fn html(report: &Report) -> askama::Result<String> {
    let p = &report.provenance;
    let count = |word: &'static str| {
        (word, report.rows.iter().filter(|row| status(&row.verdict) == word).count())
    };
    let page = Page {
        title: format!("goldgate report {}", p.ended),
        commit: &p.commit,
        tree: p.tree_in_words(),
        host: &p.host,
        ended: &p.ended,
        totals: STATUSES.map(count).into_iter().filter(|(_, n)| *n > 0).collect(),
        invalid: report.invalid.iter().map(|reason| line(reason)).collect(),
        incomplete: report.incomplete.as_deref().map(line),
        // An INVALID report has no gates to show: none of its rows can be believed.
        gates: match report.invalid.is_empty() {
            true => report.gates.iter().map(|gate| gate_section(report, gate)).collect(),
            false => Vec::new(),
        },
        // As the gates: what an INVALID report says of its faults cannot be believed either.
        generated: generated::summary(&report.generated).filter(|_| report.invalid.is_empty()),
        survivors: generated::by_op(&report.generated, |_| true),
        against: against(report),
        origin: origin(report),
        css: CSS,
        js: JS,
        data: embedded(&data(report)),
    };
    page.render()
}

fn gate_section(report: &Report, gate: &GateSummary) -> Gate {
    let mut requirements = Vec::new();
    for r in &gate.requirements {
        for (i, (subject, m)) in r.on.iter().enumerate() {
            // Id and text are on the first line only, so that all subjects of a requirement read as
            // one.
            let first = i == 0;
            requirements.push(Line {
                id: if first { line(&r.id) } else { String::new() },
                asked: if first { line(&r.asked) } else { String::new() },
                means: r.means.as_deref().filter(|_| first).map(line),
                on: line(subject),
                state: m.state.word(),
                declared: report.declared(subject),
                passed: passed(m),
                load: m.load.map_or_else(|| "–".to_owned(), number),
                killed: match m.listed {
                    0 => "–".to_owned(),
                    listed => format!("{} of {listed}", m.killed),
                },
                figures: m.figures.iter().map(figure).collect(),
            });
        }
    }
    Gate {
        gate: gate.number(),
        title: line(&gate.title),
        state: gate.state.word(),
        subjects: gate
            .subjects
            .iter()
            .map(|(s, state)| (line(s), format!("{}{}", state.word(), report.declared(s))))
            .collect(),
        reasons: line(&not_for_release(report, gate).join("; ")),
        requirements,
    }
}

fn figure(f: &Figure) -> String {
    // A figure that was not measured is shown as such: without it, its limit would look kept.
    let value = f.value.map_or_else(|| "not measured".to_owned(), number);
    let sign = if f.at_least { "at least" } else { "below" };
    format!("{} {value}, {sign} {}", line(&f.figure), number(f.limit))
}

/// How the report differs from an earlier record, in lines.
fn against(report: &Report) -> Vec<String> {
    let Some(against) = &report.against else {
        return vec!["There is no earlier record.".to_owned()];
    };
    let mut lines = vec![format!("{}: {}", line(&against.record), line(&against.counts))];
    let worse = against.worse.iter();
    lines.extend(worse.map(|c| format!("{}: {} → {}", line(&c.name), line(&c.was), line(&c.is))));
    lines.extend(against.slower.iter().map(|bench| {
        let accepted = bench.accepted.as_deref().map(|why| format!("accepted {}", line(why)));
        let accepted = accepted.unwrap_or_else(|| "not accepted".to_owned());
        format!("{} {}; {accepted}", line(&bench.bench), line(&bench.text()))
    }));
    lines
}

fn origin(report: &Report) -> Vec<(String, String)> {
    let p = &report.provenance;
    let mut pairs: Vec<(String, String)> = [
        ("goldgate", &p.version),
        ("compiler", &p.rustc),
        ("program sha256", &p.program_sha256),
        ("specs sha256", &p.specs_sha256),
        ("goldens sha256", &p.golden_sha256),
        ("kernels sha256", &p.kernels_sha256),
        ("plan sha256", &p.plan_sha256),
        ("report sha256", &report.sha256),
        ("began", &p.began),
        ("ended", &p.ended),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), line(value)))
    .collect();
    pairs.extend(p.edited.iter().map(|file| ("edited since the commit".to_owned(), line(file))));
    pairs.extend(p.subjects.iter().map(|(s, hello)| (line(s), line(&device(hello)))));
    pairs.extend(
        report.absent.iter().map(|(s, why)| (line(s), format!("not there: {}", line(why)))),
    );
    pairs
}

/// JSON that is safe inside a script element: nothing in it can end the element.
fn embedded(value: &Value) -> String {
    // Escaped as JSON escapes and not as entities, which have no meaning inside a script element.
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028")
}

/// Assigns numbers to words that many rows share, so that the page stays small.
#[derive(Default)]
struct Words(BTreeMap<String, usize>, Vec<String>);

impl Words {
    fn number(&mut self, word: &str) -> usize {
        if let Some(&n) = self.0.get(word) {
            return n;
        }
        self.1.push(word.to_owned());
        self.0.insert(word.to_owned(), self.1.len() - 1);
        self.1.len() - 1
    }
}

fn data(report: &Report) -> Value {
    let (mut ops, mut variants, mut subjects) =
        (Words::default(), Words::default(), Words::default());
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            let parts: Vec<&str> = row.name.split("::").collect();
            let whole = parts.len() == 5
                && parts[0] == format!("gate{}", row.gate)
                && parts[1] == row.stem
                && parts[4] == row.subject;
            // A name in another form is sent in full; the page cannot rebuild it from its parts.
            let (case, variant) = if whole { (parts[2], parts[3]) } else { ("", "other") };
            let at = STATUSES.iter().position(|s| *s == status(&row.verdict));
            let mut fields = vec![
                json!(row.gate),
                json!(ops.number(&line(&row.stem))),
                json!(case),
                json!(variants.number(variant)),
                json!(subjects.number(&line(&row.subject))),
                json!(at.unwrap_or_default()),
                row.load.map_or(Value::Null, real),
                json!(row.compared),
                json!((row.time_ms * 1e3).round() / 1e3),
            ];
            let more = more(report, row, whole);
            if !more.is_empty() {
                fields.push(Value::Object(more));
            }
            Value::Array(fields)
        })
        .collect();
    json!({
        "statuses": STATUSES, "ops": ops.1, "variants": variants.1, "subjects": subjects.1,
        "rows": rows,
    })
}

/// The fields that only some rows have; rows that do not pass have all of them.
fn more(report: &Report, row: &Row, whole: bool) -> Map<String, Value> {
    let mut more = Map::new();
    let mut put = |name: &str, value: Value| drop(more.insert(name.to_owned(), value));
    if !whole {
        put("name", json!(line(&row.name)));
    }
    if !row.figures.is_empty() {
        let figures = row.figures.iter().map(|(name, x)| (line(name), real(*x)));
        put("figures", Value::Object(figures.collect()));
    }
    // Most rows pass: without the details of theirs the page stays small enough to open at once.
    if row.verdict == Verdict::Pass {
        return more;
    }
    let (kind, message) = kind_and_message(&row.verdict);
    put("kind", json!(kind));
    put("message", json!(line(message)));
    if let Verdict::Known { reason, expires, .. } = &row.verdict {
        put("known", json!(line(&format!("until {expires}: {reason}"))));
    }
    if !matches!(row.verdict, Verdict::NotRun { .. }) {
        put("again", json!(again(report, row)));
        let observed = serde_json::to_string(&row.observed).unwrap_or_default();
        // What is absent was not observed; an empty object would look like an observation.
        if observed != "{}" {
            put("observed", json!(line(&observed)));
        }
    }
    if !row.notes.is_empty() {
        put("notes", json!(row.notes.iter().map(|note| line(note)).collect::<Vec<_>>()));
    }
    if let Some(page) = &row.page {
        put("page", json!(lines(page)));
    }
    if let Some(worst) = &row.worst {
        put("worst", around(worst));
    }
    more
}

fn around(worst: &Worst) -> Value {
    let list = |numbers: &[f64]| numbers.iter().map(|x| real(*x)).collect::<Vec<_>>();
    // Neighbours never leave the row, so near its start there are only as many as the index says.
    let at = worst.index.last().copied().unwrap_or(0).min(AROUND);
    json!({
        "result": line(&worst.result), "index": worst.index, "first": worst.first,
        "flat": worst.first + at, "got": list(&worst.got), "want": list(&worst.want),
        "load": list(&worst.load), "over": worst.over, "total": worst.total,
    })
}

/// A number, or the word for a number that JSON cannot express.
fn real(x: f64) -> Value {
    match x {
        x if x.is_nan() => json!("NaN"),
        x if x == f64::INFINITY => json!("inf"),
        x if x == f64::NEG_INFINITY => json!("-inf"),
        x if x == 0.0 && x.is_sign_negative() => json!("-0"),
        x => json!(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn data_of(page: &str) -> Value {
        let start = page.find(r#"id="data">"#).expect("data") + r#"id="data">"#.len();
        let end = start + page[start..].find("</script>").expect("an end");
        serde_json::from_str(&page[start..end]).expect("JSON")
    }

    #[test]
    fn the_page_needs_no_other_file() {
        let page = html(&samples::report()).expect("rendered");
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            let own = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!own.contains(outside), "{outside}");
        }
        assert!(page.contains("LayerNorm | mean &#60;variance&#62;"));
        assert_eq!(data_of(&page)["rows"].as_array().expect("rows").len(), 6);
    }

    #[test]
    fn nothing_that_a_case_says_becomes_code() {
        let evil = "</script><script>alert(1)</script><!--\u{1b}[2J";
        let mut report = samples::report();
        report.rows[0].verdict = samples::fail(evil);
        report.rows[0].page = Some(evil.into());
        report.gates[0].title = evil.into();
        report.provenance.host = evil.into();
        let page = html(&report).expect("rendered");
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("<!--"));
        let shown = data_of(&page)["rows"][0][9]["page"].clone();
        assert_eq!(shown, "</script><script>alert(1)</script><!--\\u{1b}[2J");
    }

    #[test]
    fn a_passing_row_is_small() {
        let name = "gate1::attention_prefill::a_rather_long_name_of_a_case::bf16-q4_k::cuda";
        let mut report = samples::report();
        report.rows = vec![samples::row(name, 0.123_456_789_012_345_67)];
        let row = data(&report)["rows"][0].to_string();
        assert!(row.len() <= 200, "{} bytes: {row}", row.len());
    }

    #[test]
    fn an_invalid_report_shows_no_gate() {
        let mut report = samples::report();
        report.invalid = vec!["a row twice".into()];
        let page = html(&report).expect("rendered");
        assert!(page.contains("INVALID") && page.contains("a row twice"));
        assert!(!page.contains("Gate 1:"));
    }
}
