//! A loaded model and its sessions, on the CPU or on a device.

use std::collections::BTreeMap;

use crate::cuda::Device;
use crate::dtype::DType;
use crate::exec::cpu::{CallError, CallInputs, CpuModel, CpuSession, Slots, Source};
use crate::exec::cuda::{CudaModel, CudaSession, Options};
use crate::exec::local::load;
use crate::exec::room::{PHASES, Room, Shelf};
use crate::exec::stage;
use crate::fuse::fuse;
use crate::ops::Phase;
use crate::program::{Kind, Program, Sizes, Step};
use crate::several::several;
use crate::tensor::Tensor;

/// Where a model runs.
#[derive(Debug)]
pub enum Place<'d> {
    /// By the definitions.
    Cpu,
    /// On a card.
    Cuda(&'d mut Device),
}

/// The most rows of logits that a head gives at once.
pub const HEAD_ROWS: usize = 128;

/// How a model is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The type of activations.
    pub dtype: DType,
    /// Positions of a session.
    pub context: usize,
    /// Sequences that generation may have side by side.
    pub sequences: usize,
    /// Prompt tokens of one call.
    pub chunk: usize,
    /// Slots that exist and keep their memory until a call ends.
    pub trace: Vec<String>,
    /// How the device runs it.
    pub options: Options,
}

/// Bytes that a model and a session of it take on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedBytes {
    /// Weights as they are laid out.
    pub weights: usize,
    /// Caches and counters, of every sequence.
    pub state: usize,
    /// What a call brings.
    pub inputs: usize,
    /// Values of the larger phase.
    pub values: usize,
    /// Scratch of the step that needs most.
    pub workspace: usize,
    /// Constants of both phases, and a fault word a step.
    pub tables: usize,
}

impl NeedBytes {
    /// All of one session.
    pub fn session(&self) -> usize {
        self.state + self.inputs + self.values + self.workspace + self.tables
    }
}

#[derive(Debug)]
enum Loaded {
    Cpu(Box<CpuModel>),
    Cuda(Box<CudaModel>),
}

/// A model with its weights in place.
#[derive(Debug)]
pub struct Model {
    loaded: Loaded,
    settings: Settings,
    largest: Sizes,
}

/// The largest calls of a session.
fn largest(settings: &Settings) -> Sizes {
    let n = settings.chunk.min(settings.context).max(1);
    Sizes { n, m: HEAD_ROWS.min(n) }
}

/// What a Program needs on a card, without one.
///
/// # Errors
/// A question that an op refuses.
pub fn need(
    program: &Program,
    settings: &Settings,
    card: &crate::cuda::Card,
) -> Result<NeedBytes, CallError> {
    let traced: Vec<_> = settings.trace.iter().filter_map(|name| program.find(name)).collect();
    let rows = settings.sequences.max(1);
    let steps = if rows > 1 { several(program, rows) } else { program.clone() };
    let mut programs = [program.clone(), steps];
    if settings.options.fused {
        for (program, phase) in programs.iter_mut().zip(PHASES) {
            *program = fuse(program, phase, &traced);
        }
    }
    let room = Room::of(&programs, settings.dtype, largest(settings), rows, &traced, card)?;
    Ok(NeedBytes {
        weights: Shelf::of(program).bytes,
        state: room.states,
        inputs: room.values - room.states,
        values: room.workspace - room.values,
        workspace: room.constants[0] - room.workspace,
        tables: room.bytes - room.constants[0],
    })
}

