//! Text that goes on: written freely, and its logits along the golden's text.

use serde_json::json;

use crate::kinds::model::ask::{Asking, Written, of_ids};
use crate::kinds::model::case::Generation;
use crate::kinds::model::golden::Rows;
use crate::line::Stopped;

impl Asking<'_, '_> {
    pub(super) fn generation(
        &mut self,
        g: &Generation,
        forced: &[i32],
        decoded: bool,
    ) -> Result<Written, Stopped> {
        let ids = match (&self.question.text, self.question.ids.is_empty()) {
            (Some(text), true) => self.tokenized(text)?.unwrap_or_default(),
            _ => self.question.ids.clone(),
        };
        let mut ask = json!({
            "call": "generate", "model": self.handle(), "max_tokens": g.max_tokens,
            "ignore_eos": true, "temperature": 0.0,
        });
        for (key, value) in &g.sampling {
            ask[key] = value.clone();
        }
        if g.has_stops() {
            (ask["stop"], ask["stop_ids"]) = (json!(g.stop), json!(g.stop_ids));
        }
        let draws_alike = self.to.hello().json()["ops"]["sample"].is_object();
        let own_draws = g.is_drawn() && !draws_alike;
        let mut written = Written { own_draws, ..Written::default() };
        for run in 0..g.repeat {
            let mut said = self.call(&ask, &of_ids(&ids))?;
            written.runs.push(said.take("ids")?.to_i32());
            if run == 0 {
                written.told = said.tensors.get("text").map(|text| text.bytes.clone());
                written.stop = said.body["stop"].as_str().map(str::to_owned);
            }
            if run == 0 || run + 1 == g.repeat {
                written.used.extend(self.used()?);
            }
        }
        written.beside = self.beside(g, &ids, &ask)?;
        let first = written.runs.first().cloned().unwrap_or_default();
        if decoded && self.to.hello().offers("detokenize") {
            let text = self.text(&first, false)?;
            written.bare = Some(self.text(&first, true)?).filter(|bare| *bare != text);
            written.text = Some(text);
        }
        if !forced.is_empty() {
            written.forced = self.along(ids, forced)?;
        }
        Ok(written)
    }

    /// The bytes of ids, with control tokens or without.
    fn text(&mut self, ids: &[i32], bare: bool) -> Result<Vec<u8>, Stopped> {
        let path = self.question.path.display().to_string();
        let ask = json!({"call": "detokenize", "path": path, "skip_special": bare});
        Ok(self.call(&ask, &of_ids(ids))?.take("text")?.bytes)
    }

    /// Logits of the last row of `ids`, and of every row of a text behind it but its last.
    fn along(&mut self, mut ids: Vec<i32>, text: &[i32]) -> Result<Option<Rows>, Stopped> {
        ids.extend(&text[..text.len() - 1]);
        let rows: Vec<usize> = (ids.len() - text.len()..ids.len()).collect();
        let session = self.open()?;
        let want = json!({"logits": "all", "rows": rows});
        let said = self.extend(&session, &ids, &want, Some("prefill"))?;
        self.close(&session)?;
        Ok(said.tensors.get("logits").map(Rows::of))
    }
}
