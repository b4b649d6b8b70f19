//! Strict JSON that has only one meaning: no repeated key, no NaN, nothing after the value.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one JSON value and refuses objects with a repeated key.
///
/// # Errors
/// Everything that serde_json refuses (NaN and infinities included), and a repeated key.
pub fn read(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Not into `Value` directly: of two equal keys serde_json keeps the last and reports nothing.
    let value = Strict.deserialize(&mut deserializer)?;
    // Text after the value would otherwise be ignored silently.
    deserializer.end()?;
    Ok(value)
}

/// A JSON value read by [`read`], for use inside other types.
#[derive(Clone, Debug, PartialEq)]
pub struct StrictValue(pub Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StrictValue, D::Error> {
        Strict.deserialize(deserializer).map(StrictValue)
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without a key twice")
    }

    fn visit_bool<E>(self, x: bool) -> Result<Value, E> {
        Ok(Value::Bool(x))
    }

    fn visit_i64<E>(self, x: i64) -> Result<Value, E> {
        Ok(x.into())
    }

    fn visit_u64<E>(self, x: u64) -> Result<Value, E> {
        Ok(x.into())
    }

    fn visit_f64<E: Error>(self, x: f64) -> Result<Value, E> {
        // `Value::from` would turn a number that is not finite into null, which reads as absent.
        Number::from_f64(x).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, x: &str) -> Result<Value, E> {
        Ok(Value::String(x.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        // By the same rules: a repeated key inside a list is as ambiguous as one at the top.
        while let Some(item) = access.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            // Readers differ in which of two equal keys they take, so such an object is ambiguous.
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
            let value = access.next_value_seed(Strict)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_twice_is_refused_at_any_depth() {
        assert!(read(r#"{"a": 1, "b": [true, null, "x", -2, 0.5]}"#).is_ok());
        for bad in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "a": 2}}]"#] {
            assert!(read(bad).expect_err("twice").to_string().contains("stands twice"));
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["", "NaN", "[Infinity]", "1e400", "{} {}", "[1,]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
