//! Generated text: the ids must be the same wherever the golden's margin decides, in every run, and
//! end where and why the rules say; and the text must be valid text.

use std::collections::BTreeSet;

use crate::kinds::model::ask::Written;
use crate::kinds::model::ask::alongside::{Alongside, place};
use crate::kinds::model::case::Generation;
use crate::kinds::model::class::{Class, argmax};
use crate::kinds::model::golden::{ModelGolden, Rows};
use crate::kinds::model::judge::Findings;
use crate::line::FailKind;

/// The least number of runs from which the driver's count after the last is compared with that
/// after the first. So many runs reveal what a single one leaks; fewer would rather reveal what
/// else runs on the card.
pub const MANY: u32 = 100;

/// How far a text's mean log-probability may lie below that of the reference, in nats.
pub const COHERENT: f64 = 0.05;

pub(super) fn judge(
    j: &mut Findings,
    class: Class,
    golden: &ModelGolden,
    g: &Generation,
    answer: &Written,
) {
    let Some(first) = answer.runs.first() else {
        return j.fail(FailKind::Shape, "no run".to_owned());
    };
    j.compared += first.len() as u64;
    if first.len() > g.max_tokens {
        let message = format!("{} tokens, {} were asked for", first.len(), g.max_tokens);
        return j.fail(FailKind::Shape, message);
    }
    // Another generator draws other tokens, so the golden's ids mean nothing for it.
    if answer.own_draws {
        if !g.has_stops() && first.len() != golden.handed_out {
            j.fail(
                FailKind::Shape,
                format!("{} tokens, awaited {}", first.len(), golden.handed_out),
            );
        }
        // Its length alone says nothing about what was drawn.
        j.inconclusive = Some("drawn by a generator of its own".to_owned());
        return;
    }
    let decides: Vec<bool> =
        golden.margin.iter().zip(&golden.std).map(|(m, s)| class.decides(*m, *s)).collect();
    let mut decided = free(j, golden, g, (first, answer.stop.as_deref()), &decides);
    // Along the golden's text every position is compared, also those after a legal difference.
    if let Some(rows) = &answer.forced {
        forced(j, golden, rows, &decides);
        decided = decides.iter().filter(|d| **d).count();
    }
    let share = decided as f64 / golden.chosen.len() as f64;
    j.figures.insert("decided".to_owned(), share);
    // A text that hardly decides anything would pass with almost any answer.
    if share < g.decided_at_least {
        let least = g.decided_at_least;
        j.inconclusive =
            Some(format!("{share:.2} of the positions are decided, {least} are asked"));
    }
    let as_expected = *first == golden.chosen[..golden.handed_out];
    if as_expected {
        ended(j, golden, g, answer.stop.as_deref());
    }
    coherent(j, golden, first);
    texts(j, golden, g, (as_expected, answer));
}

/// Checks that there are as many runs as requested, all with the same ids, and that no memory
/// leaks.
pub(super) fn repeated(j: &mut Findings, g: &Generation, answer: &Written) {
    j.compared += answer.runs.iter().map(|run| run.len() as u64).sum::<u64>();
    let distinct: BTreeSet<&Vec<i32>> = answer.runs.iter().collect();
    j.figures.insert("distinct".to_owned(), distinct.len() as f64);
    if answer.runs.len() != g.repeat as usize {
        j.fail(FailKind::Shape, format!("{} runs, {} were asked for", answer.runs.len(), g.repeat));
    }
    if distinct.len() > 1 {
        let message = format!("{} different texts in {} runs", distinct.len(), answer.runs.len());
        j.fail(FailKind::Nondeterministic, message);
    }
    match answer.used[..] {
        _ if g.repeat < MANY => {}
        [one, .., last] if last > one => {
            let message = format!("{one} bytes in use after the first run, {last} after the last");
            j.fail(FailKind::Leak, message);
        }
        [_, .., _] => {}
        _ => j.unseen.push("memory"),
    }
}

/// Checks that each sequence of a batch has the ids that it has alone, and that the case's own is
/// one of them.
pub(super) fn together(j: &mut Findings, g: &Generation, answer: &Written) {
    if g.beside == 0 {
        return;
    }
    let all = &answer.alongside;
    let own = all.get(place(g.beside)).map(|sequence| &sequence.alone);
    if all.len() != g.beside + 1 || own != answer.runs.first() {
        let message = format!("{} sequences, the case's own and {} beside it", all.len(), g.beside);
        return j.fail(FailKind::Shape, message);
    }
    for (i, sequence) in all.iter().enumerate() {
        let Alongside { alone, together } = sequence;
        j.compared += together.len() as u64;
        if alone != together {
            let at = alone.iter().zip(together).position(|(a, b)| a != b);
            // Equal as far as both go: then the shorter one ended early.
            let at = at.unwrap_or(alone.len().min(together.len()));
            let message =
                format!("sequence {i} of {} has other ids than alone, from {at} on", all.len());
            return j.fail(FailKind::Bits, message);
        }
    }
}

