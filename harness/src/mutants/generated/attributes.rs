//! Changes of a question's attributes.

use goldgate_engine::ops::signature::{Rule, Signature};
use serde_json::{Map, Value, json};

use crate::mutants::generated::fault::Nudge;

/// The attributes with the value of one, or of one key of it, changed; none where the question
/// leaves nothing to change: an attribute that is derived, or a value beyond its range.
pub fn nudged(
    signature: &Signature,
    given: &Map<String, Value>,
    (name, key): (&str, Option<&str>),
    nudge: &Nudge,
) -> Option<Map<String, Value>> {
    let rule = signature.attributes.iter().find(|a| a.name == name)?.rule;
    let mut changed = given.clone();
    if let Some(key) = key {
        let number = changed.get_mut(name)?.get_mut(key)?;
        *number = real(number.as_f64()?, nudge)?;
        return Some(changed);
    }
    if *nudge == Nudge::Remove {
        // An absent object and null are the same question.
        return changed.remove(name).filter(|value| !value.is_null()).map(|_| changed);
    }
    let given = given.get(name).filter(|value| !value.is_null());
    let value = match rule {
        Rule::Real { low, closed, high, default } => {
            let x = given.and_then(Value::as_f64).or(default)?;
            let value = real(x, nudge)?;
            let x = value.as_f64()?;
            (x <= high && (x > low || closed && x == low)).then_some(value)?
        }
        // Only where it is given: to turn on what a question does not use is another question.
        Rule::Int { low, high, .. } => {
            let x = given?.as_i64()?;
            let x = match nudge {
                Nudge::Add(by) => x.checked_add(*by)?,
                Nudge::Wrap(bits) => x & ((1i64 << bits) - 1),
                _ => return None,
            };
            (low..=high).contains(&x).then(|| json!(x))?
        }
        Rule::Flag { default } => json!(!given.and_then(Value::as_bool).unwrap_or(default)),
        Rule::Choice { default, .. } => match nudge {
            Nudge::Word(word) if given.and_then(Value::as_str).or(default) != Some(word) => {
                json!(word)
            }
            _ => return None,
        },
        Rule::Object => return None,
    };
    changed.insert(name.to_owned(), value);
    Some(changed)
}

fn real(x: f64, nudge: &Nudge) -> Option<Value> {
    let single = x as f32;
    let x = match nudge {
        Nudge::Next(true) => single.next_up(),
        Nudge::Next(false) => single.next_down(),
        Nudge::Times(by) => (f64::from(single) * by) as f32,
        _ => return None,
    };
    // An attribute that was left out is NaN here, because the op computes its value from others:
    // there is no number to change.
    x.is_finite().then(|| json!(f64::from(x)))
}
