//! Attributes: read once against the signature, then typed and never missing.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Refusal, RefusalKind as Kind};
use crate::ops::signature::{Attribute, Rule, Signature};

/// An attribute as read.
#[derive(Clone, Debug, PartialEq)]
enum Read {
    Real(f64),
    Int(i64),
    Word(&'static str),
    Flag(bool),
    Object(Value),
}

/// The attributes of one question, with defaults filled in. Real ones are f32 values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(BTreeMap<&'static str, Read>);

impl Attributes {
    /// Reads `given` by the rules of `signature`.
    ///
    /// # Errors
    /// An unknown attribute, a missing one, or one out of range.
    pub fn read(
        signature: &'static Signature,
        given: &Map<String, Value>,
    ) -> Result<Attributes, Refusal> {
        for name in given.keys() {
            if !signature.attributes.iter().any(|a| a.name == name) {
                let known: Vec<_> = signature.attributes.iter().map(|a| a.name).collect();
                let message = format!("{} knows {}", signature.name, known.join(", "));
                return Err(Refusal::new(Kind::AttributeUnknown, name, message));
            }
        }
        let mut read = BTreeMap::new();
        for attribute in signature.attributes {
            if let Some(value) = read_one(attribute, given.get(attribute.name))? {
                read.insert(attribute.name, value);
            }
        }
        Ok(Attributes(read))
    }

    /// A real attribute; NaN where the op derives it and it was absent.
    ///
    /// # Panics
    /// If the signature has no real attribute of that name.
    pub fn real(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Read::Real(x)) => *x,
            other => panic!("{name} is {other:?}, not real"),
        }
    }

    /// A whole attribute.
    ///
    /// # Panics
    /// If the signature has none of that name.
    pub fn int(&self, name: &str) -> i64 {
        self.find_int(name).unwrap_or_else(|| panic!("no whole attribute {name}"))
    }

    /// A whole attribute, if there is one of that name that was given or has a default.
    pub fn find_int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Read::Int(x)) => Some(*x),
            _ => None,
        }
    }

    /// A word.
    ///
    /// # Panics
    /// If the signature has none of that name.
    pub fn word(&self, name: &str) -> &'static str {
        self.find_word(name).unwrap_or_else(|| panic!("no word {name}"))
    }

    /// A word, if there is one of that name that was given or has a default.
    pub fn find_word(&self, name: &str) -> Option<&'static str> {
        match self.0.get(name) {
            Some(Read::Word(x)) => Some(x),
            _ => None,
        }
    }

    /// A flag.
    ///
    /// # Panics
    /// If the signature has none of that name.
    pub fn flag(&self, name: &str) -> bool {
        match self.0.get(name) {
            Some(Read::Flag(x)) => *x,
            other => panic!("{name} is {other:?}, not a flag"),
        }
    }

    /// An object, if it was given and is not null.
    pub fn object(&self, name: &str) -> Option<&Value> {
        match self.0.get(name) {
            Some(Read::Object(x)) => Some(x),
            _ => None,
        }
    }
}

fn read_one(attribute: &Attribute, given: Option<&Value>) -> Result<Option<Read>, Refusal> {
    let name = attribute.name;
    let given = given.filter(|v| !v.is_null());
    let missing = || Refusal::new(Kind::AttributeMissing, name, "is required");
    let out = |found: &Value, want: String| {
        Refusal::new(Kind::AttributeOutOfRange, name, format!("is {found}, wants {want}"))
    };
    Ok(Some(match (attribute.rule, given) {
        (Rule::Real { default, .. }, None) => Read::Real(default.ok_or_else(missing)?),
        (Rule::Real { low, closed, high, .. }, Some(v)) => {
            // Real attributes are f32 for everybody, so that every subject gets one question.
            let x = v.as_f64().map(|x| f64::from(x as f32));
            match x {
                Some(x) if x.is_finite() && x <= high && (x > low || closed && x == low) => {
                    Read::Real(x)
                }
                _ => {
                    let bracket = if closed { '[' } else { '(' };
                    return Err(out(v, format!("a number in {bracket}{low}, {high}]")));
                }
            }
        }
        (Rule::Int { default, .. }, None) => match default.ok_or_else(missing)? {
            i64::MIN => return Ok(None),
            x => Read::Int(x),
        },
        (Rule::Int { low, high, .. }, Some(v)) => match v.as_i64() {
            Some(x) if (low..=high).contains(&x) => Read::Int(x),
            _ => return Err(out(v, format!("a whole number in [{low}, {high}]"))),
        },
        (Rule::Choice { default: Some(word), .. }, None) => Read::Word(word),
        (Rule::Choice { default: None, .. }, None) if name == "to" => return Ok(None),
        (Rule::Choice { default: None, .. }, None) => return Err(missing()),
        (Rule::Choice { of, .. }, Some(v)) => {
            match of.iter().find(|word| v.as_str() == Some(**word)) {
                Some(word) => Read::Word(word),
                None => return Err(out(v, format!("one of {}", of.join(", ")))),
            }
        }
        (Rule::Flag { default }, None) => Read::Flag(default),
        (Rule::Flag { .. }, Some(v)) => match v.as_bool() {
            Some(x) => Read::Flag(x),
            None => return Err(out(v, "true or false".into())),
        },
        (Rule::Object, None) => return Ok(None),
        (Rule::Object, Some(v)) => Read::Object(v.clone()),
    }))
}
