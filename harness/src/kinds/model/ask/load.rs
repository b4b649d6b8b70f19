//! A model is loaded, or refused: in which time, in which memory, and as was foretold.

use serde_json::{Value, json};

use crate::kinds::model::ask::{Answer, Asking, Content, Route, figures};
use crate::kinds::model::case::Load;
use crate::line::caller::Tensors;
use crate::line::{Reply, Stopped};

impl Asking<'_, '_> {
    pub(super) fn load(&mut self, load: &Load, mut ask: Value) -> Result<Answer, Stopped> {
        self.to.drop_model()?;
        for (key, value) in &load.with {
            ask[key] = value.clone();
        }
        let mut used = Vec::new();
        let rounds = if load.memory { 2 } else { 1 };
        let (mut facts, mut refused, mut foretold) = (Value::Null, None, None);
        for _ in 0..rounds {
            match self.to.ask(&ask, &Tensors::new())? {
                Reply::Refused(said, _) => {
                    refused = Some((said.kind, said.operand, said.message));
                }
                Reply::Ok(answered) => {
                    let mut body = answered.body;
                    self.facts = body.clone();
                    self.to.hold(&ask, &body);
                    if load.foretold && foretold.is_none() {
                        foretold = self.foretold(&ask, &body)?;
                    }
                    body["bytes_session"] = self.one_token()?;
                    facts = body;
                    self.to.drop_model()?;
                }
            }
            used.extend(self.used()?.filter(|_| load.memory));
        }
        if refused.is_some() && load.path.is_none() {
            // Who refused must still answer the case's question without what was wrong with it.
            self.hold(&self.question.load)?;
            self.one_token()?;
        }
        Ok(Answer {
            activations: facts["activations"].as_str().and_then(|t| t.parse().ok()),
            ids: None,
            content: Content::Load { refused, used, foretold },
            figures: figures(&facts),
            route: Route::default(),
        })
    }

    /// The bytes that `inspect` says `load` takes: of the same file under the settings that are in
    /// force, where the subject says them.
    fn foretold(&mut self, ask: &Value, facts: &Value) -> Result<Option<f64>, Stopped> {
        if !self.to.hello().offers("inspect") {
            return Ok(None);
        }
        let mut ask = ask.clone();
        ask["call"] = "inspect".into();
        for key in ["activations", "kv", "chunk", "plan", "context"] {
            if !facts[key].is_null() {
                ask[key] = facts[key].clone();
            }
        }
        Ok(self.call(&ask, &Tensors::new())?.body["need"]["bytes_arena"].as_f64())
    }

    /// A loaded model gives logits of one token; the bytes that its session took, where they are
    /// said.
    fn one_token(&mut self) -> Result<Value, Stopped> {
        let ask = json!({"call": "open", "model": self.handle()});
        let opened = self.call(&ask, &Tensors::new())?.body;
        let session = &opened["session"];
        let mut said = self.extend(session, &[0], &json!({"logits": "last"}), None)?;
        self.close(session)?;
        said.take("logits")?;
        Ok(opened["bytes_session"].clone())
    }

    /// Bytes that the driver counts, where the subject can say.
    pub(super) fn used(&mut self) -> Result<Option<f64>, Stopped> {
        if !self.to.hello().offers("memory") {
            return Ok(None);
        }
        let said = self.call(&json!({"call": "memory"}), &Tensors::new())?;
        Ok(said.body["device_used"].as_f64())
    }
}
