//! The CPU executor: each step by its op's definition, results rounded once to their slots' types.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::{self, Inputs, Values};
use crate::program::{Id, Kind, Program, ProgramError, Sizes, Step, concrete};
use crate::shape::Meta;
use crate::tensor::Tensor;

/// What a call came to: every slot that holds something after it, by name.
pub type Slots = BTreeMap<String, Tensor>;

/// What a call brings, by the names of the Program's input slots.
pub type CallInputs = BTreeMap<&'static str, Tensor>;

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
    /// A weight is NaN or infinite.
    #[error("the weight {tensor} holds a number that is not finite")]
    NotFinite {
        /// The tensor, by its canonical name.
        tensor: String,
    },
    /// A file was written to, or replaced, before the last weight was read.
    #[error("{field} of {} is {found}, wants {expected}", .file.display())]
    Changed {
        /// The file.
        file: PathBuf,
        /// What of it differs.
        field: String,
        /// What that is by now.
        found: String,
        /// What it was.
        expected: String,
    },
    /// The device could not.
    #[error(transparent)]
    Device(#[from] crate::cuda::DeviceError),
}

/// Where weights come from: the tensors of a model in the form that Programs name. Several threads
/// read it at once.
pub trait Source: Sync {
    /// Rows `first .. first + rows` of a tensor, as it is stored.
    ///
    /// # Panics
    /// If there is no such tensor or row: the Program was built on what is there.
    fn rows(&self, tensor: &str, first: usize, rows: usize) -> Cow<'_, [u8]>;

    /// Asked after the last row: whether all of them came from what there was at the first one.
    ///
    /// # Errors
    /// [`CallError::Changed`].
    fn unchanged(&self) -> Result<(), CallError> {
        Ok(())
    }
}

impl Source for BTreeMap<String, Tensor> {
    fn rows(&self, tensor: &str, first: usize, rows: usize) -> Cow<'_, [u8]> {
        let tensor = &self[tensor];
        let row = tensor.bytes.len() / tensor.meta.shape[0];
        Cow::Borrowed(&tensor.bytes[first * row..(first + rows) * row])
    }
}

/// The numbers of a call: how many tokens, how many wanted rows.
pub(crate) fn sizes_of(inputs: &CallInputs) -> Sizes {
    let count = |name: &str| inputs.get(name).map_or(0, |t| t.meta.shape[0]);
    Sizes { n: count("positions"), m: count("out_rows") }
}

/// What stands first in the input slots that attributes are read from.
pub(crate) fn scalar(program: &Program, inputs: &CallInputs, slot: Id) -> i64 {
    let first = |t: &Tensor| i64::from(t.to_i32().first().copied().unwrap_or(0));
    inputs.get(program.slots[slot.0].name.as_str()).map_or(0, first)
}

/// A Program with its weights, widened, on the CPU.
#[derive(Debug)]
pub struct CpuModel {
    program: Program,
    dtype: DType,
    weights: HashMap<Id, Arc<Values>>,
}

impl CpuModel {
    /// Reads every weight; `progress` is told the bytes so far.
    pub fn load(
        program: &Program,
        dtype: DType,
        source: &dyn Source,
        progress: &mut dyn FnMut(usize),
    ) -> CpuModel {
        let mut gone = 0;
        let none = Sizes { n: 0, m: 0 };
        let mut weights = HashMap::new();
        for (i, slot) in program.slots.iter().enumerate() {
            if let Kind::Weight { tensor, first } = &slot.kind {
                let meta = program.slot_meta(Id(i), none);
                let bytes = source.rows(tensor, *first, meta.shape[0]).into_owned();
                gone += bytes.len();
                progress(gone);
                weights.insert(Id(i), Arc::new(Values::of(&Tensor { meta, bytes })));
            }
        }
        CpuModel { program: program.clone(), dtype, weights }
    }

    /// The same weights under a Program that goes on where this one ends.
    pub fn extended(&self, program: &Program) -> CpuModel {
        CpuModel { program: program.clone(), dtype: self.dtype, weights: self.weights.clone() }
    }

