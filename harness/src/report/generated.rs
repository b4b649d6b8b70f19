//! Scores of generated faults, as the pages of a report show them.

use std::collections::BTreeMap;

use crate::line::GeneratedScore;
use crate::report::text::{code, line};

/// The score of one op over all its variants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpScore {
    /// The op.
    pub op: String,
    /// How many faults were killed.
    pub killed: usize,
    /// How many were planted.
    pub planted: usize,
    /// How many variants the op has.
    pub variants: usize,
    /// Fault → in how many variants it survived.
    pub survivors: BTreeMap<String, usize>,
}

/// The scores of the ops that `of` selects, in the order of their names.
pub fn by_op(scores: &[GeneratedScore], of: impl Fn(&str) -> bool) -> Vec<OpScore> {
    let mut ops: BTreeMap<&str, OpScore> = BTreeMap::new();
    for score in scores.iter().filter(|score| of(&score.op)) {
        let op = ops.entry(&score.op).or_default();
        op.op = line(&score.op);
        op.killed += score.killed;
        op.planted += score.killed + score.survived;
        op.variants += 1;
        for name in &score.survivors {
            // Without the op and the variant, so that the same fault of all variants is one entry.
            let fault = name.rsplit("::").next().unwrap_or(name);
            *op.survivors.entry(line(fault)).or_default() += 1;
        }
    }
    ops.into_values().collect()
}

/// `killed 10699 of 17299 (61.8 %); 12 equivalent; 30 not run`; none if no fault was made.
pub fn summary(scores: &[GeneratedScore]) -> Option<String> {
    let sum = |count: fn(&GeneratedScore) -> usize| scores.iter().map(count).sum::<usize>();
    if sum(|s| s.generated) == 0 {
        return None;
    }
    let (killed, planted) = GeneratedScore::total(scores);
    // Rounded down: all of them are killed only where it says 100.
    let tenths = (1000 * killed).checked_div(planted).unwrap_or_default();
    let mut text = format!("killed {killed} of {planted} ({}.{} %)", tenths / 10, tenths % 10);
    let others =
        [(sum(|s| s.equivalent), "equivalent, with reasons"), (sum(|s| s.not_run), "not run")];
    for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("; {count} {word}"));
    }
    Some(text)
}

/// A line for each op with generated faults that survived, in Markdown.
pub fn survivors(scores: &[GeneratedScore]) -> Vec<String> {
    let ops = by_op(scores, |_| true);
    let line = |op: &OpScore| {
        let names: Vec<String> =
            op.survivors().map(|(fault, note)| format!("{}{note}", code(fault))).collect();
        format!("{}: killed {} of {}: {}", code(&op.op), op.killed, op.planted, names.join(" "))
    };
    ops.iter().filter(|op| !op.survivors.is_empty()).map(line).collect()
}

impl OpScore {
    /// The survivors by name; with the number of variants where it is not all of them.
    pub fn survivors(&self) -> impl Iterator<Item = (&str, String)> {
        self.survivors.iter().map(|(fault, count)| {
            let some = *count < self.variants;
            let note = some.then(|| format!(" ({count} of {})", self.variants));
            (fault.as_str(), note.unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(op: &str, variant: &str, killed: usize, survivors: &[&str]) -> GeneratedScore {
        let name = |fault: &&str| format!("generated::{op}::{variant}::{fault}");
        GeneratedScore {
            op: op.to_owned(),
            variant: variant.to_owned(),
            generated: killed + survivors.len(),
            killed,
            survived: survivors.len(),
            survivors: survivors.iter().map(name).collect(),
            ..GeneratedScore::default()
        }
    }

    #[test]
    fn a_fault_of_many_variants_is_one_entry() {
        let scores = [
            score("gelu", "f16", 3, &["flush.x"]),
            score("linear", "f16", 5, &["flush.x", "round.x.bf16"]),
            score("linear", "f32", 6, &["flush.x"]),
        ];
        let ops = by_op(&scores, |op| op == "linear");
        assert_eq!((ops.len(), ops[0].killed, ops[0].planted), (1, 11, 14));
        let names: Vec<String> =
            ops[0].survivors().map(|(fault, note)| format!("{fault}{note}")).collect();
        assert_eq!(names, ["flush.x", "round.x.bf16 (1 of 2)"]);
    }

    #[test]
    fn a_share_is_rounded_down() {
        let one = score("gelu", "f16", 1999, &["flush.x"]);
        assert_eq!(summary(&[one]).as_deref(), Some("killed 1999 of 2000 (99.9 %)"));
        assert_eq!(summary(&[]), None);
        let not_run = GeneratedScore { generated: 2, not_run: 2, ..GeneratedScore::default() };
        let text = summary(&[not_run]);
        assert_eq!(text.as_deref(), Some("killed 0 of 0 (0.0 %); 2 not run"));
    }
}
