//! What a subject may send between a question and its answer.

use serde_json::{Map, Value};

use crate::fields::Body;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A token of a text that is being generated.
    Token {
        /// Which prompt of several, from 0.
        sequence: Option<u64>,
        /// Tokens of this text before it.
        index: u64,
        /// Its id.
        token: u64,
        /// From the question until it was there, ms.
        ms: Option<f64>,
    },
    /// How far the loading of a model is.
    Progress {
        /// Bytes that are done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Nothing but that the subject still works.
    Alive,
}

impl Event {
    /// The message, without its id.
    pub fn json(self) -> Value {
        let mut body = Body::default();
        match self {
            Event::Token { sequence, index, token, ms } => {
                body.put("event", "token");
                body.may("sequence", sequence);
                body.put("index", index);
                body.put("token", token);
                body.put("ms", ms);
            }
            Event::Progress { done, total } => {
                body.put("event", "progress");
                body.put("done", done);
                body.put("total", total);
            }
            Event::Alive => body.put("event", "alive"),
        }
        body.json()
    }

    /// Reads a message; nothing where it is an answer or an event that this version does not know.
    pub fn read(message: &Value) -> Option<Event> {
        let message: &Map<String, Value> = message.as_object()?;
        let number = |key: &str| message.get(key).and_then(Value::as_u64);
        match message.get("event")?.as_str()? {
            "token" => Some(Event::Token {
                sequence: number("sequence"),
                index: number("index")?,
                token: number("token")?,
                ms: message.get("ms").and_then(Value::as_f64),
            }),
            "progress" => Some(Event::Progress { done: number("done")?, total: number("total")? }),
            "alive" => Some(Event::Alive),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_both_ways() {
        for event in [
            Event::Token { sequence: None, index: 3, token: 77, ms: Some(1.5) },
            Event::Token { sequence: Some(2), index: 0, token: 1, ms: None },
            Event::Progress { done: 5, total: 9 },
            Event::Alive,
        ] {
            assert_eq!(Event::read(&event.json()), Some(event));
        }
        for other in [r#"{"ok": {}}"#, r#"{"event": "heat"}"#, r#"{"event": "token"}"#] {
            assert_eq!(Event::read(&serde_json::from_str(other).expect("JSON")), None);
        }
    }
}
