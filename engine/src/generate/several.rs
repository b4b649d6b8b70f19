//! Generation of several sequences side by side: each has the tokens that it has alone.

use std::collections::VecDeque;

use crate::batch::Batch;
use crate::exec::ahead::Ring;
use crate::exec::cpu::CallError;
use crate::generate::{AHEAD, End, Stop, states};
use crate::sample::Sampling;
use crate::session::{Model, Place};
use crate::tensor::Tensor;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Several<'a> {
    /// The prompts, each of at least one token.
    pub prompts: &'a [&'a [u32]],
    /// The most tokens of each sequence.
    pub max_tokens: usize,
    /// How tokens are chosen; its seed is not used.
    pub sampling: Sampling,
    /// The seed of each sequence, below 2^53.
    pub seeds: &'a [u64],
    /// Tokens that end a sequence; the last one is not handed out.
    pub stop_ids: &'a [u32],
}

/// Generates; each token goes with the number of its sequence to `take`, which returns whether that
/// sequence goes on. Why each of them ended.
///
/// # Errors
/// More prompts than the model was loaded for, a prompt that the context does not hold, a NaN among
/// logits, the device's errors.
///
/// # Panics
/// If a prompt is empty, or there are not as many seeds as prompts.
pub fn generate_several(
    place: &mut Place<'_>,
    model: &Model,
    vocabulary: usize,
    request: &Several<'_>,
    take: &mut dyn FnMut(usize, u32) -> bool,
) -> Result<Vec<Stop>, CallError> {
    assert_eq!(request.prompts.len(), request.seeds.len(), "a seed a prompt");
    let count = request.prompts.len();
    let mut batch = Batch::open(place, model, Some((vocabulary, &request.sampling)), count)?;
    let mut run = Run { ends: Vec::new(), stops: vec![None; count], left: Vec::new() };
    let mut first = Vec::with_capacity(count);
    for (sequence, (ids, seed)) in request.prompts.iter().zip(request.seeds).enumerate() {
        assert!(!ids.is_empty(), "a prompt has a token");
        let words = [*seed as u32 as i32, (*seed >> 32) as i32];
        batch.set(place, sequence, "seed", &Tensor::from_i32(&[2], &words))?;
        for (name, tensor) in states(vocabulary, ids) {
            batch.set(place, sequence, name, &tensor)?;
        }
        first.push(batch.prompt(place, sequence, ids)?.expect("steps sample"));
        let context = model.settings().context;
        let end = End::of(request.max_tokens, context, ids.len(), request.stop_ids);
        run.stops[sequence] = end.before();
        // The prompt gave the first token.
        run.left.push(end.most.saturating_sub(1));
        run.ends.push(end);
        run.hand_out(sequence, first[sequence], take);
    }
    batch.begin(place, &first)?;
    run.steps(place, &mut batch, take)?;
    Ok(run.stops.into_iter().flatten().collect())
}

/// Where each sequence stands.
struct Run<'a> {
    ends: Vec<End<'a>>,
    stops: Vec<Option<Stop>>,
    /// Steps that may still be enqueued: none is that has no place in the context.
    left: Vec<usize>,
}

impl Run<'_> {
    fn hand_out(&mut self, sequence: usize, id: u32, take: &mut dyn FnMut(usize, u32) -> bool) {
        if self.stops[sequence].is_none() {
            self.stops[sequence] = self.ends[sequence].after(id, &mut |id| take(sequence, id));
        }
    }

    /// Decode steps until every sequence has ended.
    fn steps(
        &mut self,
        place: &mut Place<'_>,
        batch: &mut Batch,
        take: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<(), CallError> {
        let mut ring = batch.ring(place, AHEAD)?;
        let outcome = self.read_behind(place, batch, &mut ring, take);
        if let Place::Cuda(device) = place {
            // Steps that are still under way end before their memory goes.
            device.synchronize()?;
        }
        outcome
    }

    /// Steps are enqueued ahead. What ends by its length is known before; what ends by what was
    /// read had its row in the steps that were under way, and those tokens are not handed out.
    fn read_behind(
        &mut self,
        place: &mut Place<'_>,
        batch: &mut Batch,
        ring: &mut Option<Ring>,
        take: &mut dyn FnMut(usize, u32) -> bool,
    ) -> Result<(), CallError> {
        let mut under_way: VecDeque<(usize, Vec<usize>)> = VecDeque::with_capacity(AHEAD);
        let mut next = 0;
        // On the CPU nothing is under way: what a step sampled is the next one's token.
        let ahead = if ring.is_some() { AHEAD } else { 1 };
        while self.stops.iter().any(Option::is_none) {
            while under_way.len() < ahead {
                let goes_on = |s: &usize| self.stops[*s].is_none() && self.left[*s] > 0;
                let stay: Vec<usize> = batch.rows().iter().copied().filter(goes_on).collect();
                if stay.is_empty() {
                    break;
                }
                if stay != batch.rows() {
                    batch.keep(place, &stay)?;
                }
                stay.iter().for_each(|s| self.left[*s] -= 1);
                batch.enqueue(place, ring, next % AHEAD)?;
                under_way.push_back((next % AHEAD, stay));
                next += 1;
            }
            let Some((at, of)) = under_way.pop_front() else { break };
            for (sequence, id) in of.iter().zip(batch.tokens(place, ring, at, &of)?) {
                self.hand_out(*sequence, id, take);
            }
        }
        Ok(())
    }
}
