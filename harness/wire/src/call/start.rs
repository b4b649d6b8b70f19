//! The calls that begin a conversation and keep it alive: hello and ping.

use serde_json::Value;

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields, nothing};
use crate::hello;

/// The first question in every conversation: who asks, and what the subject may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Versions of the wire that the harness speaks.
    pub wire: Vec<u64>,
    /// Name and version of the harness.
    pub harness: String,
    /// A folder for attachments; none if the harness takes none.
    pub scratch: Option<String>,
    /// The largest frame that the harness accepts, in bytes.
    pub max_frame: Option<u64>,
}

impl Call for Hello {
    const NAME: &'static str = "hello";

    type Answer = hello::Hello;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("wire", self.wire.clone());
        body.put("harness", self.harness.as_str());
        body.may("scratch", self.scratch.as_deref());
        body.may("max_frame", self.max_frame);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Hello, BadQuestion> {
        let fields = Fields(question);
        let wire = fields.may_list("wire", "a list of versions", Value::as_u64)?;
        Ok(Hello {
            wire: wire.unwrap_or_default(),
            harness: fields.may_text("harness")?.unwrap_or_default(),
            // An empty path would mean the current folder.
            scratch: fields.may_text("scratch")?.filter(|s| !s.is_empty()),
            max_frame: fields.may_number("max_frame")?,
        })
    }

    fn write_answer(answer: hello::Hello) -> (Value, Tensors) {
        (answer.json().clone(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<hello::Hello, BadField> {
        hello::Hello::read(&body).map_err(BadField::Mistyped)
    }
}

/// Asks for any answer at all, as a sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ping;

impl Call for Ping {
    const NAME: &'static str = "ping";

    type Answer = ();

    fn question(&self) -> (Value, Tensors) {
        (Body::call(Self::NAME).json(), Tensors::new())
    }

    fn read(_: &Value, _: Tensors) -> Result<Ping, BadQuestion> {
        Ok(Ping)
    }

    fn write_answer((): ()) -> (Value, Tensors) {
        (nothing(), Tensors::new())
    }

    fn read_answer(_: Value, _: Tensors) -> Result<(), BadField> {
        // Ignored, whatever it contains: that there is an answer is all that was asked.
        Ok(())
    }
}
