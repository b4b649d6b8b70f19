//! The four kinds of answer. A question gets exactly one of them.

use serde_json::{Value, json};

use crate::fields::{Body, Fields};
use crate::frame::{Frame, Tensors};
use crate::observed::Observed;

/// An answer to any call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The result: its fields, which [`crate::call::Call::read_answer`] reads, and its tensors.
    Ok(Value, Tensors),
    /// The question is malformed.
    Refused(Box<Refused>),
    /// A valid question that the subject does not support, and which part of it.
    Unsupported(String),
    /// The subject tried and could not answer.
    Failed(Failed),
}

/// An answer as received, before its contents are read.
#[derive(Clone, Debug, PartialEq)]
pub struct RawAnswer {
    /// The kind: `ok`, `refused`, `unsupported` or `failed`.
    pub key: &'static str,
    /// The value under that key, an object.
    pub body: Value,
    /// The tensors of the message.
    pub tensors: Tensors,
}

/// A refusal of a malformed question or file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    /// The kind, by the names of [`crate::words::RefusalKind`]; a foreign subject may have others.
    pub kind: String,
    /// The operand, attribute or field that is wrong.
    pub operand: String,
    /// The reason, with both values, in words.
    pub message: String,
    /// The place where a file is malformed, if the question was about one.
    pub file: Option<FilePlace>,
    /// What the subject observed meanwhile.
    pub observed: Option<Observed>,
}

/// The place where a file is malformed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePlace {
    /// The code, by the words of [`crate::words::Code`]; a foreign subject may have others.
    pub code: String,
    /// The file.
    pub file: String,
    /// The offset of the byte at which the field begins.
    pub offset: Option<u64>,
    /// The dotted name of the field.
    pub field: String,
    /// The value in the file.
    pub found: String,
    /// The value that it must have.
    pub expected: String,
    /// Line and column in a JSON text, both from 1, and the JSON pointer of the value.
    pub json: Option<(u64, u64, String)>,
}

/// Why a subject that tried has no result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// `oom device io cancelled bad_request internal nondeterministic`.
    pub class: String,
    /// Whether all later questions to this process would fail as well.
    pub sticky: bool,
    /// The reason, in words.
    pub message: String,
}

/// The keys of which an answer has exactly one.
const KEYS: [&str; 4] = ["ok", "refused", "unsupported", "failed"];

impl Answer {
    /// The message, without its id.
    pub fn frame(self) -> Frame {
        match self {
            Answer::Ok(body, tensors) => Frame::with(json!({ "ok": body }), tensors),
            Answer::Refused(refused) => Frame::new(json!({ "refused": refused.json() })),
            Answer::Unsupported(what) => Frame::new(json!({"unsupported": {"what": what}})),
            Answer::Failed(failed) => Frame::new(json!({ "failed": failed.json() })),
        }
    }

    /// Reads the message that answers question `id`; `None` for an event.
    ///
    /// # Errors
    /// What is wrong with it: a different id, none or several of the four keys, or no object.
    pub fn read(id: u64, frame: Frame) -> Result<Option<Answer>, String> {
        RawAnswer::read(id, frame)?.map(RawAnswer::answer).transpose()
    }
}

impl RawAnswer {
    /// Reads the message that answers question `id`; `None` for an event.
    ///
    /// # Errors
    /// What is wrong with it: a different id, none or several of the four keys, or no object.
    pub fn read(id: u64, frame: Frame) -> Result<Option<RawAnswer>, String> {
        let Frame { json: Value::Object(mut json), tensors } = frame else {
            return Err("a message that is no object".to_owned());
        };
        // An answer to another question must not be judged as the answer to this one.
        if json.get("id").and_then(Value::as_u64) != Some(id) {
            let answered = json.get("id").cloned().unwrap_or(Value::Null);
            return Err(format!("answered question {answered}, was asked {id}"));
        }
        // After the id: an event of another question would be out of place as well.
        if json.contains_key("event") {
            return Ok(None);
        }
        // Several at once would leave the outcome to the order in which they are looked up.
        let present: Vec<&'static str> =
            KEYS.into_iter().filter(|k| json.contains_key(*k)).collect();
        let [key] = present[..] else {
            return Err(format!("wants exactly one of {}, found {present:?}", KEYS.join(", ")));
        };
        let body = json.remove(key).unwrap_or(Value::Null);
        if !body.is_object() {
            return Err(format!("`{key}` is {body}, wants an object"));
        }
        Ok(Some(RawAnswer { key, body, tensors }))
    }

    /// Interprets the answer.
    ///
    /// # Errors
    /// Observations have the wrong type.
    pub fn answer(self) -> Result<Answer, String> {
        let RawAnswer { key, body, tensors } = self;
        Ok(match key {
            "ok" => Answer::Ok(body, tensors),
            "refused" => Answer::Refused(Box::new(Refused::read(&body)?)),
            "unsupported" => Answer::Unsupported(word(&body, "what")),
            // The keys were checked on reading, so `failed` is what is left.
            _ => Answer::Failed(Failed::read(&body)),
        })
    }
}

