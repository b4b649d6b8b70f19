//! Judges what a subject reports about a file: the right refusal at the right place, within the
//! budget.

use goldgate_tensor::Code;
use goldgate_wire::Observed;
use goldgate_wire::answer::{FilePlace, Refused};
use goldgate_wire::call::Inspected;
use serde_json::{Map, json};

use crate::kinds::container::case::FileExpectation;
use crate::line::{FailKind, Reply, Verdict};

/// What a subject reported about a file.
pub type InspectReply = Reply<Inspected>;

/// The most processor time in µs for a file of at most 1 MiB.
const TIME_US: u64 = 50_000;
/// The most memory in bytes that may be held meanwhile.
const PEAK: u64 = 16 << 20;

/// What a subject observed about itself while it read a file.
pub fn observed(reply: &InspectReply) -> Observed {
    match reply {
        Reply::Ok(inspected) => inspected.observed.clone(),
        Reply::Refused(refused) => refused.observed.clone().unwrap_or_default(),
    }
}

/// The verdict on one answer, with remarks.
///
/// `length` is the size of all files in bytes. A foreign subject may name code and place in its own
/// way; our own must name all of them and report what it used.
pub fn judge(
    expected: &FileExpectation,
    reply: &InspectReply,
    length: u64,
    ours: bool,
) -> (Verdict, Vec<String>) {
    let fail = |kind, message: String| (Verdict::Fail { kind, message }, Vec::new());
    let mut notes = Vec::new();
    match (expected, reply) {
        (FileExpectation::Refused { code, .. }, Reply::Ok(_)) => {
            return fail(FailKind::NotRefused, format!("opened; must be refused as {code}"));
        }
        (FileExpectation::Refused { code, offset, field }, Reply::Refused(refused)) => {
            if let Err(why) = place(refused, *code, *offset, field.as_deref()) {
                // A foreign subject may refuse in its own words; ours must say where the fault is.
                if ours {
                    return fail(FailKind::WrongRefusal, why);
                }
                notes.push(why);
            }
        }
        (FileExpectation::Opened { .. }, Reply::Refused(refused)) => {
            let message = format!("refused a good file: {}", refused.message);
            return fail(FailKind::WrongRefusal, message);
        }
        // Warnings are in the words of our own engine, so no other subject is held to them.
        (FileExpectation::Opened { warns: Some(text) }, Reply::Ok(inspected)) if ours => {
            let list = inspected.warnings();
            if !list.iter().any(|warning| warning.contains(text)) {
                return fail(FailKind::NotRefused, format!("no warning of {text:?}: {list:?}"));
            }
        }
        (FileExpectation::Opened { .. }, Reply::Ok(_)) => {}
    }
    match budget(&observed(reply), length) {
        Ok(()) => (Verdict::Pass, notes),
        // A foreign subject need not observe itself, but the row must show that it did not.
        Err((true, why)) if !ours => {
            notes.push(why);
            (Verdict::Pass, notes)
        }
        Err((_, why)) => fail(FailKind::Load, why),
    }
}

/// Compares kind, code, byte and field of a refusal.
fn place(
    refused: &Refused,
    code: Code,
    offset: Option<u64>,
    field: Option<&str>,
) -> Result<(), String> {
    let message = &refused.message;
    let at = match &refused.file {
        Some(at) if refused.kind == "Malformed" && at.code == code.as_str() => at,
        _ => {
            let found = Some(refused.word()).filter(|word| !word.is_empty()).unwrap_or("nothing");
            return Err(format!("refused as {found}, must be {code} ({message})"));
        }
    };
    // What a case leaves out may be anything.
    if let Some(offset) = offset.filter(|offset| at.offset != Some(*offset)) {
        let found = at.offset.map_or_else(|| "no byte".to_owned(), |byte| byte.to_string());
        return Err(format!("refused at {found}, must be at {offset} ({message})"));
    }
    match field {
        Some(field) if at.field != field => {
            Err(format!("refused {:?}, must be {field} ({message})", at.field))
        }
        _ => Ok(()),
    }
}

