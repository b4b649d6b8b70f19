//! Whoever answers the calls of models: a worker over the wire, or our engine in this process.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_engine::Tensor;
use serde_json::Value;

use crate::subject::Subject;
use crate::subject::pool::Slot;
use crate::subject::worker::Reply;
use crate::verdict::{FailKind, NotRun, Verdict};

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What one call came to.
#[derive(Clone, Debug)]
pub enum Said {
    /// `ok`, and its tensors.
    Ok(Value, Tensors),
    /// The question is malformed: kind or code, operand or field, message.
    Refused(String, String, String),
}

/// Somebody who answers the calls of models.
pub trait Listener {
    /// Whether hello offers a call.
    fn offers(&self, call: &str) -> bool;

    /// How many sequences `generate` takes side by side.
    fn sequences(&self) -> u64;

    /// Whether tokens are drawn by the generator of the op `sample`, so that a seed says which.
    fn draws_alike(&self) -> bool;

    /// Asks one question.
    ///
    /// # Errors
    /// What the row is called where there is no answer.
    fn call(&mut self, ask: &Value, tensors: &Tensors, limit: Duration) -> Result<Said, Verdict>;
}

impl Listener for Slot {
    fn offers(&self, call: &str) -> bool {
        self.hello().offers(call)
    }

    fn sequences(&self) -> u64 {
        self.hello().sequences()
    }

    fn draws_alike(&self) -> bool {
        self.hello().json()["ops"]["sample"].is_object()
    }

    fn call(&mut self, ask: &Value, tensors: &Tensors, limit: Duration) -> Result<Said, Verdict> {
        let fail = |kind, message: String| Err(Verdict::Fail { kind, message });
        let not_run = |kind, message: String| Err(Verdict::NotRun { kind, message });
        let (key, body, tensors) = match Slot::call(self, ask, tensors, limit).map(|h| h.reply) {
            Ok(Reply::Answer { key, body, tensors }) => (key, body, tensors),
            Ok(Reply::Crashed(how)) => return fail(FailKind::Crashed, how),
            Ok(Reply::TimedOut) => {
                let message = format!("no answer to {} in {} s", ask["call"], limit.as_secs());
                return fail(FailKind::TimedOut, message);
            }
            Ok(Reply::Protocol(what) | Reply::Stale(what) | Reply::Gone(what)) => {
                return fail(FailKind::Protocol, what);
            }
            Ok(Reply::TooBig(message)) => return not_run(NotRun::TooBig, message),
            Ok(Reply::Unsent(what)) => return fail(FailKind::Internal, what),
            Err(absent) => return not_run(NotRun::DeviceLost, absent.message),
        };
        let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        match key {
            "ok" => Ok(Said::Ok(body, tensors)),
            "refused" => {
                let either = |one: &str, other: &str| match body[one].is_string() {
                    true => word(one),
                    false => word(other),
                };
                Ok(Said::Refused(
                    either("code", "kind"),
                    either("field", "operand"),
                    word("message"),
                ))
            }
            "unsupported" => not_run(NotRun::Unsupported, word("what")),
            _ => {
                let kind = match body["class"].as_str() {
                    Some("oom") => FailKind::Oom,
                    Some("device") => FailKind::Device,
                    _ => FailKind::Internal,
                };
                fail(kind, word("message"))
            }
        }
    }
}
