//! Many short texts, and the subject's own logits behind the same contexts.

use goldgate_wire::call::{Generate, Sampling, Want};
use goldgate_wire::words::Logits;

use crate::kinds::model::ask::Asking;
use crate::kinds::model::ask::generation::sampling;
use crate::kinds::model::case::Draws;
use crate::kinds::model::golden::Rows;
use crate::line::Stopped;

/// The most texts that are drawn by one call.
const TOGETHER: u64 = 8;

/// What a subject drew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// The texts: for each context one per seed, in order.
    pub texts: Vec<Vec<i32>>,
    /// The same texts again, where their bits are compared.
    pub again: Vec<Vec<i32>>,
    /// The subject's own logits of the golden's rows, if it offers sessions.
    pub logits: Option<Rows>,
}

impl Asking<'_, '_> {
    /// How many texts one call may ask for.
    pub(super) fn texts_together(&self) -> u64 {
        self.to.hello().sequences().min(TOGETHER)
    }

    /// Draws every text of a case. With `forms` only the first of each context, twice.
    pub(super) fn drawn(
        &mut self,
        draws: &Draws,
        next: &[i32],
        forms: bool,
    ) -> Result<Drawn, Stopped> {
        let ids = &self.question.ids;
        let contexts: Vec<Vec<i32>> =
            ids.chunks(draws.contexts.length).map(<[i32]>::to_vec).collect();
        if forms {
            let first: Vec<usize> = (0..contexts.len()).map(|i| i * draws.seeds).collect();
            let texts = self.texts(draws, &contexts, &first)?;
            let again = self.texts(draws, &contexts, &first)?;
            return Ok(Drawn { texts, again, logits: None });
        }
        let all: Vec<usize> = (0..contexts.len() * draws.seeds).collect();
        let texts = self.texts(draws, &contexts, &all)?;
        let logits = match self.can_follow() {
            true => Some(self.own_logits(&contexts, next)?),
            false => None,
        };
        Ok(Drawn { texts, again: Vec::new(), logits })
    }

    /// The texts with these indices among all of the case.
    fn texts(
        &mut self,
        draws: &Draws,
        contexts: &[Vec<i32>],
        indices: &[usize],
    ) -> Result<Vec<Vec<i32>>, Stopped> {
        let together = self.texts_together() as usize;
        let ask = Generate {
            model: self.loaded.model,
            max_tokens: Some(draws.contexts.tokens() as u64),
            // A model's own end tokens are tokens like the others here.
            ignore_eos: Some(true),
            sampling: sampling(&draws.sampling),
            ..Generate::default()
        };
        let mut texts = Vec::with_capacity(indices.len());
        for some in indices.chunks(together.max(1)) {
            let prompt = |index: &usize| contexts[index / draws.seeds].clone();
            let seeds: Vec<u64> = some.iter().map(|index| Draws::seed(*index)).collect();
            if together > 1 {
                let prompts: Vec<Vec<i32>> = some.iter().map(prompt).collect();
                let ask = Generate { seeds: Some(seeds), ..ask.clone() }.several(&prompts);
                texts.extend(self.generate(&ask)?.texts(prompts.len())?);
                continue;
            }
            for (index, seed) in some.iter().zip(seeds) {
                let sampling = Sampling { seed: Some(seed), ..ask.sampling };
                let ask = Generate { sampling, ids: prompt(index), ..ask.clone() };
                texts.push(self.generate(&ask)?.ids);
            }
        }
        Ok(texts)
    }

    /// The subject's own logits of the golden's rows: behind each context, and behind each context
    /// with one of its `next` tokens.
    fn own_logits(&mut self, contexts: &[Vec<i32>], next: &[i32]) -> Result<Rows, Stopped> {
        let per_context = next.len() / contexts.len().max(1);
        let behind = next.iter().enumerate().map(|(i, id)| {
            let context = contexts.get(i / per_context.max(1)).map_or(&[][..], Vec::as_slice);
            [context, &[*id]].concat()
        });
        let mut rows = Rows::default();
        for ids in contexts.iter().cloned().chain(behind) {
            let last = ids.len() as u64 - 1;
            let want = Want { logits: Logits::All, rows: Some(vec![last]), ..Want::default() };
            let row = Rows::from_tensor(self.at_once(&ids, want)?.result("logits")?);
            rows.width = row.width;
            rows.numbers.extend(row.numbers);
        }
        Ok(rows)
    }
}
