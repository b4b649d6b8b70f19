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

    /// The states of several sequences, one after the other, for a Program whose states are those
    /// of each, end to end.
    pub fn joined(model: &CpuModel, each: &[&CpuSession]) -> CpuSession {
        let mut session = CpuSession::open(model);
        for (id, state) in &mut session.states {
            let real = each.iter().filter_map(|s| match &*s.states[id] {
                Values::Real(x) => Some(x.as_slice()),
                Values::Ids(_) => None,
            });
            let ids = each.iter().filter_map(|s| match &*s.states[id] {
                Values::Ids(x) => Some(x.as_slice()),
                Values::Real(_) => None,
            });
            *state = Arc::new(match &**state {
                Values::Real(_) => Values::Real(real.collect::<Vec<_>>().concat()),
                Values::Ids(_) => Values::Ids(ids.collect::<Vec<_>>().concat()),
            });
        }
        session
    }

    /// Moves row `from` of states to row `to`.
    pub fn move_row(&mut self, model: &CpuModel, slots: &[Id], from: usize, to: usize) {
        for slot in slots {
            let Some(state) = self.states.get_mut(slot) else { continue };
            let meta = model.program.slot_meta(*slot, Sizes { n: 0, m: 0 });
            let row = meta.shape[1..].iter().product::<usize>();
            let range = from * row..(from + 1) * row;
            match Arc::make_mut(state) {
                Values::Real(x) => x.copy_within(range, to * row),
                Values::Ids(x) => x.copy_within(range, to * row),
            }
        }
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
            for (id, values) in run(model, step, sizes, &held)? {
                put(program, &mut held, id, values, sizes);
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
    sizes: Sizes,
    held: &HashMap<Id, Arc<Values>>,
) -> Result<Vec<(Id, Arc<Values>)>, CallError> {
    let program = &model.program;
    let scalar = |slot| number(program, &get(program, held, slot, sizes), slot);
    let (op, question) = program.question(step, model.dtype, sizes, scalar)?;
    let mut operands = Inputs::default();
    for (name, view) in &step.operands {
        let weight = model.weights.get(&view.slot).map(Arc::clone);
        let values = weight.unwrap_or_else(|| get(program, held, view.slot, sizes));
        operands.share(name, values);
    }
    let refused = |source| CallError::Refused { step: step.name.clone(), source };
    let results = ops::answer(op, &question, &operands).map_err(refused)?;
    let widened = results.iter().map(|t| Arc::new(Values::of(t)));
    Ok(step.results.iter().map(|(_, view)| view.slot).zip(widened).collect())
}

/// The elements of a part within its whole.
fn range(program: &Program, slot: Id, sizes: Sizes) -> std::ops::Range<usize> {
    let (of, first) = program.memory(slot);
    let count = |slot: Id| program.slot_meta(slot, sizes).shape.iter().product::<usize>();
    let rows = program.slot_meta(of, sizes).shape.first().copied().unwrap_or(1).max(1);
    let at = first * (count(of) / rows);
    at..at + count(slot)
}

/// What a slot holds.
fn get(program: &Program, held: &HashMap<Id, Arc<Values>>, slot: Id, sizes: Sizes) -> Arc<Values> {
    let of = program.memory(slot).0;
    if of == slot {
        return Arc::clone(&held[&slot]);
    }
    let range = range(program, slot, sizes);
    Arc::new(match &*held[&of] {
        Values::Real(x) => Values::Real(x[range].to_vec()),
        Values::Ids(x) => Values::Ids(x[range].to_vec()),
    })
}

/// Writes a slot from its beginning, as many elements as there are; the first part that is written
/// of a value makes all of it.
fn put(
    program: &Program,
    held: &mut HashMap<Id, Arc<Values>>,
    slot: Id,
    values: Arc<Values>,
    sizes: Sizes,
) {
    let of = program.memory(slot).0;
    let meta = program.slot_meta(of, sizes);
    if values.len() == meta.shape.iter().product::<usize>() {
        held.insert(of, values);
        return;
    }
    let at = range(program, slot, sizes).start;
    let whole = held.entry(of).or_insert_with(|| {
        let bytes = vec![0; meta.bytes().expect("a value has a size")];
        Arc::new(Values::of(&Tensor { meta, bytes }))
    });
    let range = at..at + values.len();
    match (Arc::make_mut(whole), &*values) {
        (Values::Real(to), Values::Real(from)) => to[range].copy_from_slice(from),
        (Values::Ids(to), Values::Ids(from)) => to[range].copy_from_slice(from),
        _ => unreachable!("a part has the type of its whole"),
    }
}

/// The attribute that a slot holds: its first element, or both words of a state.
fn number(program: &Program, values: &Values, slot: Id) -> i64 {
    let Values::Ids(words) = values else { return 0 };
    let state = program.slots[program.memory(slot).0.0].kind == Kind::State;
    match words[..] {
        [low, high] if state => i64::from(high) << 32 | i64::from(low as u32),
        [first, ..] => i64::from(first),
        [] => 0,
    }
}
