//! A step against its own definition on the operands that it really had: the first step whose load
//! exceeds 1 is the culprit of a wrong result, whatever it inherited.

use std::collections::BTreeMap;

use crate::cuda::{Device, DeviceError};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::exec::cpu::{CallError, CallInputs, Slots};
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::ops::slack::UNIT;
use crate::ops::{Asked, Inputs, Op, Phase, Question, Slack, Sums, Values};
use crate::program::{Sizes, Step, View};
use crate::tensor::Tensor;

/// How far results are from the definition, beyond one rounding, as a share of what the op's
/// formula allows: 0 is perfect, above 1 no legal kernel.
///
/// # Errors
/// What the definition refuses.
///
/// # Panics
/// If a result of the op is not among `results`.
pub fn load(
    op: &dyn Op,
    question: &Question,
    operands: &Slots,
    results: &Slots,
) -> Result<f64, Refusal> {
    let inputs = Inputs::of(operands.iter().map(|(name, t)| (name.as_str(), t)));
    let values = op.define(question, &inputs)?;
    let sums = Sums { tensor: question.dtype != DType::F32, linear: false };
    let asked = Asked { question, inputs: &inputs, tensors: operands, sums };
    let slack = op.slack(&asked, &values);
    let mut worst = 0.0f64;
    for (((name, _), want), slack) in question.results().iter().zip(&values).zip(&slack) {
        worst = worst.max(of_result(question, &results[*name], want, slack));
    }
    Ok(worst)
}

impl CudaSession {
    /// Runs one call step by step and hands each step with the operands that it really had, and its
    /// results, to `look`.
    ///
    /// # Errors
    /// As [`CudaSession::call`], and what `look` says.
    pub fn each_step(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        phase: Phase,
        inputs: &CallInputs,
        mut look: impl FnMut(&Step, &Slots, &Slots) -> Result<(), CallError>,
    ) -> Result<Sizes, CallError> {
        let sizes = self.begin(device, model, phase, inputs)?;
        let program = model.program_of(phase);
        for (i, step) in program.steps_of(sizes).iter().enumerate() {
            let before = self.operands(device, model, phase, sizes, step)?;
            let bound = &self.lowered[&self.key(phase, sizes)][i];
            CudaSession::launch_all(device, std::slice::from_ref(bound))?;
            device.synchronize()?;
            self.check_faults(device, phase, sizes)?;
            let mut after = BTreeMap::new();
            for (name, view) in &step.results {
                let mut tensor = self.tensor(device, model, phase, sizes, view.slot)?;
                tensor.meta = program.meta(view, sizes);
                after.insert((*name).to_owned(), tensor);
            }
            look(step, &before, &after)?;
        }
        Ok(sizes)
    }

    fn operands(
        &self,
        device: &Device,
        model: &CudaModel,
        phase: Phase,
        sizes: Sizes,
        step: &Step,
    ) -> Result<Slots, DeviceError> {
        let program = model.program_of(phase);
        let one = |(name, view): &(&'static str, View)| {
            let mut tensor = self.tensor(device, model, phase, sizes, view.slot)?;
            tensor.meta = program.meta(view, sizes);
            Ok(((*name).to_owned(), tensor))
        };
        step.operands.iter().map(one).collect()
    }
}

fn of_result(question: &Question, got: &Tensor, want: &Values, slack: &Slack) -> f64 {
    let want = match want {
        Values::Ids(ids) if got.to_i32() == *ids => return 0.0,
        Values::Ids(_) => return f64::INFINITY,
        Values::Real(want) => want,
    };
    let unit = unit(question);
    let stored = got.meta.dtype;
    let mut worst = 0.0f64;
    for (i, (got, want)) in got.to_f64().iter().zip(want).enumerate() {
        let kept = |(name, term): (&&str, &Vec<f64>)| match keeps(question, name) {
            true => term[i] * unit,
            false => 0.0,
        };
        let allowed = (slack.slack[i] + slack.keeps.iter().map(kept).sum::<f64>()) / UNIT;
        worst = worst.max(one(*got, *want, allowed, stored));
    }
    worst
}

/// The load of one element.
fn one(got: f64, want: f64, allowed: f64, stored: DType) -> f64 {
    let rounded = stored.round(want);
    if got == rounded || got.is_nan() && rounded.is_nan() {
        return 0.0;
    }
    let beyond = (got - want).abs() - stored.half_ulp(want);
    match beyond / allowed {
        _ if beyond <= 0.0 => 0.0,
        share if share.is_nan() => f64::INFINITY,
        share => share,
    }
}

/// The unit of the activations' type; an f32 run keeps nothing rounded.
fn unit(question: &Question) -> f64 {
    match question.dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    }
}

/// Whether our kernels keep a value rounded to D: a quantised weight in prefill, the weights of
/// attention in prefill, the activation between two products.
fn keeps(question: &Question, name: &str) -> bool {
    match name {
        // The terms of an op's weights are those of its weights in blocks.
        "w" => question.phase == Some(Phase::Prefill) && rounds(question),
        "p" => question.signature.name == "attention_prefill",
        _ => true,
    }
}

/// Whether a weight of the question is of a block type.
fn rounds(question: &Question) -> bool {
    let weights = ["w", "w_gate", "w_up", "w_down"];
    weights.iter().any(|w| question.operand(w).is_some_and(|m| m.dtype.is_block()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounding_is_free_and_a_nan_is_not() {
        assert_eq!(one(1.0, 1.0 + 2f64.powi(-12), 0.0, DType::F16), 0.0);
        assert_eq!(one(1.5, 1.0, 0.0, DType::F16), f64::INFINITY);
        assert_eq!(one(f64::NAN, 1.0, 1.0, DType::F16), f64::INFINITY);
        let load = one(1.0 + 2f64.powi(-10), 1.0, 2f64.powi(-10), DType::F16);
        assert!((load - 0.5).abs() < 1e-12, "{load}");
    }
}
