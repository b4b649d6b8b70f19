//! A whole JSON value in memory, for small files.

use serde_json::{Map, Number, Value};

use super::{Kind, Reader, Text, below};
use crate::weights::refusal::{Code, Malformed, begin, budget};

/// The whole value: a configuration, the head of a tokenizer.
///
/// # Errors
/// `JSON_DUP` for a key that stands twice, `RANGE` for a number beyond f64, `COUNT` where one list
/// would ask for more memory than a file of this length may.
pub fn tree(text: Text<'_>) -> Result<Value, Malformed> {
    // A list doubles as it grows, and an entry of a map takes about 128 bytes.
    let most = (budget(text.text.len() as u64) / 256) as usize;
    let mut builder = Builder { reader: text.reader(), open: Vec::new(), pointer: String::new() };
    loop {
        let mut value = builder.begin()?;
        while let Some(last) = builder.open.last_mut() {
            let length = last.push(value.take());
            if length > most {
                let (at, pointer) = (builder.reader.at(), last.pointer.clone());
                let expected = format!("at most {most} entries in a file of this length");
                return Err(text.refuse(Code::Count, at, pointer, length, expected));
            }
            if !builder.reader.end() {
                break;
            }
            value = builder.open.pop().map(|open| open.value);
        }
        if builder.open.is_empty() {
            return Ok(value.unwrap_or_default());
        }
        builder.step()?;
    }
}

struct Builder<'a> {
    reader: Reader<'a>,
    open: Vec<Open>,
    /// Of the value that comes next.
    pointer: String,
}

/// A container that is not closed yet.
struct Open {
    value: Value,
    /// The key that waits for its value.
    key: String,
    pointer: String,
}

impl Open {
    /// Takes a finished value; how many there are now.
    fn push(&mut self, value: Option<Value>) -> usize {
        match (&mut self.value, value) {
            (Value::Object(map), Some(value)) => {
                map.insert(std::mem::take(&mut self.key), value);
                map.len()
            }
            (Value::Array(list), Some(value)) => {
                list.push(value);
                list.len()
            }
            _ => 0,
        }
    }
}

impl Builder<'_> {
    /// A scalar, or nothing after a container was opened.
    fn begin(&mut self) -> Result<Option<Value>, Malformed> {
        let container = match self.reader.kind() {
            Kind::Object => Value::Object(Map::new()),
            Kind::Array => Value::Array(Vec::new()),
            Kind::String => return Ok(Some(Value::String(self.reader.unquote().into_owned()))),
            Kind::Bool => return Ok(Some(Value::Bool(self.reader.scalar() == "true"))),
            Kind::Number => return self.number().map(Some),
            Kind::Null => {
                self.reader.scalar();
                return Ok(Some(Value::Null));
            }
        };
        self.reader.at += 1;
        let pointer = self.pointer.clone();
        self.open.push(Open { value: container, key: String::new(), pointer });
        Ok(None)
    }

    fn number(&mut self) -> Result<Value, Malformed> {
        let (at, raw) = (self.reader.at(), self.reader.scalar());
        let number = raw.parse::<Number>().map_err(|_| {
            let text = self.reader.text();
            text.refuse(Code::Range, at, &self.pointer, begin(raw), "a number below 1.8e308")
        })?;
        Ok(Value::Number(number))
    }

    /// To the next key or element of the innermost container.
    fn step(&mut self) -> Result<(), Malformed> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        match &open.value {
            Value::Array(list) => self.pointer = format!("{}/{}", open.pointer, list.len()),
            Value::Object(map) => {
                let at = self.reader.at();
                let key = self.reader.unquote().into_owned();
                self.pointer = below(&open.pointer, &key);
                if map.contains_key(&key) {
                    let (text, found) = (self.reader.text(), begin(&key));
                    return Err(text.refuse(Code::JsonDup, at, &self.pointer, found, "once"));
                }
                open.key = key;
            }
            _ => {}
        }
        Ok(())
    }
}
