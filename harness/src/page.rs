//! The failure page: all that a reader needs, on one screen.

use std::fmt::Write;

use crate::case::{Accumulate, Case, Expect, GoldenSource, Tolerance, ToleranceRule};
use crate::distance::{AROUND, Distance};
use crate::golden::Golden;
use crate::verdict::Verdict;

/// What a page is written from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The case.
    pub case: &'a Case,
    /// The trial's full name.
    pub trial: &'a str,
    /// What it is called.
    pub verdict: &'a Verdict,
    /// How far the answer was.
    pub distance: Option<&'a Distance>,
    /// Who computed the golden.
    pub golden: Option<&'a Golden>,
    /// The one command that runs it again.
    pub again: &'a str,
    /// The end of the subject's stderr.
    pub stderr: &'a str,
}

/// How many lines of stderr a page shows.
const STDERR_LINES: usize = 12;

/// The failure page of a trial.
pub fn page(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    let (word, message) = headline(facts.verdict);
    line(&mut text, word, facts.trial);
    field(&mut text, "why", &facts.case.why);
    field(&mut text, "failed", &message);
    if let Some(distance) = facts.distance {
        worst(&mut text, distance);
    }
    match &facts.case.expect {
        Expect::Answer { tolerance, golden } => {
            field(&mut text, "rule", &rule(tolerance));
            if let Some(because) = &tolerance.because {
                field(&mut text, "because", because);
            }
            field(&mut text, "golden", &golden_line(golden, facts.golden));
        }
        Expect::Refusal { .. } => field(&mut text, "awaited", &awaited(facts.case)),
    }
    field(&mut text, "source", &facts.case.source);
    let place = &facts.case.place;
    field(&mut text, "written", &format!("{}:{}:{}", place.file, place.line, place.column));
    let lines: Vec<&str> = facts.stderr.lines().collect();
    for (i, said) in lines[lines.len().saturating_sub(STDERR_LINES)..].iter().enumerate() {
        field(&mut text, if i == 0 { "stderr" } else { "" }, said);
    }
    field(&mut text, "again", facts.again);
    text
}

fn line(text: &mut String, word: &str, rest: &str) {
    text.push_str(word);
    text.push(' ');
    text.push_str(rest);
    text.push('\n');
}

fn field(text: &mut String, name: &str, value: &str) {
    for (i, part) in value.lines().enumerate() {
        let name = if i == 0 { name } else { "" };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {name:<8} {part}");
    }
}

fn headline(verdict: &Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Pass => ("PASS", String::new()),
        Verdict::Fail { kind, message } => ("FAIL", format!("{}: {message}", kind.word())),
        Verdict::Flaky { kind, message } => ("FLAKY", format!("{}: {message}", kind.word())),
        Verdict::Known { kind, message, reason, expires } => {
            ("KNOWN", format!("{}: {message}\nknown until {expires}: {reason}", kind.word()))
        }
        Verdict::Unexpected { message } => ("UNEXPECTED", message.clone()),
        Verdict::Broken { kind, message } => ("BROKEN", format!("{}: {message}", kind.word())),
        Verdict::NotRun { kind, message } => ("NOT RUN", format!("{}: {message}", kind.word())),
    }
}

fn worst(text: &mut String, distance: &Distance) {
    let Some(worst) = &distance.worst else { return };
    // Neighbours never leave the row, so the last index counts them.
    let at = worst.index.last().copied().unwrap_or(0);
    let first = at - at.min(AROUND);
    let index: Vec<String> = worst.index.iter().map(usize::to_string).collect();
    let place = format!("{}[{}]", worst.result, index.join(", "));
    field(text, "worst", &format!("{place}, {} of {} over", worst.over, worst.total));
    let header = format!("{:>10}  {:>18}  {:>18}  {:>12}", "index", "got", "want", "load");
    field(text, "", &header);
    for i in 0..worst.got.len() {
        let mark = if first + i == at { '>' } else { ' ' };
        let row = format!(
            "{mark}{:>9}  {:>18}  {:>18}  {:>12}",
            first + i,
            number(worst.got[i]),
            number(worst.want[i]),
            number(worst.load[i])
        );
        field(text, "", &row);
    }
    if let Some(gain) = distance.gain {
        field(text, "gain", &format!("{:.8}, 1 ± {:.2e} allowed", gain.value, gain.limit));
    }
}

/// What a case awaits, in words: a refusal, or the rule of its tolerance.
pub fn awaited(case: &Case) -> String {
    match &case.expect {
        Expect::Refusal { kind, operand } => format!("a refusal: {kind} of {operand}"),
        Expect::Answer { tolerance, .. } => rule(tolerance),
    }
}

fn rule(tolerance: &Tolerance) -> String {
    let mut text = match tolerance.rule {
        ToleranceRule::Derived => "derived: half an ulp and 2^-24 · slack".to_owned(),
        ToleranceRule::Exact => return "exact: the golden rounded, bit for bit".to_owned(),
        ToleranceRule::Number { absolute, relative, ulp } => format!(
            "number: half an ulp and {} + {} · |golden| + {} ulp",
            number(absolute),
            number(relative),
            number(ulp)
        ),
    };
    let sums = match tolerance.accumulate {
        Accumulate::Tensor => "; sums by tensor cores",
        Accumulate::F32 => "; sums in f32",
    };
    text.push_str(sums);
    if tolerance.linear_sum {
        text.push_str(", one after the other");
    }
    for (name, dtype) in &tolerance.keeps {
        // Writing into a string cannot fail.
        let _ = write!(text, "; {name} may be kept in {dtype}");
    }
    text
}

fn golden_line(source: &GoldenSource, golden: Option<&Golden>) -> String {
    let witnesses: Vec<String> = golden.map_or_else(Vec::new, |g| {
        g.witnesses.iter().map(|w| format!("{} ({})", w.name, w.version)).collect()
    });
    match source {
        GoldenSource::Written(_) => "written in the case".to_owned(),
        GoldenSource::Definition => "the CPU definition".to_owned(),
        GoldenSource::File(path) if witnesses.is_empty() => path.clone(),
        GoldenSource::File(path) => format!("{path}, by {}", witnesses.join(", ")),
    }
}

/// A number in at most nine significant digits.
pub fn number(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let size = x.abs();
    if x.fract() == 0.0 && size < 1e9 {
        return if x == 0.0 && x.is_sign_negative() { "-0".to_owned() } else { format!("{x}") };
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{x:.8e}");
    }
    let decimals = (8 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
