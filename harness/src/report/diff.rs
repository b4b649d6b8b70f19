//! Compares two reports: what got worse, what moved, what is gone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::line::Row;
use crate::report::Report;
use crate::report::speeds::{Speed, other_figures, speed};
use crate::report::text::{line, number, status};

/// By what fraction a load must move to be listed, and the least absolute change.
pub const LOAD_MOVED: (f64, f64) = (0.1, 0.01);

/// By what fraction a figure without a verdict must move to be listed.
pub const FIGURE_MOVED: f64 = 0.05;

/// The differences between two reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Commits, hashes and devices that differ.
    pub origin: Vec<Changed>,
    /// Gates and requirements whose state differs, such as `G1.02 on cpu`.
    pub gates: Vec<Changed>,
    /// Rows whose status differs.
    pub verdicts: Vec<Changed>,
    /// Cases whose load moved.
    pub loads: Vec<Moved>,
    /// Benches whose speed moved, the slowest first.
    pub speeds: Vec<Speed>,
    /// Figures that are no speeds and moved: load times, sizes of arenas. They have no verdict.
    pub figures: Vec<Moved>,
    /// Cases that are judged by a different rule.
    pub rules: Vec<Changed>,
    /// Faults that were detected and no longer are, or vice versa.
    pub faults: Vec<Changed>,
    /// Trials planned before, but not now.
    pub gone: Vec<String>,
    /// Trials planned now, but not before.
    pub new: Vec<String>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// What it is the value of.
    pub name: String,
    /// The value before.
    pub was: String,
    /// The value now.
    pub is: String,
    /// Whether the change is for the worse.
    pub worse: bool,
}

/// A number that moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The row, and its figure if it is not the load.
    pub name: String,
    /// The value before.
    pub was: f64,
    /// The value now.
    pub is: f64,
}

/// How the answers of two reports compare, bit by bit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bits {
    /// How many rows have the same bits.
    pub same: usize,
    /// Rows with different bits.
    pub other: Vec<String>,
    /// Rows whose bits only one of the reports has.
    pub one_sided: Vec<String>,
}

/// Compares the bits of the rows of two reports, independently of their verdicts.
pub fn bits(old: &Report, new: &Report) -> Bits {
    let hashes = |report: &Report| -> BTreeMap<String, String> {
        let rows = report.rows.iter();
        rows.filter_map(|row| Some((row.name.clone(), row.bits.clone()?))).collect()
    };
    let (old, new) = (hashes(old), hashes(new));
    let mut found = Bits::default();
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(name), new.get(name)) {
            (Some(was), Some(is)) if was == is => found.same += 1,
            (Some(_), Some(_)) => found.other.push(name.clone()),
            // Neither equal nor different: one of the two runs has no answer to this question.
            _ => found.one_sided.push(name.clone()),
        }
    }
    found
}

impl Diff {
    /// Whether something got worse: a row no longer passes, a gate is no longer met, a fault now
    /// survives, a case is gone, or a bench is slower.
    pub fn worse(&self) -> bool {
        let lists = [&self.gates, &self.verdicts, &self.faults];
        let slower = self.speeds.iter().any(|speed| speed.worse);
        !self.gone.is_empty() || slower || lists.iter().any(|list| list.iter().any(|c| c.worse))
    }

    /// Whether nothing differs apart from where the reports come from.
    pub fn nothing(&self) -> bool {
        // Runs on other hosts or of other commits may still agree in every result, which is the
        // point.
        *self == Diff { origin: self.origin.clone(), ..Diff::default() }
    }

    /// The differences as lines of text, at most `most` of each sort.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let mut out = Vec::new();
        let sorts = [
            ("came from", &self.origin),
            ("gates weighed otherwise", &self.gates),
            ("verdicts changed", &self.verdicts),
            ("faults", &self.faults),
            ("rules changed", &self.rules),
        ];
        for (title, list) in sorts {
            let shown =
                |c: &Changed| format!("{}: {} → {}", line(&c.name), line(&c.was), line(&c.is));
            section(&mut out, title, list.len(), most, list.iter().map(shown));
        }
        let moved = |m: &Moved| format!("{}: {} → {}", line(&m.name), number(m.was), number(m.is));
        section(&mut out, "load moved", self.loads.len(), most, self.loads.iter().map(moved));
        // All of them: a speed that is worse must not hide behind the limit of a list.
        let speeds = self.speeds.iter().map(Speed::text);
        section(&mut out, "speed moved", self.speeds.len(), usize::MAX, speeds);
        let figures = self.figures.iter().map(moved);
        section(&mut out, "figure moved, no verdict", self.figures.len(), most, figures);
        for (title, list) in [("gone", &self.gone), ("new", &self.new)] {
            section(&mut out, title, list.len(), most, list.iter().map(|name| line(name)));
        }
        out
    }

    /// One line that counts the changes of each sort.
    pub fn count_line(&self) -> String {
        let counts = [
            (self.verdicts.len(), "verdicts changed"),
            (self.verdicts.iter().filter(|c| c.worse).count(), "of them worse"),
            (self.loads.len(), "loads moved"),
            (self.speeds.iter().filter(|s| s.worse).count(), "benches slower"),
            (self.speeds.iter().filter(|s| s.is < s.was).count(), "faster"),
            (self.figures.len(), "other figures moved"),
            (self.rules.len(), "rules changed"),
            (self.faults.len(), "faults changed"),
            (self.gone.len(), "gone"),
            (self.new.len(), "new"),
        ];
        counts.map(|(n, what)| format!("{n} {what}")).join(" · ")
    }
}

