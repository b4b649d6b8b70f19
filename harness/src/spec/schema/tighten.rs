//! What the types cannot express: which keys exclude each other, and which numbers and texts are
//! invalid. `rules.json` is a merge patch over the definitions; lists of words come from the code
//! that reads them, so that the two cannot differ.

use goldgate_engine::ops;
use goldgate_engine::tokenizer::split::Split;
use goldgate_tensor::Code;
use goldgate_wire::Special;
use goldgate_wire::arithmetic::{Place, Rounding};
use goldgate_wire::words::Claim;
use serde_json::{Map, Value, json};

use crate::kinds::container::bytes::types;
use crate::line::{FailKind, Profile, Role};

const RULES: &str = include_str!("rules.json");

/// A key that is replaced by an `enum` of the words that it names.
const WORDS: &str = "$words";

/// Texts that may be empty.
const MAY_BE_EMPTY: [&str; 4] = ["text", "by", "replace", "string"];

/// Applies all rules to the definitions.
pub(super) fn tighten(definitions: &mut Map<String, Value>) {
    // The text is compiled in, and a test parses it.
    let rules: Map<String, Value> = serde_json::from_str(RULES).unwrap_or_default();
    for (name, rule) in &rules {
        // A test makes sure that there is a definition for every rule.
        if let Some(definition) = definitions.get_mut(name) {
            merge(definition, rule);
        }
    }
    for definition in definitions.values_mut() {
        let Some(Value::Object(properties)) = definition.get_mut("properties") else { continue };
        for (name, property) in properties {
            // These keys mean the same in every kind of file, so their rules are written once.
            everywhere(name, property);
        }
    }
}

/// Constrains properties that mean the same in every definition.
fn everywhere(name: &str, property: &mut Value) {
    let Value::Object(map) = property else { return };
    let is = |map: &Map<String, Value>, word: &str| map.get("type").is_some_and(|t| t == word);
    if name == "format" && is(map, "integer") {
        limit(map, "const", json!(1));
    } else if name == "gate" && is(map, "integer") {
        limit(map, "enum", json!([1, 2, 3]));
    } else if is(map, "string")
        && !map.contains_key("pattern")
        && !map.contains_key("enum")
        && !MAY_BE_EMPTY.contains(&name)
    {
        map.insert("minLength".into(), 1.into());
    }
}

fn limit(map: &mut Map<String, Value>, key: &str, value: Value) {
    // The bounds of the Rust type are wider than the rule that replaces them.
    for key in ["format", "minimum", "maximum"] {
        map.shift_remove(key);
    }
    map.insert(key.into(), value);
}

/// Applies a merge patch by RFC 7396, extended by [`WORDS`].
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        match value {
            // In a merge patch (RFC 7396) null removes a key.
            Value::Null => drop(map.shift_remove(key)),
            Value::String(name) if key == WORDS => {
                map.insert("enum".into(), words(name).into());
            }
            value => merge(map.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

fn roundings(offered: impl Fn(&Rounding) -> bool) -> Vec<&'static str> {
    Rounding::ALL.iter().filter(|r| offered(r)).map(|r| r.name()).collect()
}

/// The words of one kind, as they are read.
fn words(kind: &str) -> Vec<&'static str> {
    match kind {
        "ops" => ops::ALL.iter().map(|op| op.signature().name).collect(),
        "stored" => types(),
        "codes" => Code::ALL.iter().map(|code| code.as_str()).collect(),
        "special" => Special::ALL.iter().map(|special| special.name()).collect(),
        "roles" => Role::ALL.map(Role::word).to_vec(),
        "profiles" => Profile::ALL.map(Profile::word).to_vec(),
        "places" => Place::ALL.map(Place::name).to_vec(),
        "roundings" => roundings(|r| !matches!(r, Rounding::Int8(_))),
        "roundings_of_x" => roundings(|_| true),
        "claims" => Claim::ALL.iter().map(|claim| claim.name()).collect(),
        "fails" => FailKind::ALL.iter().map(|kind| kind.word()).collect(),
        "vocabulary" => {
            let own = ["bos_twice", "merges_reversed"].into_iter();
            own.chain(Split::ALL.iter().map(|split| split.name())).collect()
        }
        // A test refuses an empty list, so a name that is unknown here does not pass.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::schema::definitions;

    /// A rule of what is no more would bind nothing; a property that only a rule knows says what
    /// it is.
    #[test]
    fn every_rule_has_its_place() {
        let rules: Map<String, Value> = serde_json::from_str(RULES).expect("an object");
        let (definitions, _) = definitions();
        for (name, rule) in &rules {
            let definition = definitions.get(name).unwrap_or_else(|| panic!("no {name}"));
            let Some(Value::Object(properties)) = rule.get("properties") else { continue };
            for (key, rule) in properties {
                let there = !definition["properties"][key].is_null();
                assert!(there || rule["description"].is_string(), "{name}.{key}");
            }
        }
    }

    #[test]
    fn every_list_of_words_has_some() {
        let mut rest = RULES;
        let mut found = 0;
        while let Some((_, after)) = rest.split_once("\"$words\": \"") {
            let (kind, after) = after.split_once('"').expect("a text");
            assert!(!words(kind).is_empty(), "{kind}");
            (rest, found) = (after, found + 1);
        }
        assert!(found >= 7, "{found}");
    }
}
