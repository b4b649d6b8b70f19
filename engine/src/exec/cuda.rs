//! The CUDA executor: a Program lowered for two phases over the same weights, states and arena.
//!
//! After a session is open nothing allocates: one arena holds states, inputs, values, workspace and
//! fault words. A decode step is a captured graph; positions live in device memory, so one graph
//! serves every step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::cuda::device::{Graph, Memory};
use crate::cuda::{Device, DeviceError, Launch};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::exec::cpu::{CallError, CallInputs, Slots, Source, scalar, sizes_of};
use crate::exec::plan::ALIGN;
use crate::exec::room::{PHASES, Room, Shelf, index};
use crate::exec::route::Ran;
use crate::exec::stage::{self, Weight};
use crate::fuse::fuse;
use crate::ops::Phase;
use crate::program::{Id, Kind, Program, Sizes};
use crate::tensor::Tensor;

/// How a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether patterns are rewritten into fused steps.
    pub fused: bool,
    /// Whether a decode step is captured and replayed.
    pub graph: bool,
    /// Whether launches may overlap.
    pub overlap: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { fused: true, graph: true, overlap: true }
    }
}

/// A Program with its weights on a device.
#[derive(Debug)]
pub struct CudaModel {
    pub(super) plain: Program,
    programs: [Program; 2],
    dtype: DType,
    options: Options,
    traced: Vec<Id>,
    weights: Arc<Memory>,
    shelf: Arc<Shelf>,
    ran: Arc<Ran<(Phase, Sizes)>>,
}

impl CudaModel {
    /// Puts weights on the device. Slots named in `traced` exist in both phases and keep their
    /// memory until a call ends; `progress` is told the bytes of the arena that are on their way.
    ///
    /// # Errors
    /// Out of memory, a weight that is not finite, and the device's.
    pub fn load(
        device: &mut Device,
        program: &Program,
        dtype: DType,
        source: &dyn Source,
        traced: &[Id],
        options: Options,
        progress: &mut dyn FnMut(usize),
    ) -> Result<CudaModel, CallError> {
        let programs = PHASES.map(|phase| match options.fused {
            true => fuse(program, phase, traced),
            false => program.clone(),
        });
        let shelf = Shelf::of(program);
        let weights = device.allocate(shelf.bytes)?;
        send(device, &weights, &stage::weights(program, &shelf), source, progress)?;
        let (plain, traced) = (program.clone(), traced.to_vec());
        let (weights, shelf, ran) = (Arc::new(weights), Arc::new(shelf), Arc::default());
        Ok(CudaModel { plain, programs, dtype, options, traced, weights, shelf, ran })
    }

    /// The same weights under a Program that goes on where this one ends.
    pub fn extended(&self, program: &Program) -> CudaModel {
        self.several(program, program)
    }

    /// The same weights under a Program for prompts and one for decode steps, which has every slot
    /// of the first and whose states are as many of its, end to end.
    pub fn several(&self, prompt: &Program, step: &Program) -> CudaModel {
        let mut programs = [prompt, step].map(Program::clone);
        if self.options.fused {
            for (program, phase) in programs.iter_mut().zip(PHASES) {
                *program = fuse(program, phase, &self.traced);
            }
        }
        CudaModel {
            plain: step.clone(),
            programs,
            dtype: self.dtype,
            options: self.options,
            traced: self.traced.clone(),
            weights: Arc::clone(&self.weights),
            shelf: Arc::clone(&self.shelf),
            ran: Arc::clone(&self.ran),
        }
    }

    /// The kernel entries of every call that was enqueued since the last time, each once, whatever
    /// Program over these weights asked for them.
    pub fn route(&self) -> Vec<String> {
        self.ran.take()
    }

    /// Bytes of the weights' arena.
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// The Program before any rewrite.
    pub fn program(&self) -> &Program {
        &self.plain
    }

    /// What a phase runs.
    pub fn program_of(&self, phase: Phase) -> &Program {
        &self.programs[index(phase)]
    }