fn section(
    out: &mut Vec<String>,
    title: &str,
    len: usize,
    most: usize,
    shown: impl Iterator<Item = String>,
) {
    if len == 0 {
        return;
    }
    out.push(format!("{title}: {len}"));
    out.extend(shown.take(most).map(|s| format!("  {s}")));
    if len > most {
        out.push(format!("  and {} more", len - most));
    }
}

/// The differences from `old` to `new`.
pub fn diff(old: &Report, new: &Report) -> Diff {
    let names = |report: &Report| report.planned.iter().cloned().collect::<BTreeSet<String>>();
    let (was, is) = (names(old), names(new));
    let mut diff = Diff {
        origin: origin(old, new),
        // Only MET can be released on, so a gate that was not met has nothing to lose.
        gates: changed(&weighed(old), &weighed(new), |was, is| was == "met" && is != "met"),
        faults: changed(&faults(old), &faults(new), |_, is| is == "survived"),
        // Whether another rule is stricter or looser cannot be seen from its words.
        rules: changed(&rules(old), &rules(new), |_, _| false),
        gone: was.difference(&is).cloned().collect(),
        new: is.difference(&was).cloned().collect(),
        ..Diff::default()
    };
    // Collected by name first: every row repeats the limits of the card, which are to be listed
    // once.
    let (mut before_them, mut now) = (BTreeMap::new(), BTreeMap::new());
    for row in &new.rows {
        if let Some(before) = old.row(&row.name) {
            compare(before, row, &mut diff);
            diff.speeds.extend(speed(old, new, before, row));
            before_them.extend(other_figures(before));
            now.extend(other_figures(row));
        }
    }
    let figures = now.into_iter().filter_map(|(name, is)| {
        let was = before_them.get(&name).copied().filter(|was| moved(*was, is, FIGURE_MOVED))?;
        Some(Moved { name, was, is })
    });
    diff.figures = figures.collect();
    // A page shows only the first lines, so the worst come first.
    diff.verdicts.sort_by_key(|c| !c.worse);
    diff.loads.sort_by(|a, b| (b.is / b.was).total_cmp(&(a.is / a.was)));
    diff.speeds.sort_by(|a, b| b.factor().total_cmp(&a.factor()));
    // By the logarithm, so that half as much and twice as much are changes of the same size.
    let size = |m: &Moved| (m.is / m.was).ln().abs();
    diff.figures.sort_by(|a, b| size(b).total_cmp(&size(a)));
    diff
}

fn compare(before: &Row, row: &Row, diff: &mut Diff) {
    let (was, is) = (status(&before.verdict), status(&row.verdict));
    if was != is {
        // A row that already failed may fail in another way without being worse, but a broken one
        // says nothing any more.
        let (name, worse) = (row.name.clone(), was == "PASS" || is == "BROKEN");
        diff.verdicts.push(Changed { name, was: was.into(), is: is.into(), worse });
    }
    if let (Some(was), Some(is)) = (before.load, row.load) {
        // Small loads vary by large fractions, so the change must be large in absolute terms too.
        let (part, least) = LOAD_MOVED;
        if moved(was, is, part) && (was - is).abs() >= least {
            diff.loads.push(Moved { name: row.name.clone(), was, is });
        }
    }
}

fn moved(was: f64, is: f64, part: f64) -> bool {
    // Nothing exceeds a fraction of infinity, so figures that became infinite are compared apart.
    (was - is).abs() > part * was.abs().max(is.abs()) || was.is_finite() != is.is_finite()
}

type Words = BTreeMap<String, String>;

fn changed(was: &Words, is: &Words, worse: fn(&str, &str) -> bool) -> Vec<Changed> {
    // A name that only one of the reports has did not change; trials among them are gone or new.
    let both = is.iter().filter_map(|(name, is)| Some((name, was.get(name)?, is)));
    both.filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| Changed {
            name: name.clone(),
            was: was.clone(),
            is: is.clone(),
            worse: worse(was, is),
        })
        .collect()
}