/// Compares the observed usage with the budget. The error tells whether a figure is merely missing,
/// and what is wrong.
fn budget(observed: &Observed, length: u64) -> Result<(), (bool, String)> {
    // A larger request can only come from trusting a length that the file states.
    let request = length.saturating_mul(2).max(64 << 10);
    // The time limit holds for files of at most 1 MiB, because time grows with the size.
    let time = (length <= 1 << 20).then_some(("cpu_us", observed.cpu_us, TIME_US));
    let limits = [
        ("largest_request", observed.largest_request, request),
        ("peak_bytes", observed.peak_bytes, PEAK.max(request)),
    ];
    for (name, found, most) in limits.into_iter().chain(time) {
        match found {
            None => return Err((true, format!("{name} is not observed"))),
            Some(found) if found > most => {
                return Err((false, format!("{name} is {found}, at most {most} are allowed")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Tests the judge on the outcome that this case expects.
///
/// # Errors
/// A fault that it accepted, or a right answer that it refused.
pub fn self_check(expected: &FileExpectation) -> Result<(), String> {
    let passes = |reply: &InspectReply| judge(expected, reply, 100, true).0 == Verdict::Pass;
    let perfect = perfect(expected);
    if !passes(&perfect) {
        return Err("what is awaited does not pass".to_owned());
    }
    let observing = |largest_request, cpu_us| Observed {
        largest_request,
        peak_bytes: largest_request,
        cpu_us,
        ..Observed::default()
    };
    let with = |observed| match perfect.clone() {
        Reply::Ok(inspected) => Reply::Ok(Inspected { observed, ..inspected }),
        Reply::Refused(refused) => {
            Reply::Refused(Box::new(Refused { observed: Some(observed), ..*refused }))
        }
    };
    // Just above each limit, so that a judge with a looser one is noticed.
    let mut faults = vec![
        ("a request above the budget", with(observing(Some(65_537), Some(0)))),
        ("an answer that took too long", with(observing(Some(0), Some(50_001)))),
        ("an answer that says nothing of its budget", with(Observed::default())),
    ];
    match &perfect {
        Reply::Refused(refused) => faults.extend(misplaced(refused)),
        Reply::Ok(inspected) => {
            let kind = "Malformed".to_owned();
            let observed = Some(inspected.observed.clone());
            let refused = Refused { kind, observed, ..Refused::default() };
            faults.push(("a refusal", Reply::Refused(Box::new(refused))));
            if !inspected.warnings().is_empty() {
                let quiet = Inspected { facts: Map::new(), ..inspected.clone() };
                faults.push(("no warning", Reply::Ok(quiet)));
            }
        }
    }
    match faults.iter().find(|(_, reply)| passes(reply)) {
        Some((what, ..)) => Err(format!("{what} passes")),
        None => Ok(()),
    }
}

/// The expected refusal with one part wrong each, as far as that part is expected.
fn misplaced(perfect: &Refused) -> Vec<(&'static str, InspectReply)> {
    let Some(at) = &perfect.file else { return Vec::new() };
    let elsewhere =
        |file: FilePlace| Reply::Refused(Box::new(Refused { file: Some(file), ..perfect.clone() }));
    // Any code but the right one will do: the judge must compare codes, not look for one.
    let other = Code::ALL.iter().map(|code| code.as_str()).find(|code| *code != at.code);
    let code = other.unwrap_or_default().to_owned();
    let kind = Refused { kind: "NotSupported".to_owned(), ..perfect.clone() };
    let observed = perfect.observed.clone().unwrap_or_default();
    let mut faults = vec![
        ("another code", elsewhere(FilePlace { code, ..at.clone() })),
        ("another kind", Reply::Refused(Box::new(kind))),
        ("a file that opens", Reply::Ok(Inspected { observed, ..Inspected::default() })),
    ];
    if let Some(offset) = at.offset {
        let place = FilePlace { offset: Some(offset + 1), ..at.clone() };
        faults.push(("another byte", elsewhere(place)));
    }
    if !at.field.is_empty() {
        let place = FilePlace { field: "another".to_owned(), ..at.clone() };
        faults.push(("another field", elsewhere(place)));
    }
    faults
}

/// The expected answer.
fn perfect(expected: &FileExpectation) -> InspectReply {
    // Exactly at each limit, so that a judge with a stricter one is noticed.
    let observed = Observed {
        largest_request: Some(65_536),
        peak_bytes: Some(65_536),
        cpu_us: Some(50_000),
        ..Observed::default()
    };
    match expected {
        FileExpectation::Refused { code, offset, field } => {
            let place = FilePlace {
                code: code.as_str().to_owned(),
                offset: *offset,
                field: field.clone().unwrap_or_default(),
                ..FilePlace::default()
            };
            Reply::Refused(Box::new(Refused {
                kind: "Malformed".to_owned(),
                file: Some(place),
                observed: Some(observed),
                ..Refused::default()
            }))
        }
        FileExpectation::Opened { warns } => {
            let warnings = json!(warns.iter().collect::<Vec<_>>());
            let facts = Map::from_iter([("warnings".to_owned(), warnings)]);
            Reply::Ok(Inspected { facts, observed, need: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_stands_its_own_trial() {
        let field = Some("kv_count".to_owned());
        let refused = FileExpectation::Refused { code: Code::Count, offset: Some(16), field };
        assert_eq!(self_check(&refused), Ok(()));
        let loose = FileExpectation::Refused { code: Code::Truncated, offset: None, field: None };
        assert_eq!(self_check(&loose), Ok(()));
        for warns in [None, Some("alignment".to_owned())] {
            assert_eq!(self_check(&FileExpectation::Opened { warns }), Ok(()));
        }
    }

    #[test]
    fn a_foreign_subject_must_refuse_and_may_do_so_in_its_own_words() {
        let expected =
            FileExpectation::Refused { code: Code::Count, offset: Some(16), field: None };
        let refused =
            |body| Reply::Refused(Box::new(Refused::read(&body).expect("a refusal that is one")));
        let (verdict, notes) = judge(&expected, &refused(json!({"kind": "ValueError"})), 10, false);
        assert_eq!((verdict, notes.len()), (Verdict::Pass, 2));
        let (verdict, _) = judge(&expected, &Reply::Ok(Inspected::default()), 10, false);
        assert!(matches!(verdict, Verdict::Fail { kind: FailKind::NotRefused, .. }));
        let large = json!({"kind": "X", "observed": {"largest_request": 70_000}});
        let (verdict, _) = judge(&expected, &refused(large), 10, false);
        assert!(matches!(verdict, Verdict::Fail { kind: FailKind::Load, .. }));
    }
}
