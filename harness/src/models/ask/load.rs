//! A model is loaded, or refused: in which time, in which memory, and as was foretold.

use serde_json::{Value, json};

use crate::models::Load;
use crate::models::ask::{Answer, Asker, Content, Route, figures, missing};
use crate::models::listen::{Said, Tensors};
use crate::verdict::Verdict;

impl Asker<'_> {
    pub(super) fn load(&mut self, load: &Load, mut ask: Value) -> Result<Answer, Verdict> {
        self.drop_model()?;
        if let Some(path) = &load.path {
            // A file that is not there has no canonical name.
            let path = std::path::absolute(self.golden.join(path)).unwrap_or_default();
            ask["path"] = path.display().to_string().into();
        }
        for (key, value) in &load.with {
            ask[key] = value.clone();
        }
        let mut used = Vec::new();
        let rounds = if load.memory { 2 } else { 1 };
        let (mut facts, mut refused, mut foretold) = (Value::Null, None, None);
        for _ in 0..rounds {
            match self.listener.call(&ask, &Tensors::new(), self.limit)? {
                Said::Refused(kind, operand, message) => refused = Some((kind, operand, message)),
                Said::Ok(mut body, _) => {
                    *self.loaded = Some((ask.clone(), body.clone()));
                    if load.foretold && foretold.is_none() {
                        foretold = self.foretold(&ask, &body)?;
                    }
                    body["bytes_session"] = self.one_token()?;
                    facts = body;
                    self.drop_model()?;
                }
            }
            used.extend(self.used()?.filter(|_| load.memory));
        }
        if refused.is_some() && load.path.is_none() {
            // Who refused must still answer the same question without what was wrong with it.
            load.with.keys().for_each(|key| drop(ask.as_object_mut().map(|map| map.remove(key))));
            self.hold(&ask)?;
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
    /// force, where the subject tells them.
    fn foretold(&mut self, ask: &Value, facts: &Value) -> Result<Option<f64>, Verdict> {
        if !self.listener.offers("inspect") {
            return Ok(None);
        }
        let mut ask = ask.clone();
        ask["call"] = "inspect".into();
        for key in ["activations", "kv", "chunk", "plan", "context"] {
            if !facts[key].is_null() {
                ask[key] = facts[key].clone();
            }
        }
        let (said, _) = self.ok(&ask, &Tensors::new())?;
        Ok(said["need"]["bytes_arena"].as_f64())
    }

    /// A loaded model gives logits of one token; the bytes that its session took, where they are
    /// told.
    fn one_token(&mut self) -> Result<Value, Verdict> {
        let ask = json!({"call": "open", "model": self.handle()});
        let opened = self.ok(&ask, &Tensors::new())?.0;
        let session = &opened["session"];
        let logits = self.extend(session, &[0], &json!({"logits": "last"}), None)?;
        self.close(session)?;
        match logits.get("logits") {
            Some(_) => Ok(opened["bytes_session"].clone()),
            None => Err(missing("logits")),
        }
    }

    /// Bytes that the driver counts, where the subject can tell.
    pub(super) fn used(&mut self) -> Result<Option<f64>, Verdict> {
        if !self.listener.offers("memory") {
            return Ok(None);
        }
        let (body, _) = self.ok(&json!({"call": "memory"}), &Tensors::new())?;
        Ok(body["device_used"].as_f64())
    }
}
