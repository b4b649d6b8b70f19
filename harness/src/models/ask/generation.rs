//! Text that goes on: written freely, and its logits along the golden's text.

use std::path::Path;

use serde_json::json;

use crate::models::ask::{Asker, Written, missing, of_ids};
use crate::models::golden::{ModelGolden, Rows};
use crate::models::{Generation, Prompt};
use crate::verdict::Verdict;

impl Asker<'_> {
    pub(super) fn generation(
        &mut self,
        g: &Generation,
        golden: &ModelGolden,
        path: &Path,
    ) -> Result<Written, Verdict> {
        let ids = match (&g.prompt, golden.ids.is_empty()) {
            (_, false) => golden.ids.clone(),
            (Prompt::Ids(ids), true) => ids.clone(),
            (Prompt::Text(text), true) => self.tokenized(text, path)?.unwrap_or_default(),
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
        let own_draws = g.is_drawn() && !self.listener.draws_alike();
        let mut written = Written { own_draws, ..Written::default() };
        for run in 0..g.repeat {
            let (body, tensors) = self.ok(&ask, &of_ids(&ids))?;
            written.runs.push(tensors.get("ids").ok_or_else(|| missing("ids"))?.to_i32());
            if run == 0 {
                written.told = tensors.get("text").map(|text| text.bytes.clone());
                written.stop = body["stop"].as_str().map(str::to_owned);
            }
            if run == 0 || run + 1 == g.repeat {
                written.used.extend(self.used()?);
            }
        }
        written.beside = self.beside(g, &ids, &ask)?;
        let first = written.runs.first().cloned().unwrap_or_default();
        let whole = g.stop.is_empty() && !golden.text.is_empty();
        if whole && self.listener.offers("detokenize") {
            let text = self.text(&first, path, false)?;
            written.bare = Some(self.text(&first, path, true)?).filter(|bare| *bare != text);
            written.text = Some(text);
        }
        if g.is_greedy() && !golden.chosen.is_empty() {
            written.forced = self.along(ids, &golden.chosen)?;
        }
        Ok(written)
    }

    /// The bytes of ids, with control tokens or without.
    fn text(&mut self, ids: &[i32], path: &Path, bare: bool) -> Result<Vec<u8>, Verdict> {
        let path = path.display().to_string();
        let ask = json!({"call": "detokenize", "path": path, "skip_special": bare});
        let said = self.ok(&ask, &of_ids(ids))?.1;
        Ok(said.get("text").ok_or_else(|| missing("text"))?.bytes.clone())
    }

    /// Logits of the last row of `ids`, and of every row of a text behind it but its last.
    fn along(&mut self, mut ids: Vec<i32>, text: &[i32]) -> Result<Option<Rows>, Verdict> {
        ids.extend(&text[..text.len() - 1]);
        let rows: Vec<usize> = (ids.len() - text.len()..ids.len()).collect();
        let session = self.open()?;
        let want = json!({"logits": "all", "rows": rows});
        let said = self.extend(&session, &ids, &want, Some("prefill"))?;
        self.close(&session)?;
        Ok(said.get("logits").map(Rows::of))
    }
}
