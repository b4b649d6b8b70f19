//! Judges texts: ids and bytes must be the same to the last one, and no piece of a stream may end
//! inside a code point.

use std::fmt::Write;

use similar::{ChangeTag, TextDiff};

use crate::kinds::tokens::case::{Check, TokenCase, Vector};

/// A subject's answer for one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The ids of the text.
    pub ids: Vec<i64>,
    /// The text of the expected ids.
    pub text: Vec<u8>,
    /// The text as streamed, with the number of bytes handed out after each id.
    pub stream: (Vec<u8>, Vec<i64>),
}

/// The first text that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its index in the list.
    pub at: usize,
    /// How many texts differ.
    pub of: usize,
    /// The difference in one line.
    pub message: String,
    /// Both sides, one line per item.
    pub diff: String,
}

/// The right answer.
pub fn perfect(vector: &Vector) -> Answer {
    let ids = vector.ids.iter().map(|id| i64::from(*id)).collect();
    let last = i64::try_from(vector.bytes.len()).unwrap_or(i64::MAX);
    let mut ends = vec![0; vector.ids.len()];
    // Everything is handed out with the last id, so no code point is cut.
    ends.iter_mut().last().into_iter().for_each(|end| *end = last);
    Answer { ids, text: vector.bytes.clone(), stream: (vector.bytes.clone(), ends) }
}

/// The first text that fails a check of the case.
pub fn judge(case: &TokenCase, answers: &[Answer]) -> Option<Difference> {
    let pairs = case.vectors.iter().zip(answers).enumerate();
    let mut wrong = pairs.filter_map(|(at, (v, a))| Some((at, differs(case, v, a)?)));
    // `zip` stops at the end of the shorter list, so missing answers would go unnoticed.
    if answers.len() != case.vectors.len() {
        let message = format!("{} answers to {} texts", answers.len(), case.vectors.len());
        return Some(Difference { at: 0, of: 1, message, diff: String::new() });
    }
    let (at, (message, diff)) = wrong.next()?;
    Some(Difference { at, of: 1 + wrong.count(), message, diff })
}

fn differs(case: &TokenCase, vector: &Vector, answer: &Answer) -> Option<(String, String)> {
    let asked = |check| case.checks.contains(&check);
    let want: Vec<i64> = vector.ids.iter().map(|id| i64::from(*id)).collect();
    let shown = shown(&vector.bytes);
    if asked(Check::Encode) && answer.ids != want {
        let message = format!("{shown} becomes other ids");
        return Some((message, ids_diff(&want, &answer.ids)));
    }
    // With special tokens or normalisation the text does not come back as it went in, but the
    // stream must still equal the whole.
    let back = case.special == goldgate_wire::Special::None;
    if asked(Check::Decode) && back && answer.text != vector.bytes {
        return Some((
            format!("{shown} does not come back"),
            bytes_diff(&vector.bytes, &answer.text),
        ));
    }
    if !asked(Check::Stream) {
        return None;
    }
    let (text, ends) = &answer.stream;
    if *text != answer.text {
        let message = format!("{shown} comes back differently when streamed");
        return Some((message, bytes_diff(&answer.text, text)));
    }
    let why = ends_wrong(text, ends, vector.ids.len())?;
    Some((format!("{shown}: {why}"), String::new()))
}

/// Checks that there is one end per id, that ends never go back, and that none lies inside a code
/// point.
fn ends_wrong(text: &[u8], ends: &[i64], ids: usize) -> Option<String> {
    // With another number of ends it would be open which id each of them belongs to.
    if ends.len() != ids {
        return Some(format!("{} ends for {ids} ids", ends.len()));
    }
    // Text that has been handed out cannot be taken back.
    if !ends.is_sorted() {
        return Some("an end before the one before it".to_owned());
    }
    let inside =
        |end: &&i64| usize::try_from(**end).map_or(true, |end| end > text.len() || cuts(text, end));
    ends.iter().find(inside).map(|end| format!("handed out up to byte {end}, inside a code point"))
}

/// Whether a byte offset lies inside a code point of the text.
fn cuts(text: &[u8], offset: usize) -> bool {
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        let valid = at + chunk.valid().len();
        // Inside valid text only the borders of characters are legal ends.
        if offset < valid {
            return !chunk.valid().is_char_boundary(offset - at);
        }
        at = valid + chunk.invalid().len();
        // Bytes that are not text are handed out as they are, so any end within them is legal.
        if offset < at {
            return false;
        }
    }
    false
}