fn weighed(report: &Report) -> Words {
    let mut words = Words::new();
    for gate in &report.gates {
        words.insert(format!("gate {}", gate.number()), word(gate.state));
        let folder =
            if gate.folder.is_empty() { String::new() } else { format!(" of {}", gate.folder) };
        for r in &gate.requirements {
            let on = r.on.iter().map(|(s, m)| (format!("{}{folder} on {s}", r.id), word(m.state)));
            words.extend(on);
        }
    }
    words
}

fn word(state: crate::gate::State) -> String {
    state.word().to_ascii_lowercase()
}

fn faults(report: &Report) -> Words {
    let shown = |killed: bool| if killed { "noticed" } else { "survived" }.to_owned();
    let faults = report.faults.iter();
    faults.map(|f| (format!("{}::{} on {}", f.op, f.id, f.subject), shown(f.killed))).collect()
}

fn rules(report: &Report) -> Words {
    let rules = report.rules.iter();
    rules.flat_map(|(rule, names)| names.iter().map(|n| (n.clone(), rule.clone()))).collect()
}

fn origin(old: &Report, new: &Report) -> Vec<Changed> {
    changed(&origins(old), &origins(new), |_, _| false)
}

fn origins(report: &Report) -> Words {
    let p = &report.provenance;
    let mut words: Words = [
        ("version", &p.version),
        ("commit", &p.commit),
        ("tree", &p.tree),
        ("compiler", &p.rustc),
        ("program", &p.program_sha256),
        ("specs", &p.specs_sha256),
        ("goldens", &p.golden_sha256),
        ("kernels", &p.kernels_sha256),
        ("host", &p.host),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .collect();
    for (subject, hello) in &p.subjects {
        words.insert(format!("subject {subject}"), hello["subject"].to_string());
        words.insert(format!("device of {subject}"), hello["device"].to_string());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_compared_row_by_row() {
        let report = |hashes: &[Option<&str>]| {
            let mut report = crate::report::samples::report();
            let rows = report.rows.iter_mut().zip(hashes);
            rows.for_each(|(row, bits)| row.bits = bits.map(str::to_owned));
            report
        };
        let old = report(&[Some("a"), Some("b"), None]);
        let new = report(&[Some("a"), Some("c"), Some("d")]);
        let found = bits(&old, &new);
        let counts = (found.same, found.other.len(), found.one_sided.len());
        assert_eq!(counts, (1, 1, 1), "{found:?}");
    }
    use crate::line::Verdict;
    use crate::report::samples;

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let report = samples::report();
        let diff = diff(&report, &report);
        assert!(diff.nothing() && !diff.worse() && diff.lines(9).is_empty());
    }

    #[test]
    fn everything_that_moved_is_reported() {
        let mut old = samples::report();
        let mut new = old.clone();
        new.rows[2].load = Some(0.29);
        new.rows[0].load = Some(0.935);
        new.rows[0].verdict = samples::fail("load");
        new.rows[4].verdict = Verdict::Pass;
        old.rows[2].figures.insert("load_ms".into(), 90.0);
        new.rows[2].figures.insert("load_ms".into(), 99.0);
        let case = || vec!["gate1::gelu::wide::f16".to_owned()];
        old.rules.insert("derived".into(), case());
        new.rules.insert("number".into(), case());
        new.faults[0].killed = false;
        new.planned.remove(5);
        new.planned.push("gate1::z::z::f16::cpu".into());
        new.provenance.commit = "other".into();
        let diff = diff(&old, &new);
        assert!(diff.worse());
        let text = diff.lines(9).join("\n");
        for shown in [
            "commit: 0123456789abcdef0123456789abcdef01234567 → other",
            "gate1::gelu::wide::f16::cpu: PASS → FAIL",
            "gate1::layernorm::ragged::f16::cpu: FAIL → PASS",
            "gate1::layernorm::one::f16::cpu: 0.25 → 0.29",
            "gate1::layernorm::one::f16::cpu load_ms: 90 → 99",
            "gate1::gelu::wide::f16: derived → number",
            "layernorm::M-001 on harness: noticed → survived",
            "gone: 1\n  gate1::layernorm::ragged::f16::cuda",
            "new: 1\n  gate1::z::z::f16::cpu",
        ] {
            assert!(text.contains(shown), "{shown} in\n{text}");
        }
        // 0.93 to 0.935 is no news.
        assert_eq!(diff.loads.len(), 1);
        assert!(diff.verdicts[0].worse && !diff.verdicts[1].worse);
    }
}