    /// The types of activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Fills one buffer while the device takes those before it.
fn send(
    device: &Device,
    arena: &Memory,
    weights: &[Weight<'_>],
    source: &dyn Source,
    progress: &mut dyn FnMut(usize),
) -> Result<(), CallError> {
    let batches = stage::batches(weights, stage::BUFFER);
    let largest = batches.iter().map(|b| b.bytes).max().unwrap_or(0);
    let mut staging = device.staging(arena, stage::BUFFERS.min(batches.len()), largest)?;
    for batch in &batches {
        batch.fill(weights, source, staging.buffer()?)?;
        staging.send(batch.offset, batch.bytes)?;
        progress(batch.offset + batch.bytes);
    }
    Ok(staging.finish()?)
}

/// The graph of decode steps of these sizes, captured when it is first wanted.
fn graph<'g>(
    graphs: &'g mut HashMap<Sizes, Graph>,
    device: &Device,
    sizes: Sizes,
    steps: &[Bound],
) -> Result<&'g Graph, DeviceError> {
    Ok(match graphs.entry(sizes) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(device.capture(|d| CudaSession::launch_all(d, steps))?),
    })
}

/// A step's launches with the address of every slot that they name.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) launches: Vec<Launch>,
    addresses: HashMap<String, u64>,
    faults: Vec<(RefusalKind, &'static str)>,
    step: String,
}

/// A session: states and room for calls.
#[derive(Debug)]
pub struct CudaSession {
    pub(super) arena: Memory,
    pub(super) room: Room,
    largest: Sizes,
    pub(super) rows: usize,
    /// Which sequence the prompts that come are of.
    pub sequence: usize,
    pub(super) lowered: HashMap<Key, Vec<Bound>>,
    graphs: HashMap<Sizes, Graph>,
}

/// A call that was lowered: a prompt's addresses are those of its sequence.
pub(super) type Key = (Phase, Sizes, usize);

