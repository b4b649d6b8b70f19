//! The CPU executor: each step by its op's definition, results rounded once to their slots' types.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::{self, Inputs};
use crate::program::{Kind, Program, ProgramError, concrete};
use crate::tensor::Tensor;

/// What a call came to: every slot that holds something after it, by name.
pub type Slots = BTreeMap<String, Tensor>;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The Program does not take such a call.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The data break a rule of an op.
    #[error("step {step}: {source}")]
    Refused {
        /// The step.
        step: String,
        /// What the op says.
        source: Refusal,
    },
    /// The device could not.
    #[error(transparent)]
    Device(#[from] crate::cuda::DeviceError),
}

/// A Program with its weights and the state of one session, on the CPU.
#[derive(Debug)]
pub struct CpuSession<'a> {
    program: &'a Program,
    dtype: DType,
    weights: &'a BTreeMap<String, Tensor>,
    states: Slots,
    position: usize,
}

/// Rows `first .. first + rows` of a tensor.
pub(crate) fn rows_of(tensor: &Tensor, first: usize, rows: usize) -> &[u8] {
    let all = tensor.meta.shape[0];
    let row = tensor.bytes.len() / all;
    &tensor.bytes[first * row..(first + rows) * row]
}

/// A state as a session begins: all zero.
pub(crate) fn zeroed(program: &Program, slot: usize) -> Tensor {
    let slot = &program.slots[slot];
    let meta = crate::shape::Meta::new(slot.dtype, &concrete(&slot.shape, 0));
    let bytes = vec![0; meta.bytes().expect("a state has a size")];
    Tensor { meta, bytes }
}

impl<'a> CpuSession<'a> {
    /// Opens a session: states are zero, the position is zero.
    pub fn open(
        program: &'a Program,
        dtype: DType,
        weights: &'a BTreeMap<String, Tensor>,
    ) -> CpuSession<'a> {
        let states = (0..program.slots.len())
            .filter(|i| program.slots[*i].kind == Kind::State)
            .map(|i| (program.slots[i].name.clone(), zeroed(program, i)))
            .collect();
        CpuSession { program, dtype, weights, states, position: 0 }
    }

    /// Runs one call on `x` [n, hidden] and moves the position on; every slot comes back.
    ///
    /// # Errors
    /// A call that the Program does not take, or data that an op refuses.
    pub fn call(&mut self, x: &Tensor) -> Result<Slots, CallError> {
        let n = x.meta.shape[0];
        let mut slots = self.states.clone();
        slots.insert("x".to_owned(), x.clone());
        for step in &self.program.steps {
            let (op, question) = self.program.question(step, self.dtype, n, self.position)?;
            let tensors: Vec<(&str, Tensor)> = step
                .operands
                .iter()
                .map(|(name, view)| {
                    let slot = &self.program.slots[view.slot.0];
                    let meta = self.program.meta(view, n);
                    let bytes = match &slot.kind {
                        Kind::Weight { tensor, first } => {
                            rows_of(&self.weights[tensor], *first, meta.shape[0]).to_vec()
                        }
                        _ => slots[&slot.name].bytes.clone(),
                    };
                    (*name, Tensor { meta, bytes })
                })
                .collect();
            let inputs = Inputs::of(tensors.iter().map(|(name, t)| (*name, t)));
            let results = ops::answer(op, &question, &inputs)
                .map_err(|source| CallError::Refused { step: step.name.clone(), source })?;
            for ((_, view), mut result) in step.results.iter().zip(results) {
                let slot = &self.program.slots[view.slot.0];
                result.meta.shape = concrete(&slot.shape, n);
                slots.insert(slot.name.clone(), result);
            }
        }
        for (name, state) in &mut self.states {
            state.clone_from(&slots[name]);
        }
        self.position += n;
        Ok(slots)
    }
}