impl Model {
    /// Loads a Program's weights; `progress` is told the bytes that have gone over.
    ///
    /// # Errors
    /// A Program that breaks its rules, a weight that is not finite, a source that changed
    /// meanwhile, and the device's errors.
    pub fn load(
        place: &mut Place<'_>,
        program: &Program,
        settings: &Settings,
        source: &dyn Source,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Model, CallError> {
        let largest = largest(settings);
        program.check(settings.dtype, largest)?;
        let loaded = match place {
            Place::Cpu => {
                stage::check(program, source)?;
                Loaded::Cpu(Box::new(CpuModel::load(program, settings.dtype, source, progress)))
            }
            Place::Cuda(device) => {
                let traced: Vec<_> =
                    settings.trace.iter().filter_map(|name| program.find(name)).collect();
                let (dtype, options) = (settings.dtype, settings.options);
                let model =
                    CudaModel::load(device, program, dtype, source, &traced, options, progress)?;
                Loaded::Cuda(Box::new(model))
            }
        };
        source.unchanged()?;
        Ok(Model { loaded, settings: settings.clone(), largest })
    }

    /// The same weights under a Program that goes on where this one ends, for calls that want one
    /// row.
    pub fn extended(&self, program: &Program) -> Model {
        self.several(program, program)
    }

    /// The same weights under a Program for prompts and one for decode steps; the CPU has one at a
    /// time, and this is that for prompts. Calls that sample want one row of a prompt.
    pub(crate) fn several(&self, prompt: &Program, steps: &Program) -> Model {
        let loaded = match &self.loaded {
            Loaded::Cpu(model) => Loaded::Cpu(Box::new(model.extended(prompt))),
            Loaded::Cuda(model) => Loaded::Cuda(Box::new(model.several(prompt, steps))),
        };
        let m = if prompt.tail.rows > 0 { 1 } else { self.largest.m };
        let largest = Sizes { n: self.largest.n, m };
        Model { loaded, settings: self.settings.clone(), largest }
    }

    /// Before any rewrite.
    pub fn program(&self) -> &Program {
        match &self.loaded {
            Loaded::Cpu(model) => model.program(),
            Loaded::Cuda(model) => model.program(),
        }
    }

    /// How it was loaded.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Bytes of the weights' arena on a device.
    pub fn bytes(&self) -> Option<usize> {
        self.cuda().map(CudaModel::bytes)
    }

    /// The kernel entries that its calls have run since this was last asked, each once; none of a
    /// model on the CPU, which has no kernels.
    pub fn route(&self) -> Option<Vec<String>> {
        self.cuda().map(CudaModel::route)
    }

    /// On a device.
    pub(crate) fn cuda(&self) -> Option<&CudaModel> {
        match &self.loaded {
            Loaded::Cpu(_) => None,
            Loaded::Cuda(model) => Some(model),
        }
    }

    /// On the CPU.
    pub(crate) fn cpu(&self) -> Option<&CpuModel> {
        match &self.loaded {
            Loaded::Cpu(model) => Some(model),
            Loaded::Cuda(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum State {
    Cpu(CpuSession),
    Cuda(Box<CudaSession>),
}

/// What a call shall give besides moving on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Want {
    /// Rows of the call, by falling place in it, whose logits are wanted.
    pub rows: Vec<usize>,
    /// Slots, by name.
    pub slots: Vec<String>,
    /// Which kernels answer; `None`: one token is a generated one, more are a prompt.
    pub phase: Option<Phase>,
}

/// What a call gave.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// `logits` [rows, vocabulary] f32, where rows were wanted, and every wanted slot: values with
    /// all rows of the call, states with the rows of the sequence.
    pub slots: Slots,
}

/// One sequence of a model.
#[derive(Debug)]
pub struct Session {
    pub(crate) state: State,
    pub(crate) length: usize,
}

impl Session {
    /// Opens an empty session.
    ///
    /// # Errors
    /// The device's.
    ///
    /// # Panics
    /// If `place` is not where the model is.
    pub fn open(place: &mut Place<'_>, model: &Model) -> Result<Session, CallError> {
        Session::of_rows(place, model, 1)
    }

    /// Opens a session whose decode steps have up to `rows` rows; on the CPU it is one sequence.
    pub(crate) fn of_rows(
        place: &mut Place<'_>,
        model: &Model,
        rows: usize,
    ) -> Result<Session, CallError> {
        let state = match (&model.loaded, place) {
            (Loaded::Cpu(model), Place::Cpu) => State::Cpu(CpuSession::open(model)),
            (Loaded::Cuda(loaded), Place::Cuda(device)) => {
                State::Cuda(Box::new(CudaSession::open(device, loaded, model.largest, rows)?))
            }
            _ => panic!("a model is asked where it is"),
        };
        Ok(Session { state, length: 0 })
    }

    /// Tokens so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        match &self.state {
            State::Cpu(_) => 0,
            State::Cuda(session) => session.bytes(),
        }
    }

    /// A new session that holds the first `keep` tokens of this one.
    ///
    /// # Errors
    /// The device's.
    pub fn fork(
        &self,
        place: &mut Place<'_>,
        model: &Model,
        keep: usize,
    ) -> Result<Session, CallError> {
        let length = keep.min(self.length);
        let mut new = Session::open(place, model)?;
        match (&mut new.state, &self.state, place) {
            (State::Cpu(to), State::Cpu(from), _) => to.clone_from(from),
            (State::Cuda(to), State::Cuda(from), Place::Cuda(device)) => {
                to.copy_states(device, from)?;
            }
            _ => panic!("a model is asked where it is"),
        }
        new.length = length;
        Ok(new)
    }

    /// Appends tokens, chunk by chunk.
    ///
    /// # Errors
    /// More tokens than the context holds, ids that the model has not, the device's errors.
    pub fn extend(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        ids: &[u32],
        want: &Want,
    ) -> Result<Output, CallError> {
        let mut output = Output::default();
        for (i, chunk) in ids.chunks(model.largest.n).enumerate() {
            let first = i * model.largest.n;
            let rows = want.rows.iter().filter(|r| (first..first + chunk.len()).contains(*r));
            let rows: Vec<usize> = rows.map(|r| r - first).collect();
            let one = ids.len() == 1;
            let phase = want.phase.unwrap_or(if one { Phase::Decode } else { Phase::Prefill });
            let part = self.chunk(place, model, (chunk, phase), &rows, &want.slots)?;
            join(&mut output.slots, part, model.program());
        }
        cut_states(&mut output.slots, model.program(), self.length);
        Ok(output)
    }

    /// How far each step of a call is from its own definition on the operands that it really had,
    /// by the name of the step; the session stays as it was but for its caches' next rows. Only
    /// devices have anything to tell.
    ///
    /// # Errors
    /// As [`Session::extend`].
    pub fn local(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        ids: &[u32],
        phase: Option<Phase>,
    ) -> Result<BTreeMap<String, f64>, CallError> {
        let phase = phase.unwrap_or(if ids.len() == 1 { Phase::Decode } else { Phase::Prefill });
        let last: Vec<usize> = ids.len().checked_sub(1).into_iter().collect();
        let inputs = self.inputs(ids, &last);
        let mut loads = BTreeMap::new();
        let (State::Cuda(session), Loaded::Cuda(loaded), Place::Cuda(device)) =
            (&mut self.state, &model.loaded, place)
        else {
            return Ok(loads);
        };
        let (program, dtype) = (loaded.program_of(phase).clone(), loaded.dtype());
        let sizes = Sizes { n: ids.len(), m: last.len() };
        let start = self.length as i64;
        let look = |step: &Step, before: &Slots, after: &Slots| {
            let (op, mut question) = program.question(step, dtype, sizes, |_| start)?;
            question.phase = Some(phase);
            let refused = |source| CallError::Refused { step: step.name.clone(), source };
            let load = load(op, &question, before, after).map_err(refused)?;
            loads.insert(step.name.clone(), load);
            Ok(())
        };
        session.each_step(device, loaded, phase, &inputs, look)?;
        Ok(loads)
    }

    fn inputs(&self, ids: &[u32], rows: &[usize]) -> CallInputs {
        let n = ids.len();
        let as_i32 = |x: &[usize]| x.iter().map(|x| *x as i32).collect::<Vec<_>>();
        // An id beyond i32 is out of range too, and said so by the op.
        let ids: Vec<i32> = ids.iter().map(|id| i32::try_from(*id).unwrap_or(-1)).collect();
        let positions: Vec<usize> = (self.length..self.length + n).collect();
        let mut inputs = CallInputs::from([
            ("tokens", Tensor::from_i32(&[n], &ids)),
            ("positions", Tensor::from_i32(&[n], &as_i32(&positions))),
        ]);
        if !rows.is_empty() {
            inputs.insert("out_rows", Tensor::from_i32(&[rows.len()], &as_i32(rows)));
        }
        inputs
    }

    fn chunk(
        &mut self,
        place: &mut Place<'_>,
        model: &Model,
        (ids, phase): (&[u32], Phase),
        rows: &[usize],
        slots: &[String],
    ) -> Result<Slots, CallError> {
        let mut slices: Vec<&[usize]> = rows.chunks(HEAD_ROWS).collect();
        if slices.is_empty() {
            slices.push(&[]);
        }
        let inputs = self.inputs(ids, slices[0]);
        let mut wanted: Vec<&str> = slots.iter().map(String::as_str).collect();
        if !rows.is_empty() && !wanted.contains(&"logits") {
            wanted.push("logits");
        }
        let program = model.program();
        let in_head = |name: &str| program.find(name).is_some_and(|id| program.in_head(id));
        // Without wanted rows the head does not run.
        wanted.retain(|name| !rows.is_empty() || !in_head(name));
        let mut found = match (&mut self.state, &model.loaded, place) {
            (State::Cpu(session), Loaded::Cpu(model), _) => {
                let all = self_inputs(&inputs, rows);
                session.call(model, &all, &wanted)?
            }
            (State::Cuda(session), Loaded::Cuda(model), Place::Cuda(device)) => {
                let sizes = session.call(device, model, phase, &inputs)?;
                let mut found = session.read(device, model, phase, sizes, &wanted)?;
                wanted.retain(|name| in_head(name));
                for slice in &slices[1..] {
                    let out_rows: Vec<i32> = slice.iter().map(|r| *r as i32).collect();
                    let out_rows = Tensor::from_i32(&[slice.len()], &out_rows);
                    let sizes = session.head(device, model, sizes.n, &out_rows)?;
                    let more = session.read(device, model, Phase::Prefill, sizes, &wanted)?;
                    join(&mut found, more, program);
                }
                found
            }
            _ => panic!("a model is asked where it is"),
        };
        self.length += ids.len();
        found.retain(|name, _| wanted_name(name, slots, rows));
        Ok(found)
    }
}

fn wanted_name(name: &str, slots: &[String], rows: &[usize]) -> bool {
    name == "logits" && !rows.is_empty() || slots.iter().any(|s| s == name)
}

/// The CPU's head takes every wanted row at once.
fn self_inputs(inputs: &CallInputs, rows: &[usize]) -> CallInputs {
    let mut inputs = inputs.clone();
    if !rows.is_empty() {
        let rows: Vec<i32> = rows.iter().map(|r| *r as i32).collect();
        inputs.insert("out_rows", Tensor::from_i32(&[rows.len()], &rows));
    }
    inputs
}

/// Rows of a later part behind those of an earlier one; states are what they came to.
fn join(all: &mut Slots, part: Slots, program: &Program) {
    for (name, tensor) in part {
        let state = program.find(&name).is_some_and(|id| program.slots[id.0].kind == Kind::State);
        match all.get_mut(&name) {
            Some(whole) if !state => {
                whole.bytes.extend(tensor.bytes);
                whole.meta.shape[0] += tensor.meta.shape[0];
            }
            _ => {
                all.insert(name, tensor);
            }
        }
    }
}

/// Of a cache only the rows that the sequence has written are told.
fn cut_states(slots: &mut BTreeMap<String, Tensor>, program: &Program, length: usize) {
    for (name, tensor) in slots {
        let Some(id) = program.find(name) else { continue };
        if program.slots[id.0].kind == Kind::State && tensor.meta.shape.len() == 3 {
            let row = tensor.bytes.len() / tensor.meta.shape[0];
            tensor.bytes.truncate(length * row);
            tensor.meta.shape[0] = length;
        }
    }
}
