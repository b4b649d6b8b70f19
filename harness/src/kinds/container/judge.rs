//! Judging what a subject says of a file: the right refusal at the right place, within its budget.

use goldgate_tensor::Code;
use serde_json::{Value, json};

use crate::kinds::container::case::Awaits;
use crate::line::{FailKind, Verdict};

/// The most processor time for a file of at most a MiB, in µs.
const TIME_US: u64 = 50_000;
/// The most memory held meanwhile, bytes.
const PEAK: u64 = 16 << 20;

/// A verdict on one answer, and what else is to be said of it.
///
/// `key` is the kind of answer (`ok`, `refused` …), `length` the bytes of all files. A foreign
/// subject may name code and place in its own way; ours must name all, and say what it took.
pub fn judge(
    awaits: &Awaits,
    (key, body): (&str, &Value),
    length: u64,
    ours: bool,
) -> (Verdict, Vec<String>) {
    let fail = |kind, message: String| (Verdict::Fail { kind, message }, Vec::new());
    let mut notes = Vec::new();
    match (awaits, key) {
        (Awaits::Refused { code, .. }, "ok") => {
            return fail(FailKind::NotRefused, format!("opened; must be refused as {code}"));
        }
        (Awaits::Refused { code, offset, field }, "refused") => {
            if let Err(why) = place(body, *code, *offset, field.as_deref()) {
                if ours {
                    return fail(FailKind::WrongRefusal, why);
                }
                notes.push(why);
            }
        }
        (Awaits::Opened { .. }, "refused") => {
            let said = body["message"].as_str().unwrap_or_default();
            return fail(FailKind::WrongRefusal, format!("refused a good file: {said}"));
        }
        (Awaits::Opened { warns: Some(text) }, "ok") if ours => {
            let list = body["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !list.iter().any(|w| w.as_str().is_some_and(|w| w.contains(text))) {
                return fail(FailKind::NotRefused, format!("no warning of {text:?}: {list:?}"));
            }
        }
        (Awaits::Opened { .. }, "ok") => {}
        (_, other) => return fail(FailKind::Internal, format!("{other}: {body}")),
    }
    match budget(&body["observed"], length) {
        Ok(()) => (Verdict::Pass, notes),
        Err((true, why)) if !ours => {
            notes.push(why);
            (Verdict::Pass, notes)
        }
        Err((_, why)) => fail(FailKind::Load, why),
    }
}

/// Kind, code, byte and field of a refusal.
fn place(body: &Value, code: Code, offset: Option<u64>, field: Option<&str>) -> Result<(), String> {
    let said = body["message"].as_str().unwrap_or_default();
    let (kind, found) = (body["kind"].as_str(), body["code"].as_str());
    if kind != Some("Malformed") || found != Some(code.as_str()) {
        let found = found.or(kind).unwrap_or("nothing");
        return Err(format!("refused as {found}, must be {code} ({said})"));
    }
    if offset.is_some() && body["offset"].as_u64() != offset {
        let offset = offset.unwrap_or_default();
        return Err(format!("refused at {}, must be at {offset} ({said})", body["offset"]));
    }
    match field {
        Some(field) if body["field"].as_str() != Some(field) => {
            Err(format!("refused {}, must be {field} ({said})", body["field"]))
        }
        _ => Ok(()),
    }
}