/// A text on one line, shortened.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let begin: String = text.chars().take(40).collect();
    let more = if begin.len() < text.len() { "…" } else { "" };
    format!("{begin:?}{more}")
}

fn ids_diff(want: &[i64], got: &[i64]) -> String {
    let lines = |ids: &[i64]| ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    diff(&lines(want), &lines(got))
}

fn bytes_diff(want: &[u8], got: &[u8]) -> String {
    let lines = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}\n")).collect::<String>();
    diff(&lines(want), &lines(got))
}

/// The removed and added lines on one line, with a little context.
fn diff(want: &str, got: &str) -> String {
    let diff = TextDiff::from_lines(want, got);
    let mut text = String::new();
    // Bounded, because one early difference may shift everything after it.
    for group in diff.grouped_ops(3).iter().take(3) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Delete => "-",
                ChangeTag::Equal => "",
                ChangeTag::Insert => "+",
            };
            // Writing into a string cannot fail.
            let _ = write!(text, "{sign}{} ", change.value().trim_end());
        }
        text.push_str("… ");
    }
    text.chars().take(400).collect()
}

/// Tests the judge. Returns how many planted faults it detected, and of how many.
///
/// # Errors
/// It refused a right answer, or accepted a wrong one.
pub fn self_check(case: &TokenCase) -> Result<(u32, u32), String> {
    let right: Vec<Answer> = case.vectors.iter().map(perfect).collect();
    if let Some(found) = judge(case, &right) {
        return Err(format!("the awaited answer fails: {}", found.message));
    }
    let mut asked = 0;
    for (name, fault) in FAULTS {
        let Some(wrong) = plant(case, &right, *fault) else { continue };
        asked += 1;
        if judge(case, &wrong).is_none() {
            return Err(format!("an answer with {name} passes"));
        }
    }
    match asked {
        // A judge that no planted fault can reach has not been tested.
        0 => Err("no fault can be planted in any answer".to_owned()),
        n => Ok((n, n)),
    }
}

/// Plants a fault in one answer. Returns false if that would change nothing that is judged.
type Fault = fn(&TokenCase, &mut Answer) -> bool;

const FAULTS: &[(&str, Fault)] = &[
    ("one id changed", |case, a| {
        a.ids.iter_mut().last().is_some_and(|id| {
            *id += 1;
            case.checks.contains(&Check::Encode)
        })
    }),
    ("one id missing", |case, a| a.ids.pop().is_some() && case.checks.contains(&Check::Encode)),
    ("one id more", |case, a| {
        a.ids.push(0);
        case.checks.contains(&Check::Encode)
    }),
    ("one byte missing", |case, a| a.text.pop().is_some() && looks_back(case)),
    ("bytes that are no text replaced", |case, a| {
        let lossy = String::from_utf8_lossy(&a.text).into_owned().into_bytes();
        let changed = lossy != a.text;
        a.text = lossy;
        changed && looks_back(case)
    }),
    ("another text when streamed", |case, a| {
        a.stream.0.push(b'?');
        case.checks.contains(&Check::Stream)
    }),
    ("an end inside a code point", |case, a| {
        let inside = (0..a.stream.0.len()).find(|at| cuts(&a.stream.0, *at));
        let (Some(inside), Some(end)) = (inside, a.stream.1.last_mut()) else { return false };
        *end = i64::try_from(inside).unwrap_or(i64::MAX);
        case.checks.contains(&Check::Stream)
    }),
    ("one end missing", |case, a| {
        a.stream.1.pop().is_some() && case.checks.contains(&Check::Stream)
    }),
];

fn looks_back(case: &TokenCase) -> bool {
    let back = case.special == goldgate_wire::Special::None;
    // A text that is not compared with the original is compared with its stream.
    case.checks.contains(&Check::Decode) && back || case.checks.contains(&Check::Stream)
}

/// The answers with a fault in the first one that can have it.
fn plant(case: &TokenCase, right: &[Answer], fault: Fault) -> Option<Vec<Answer>> {
    let mut answers = right.to_vec();
    for (answer, right) in answers.iter_mut().zip(right) {
        if fault(case, answer) {
            return Some(answers);
        }
        answer.clone_from(right);
    }
    None
}