    /// What it runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The type of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// The state of one session.
#[derive(Clone, Debug)]
pub struct CpuSession {
    states: HashMap<Id, Arc<Values>>,
}

impl CpuSession {
    /// States begin as zeros.
    pub fn open(model: &CpuModel) -> CpuSession {
        let program = &model.program;
        let none = Sizes { n: 0, m: 0 };
        let zeros = |i: usize| {
            let meta = program.slot_meta(Id(i), none);
            let bytes = vec![0; meta.bytes().expect("a state has a size")];
            (Id(i), Arc::new(Values::of(&Tensor { meta, bytes })))
        };
        let is_state = |i: &usize| program.slots[*i].kind == Kind::State;
        let states = (0..program.slots.len()).filter(is_state).map(zeros).collect();
        CpuSession { states }
    }

    /// Sets a state.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn set(&mut self, model: &CpuModel, name: &str, tensor: &Tensor) {
        let slot = model.program.find(name).unwrap_or_else(|| panic!("no state {name}"));
        self.states.insert(slot, Arc::new(Values::of(tensor)));
    }

    /// Runs one call; the slots of it that `wanted` names come back.
    ///
    /// # Errors
    /// A call that the Program does not take, or data that an op refuses.
    pub fn call(
        &mut self,
        model: &CpuModel,
        inputs: &CallInputs,
        wanted: &[&str],
    ) -> Result<Slots, CallError> {
        let program = &model.program;
        let sizes = sizes_of(inputs);
        let mut held: HashMap<Id, Arc<Values>> = self.states.clone();
        for (i, slot) in program.slots.iter().enumerate() {
            if let (Kind::Input, Some(t)) = (&slot.kind, inputs.get(slot.name.as_str())) {
                held.insert(Id(i), Arc::new(Values::of(t)));
            }
        }
        for step in program.steps_of(sizes) {
            for (id, values) in run(model, step, inputs, sizes, &held)? {
                held.insert(id, values);
            }
        }
        for (id, state) in &mut self.states {
            state.clone_from(&held[id]);
        }
        let name = |(id, values): (Id, Arc<Values>)| {
            let slot = &program.slots[id.0];
            let meta = Meta::new(slot.dtype, &concrete(&slot.shape, sizes));
            (slot.name.clone(), stored(&values, &meta))
        };
        let wanted =
            |(id, _): &(Id, Arc<Values>)| wanted.contains(&program.slots[id.0].name.as_str());
        Ok(held.into_iter().filter(wanted).map(name).collect())
    }
}

fn stored(values: &Values, meta: &Meta) -> Tensor {
    match values {
        Values::Real(x) => Tensor::from_f64(meta.dtype, &meta.shape, x),
        Values::Ids(x) => Tensor::from_i32(&meta.shape, x),
    }
}

/// One step by its definition: its results, rounded to their slots' types.
fn run(
    model: &CpuModel,
    step: &Step,
    inputs: &CallInputs,
    sizes: Sizes,
    held: &HashMap<Id, Arc<Values>>,
) -> Result<Vec<(Id, Arc<Values>)>, CallError> {
    let program = &model.program;
    // A state is what the steps before made of it; what is neither was brought by the call.
    let scalar = |slot| match held.get(&slot).map(Arc::as_ref) {
        Some(Values::Ids(x)) => x.first().map_or(0, |first| i64::from(*first)),
        _ => scalar(program, inputs, slot),
    };
    let (op, question) = program.question(step, model.dtype, sizes, scalar)?;
    let mut operands = Inputs::default();
    for (name, view) in &step.operands {
        let values = model.weights.get(&view.slot).unwrap_or_else(|| &held[&view.slot]);
        operands.share(name, Arc::clone(values));
    }
    let refused = |source| CallError::Refused { step: step.name.clone(), source };
    let results = ops::answer(op, &question, &operands).map_err(refused)?;
    let widened = results.iter().map(|t| Arc::new(Values::of(t)));
    Ok(step.results.iter().map(|(_, view)| view.slot).zip(widened).collect())
}
