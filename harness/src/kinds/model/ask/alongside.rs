//! Asks the prompt of a case as one of a batch: each sequence must get the ids that it gets alone.

use goldgate_wire::call::{Generate, Sampling};

use crate::kinds::model::ask::Asking;
use crate::kinds::model::case::Generation;
use crate::line::Stopped;

/// The ids of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alongside {
    /// Generated alone.
    pub alone: Vec<i32>,
    /// Generated as part of a batch.
    pub together: Vec<i32>,
}

/// The position of the case's own prompt in a batch with `others` more: the middle, so that a
/// neighbour on either side could disturb it.
pub fn place(others: usize) -> usize {
    others.div_ceil(2)
}

/// The prompt with the others around it. The others are its ids rotated, some cut and some
/// repeated, so that the lengths differ as far as possible.
pub fn prompts(ids: &[i32], others: usize) -> Vec<Vec<i32>> {
    let other = |i: usize| {
        // The lengths spread to both sides of the case's own.
        let by = i / 2 + 1;
        let count =
            if i.is_multiple_of(2) { ids.len() + by } else { ids.len().saturating_sub(by).max(1) };
        ids.iter().cycle().skip(i + 1).take(count).copied().collect()
    };
    let mut all: Vec<Vec<i32>> = (0..others).map(other).collect();
    all.insert(place(others), ids.to_vec());
    all
}

impl Asking<'_, '_> {
    /// Ends the trial if the subject does not offer that many sequences at once.
    pub(super) fn require_sequences(&self, g: &Generation) -> Result<(), Stopped> {
        let (offered, asked) = (self.to.hello().sequences(), g.beside as u64 + 1);
        if g.beside == 0 || offered >= asked {
            return Ok(());
        }
        let message = format!("hello offers sequences: {offered}, {asked} are asked");
        Err(self.to.unsupported(&message))
    }

    /// Generates every sequence of the batch together by `ask`, which generates the case's own, and
    /// then each of them alone.
    pub(super) fn alongside(
        &mut self,
        g: &Generation,
        ask: &Generate,
    ) -> Result<Vec<Alongside>, Stopped> {
        if g.beside == 0 {
            return Ok(Vec::new());
        }
        let prompts = prompts(&ask.ids, g.beside);
        // The case's own seed stays its own, and the others get different ones.
        let own = ask.sampling.seed.unwrap_or(0);
        let seeds: Vec<u64> = (0..prompts.len() as u64)
            .map(|i| (own + i).saturating_sub(place(g.beside) as u64))
            .collect();
        let batch = Generate { seeds: Some(seeds.clone()), ..ask.clone() }.several(&prompts);
        let together = self.generate(&batch)?.texts(prompts.len())?;
        let mut all = Vec::with_capacity(prompts.len());
        // Alone in the same process and model, so that only the batch differs.
        for ((ids, seed), together) in prompts.into_iter().zip(seeds).zip(together) {
            let sampling = Sampling { seed: Some(seed), ..ask.sampling };
            let alone = self.generate(&Generate { sampling, ids, ..ask.clone() })?.ids;
            all.push(Alongside { alone, together });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_other_lengths_and_the_case_is_in_the_middle() {
        for others in 1..=7 {
            let all = prompts(&[5, 6, 7, 8, 9], others);
            assert_eq!(all.len(), others + 1);
            assert_eq!(all[place(others)], [5, 6, 7, 8, 9]);
            let lengths: std::collections::BTreeSet<usize> = all.iter().map(Vec::len).collect();
            assert_eq!(lengths.len(), others + 1, "{all:?}");
        }
        assert_eq!((place(3), place(7)), (2, 4));
        assert!(prompts(&[5], 7).iter().all(|p| !p.is_empty() && p.iter().all(|id| *id == 5)));
    }
}