/// A text, or the empty one if it is absent. Lenient, because these texts are shown and never
/// compared.
fn word(body: &Value, key: &str) -> String {
    // A foreign subject may leave a word out; its refusal is a refusal all the same.
    body[key].as_str().unwrap_or_default().to_owned()
}

impl Refused {
    /// The reason as one word: the code for a file, or else the kind.
    pub fn word(&self) -> &str {
        // Every refusal of a file has the same kind, so its code says more.
        self.file.as_ref().map_or(&self.kind, |place| &place.code)
    }

    /// What is wrong: the field of a file if one is named, or else the operand.
    pub fn field(&self) -> &str {
        // A foreign subject may leave the field of a file out, which reads as an empty one.
        let field = self.file.as_ref().map(|place| place.field.as_str());
        field.filter(|field| !field.is_empty()).unwrap_or(&self.operand)
    }

    /// The value of `refused`.
    pub fn json(&self) -> Value {
        let mut body = Body::default();
        body.put("kind", self.kind.as_str());
        match &self.file {
            None => {
                body.put("operand", self.operand.as_str());
                body.put("message", self.message.as_str());
            }
            Some(place) => {
                body.put("code", place.code.as_str());
                body.put("file", place.file.as_str());
                body.put("operand", self.operand.as_str());
                body.put("field", place.field.as_str());
                body.put("found", place.found.as_str());
                body.put("expected", place.expected.as_str());
                body.put("message", self.message.as_str());
                body.may("offset", place.offset);
                if let Some((line, column, pointer)) = &place.json {
                    body.put("line", *line);
                    body.put("column", *column);
                    body.put("pointer", pointer.as_str());
                }
            }
        }
        body.may("observed", self.observed.as_ref().map(Observed::json));
        body.json()
    }

    /// Reads the value of `refused`.
    ///
    /// # Errors
    /// Observations have the wrong type.
    pub fn read(body: &Value) -> Result<Refused, String> {
        let fields = Fields(body);
        let number = |key: &str| body[key].as_u64();
        // All three or none: a part of a place would point nowhere.
        let json = || Some((number("line")?, number("column")?, word(body, "pointer")));
        // Only refusals of files have a code.
        let file = body["code"].is_string().then(|| FilePlace {
            code: word(body, "code"),
            file: word(body, "file"),
            offset: number("offset"),
            field: word(body, "field"),
            found: word(body, "found"),
            expected: word(body, "expected"),
            json: json(),
        });
        let observed = fields.has("observed").then(|| Observed::from_answer(body)).transpose()?;
        Ok(Refused {
            kind: word(body, "kind"),
            operand: word(body, "operand"),
            message: word(body, "message"),
            file,
            observed,
        })
    }
}

impl Failed {
    /// The value of `failed`.
    pub fn json(&self) -> Value {
        let Failed { class, sticky, message } = self;
        json!({"class": class, "sticky": sticky, "message": message})
    }

    /// Reads the value of `failed`.
    pub fn read(body: &Value) -> Failed {
        // A subject is replaced only if it says that it cannot go on.
        let sticky = body["sticky"].as_bool().unwrap_or(false);
        Failed { class: word(body, "class"), sticky, message: word(body, "message") }
    }
}

impl From<goldgate_tensor::Refusal> for Refused {
    fn from(refusal: goldgate_tensor::Refusal) -> Refused {
        let goldgate_tensor::Refusal { kind, operand, message } = refusal;
        Refused { kind: kind.name().to_owned(), operand, message, ..Refused::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(answer: &Answer) -> Result<Option<Answer>, String> {
        let mut frame = answer.clone().frame();
        frame.json["id"] = 7.into();
        Answer::read(7, frame)
    }

    #[test]
    fn answers_go_both_ways() {
        let place = FilePlace { code: "MAGIC".to_owned(), offset: Some(4), ..FilePlace::default() };
        let json = FilePlace { json: Some((1, 9, "/a".to_owned())), ..place.clone() };
        let refused = |file| {
            let observed = Some(Observed { cpu_us: Some(3), ..Observed::default() });
            let kind = "Malformed".to_owned();
            Answer::Refused(Box::new(Refused { kind, file, observed, ..Refused::default() }))
        };
        for answer in [
            Answer::Ok(json!({"session": 3}), Tensors::new()),
            refused(None),
            refused(Some(place)),
            refused(Some(json)),
            Answer::Unsupported("op rope".to_owned()),
            Answer::Failed(Failed { class: "oom".to_owned(), sticky: true, message: "no".into() }),
        ] {
            assert_eq!(back(&answer), Ok(Some(answer)));
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let read = |json: Value| Answer::read(7, Frame::new(json));
        assert_eq!(read(json!({"id": 7, "event": "alive"})), Ok(None));
        for (json, part) in [
            (json!({"id": 6, "ok": {}}), "answered question 6, was asked 7"),
            (json!({"id": 7}), "wants exactly one of ok"),
            (json!({"id": 7, "ok": {}, "failed": {}}), "found [\"ok\", \"failed\"]"),
            (json!({"id": 7, "ok": 3}), "`ok` is 3, wants an object"),
        ] {
            let error = read(json).expect_err("no answer");
            assert!(error.contains(part), "{error}");
        }
    }
}
