//! The prompt of a case among others: a sequence of a batch has the ids that it has alone.

use goldgate_tensor::Tensor;
use serde_json::{Value, json};

use crate::kinds::model::ask::{Asking, of_ids};
use crate::kinds::model::case::Generation;
use crate::line::{Answered, FailKind, Stopped};

/// What one sequence said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Alone.
    pub alone: Vec<i32>,
    /// As one of a batch.
    pub together: Vec<i32>,
}

/// The place of the case's own prompt among `others` more: the middle.
pub fn place(others: usize) -> usize {
    others.div_ceil(2)
}

/// The prompt, and the others around it: the same ids rotated, some cut and some going round, so
/// that no two are as long as each other, as far as that goes.
pub fn prompts(ids: &[i32], others: usize) -> Vec<Vec<i32>> {
    let other = |i: usize| {
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
    /// Whether the subject generates as many sequences side by side, before the model is loaded.
    pub(super) fn goes_beside(&self, g: &Generation) -> Result<(), Stopped> {
        let (offered, asked) = (self.to.hello().sequences(), g.beside as u64 + 1);
        if g.beside == 0 || offered >= asked {
            return Ok(());
        }
        let message = format!("hello offers sequences: {offered}, {asked} are asked");
        Err(self.to.unsupported(&message))
    }

    /// Every sequence of the batch by `ask`, which generates the one of `ids`, and each alone.
    pub(super) fn beside(
        &mut self,
        g: &Generation,
        ids: &[i32],
        ask: &Value,
    ) -> Result<Vec<Beside>, Stopped> {
        if g.beside == 0 {
            return Ok(Vec::new());
        }
        let prompts = prompts(ids, g.beside);
        // Its own seed is the case's, and the others have others.
        let own = ask["seed"].as_u64().unwrap_or(0);
        let seeds: Vec<u64> = (0..prompts.len() as u64)
            .map(|i| (own + i).saturating_sub(place(g.beside) as u64))
            .collect();
        let mut batch = ask.clone();
        batch["seeds"] = json!(seeds);
        let lengths: Vec<i32> = prompts.iter().map(|p| p.len() as i32).collect();
        let mut asked = of_ids(&prompts.concat());
        asked.insert("lengths".to_owned(), Tensor::from_i32(&[lengths.len()], &lengths));
        let said = self.call(&batch, &asked)?;
        let together = parts(said, prompts.len())?;
        let together = together.map_err(|message| self.to.malformed(FailKind::Shape, message))?;
        let mut all = Vec::with_capacity(prompts.len());
        for ((prompt, seed), together) in prompts.iter().zip(seeds).zip(together) {
            let mut alone = ask.clone();
            alone["seed"] = seed.into();
            let alone = self.call(&alone, &of_ids(prompt))?.take("ids")?.to_i32();
            all.push(Beside { alone, together });
        }
        Ok(all)
    }
}

/// The ids of each sequence of an answer, or what is wrong with its lengths.
fn parts(mut said: Answered, count: usize) -> Result<Result<Vec<Vec<i32>>, String>, Stopped> {
    let (ids, lengths) = (said.take("ids")?.to_i32(), said.take("lengths")?.to_i32());
    let mut rest = ids.into_iter();
    let each: Vec<Vec<i32>> =
        lengths.iter().map(|n| rest.by_ref().take(*n as usize).collect()).collect();
    let whole = each.iter().zip(&lengths).all(|(ids, n)| i32::try_from(ids.len()) == Ok(*n));
    if each.len() != count || !whole || rest.next().is_some() {
        let message = format!("{} lengths that are not those of the ids of {count}", each.len());
        return Ok(Err(message));
    }
    Ok(Ok(each))
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

    #[test]
    fn an_answer_is_taken_apart_by_its_lengths() {
        let answer = |ids: &[i32], lengths: &[i32]| {
            let list = |x: &[i32]| Tensor::from_i32(&[x.len()], x);
            let tensors = [("ids".to_owned(), list(ids)), ("lengths".to_owned(), list(lengths))];
            Answered { body: serde_json::Value::Null, tensors: tensors.into() }
        };
        let parts = |answer, count| parts(answer, count).expect("both lists are there");
        let each = parts(answer(&[1, 2, 3], &[2, 0, 1]), 3).expect("whole");
        assert_eq!(each, [vec![1, 2], vec![], vec![3]]);
        for (ids, lengths) in [(&[1, 2][..], &[2, 1][..]), (&[1, 2], &[1]), (&[1, 2], &[1, 0])] {
            assert!(parts(answer(ids, lengths), 2).is_err(), "{ids:?} {lengths:?}");
        }
    }
}