/// What it took, as far as it was observed: whether a figure is missing, and what is wrong.
fn budget(observed: &Value, length: u64) -> Result<(), (bool, String)> {
    let request = length.saturating_mul(2).max(64 << 10);
    let mut limits = vec![("largest_request", request), ("peak_bytes", PEAK.max(request))];
    if length <= 1 << 20 {
        limits.push(("cpu_us", TIME_US));
    }
    for (name, most) in limits {
        match observed[name].as_u64() {
            None => return Err((true, format!("{name} is not observed"))),
            Some(found) if found > most => {
                return Err((false, format!("{name} is {found}, at most {most} are allowed")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Puts the judge on trial on what this case awaits.
///
/// # Errors
/// What it let through, or did not let through.
pub fn self_check(awaits: &Awaits) -> Result<(), String> {
    let passes = |key: &str, body: &Value| judge(awaits, (key, body), 100, true).0 == Verdict::Pass;
    let (key, perfect) = perfect(awaits);
    if !passes(key, &perfect) {
        return Err("what is awaited does not pass".to_owned());
    }
    let with = |name: &str, value: Value| {
        let mut body = perfect.clone();
        body[name] = value;
        body
    };
    let large = json!({"largest_request": 65_537, "peak_bytes": 65_537, "cpu_us": 0});
    let slow = json!({"largest_request": 0, "peak_bytes": 0, "cpu_us": 50_001});
    let mut faults = vec![
        ("a request above the budget", key, with("observed", large)),
        ("an answer that took too long", key, with("observed", slow)),
        ("an answer that says nothing of its budget", key, with("observed", json!({}))),
        ("a crash", "failed", json!({"class": "internal"})),
    ];
    match awaits {
        Awaits::Refused { code, offset, field } => {
            let other = Code::ALL.iter().find(|c| *c != code).copied().unwrap_or(*code);
            faults.push(("another code", "refused", with("code", other.as_str().into())));
            faults.push(("another kind", "refused", with("kind", "NotSupported".into())));
            faults.push(("a file that opens", "ok", with("code", Value::Null)));
            if let Some(offset) = offset {
                faults.push(("another byte", "refused", with("offset", (offset + 1).into())));
            }
            if field.is_some() {
                faults.push(("another field", "refused", with("field", "another".into())));
            }
        }
        Awaits::Opened { warns } => {
            faults.push(("a refusal", "refused", with("kind", "Malformed".into())));
            if warns.is_some() {
                faults.push(("no warning", "ok", with("warnings", json!([]))));
            }
        }
    }
    match faults.iter().find(|(_, key, body)| passes(key, body)) {
        Some((what, ..)) => Err(format!("{what} passes")),
        None => Ok(()),
    }
}

/// The answer that is awaited.
fn perfect(awaits: &Awaits) -> (&'static str, Value) {
    let observed = json!({"largest_request": 65_536, "peak_bytes": 65_536, "cpu_us": 50_000});
    match awaits {
        Awaits::Refused { code, offset, field } => (
            "refused",
            json!({"kind": "Malformed", "code": code.as_str(), "offset": offset, "field": field,
                   "observed": observed}),
        ),
        Awaits::Opened { warns } => {
            ("ok", json!({"warnings": warns.iter().collect::<Vec<_>>(), "observed": observed}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_stands_its_own_trial() {
        let field = Some("kv_count".to_owned());
        let refused = Awaits::Refused { code: Code::Count, offset: Some(16), field };
        assert_eq!(self_check(&refused), Ok(()));
        let loose = Awaits::Refused { code: Code::Truncated, offset: None, field: None };
        assert_eq!(self_check(&loose), Ok(()));
        for warns in [None, Some("alignment".to_owned())] {
            assert_eq!(self_check(&Awaits::Opened { warns }), Ok(()));
        }
    }

    #[test]
    fn a_foreign_subject_must_refuse_and_may_do_so_in_its_own_words() {
        let awaits = Awaits::Refused { code: Code::Count, offset: Some(16), field: None };
        let body = json!({"kind": "ValueError"});
        let (verdict, notes) = judge(&awaits, ("refused", &body), 10, false);
        assert_eq!((verdict, notes.len()), (Verdict::Pass, 2));
        let (verdict, _) = judge(&awaits, ("ok", &json!({})), 10, false);
        assert!(matches!(verdict, Verdict::Fail { kind: FailKind::NotRefused, .. }));
        let large = json!({"kind": "X", "observed": {"largest_request": 70_000}});
        let (verdict, _) = judge(&awaits, ("refused", &large), 10, false);
        assert!(matches!(verdict, Verdict::Fail { kind: FailKind::Load, .. }));
    }
}