impl CudaSession {
    /// Plans and takes everything for prefill calls of up to `largest` and decode calls of up to
    /// `rows` rows, each of another sequence.
    ///
    /// # Errors
    /// Out of memory, kernels that do not compile.
    pub fn open(
        device: &mut Device,
        model: &CudaModel,
        largest: Sizes,
        rows: usize,
    ) -> Result<CudaSession, CallError> {
        let card = device.card().clone();
        let room = Room::of(&model.programs, model.dtype, largest, rows, &model.traced, &card)?;
        let arena = device.allocate(room.bytes)?;
        let (lowered, graphs) = (HashMap::new(), HashMap::new());
        let sequence = 0;
        let mut session = CudaSession { arena, room, largest, rows, sequence, lowered, graphs };
        device.clear(&session.arena, 0, session.room.bytes)?;
        let m = usize::from(largest.m > 0);
        session.lower(device, model, Phase::Decode, Sizes { n: 1, m })?;
        session.lower(device, model, Phase::Prefill, Sizes { n: largest.n, m })?;
        Ok(session)
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Copies the states of another session of the same model and sizes.
    ///
    /// # Errors
    /// The device's.
    pub fn copy_states(&mut self, device: &Device, from: &CudaSession) -> Result<(), DeviceError> {
        device.copy(&self.arena, &from.arena, self.room.states)
    }

    pub(super) fn key(&self, phase: Phase, sizes: Sizes) -> Key {
        (phase, sizes, if phase == Phase::Prefill { self.sequence } else { 0 })
    }

    /// Lowers a phase for a call's sizes, once.
    fn lower(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        phase: Phase,
        sizes: Sizes,
    ) -> Result<(), CallError> {
        let key = self.key(phase, sizes);
        if self.lowered.contains_key(&key) {
            return Ok(());
        }
        let program = &model.programs[index(phase)];
        let places = &self.room.offsets[index(phase)];
        let (base, weights) = (self.arena.address(), model.weights.address());
        let address = |slot: &Id| match model.shelf.offsets.get(slot) {
            Some(at) => weights + *at as u64,
            // A prompt's Program knows the states of one sequence.
            None if program.slots[slot.0].kind == Kind::State => {
                let one = program.slot_meta(*slot, sizes).bytes().expect("checked");
                base + (places[slot] + key.2 * one) as u64
            }
            None => base + places[slot] as u64,
        };
        let mut constants = self.room.constants[index(phase)];
        let mut bound = Vec::new();
        for (i, step) in program.steps_of(sizes).iter().enumerate() {
            let (op, mut question) = program.question(step, model.dtype, sizes, |_| 0)?;
            question.phase = Some(phase);
            let mut lowered = op.lower(&question, device.card());
            lowered.launches.iter_mut().for_each(|l| l.overlap = model.options.overlap);
            device.prepare(&lowered.launches)?;
            let mut addresses: HashMap<String, u64> = HashMap::new();
            for (name, view) in step.operands.iter().chain(&step.results) {
                addresses.insert((*name).to_owned(), address(&view.slot));
            }
            let mut at = self.room.workspace;
            for (name, bytes) in &lowered.workspace {
                addresses.insert((*name).to_owned(), base + at as u64);
                at = (at + bytes).next_multiple_of(ALIGN);
            }
            for (name, bytes) in &lowered.constants {
                if let Some((_, slot)) = step.scalars.iter().find(|(n, _)| n == name) {
                    addresses.insert((*name).to_owned(), address(slot));
                    continue;
                }
                device.upload(&self.arena, constants, bytes)?;
                addresses.insert((*name).to_owned(), base + constants as u64);
                constants = (constants + bytes.len()).next_multiple_of(ALIGN);
            }
            addresses.insert("fault".to_owned(), base + (self.room.faults + 4 * i) as u64);
            let (launches, faults) = (lowered.launches, lowered.faults);
            bound.push(Bound { launches, addresses, faults, step: step.name.clone() });
        }
        self.lowered.insert(key, bound);
        Ok(())
    }

    pub(super) fn launch_all(device: &Device, steps: &[Bound]) -> Result<(), DeviceError> {
        for step in steps {
            for launch in &step.launches {
                device.launch(launch, |slot| step.addresses[slot])?;
            }
        }
        Ok(())
    }

    /// Runs one call: prompt tokens by [`Phase::Prefill`], generated tokens, one a sequence, by
    /// [`Phase::Decode`]. Waits until it is done.
    ///
    /// # Errors
    /// Data that an op refuses (by the fault words), and the device's errors.
    ///
    /// # Panics
    /// If the call is larger than the session was opened for.
    pub fn call(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        phase: Phase,
        inputs: &CallInputs,
    ) -> Result<Sizes, CallError> {
        let sizes = self.begin(device, model, phase, inputs)?;
        self.enqueue(device, model, phase, sizes)?;
        device.synchronize()?;
        self.check_faults(device, phase, sizes)?;
        Ok(sizes)
    }

    /// Launches a call whose inputs are on the device already.
    pub(super) fn enqueue(
        &mut self,
        device: &Device,
        model: &CudaModel,
        phase: Phase,
        sizes: Sizes,
    ) -> Result<(), DeviceError> {
        let steps = &self.lowered[&self.key(phase, sizes)];
        model.ran.note((phase, sizes), || {
            let launches = steps.iter().flat_map(|step| &step.launches);
            launches.map(|launch| launch.entry.clone()).collect()
        });
        if phase == Phase::Decode && model.options.graph {
            device.replay(graph(&mut self.graphs, device, sizes, steps)?)
        } else {
            CudaSession::launch_all(device, steps)
        }
    }

    /// Lowers and captures decode steps of up to `rows` rows, so that none is lowered while others
    /// run.
    ///
    /// # Errors
    /// Kernels that do not compile, and the device's.
    pub fn ready(&mut self, device: &mut Device, model: &CudaModel) -> Result<(), CallError> {
        for n in 1..=self.rows {
            let sizes = Sizes { n, m: if self.largest.m == 0 { 0 } else { n } };
            self.lower(device, model, Phase::Decode, sizes)?;
            if model.options.graph {
                let steps = &self.lowered[&self.key(Phase::Decode, sizes)];
                graph(&mut self.graphs, device, sizes, steps)?;
            }
        }
        Ok(())
    }

    /// Sets a state or an input before the next call.
    ///
    /// # Errors
    /// The device's.
    pub fn set(
        &self,
        device: &Device,
        model: &CudaModel,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), DeviceError> {
        self.put(device, model, name, tensor)
    }

    /// Runs the head again on other rows of the last prefill call.
    ///
    /// # Errors
    /// As [`CudaSession::call`].
    pub fn head(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        n: usize,
        out_rows: &Tensor,
    ) -> Result<Sizes, CallError> {
        let sizes = Sizes { n, m: out_rows.meta.shape[0] };
        assert!(sizes.m <= self.largest.m, "{} rows", sizes.m);
        self.lower(device, model, Phase::Prefill, sizes)?;
        self.put(device, model, "out_rows", out_rows)?;
        let body = model.programs[index(Phase::Prefill)].body;
        let steps = &self.lowered[&self.key(Phase::Prefill, sizes)];
        CudaSession::launch_all(device, &steps[body..])?;
        device.synchronize()?;
        self.check_faults(device, Phase::Prefill, sizes)?;
        Ok(sizes)
    }

    fn put(
        &self,
        device: &Device,
        model: &CudaModel,
        name: &str,
        tensor: &Tensor,
    ) -> Result<(), DeviceError> {
        let slot = model.plain.find(name).unwrap_or_else(|| panic!("no input {name}"));
        device.upload(&self.arena, self.room.offsets[0][&slot], &tensor.bytes)
    }

    pub(super) fn begin(
        &mut self,
        device: &mut Device,
        model: &CudaModel,
        phase: Phase,
        inputs: &CallInputs,
    ) -> Result<Sizes, CallError> {
        let sizes = sizes_of(inputs);
        let most = if phase == Phase::Prefill { self.largest.n } else { self.rows };
        assert!(sizes.n <= most && sizes.m <= self.largest.m.max(self.rows), "{sizes:?}");
        // What the position would make an op refuse is known to the host.
        let program = &model.programs[index(phase)];
        for step in program.steps_of(sizes).iter().filter(|s| !s.scalars.is_empty()) {
            program.question(step, model.dtype, sizes, |slot| scalar(program, inputs, slot))?;
        }
        self.lower(device, model, phase, sizes)?;
        for (name, tensor) in inputs {
            self.put(device, model, name, tensor)?;
        }
        Ok(sizes)
    }

    pub(super) fn check_faults(
        &self,
        device: &Device,
        phase: Phase,
        sizes: Sizes,
    ) -> Result<(), CallError> {
        let mut words = vec![0u8; 4 * self.room.steps];
        device.download(&self.arena, self.room.faults, &mut words)?;
        self.judge_faults(device, phase, sizes, &words)
    }

    pub(super) fn judge_faults(
        &self,
        device: &Device,
        phase: Phase,
        sizes: Sizes,
        words: &[u8],
    ) -> Result<(), CallError> {
        let word = |w: &[u8]| u32::from_le_bytes(w.try_into().expect("four bytes")) as usize;
        let Some(at) = words.chunks_exact(4).position(|w| word(w) != 0) else { return Ok(()) };
        let code = word(&words[4 * at..4 * at + 4]);
        device.clear(&self.arena, self.room.faults, words.len())?;
        let bound = &self.lowered[&self.key(phase, sizes)][at];
        let (kind, operand) =
            bound.faults.get(code - 1).copied().unwrap_or((RefusalKind::NotSupported, ""));
        let source = Refusal::new(kind, operand, "the data break the rule; seen on the device");
        Err(CallError::Refused { step: bound.step.clone(), source })
    }

    /// Slots of the last call of these sizes, by name.
    ///
    /// # Errors
    /// The device's.
    ///
    /// # Panics
    /// If a slot is not there in this phase.
    pub fn read(
        &self,
        device: &Device,
        model: &CudaModel,
        phase: Phase,
        sizes: Sizes,
        wanted: &[&str],
    ) -> Result<Slots, DeviceError> {
        let one = |name: &&str| {
            let slot = model.plain.find(name).unwrap_or_else(|| panic!("no slot {name}"));
            Ok(((*name).to_owned(), self.tensor(device, model, phase, sizes, slot)?))
        };
        wanted.iter().map(one).collect()
    }

    pub(super) fn tensor(
        &self,
        device: &Device,
        model: &CudaModel,
        phase: Phase,
        sizes: Sizes,
        slot: Id,
    ) -> Result<Tensor, DeviceError> {
        let meta = model.plain.slot_meta(slot, sizes);
        let mut bytes = vec![0; meta.bytes().expect("checked")];
        let (memory, at) = match model.shelf.offsets.get(&slot) {
            Some(at) => (&*model.weights, *at),
            None => (&self.arena, self.room.offsets[index(phase)][&slot]),
        };
        device.download(memory, at, &mut bytes)?;
        Ok(Tensor { meta, bytes })
    }
}
