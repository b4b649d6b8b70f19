//! The messages that a subject may send between a question and its answer.

use serde_json::{Map, Value};

use crate::fields::Body;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A token of a text that is being generated.
    Token {
        /// The sequence index among several prompts, from 0.
        sequence: Option<u64>,
        /// How many tokens of this text precede it.
        index: u64,
        /// Its id.
        token: u64,
        /// The time in ms from the question to this token.
        ms: Option<f64>,
    },
    /// The progress of loading a model.
    Progress {
        /// The bytes loaded so far.
        done: u64,
        /// The bytes to load in total.
        total: u64,
    },
    /// A sign that the subject is still working.
    Alive,
}

impl Event {
    /// The message, without its id.
    pub fn json(self) -> Value {
        let mut body = Body::default();
        match self {
            Event::Token { sequence, index, token, ms } => {
                body.put("event", "token");
                // A single prompt is no sequence among others.
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

    /// Reads a message. Returns nothing for an answer, or for an event that this version does not
    /// know.
    pub fn read(message: &Value) -> Option<Event> {
        let message: &Map<String, Value> = message.as_object()?;
        let number = |key: &str| message.get(key).and_then(Value::as_u64);
        match message.get("event")?.as_str()? {
            "token" => Some(Event::Token {
                // Absent for a single prompt, so a missing sequence is no malformed event.
                sequence: number("sequence"),
                index: number("index")?,
                token: number("token")?,
                ms: message.get("ms").and_then(Value::as_f64),
            }),
            "progress" => Some(Event::Progress { done: number("done")?, total: number("total")? }),
            "alive" => Some(Event::Alive),
            // A later version may send other events, which are no errors.
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
