//! Lines of a failure page about an op: what was expected, and the worst element.

use std::fmt::Write;

use crate::kinds::op::case::{Accumulate, Case, Expect, GoldenSource, Tolerance, ToleranceRule};
use crate::kinds::op::distance::Distance;
use crate::kinds::op::golden::Golden;
use crate::line::row::AROUND;

/// A line of a failure page: field name and text.
type Line = (&'static str, String);

/// What a case expects, and which programs computed it.
pub fn expected(case: &Case, golden: Option<&Golden>) -> Vec<Line> {
    let Expect::Answer { tolerance, golden: source } = &case.expect else {
        return vec![("expected", expectation(case))];
    };
    let mut lines = vec![("rule", rule(tolerance))];
    lines.extend(tolerance.because.iter().map(|because| ("because", because.clone())));
    lines.push(("golden", golden_line(source, golden)));
    lines
}

/// The worst element with its neighbours, and the gain where it is meaningful.
pub fn worst(distance: &Distance) -> Vec<Line> {
    let Some(worst) = &distance.worst else { return Vec::new() };
    // Neighbours never leave the row, so near its start there are only as many as the index says.
    let at = worst.index.last().copied().unwrap_or(0);
    let first = at - at.min(AROUND);
    let index: Vec<String> = worst.index.iter().map(usize::to_string).collect();
    let place = format!("{}[{}]", worst.result, index.join(", "));
    let mut text = format!("{place}, {} of {} over\n", worst.over, worst.total);
    text.push_str(&format!("{:>10}  {:>18}  {:>18}  {:>12}", "index", "got", "want", "load"));
    for i in 0..worst.got.len() {
        let mark = if first + i == at { '>' } else { ' ' };
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "\n{mark}{:>9}  {:>18}  {:>18}  {:>12}",
            first + i,
            number(worst.got[i]),
            number(worst.want[i]),
            number(worst.load[i])
        );
    }
    let mut lines = vec![("worst", text)];
    if let Some(gain) = distance.gain {
        lines.push(("gain", format!("{:.8}, 1 ± {:.2e} allowed", gain.value, gain.limit)));
    }
    lines
}

/// What a case expects, in words: a refusal, or the rule of its tolerance.
pub fn expectation(case: &Case) -> String {
    match &case.expect {
        Expect::Refusal { kind, operand } => format!("a refusal: {kind} of {operand}"),
        Expect::Answer { tolerance, .. } => rule(tolerance),
    }
}

fn rule(tolerance: &Tolerance) -> String {
    let mut text = match tolerance.rule {
        ToleranceRule::Derived => "derived: half an ulp and 2^-24 · slack".to_owned(),
        // Nothing is allowed under this rule, so how an engine sums does not matter.
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

/// A number with at most nine significant digits.
pub fn number(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let size = x.abs();
    if x.fract() == 0.0 && size < 1e9 {
        // The sign of zero is shown, because a row judged by bits may differ in nothing else.
        return if x == 0.0 && x.is_sign_negative() { "-0".to_owned() } else { format!("{x}") };
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{x:.8e}");
    }
    // Nine significant digits tell any two values of f32 apart.
    let decimals = (8 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{x:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
