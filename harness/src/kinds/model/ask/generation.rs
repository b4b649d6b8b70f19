//! Generated text: the free runs, and the logits along the golden's text.

use goldgate_wire::call::{Detokenize, Generate, Generated, Sampling, Want};
use goldgate_wire::words::{Logits, Stop, Texts};
use serde_json::{Map, Value};

use crate::kinds::model::ask::{Asking, Written};
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
        // The golden's ids where there are any, so that a fault of the tokenizer is found by its
        // own rule and not as another text.
        let ids = match (&self.question.text, self.question.ids.is_empty()) {
            (Some(text), true) => self.tokenized(text)?.unwrap_or_default(),
            _ => self.question.ids.clone(),
        };
        let stops = g.has_stops();
        let stop_ids = g.stop_ids.iter().map(|id| id.cast_unsigned());
        let ask = Generate {
            model: self.loaded.model,
            max_tokens: Some(g.max_tokens as u64),
            // The case decides where a text ends; a model's own end tokens would end it elsewhere.
            ignore_eos: Some(true),
            sampling: sampling(&g.sampling),
            stop: stops.then(|| g.stop.clone()),
            stop_ids: stops.then(|| stop_ids.collect()),
            ids,
            ..Generate::default()
        };
        // The wire ties the op `sample` to the generator that goldens use.
        let draws_alike = self.to.hello().json()["ops"]["sample"].is_object();
        let own_draws = g.is_drawn() && !draws_alike;
        let mut written = Written { own_draws, ..Written::default() };
        for run in 0..g.repeat {
            let generated = self.generate(&ask)?;
            written.runs.push(generated.ids);
            if run == 0 {
                written.reported = generated.text;
                written.stop = generated.stop.map(Stop::name).map(str::to_owned);
            }
            // The first and the last run suffice to see whether memory grows.
            if run == 0 || run + 1 == g.repeat {
                written.used.extend(self.used()?);
            }
        }
        written.alongside = self.alongside(g, &ask)?;
        let first = written.runs.first().cloned().unwrap_or_default();
        if decoded && self.to.hello().treats(Texts::Decode) {
            let text = self.text(&first, false)?;
            // `generate` reports its text without control tokens, so that form is needed to compare
            // it.
            written.bare = Some(self.text(&first, true)?).filter(|bare| *bare != text);
            written.text = Some(text);
        }
        if !forced.is_empty() && self.can_follow() {
            written.forced = Some(self.along(ask.ids, forced)?);
        }
        Ok(written)
    }

    /// Generates one text or several.
    pub(super) fn generate(&mut self, ask: &Generate) -> Result<Generated, Stopped> {
        let generated = self.to.call(ask)?;
        self.route.note(&generated.observed);
        Ok(generated)
    }

    /// The bytes of ids, with or without control tokens.
    fn text(&mut self, ids: &[i32], bare: bool) -> Result<Vec<u8>, Stopped> {
        let ask = Detokenize {
            vocabulary: self.vocabulary(),
            skip_special: bare,
            stream: false,
            ids: ids.to_vec(),
        };
        Ok(self.to.call(&ask)?.text)
    }

    /// Logits of the last row of `ids`, and of all rows of the following text except its last.
    fn along(&mut self, mut ids: Vec<i32>, text: &[i32]) -> Result<Rows, Stopped> {
        // Nothing follows the last token, so its row is not compared.
        ids.extend(&text[..text.len() - 1]);
        let rows = (ids.len() - text.len()..ids.len()).map(|row| row as u64).collect();
        let want = Want { logits: Logits::All, rows: Some(rows), ..Want::default() };
        Ok(Rows::from_tensor(self.at_once(&ids, want)?.result("logits")?))
    }
}

/// The settings of the case. Settings that it does not name are neutral, and the largest logit is
/// chosen.
pub(super) fn sampling(settings: &Map<String, Value>) -> Sampling {
    let real = |key: &str| settings.get(key).and_then(Value::as_f64);
    let number = |key: &str| settings.get(key).and_then(Value::as_u64);
    Sampling {
        // Always sent, because a subject's own default might draw.
        temperature: Some(real("temperature").unwrap_or(0.0)),
        top_k: number("top_k"),
        top_p: real("top_p"),
        min_p: real("min_p"),
        repetition_penalty: real("repetition_penalty"),
        seed: number("seed"),
    }
}
