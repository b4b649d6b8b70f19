//! Text that goes on: the same ids wherever the golden's margin decides, the same in every run,
//! text that is text.

use crate::models::Generation;
use crate::models::ask::beside::{Beside, place};
use crate::models::class::{Class, argmax};
use crate::models::golden::{ModelGolden, Rows};
use crate::models::judge::Judgement;
use crate::verdict::FailKind;

/// From how many runs on the driver's count after the last is held to that after the first: what
/// one run leaves behind, so many show, and fewer would rather show what else runs on the card.
pub const MANY: u32 = 100;

/// How far below the reference's own mean log-probability a text may be, in nats.
pub const COHERENT: f64 = 0.05;

/// What a subject wrote.
pub(super) struct Text<'a> {
    pub runs: &'a [Vec<i32>],
    pub text: Option<&'a [u8]>,
    pub forced: Option<&'a Rows>,
    pub used: &'a [f64],
}

pub(super) fn judge(
    j: &mut Judgement,
    class: Class,
    golden: &ModelGolden,
    g: &Generation,
    answer: &Text<'_>,
) {
    let Some(first) = answer.runs.first() else {
        return j.fail(FailKind::Shape, "no run".to_owned());
    };
    if first.len() != g.max_tokens {
        let message = format!("{} tokens, {} were asked for", first.len(), g.max_tokens);
        return j.fail(FailKind::Shape, message);
    }
    j.compared += first.len() as u64 * answer.runs.len() as u64;
    let distinct: std::collections::BTreeSet<&Vec<i32>> = answer.runs.iter().collect();
    j.figures.insert("distinct".to_owned(), distinct.len() as f64);
    if answer.runs.len() != g.repeat as usize {
        j.fail(FailKind::Shape, format!("{} runs, {} were asked for", answer.runs.len(), g.repeat));
    }
    if distinct.len() > 1 {
        let message = format!("{} different texts in {} runs", distinct.len(), answer.runs.len());
        j.fail(FailKind::Nondeterministic, message);
    }
    if let [one, .., last] = answer.used
        && g.repeat >= MANY
        && last > one
    {
        let message = format!("{one} bytes in use after the first run, {last} after the last");
        j.fail(FailKind::Leak, message);
    }
    if golden.greedy.is_empty() {
        return;
    }
    let decides: Vec<bool> =
        golden.margin.iter().zip(&golden.std).map(|(m, s)| class.decides(*m, *s)).collect();
    let mut decided = free(j, golden, first, &decides);
    if let Some(rows) = answer.forced {
        forced(j, golden, rows, &decides);
        decided = decides.iter().filter(|d| **d).count();
    }
    let share = decided as f64 / golden.greedy.len() as f64;
    j.figures.insert("decided".to_owned(), share);
    if share < g.decided_at_least {
        let least = g.decided_at_least;
        j.inconclusive =
            Some(format!("{share:.2} of the positions are decided, {least} are asked"));
    }
    coherent(j, golden, first, answer.text);
}

/// In a batch each sequence has the ids that it has alone, and the case's own is one of them.
pub(super) fn together(j: &mut Judgement, g: &Generation, runs: &[Vec<i32>], all: &[Beside]) {
    if g.beside == 0 {
        return;
    }
    let own = all.get(place(g.beside)).map(|sequence| &sequence.alone);
    if all.len() != g.beside + 1 || own != runs.first() {
        let message = format!("{} sequences, the case's own and {} beside it", all.len(), g.beside);
        return j.fail(FailKind::Shape, message);
    }
    for (i, sequence) in all.iter().enumerate() {
        let Beside { alone, together } = sequence;
        j.compared += together.len() as u64;
        if alone != together {
            let at = alone.iter().zip(together).position(|(a, b)| a != b);
            let at = at.unwrap_or(alone.len().min(together.len()));
            let message =
                format!("sequence {i} of {} has other ids than alone, from {at} on", all.len());
            return j.fail(FailKind::Bits, message);
        }
    }
}

/// Running free: ids agree up to the first difference, and that one is at an undecided position.
/// How many decided positions that compares.
fn free(j: &mut Judgement, golden: &ModelGolden, ids: &[i32], decides: &[bool]) -> usize {
    let differs = ids.iter().zip(&golden.greedy).position(|(a, b)| a != b);
    let upto = differs.unwrap_or(golden.greedy.len());
    match differs {
        Some(at) if decides[at] => {
            let (got, want) = (ids[at], golden.greedy[at]);
            let (margin, std) = (golden.margin[at], golden.std[at]);
            j.fail(
                FailKind::Bits,
                format!(
                    "token {at} is {got}, awaited {want}: the margin of {margin:.3} at a \
                     deviation of {std:.3} decides it"
                ),
            );
        }
        Some(at) => j.lines.push(format!("token {at} differs, and no margin decides it")),
        None => j.lines.push("every token is the golden's".to_owned()),
    }
    decides[..upto].iter().filter(|d| **d).count()
}

/// Along the golden's text: the first token of each decided position.
fn forced(j: &mut Judgement, golden: &ModelGolden, rows: &Rows, decides: &[bool]) {
    if rows.count() != golden.greedy.len() {
        let message = format!("{} rows along {} tokens", rows.count(), golden.greedy.len());
        return j.fail(FailKind::Shape, message);
    }
    j.compared += rows.numbers.len() as u64;
    for (at, (row, want)) in rows.iter().zip(&golden.greedy).enumerate() {
        if let Some(id) = row.iter().position(|x| !x.is_finite()) {
            return j.fail(FailKind::Nonfinite, format!("position {at}, id {id}: {}", row[id]));
        }
        let got = argmax(row);
        if decides[at] && i32::try_from(got) != Ok(*want) {
            let message = format!("along the golden's text, token {at} is {got}, awaited {want}");
            j.fail(FailKind::Bits, message);
        }
    }
}

/// No less likely under the reference than its own text by more than [`COHERENT`]; text without
/// broken letters and control characters.
fn coherent(j: &mut Judgement, golden: &ModelGolden, ids: &[i32], text: Option<&[u8]>) {
    let own = golden.logprob.iter().sum::<f64>() / golden.logprob.len() as f64;
    let known = match ids == golden.greedy {
        true => Some(own),
        false => golden.branches.iter().find(|(b, _)| b == ids).map(|(_, mean)| *mean),
    };
    match known {
        Some(mean) => j.hold("nats_below", (own - mean).max(0.0), COHERENT),
        None => {
            let message = "a text that the golden has no log-probability of";
            j.inconclusive.get_or_insert(message.to_owned());
        }
    }
    let Some(bytes) = text else { return };
    j.compared += bytes.len() as u64;
    if ids == golden.greedy && bytes != golden.text {
        j.fail(FailKind::Bits, "the same ids become another text".to_owned());
    }
    // The last letter may be cut where the tokens end.
    let cut = match std::str::from_utf8(bytes) {
        Err(e) => e.error_len().is_some(),
        Ok(_) => false,
    };
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if cut || String::from_utf8_lossy(bytes).contains(control) {
        let shown = String::from_utf8_lossy(bytes);
        j.fail(FailKind::Bits, format!("{shown:?} has broken letters or control characters"));
    }
}
