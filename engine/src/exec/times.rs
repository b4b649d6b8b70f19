//! How long each part of a decode step takes on a card.

use crate::cuda::{Device, DeviceError};
use crate::exec::bench::{ROUNDS, median};
use crate::exec::cpu::{CallError, CallInputs};
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::ops::Phase;
use crate::program::Step;

/// Steps of one name and op in every layer, which run one after the other while they are timed, so
/// that each layer's weights come from memory where all of them exceed the level-2 cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The steps' name, `layer.*.` for all layers.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// Steps of one decode step.
    pub steps: usize,
    /// Their launches.
    pub launches: usize,
    /// The kernels that one of them runs.
    pub entries: Vec<String>,
    /// All of them together, µs.
    pub us: f64,
    /// Bytes that all of them must move.
    pub bytes: f64,
}

/// A decode step in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// The whole step as it runs, µs.
    pub step_us: f64,
    /// Its parts, in the order in which they begin. Launches overlap, so the parts may take longer
    /// than the whole.
    pub parts: Vec<Part>,
}

/// Replays of which the middle one counts.
const REPLAYS: usize = 5;

/// What a decode step is timed with.
pub struct Question<'a> {
    /// What the first call brings.
    pub inputs: &'a CallInputs,
    /// Its position, for the bytes of attention.
    pub position: i64,
    /// Positions behind it: steps that sample move on by themselves.
    pub room: usize,
    /// Sets everything that steps move.
    pub restore: &'a dyn Fn(&CudaSession, &Device) -> Result<(), DeviceError>,
}

impl CudaSession {
    /// Times a decode step, whole and part by part, each by graphs of at least [`ROUNDS`] launches
    /// where there is room for as many steps.
    ///
    /// # Errors
    /// As [`CudaSession::call`].
    pub fn times(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        ask: &Question<'_>,
    ) -> Result<Times, CallError> {
        let sizes = self.call(device, model, Phase::Decode, ask.inputs)?;
        let bound = &self.lowered[&self.key(Phase::Decode, sizes)];
        let time = |steps: &[usize], repeat: usize| -> Result<f64, DeviceError> {
            let once = |d: &Device| {
                let mut steps = steps.iter();
                steps.try_for_each(|i| CudaSession::launch_all(d, &bound[*i..=*i]))
            };
            let graph = device.capture(|d| (0..repeat).try_for_each(|_| once(d)))?;
            let mut us = Vec::with_capacity(REPLAYS);
            // The first replay is not counted.
            for replay in 0..=REPLAYS {
                (ask.restore)(self, device)?;
                let taken = device.time_us(|d| d.replay(&graph))? / repeat as f64;
                if replay > 0 {
                    us.push(taken);
                }
            }
            Ok(median(&mut us))
        };
        let all: Vec<usize> = (0..bound.len()).collect();
        let step_us = time(&all, ROUNDS.min(ask.room).max(1))?;
        let program = model.program_of(Phase::Decode);
        let mut parts: Vec<(Part, Vec<usize>)> = Vec::new();
        for (i, step) in program.steps_of(sizes).iter().enumerate() {
            let step = &at_one_position(step);
            let (op, mut question) =
                program.question(step, model.dtype(), sizes, |_| ask.position)?;
            question.phase = Some(Phase::Decode);
            let (name, bytes) = (in_every_layer(&step.name), op.cost(&question).bytes);
            let launches = bound[i].launches.len();
            match parts.iter_mut().find(|(p, _)| p.name == name && p.op == step.op) {
                Some((part, steps)) => {
                    part.steps += 1;
                    part.launches += launches;
                    part.bytes += bytes;
                    steps.push(i);
                }
                None => {
                    let entries = bound[i].launches.iter().map(|l| l.entry.clone()).collect();
                    let (steps, us) = (1, 0.0);
                    let part = Part { name, op: step.op, steps, launches, entries, us, bytes };
                    parts.push((part, vec![i]));
                }
            }
        }
        for (part, steps) in &mut parts {
            let repeat = ROUNDS.div_ceil(part.launches.max(1)).min(ask.room).max(1);
            part.us = time(steps, repeat)?;
        }
        // A step that left early because its data were bad would have been fast for nothing.
        self.check_faults(device, Phase::Decode, sizes)?;
        Ok(Times { step_us, parts: parts.into_iter().map(|(part, _)| part).collect() })
    }
}

/// The step with a scalar in place of positions that stand in memory, by which the bytes of its
/// keys are counted: every row is at the same one.
fn at_one_position(step: &Step) -> Step {
    let mut step = step.clone();
    if step.op != "attention_decode" {
        return step;
    }
    if let Some(at) = step.operands.iter().position(|(name, _)| *name == "positions") {
        let (_, view) = step.operands.remove(at);
        step.scalars.push(("position", view.slot));
    }
    step
}

/// The name of a step without the number of its layer, or of its row.
fn in_every_layer(name: &str) -> String {
    if let Some((step, row)) = name.rsplit_once('.')
        && row.bytes().all(|b| b.is_ascii_digit())
    {
        return format!("{step}.*");
    }
    let rest = name.strip_prefix("layer.").and_then(|rest| rest.split_once('.'));
    match rest {
        Some((layer, rest)) if layer.bytes().all(|b| b.is_ascii_digit()) => {
            format!("layer.*.{rest}")
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_one_name() {
        assert_eq!(in_every_layer("layer.12.attn.q"), "layer.*.attn.q");
        assert_eq!(in_every_layer("layer.x.q"), "layer.x.q");
        assert_eq!(in_every_layer("logits"), "logits");
        assert_eq!(in_every_layer("advance.3"), "advance.*");
    }
}