/// Judges a free run: ids must agree up to the first difference, and that must be at an undecided
/// position. Returns how many decided positions were compared.
fn free(
    j: &mut Findings,
    golden: &ModelGolden,
    g: &Generation,
    (ids, stop): (&[i32], Option<&str>),
    decides: &[bool],
) -> usize {
    let (chosen, handed_out) = (&golden.chosen, golden.handed_out);
    let at = ids.iter().zip(&chosen[..handed_out]).take_while(|(a, b)| a == b).count();
    // After a legal difference the text may reach an end that the golden's text does not have.
    let ended_early = matches!(stop, Some("eos" | "stop")) && g.has_stops();
    let why = match (ids.get(at), chosen.get(at)) {
        (None, _) if at == handed_out => {
            j.lines.push("every token is the golden's".to_owned());
            return decides.iter().filter(|d| **d).count();
        }
        (None, _) => Err((!ended_early).then(|| format!("{at} tokens, awaited {handed_out}"))),
        (Some(_), None) => Err(Some(format!("{} tokens, awaited {handed_out}", ids.len()))),
        // The token that ends a text is chosen but never handed out.
        (Some(got), Some(want)) if at == handed_out && got == want => {
            Ok(format!("token {at}, {got}, ends the text and is handed out"))
        }
        (Some(got), Some(want)) => {
            let (margin, std) = (golden.margin[at], golden.std[at]);
            let other = ids.len() != handed_out && !g.has_stops();
            let wrong_length = || format!("{} tokens, awaited {handed_out}", ids.len());
            match decides[at] {
                true => Ok(format!(
                    "token {at} is {got}, awaited {want}: the margin of {margin:.3} at a \
                     deviation of {std:.3} decides it"
                )),
                false => Err(other.then(wrong_length)),
            }
        }
    };
    match why {
        Ok(bits) => j.fail(FailKind::Bits, bits),
        Err(Some(length)) => j.fail(FailKind::Shape, length),
        Err(None) if decides.get(at) == Some(&true) => {
            j.fail(FailKind::Shape, format!("{at} tokens, and {handed_out} are decided"));
        }
        // After a legal difference the two texts go different ways, so the rest is not compared.
        Err(None) => j.notes.push(format!("token {at} differs, and no margin decides it")),
    }
    decides[..at].iter().filter(|d| **d).count()
}

/// Checks the reason why a text ended, if its ids are the golden's.
fn ended(j: &mut Findings, golden: &ModelGolden, g: &Generation, stop: Option<&str>) {
    match stop {
        Some(stop) if stop == golden.stop => j.compared += 1,
        Some(stop) => {
            j.fail(FailKind::Bits, format!("it ended by {stop}, awaited {}", golden.stop));
        }
        None if g.has_stops() => j.fail(FailKind::Shape, "no stop in the answer".to_owned()),
        None => j.unseen.push("stop"),
    }
}

/// Checks the first token at each decided position along the golden's text.
fn forced(j: &mut Findings, golden: &ModelGolden, rows: &Rows, decides: &[bool]) {
    if rows.count() != golden.chosen.len() {
        let message = format!("{} rows along {} tokens", rows.count(), golden.chosen.len());
        return j.fail(FailKind::Shape, message);
    }
    j.compared += rows.numbers.len() as u64;
    for (at, (row, want)) in rows.iter().zip(&golden.chosen).enumerate() {
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

/// Checks that the text is not less likely under the reference than the reference's own by more
/// than [`COHERENT`]. This applies to greedy texts without an end only: draws may be unlikely, and
/// only such texts have branches in the golden.
fn coherent(j: &mut Findings, golden: &ModelGolden, ids: &[i32]) {
    if golden.branches.is_empty() {
        return;
    }
    let own = golden.logprob.iter().sum::<f64>() / golden.logprob.len() as f64;
    let known = match ids == golden.chosen {
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
}

/// Checks that the text is the golden's bytes, both as reported and as decoded from the ids, and
/// that it has no broken or control characters.
fn texts(
    j: &mut Findings,
    golden: &ModelGolden,
    g: &Generation,
    (as_expected, answer): (bool, &Written),
) {
    if answer.reported.is_none() && !g.stop.is_empty() {
        return j.fail(FailKind::Shape, "no text in the answer".to_owned());
    }
    // Other ids legally give another text, so bytes are compared only under the golden's ids.
    let known = as_expected && (!golden.text.is_empty() || !g.stop.is_empty());
    let bare = answer.bare.as_ref().unwrap_or(&golden.text);
    for (bytes, want) in [(&answer.text, &golden.text), (&answer.reported, bare)] {
        let Some(bytes) = bytes else { continue };
        j.compared += bytes.len() as u64;
        if known && bytes != want {
            let (got, want) = (String::from_utf8_lossy(bytes), String::from_utf8_lossy(want));
            j.fail(FailKind::Bits, format!("the same ids are handed out as {got:?}, not {want:?}"));
        }
        // The last character may be cut where the tokens end.
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
}
