//! The CUDA executor: a Program lowered for two phases over the same weights, states and arena.
//!
//! After a session is open nothing allocates: one arena holds states, values, workspace and the
//! call's header. A decode step is a captured graph; the position lives in device memory, so one
//! graph serves every step.

use std::collections::{BTreeMap, HashMap};

use crate::cuda::device::{Graph, Memory};
use crate::cuda::{Device, DeviceError, Launch};
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::exec::cpu::{CallError, Slots, rows_of};
use crate::exec::plan::{ALIGN, Need, plan};
use crate::fuse::fuse;
use crate::ops::{self, Inputs, Phase};
use crate::program::{Id, Kind, Program, Step, concrete};
use crate::shape::Meta;
use crate::tensor::Tensor;

/// How a session runs.
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

/// A step's launches with the address of every slot that they name.
#[derive(Debug)]
struct Bound {
    launches: Vec<Launch>,
    addresses: HashMap<String, u64>,
    faults: Vec<(RefusalKind, &'static str)>,
    step: String,
}

/// A Program on a device with the state of one session.
#[derive(Debug)]
pub struct CudaSession<'d> {
    device: &'d mut Device,
    programs: [Program; 2],
    dtype: DType,
    options: Options,
    arena: Memory,
    offsets: Vec<HashMap<Id, usize>>,
    workspace: usize,
    constants: [usize; 2],
    header: usize,
    fault: usize,
    position: usize,
    n_max: usize,
    lowered: HashMap<(Phase, usize), Vec<Bound>>,
    graph: Option<Graph>,
}

fn index(phase: Phase) -> usize {
    usize::from(phase == Phase::Decode)
}

impl<'d> CudaSession<'d> {
    /// Puts weights on the device and plans everything for calls of up to `n_max` tokens. Slots
    /// named in `traced` exist in both phases and keep their memory.
    ///
    /// # Errors
    /// Out of memory, kernels that do not compile.
    ///
    /// # Panics
    /// If the Program was not checked, or a traced name is no slot.
    pub fn open(
        device: &'d mut Device,
        program: &Program,
        dtype: DType,
        weights: &BTreeMap<String, Tensor>,
        n_max: usize,
        traced: &[&str],
        options: Options,
    ) -> Result<CudaSession<'d>, CallError> {
        let traced: Vec<Id> = traced
            .iter()
            .map(|name| program.find(name).unwrap_or_else(|| panic!("no slot {name}")))
            .collect();
        let programs = [Phase::Prefill, Phase::Decode].map(|phase| match options.fused {
            true => fuse(program, phase, &traced),
            false => program.clone(),
        });
        let mut end = 0usize;
        let mut take = |bytes: usize| {
            let at = end;
            end = (end + bytes).next_multiple_of(ALIGN);
            at
        };
        let mut fixed: HashMap<Id, usize> = HashMap::new();
        for (i, slot) in program.slots.iter().enumerate() {
            if slot.kind != Kind::Value {
                let meta = Meta::new(slot.dtype, &concrete(&slot.shape, n_max));
                fixed.insert(Id(i), take(meta.bytes().expect("checked")));
            }
        }
        let (header, fault) = (take(8), take(4));
        // Both phases use the same room for values, workspace and constants.
        let mut offsets = Vec::new();
        let (mut values, mut workspace, mut constants) = (0usize, 0usize, [0usize; 2]);
        for (i, (program, n)) in programs.iter().zip([n_max, 1]).enumerate() {
            let (ids, needs) = lifetimes(program, n, &traced);
            let (places, bytes) = plan(&needs);
            values = values.max(bytes);
            offsets.push(ids.into_iter().zip(places).collect::<HashMap<Id, usize>>());
            for step in &program.steps {
                let (op, mut question) = program.question(step, dtype, n, 0)?;
                question.phase = Some([Phase::Prefill, Phase::Decode][i]);
                let lowered = op.lower(&question, device.card());
                let aligned = |bytes: usize| bytes.next_multiple_of(ALIGN);
                workspace = workspace.max(lowered.workspace.iter().map(|w| aligned(w.1)).sum());
                constants[i] += lowered.constants.iter().map(|c| aligned(c.1.len())).sum::<usize>();
            }
        }
        let base = take(values);
        let workspace = take(workspace);
        let constants = constants.map(&mut take);
        for places in &mut offsets {
            places.values_mut().for_each(|at| *at += base);
            places.extend(fixed.iter().map(|(id, at)| (*id, *at)));
        }
        let arena = device.allocate(end)?;
        device.upload(&arena, 0, &vec![0; end])?;
        for (i, slot) in program.slots.iter().enumerate() {
            if let Kind::Weight { tensor, first } = &slot.kind {
                let rows = concrete(&slot.shape, 0)[0];
                device.upload(&arena, fixed[&Id(i)], rows_of(&weights[tensor], *first, rows))?;
            }
        }
        let mut session = CudaSession {
            device,
            programs,
            dtype,
            options,
            arena,
            offsets,
            workspace,
            constants,
            header,
            fault,
            position: 0,
            n_max,
            lowered: HashMap::new(),
            graph: None,
        };
        session.lower(Phase::Decode, 1)?;
        Ok(session)
    }

    /// Bytes of the arena: weights, states, values, workspace, header.
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// Moves the session back to its first `position` tokens.
    pub fn rewind(&mut self, position: usize) {
        self.position = self.position.min(position);
    }

    /// Lowers a phase for `n` tokens, once.
    fn lower(&mut self, phase: Phase, n: usize) -> Result<(), CallError> {
        if self.lowered.contains_key(&(phase, n)) {
            return Ok(());
        }
        let program = &self.programs[index(phase)];
        let places = &self.offsets[index(phase)];
        let base = self.arena.address();
        let mut constants = self.constants[index(phase)];
        let mut bound = Vec::new();
        for step in &program.steps {
            let (op, mut question) = program.question(step, self.dtype, n, 0)?;
            question.phase = Some(phase);
            let mut lowered = op.lower(&question, self.device.card());
            lowered.launches.iter_mut().for_each(|l| l.overlap = self.options.overlap);
            self.device.prepare(&lowered.launches)?;
            let mut addresses: HashMap<String, u64> = HashMap::new();
            for (name, view) in step.operands.iter().chain(&step.results) {
                addresses.insert((*name).to_owned(), base + places[&view.slot] as u64);
            }
            let mut at = self.workspace;
            for (name, bytes) in &lowered.workspace {
                addresses.insert((*name).to_owned(), base + at as u64);
                at = (at + bytes).next_multiple_of(ALIGN);
            }
            for (name, bytes) in &lowered.constants {
                if step.from_position.contains(name) {
                    addresses.insert((*name).to_owned(), base + self.header as u64);
                    continue;
                }
                self.device.upload(&self.arena, constants, bytes)?;
                addresses.insert((*name).to_owned(), base + constants as u64);
                constants = (constants + bytes.len()).next_multiple_of(ALIGN);
            }
            addresses.insert("fault".to_owned(), base + self.fault as u64);
            let (launches, faults) = (lowered.launches, lowered.faults);
            bound.push(Bound { launches, addresses, faults, step: step.name.clone() });
        }
        self.lowered.insert((phase, n), bound);
        Ok(())
    }

    fn launch_all(device: &Device, steps: &[Bound]) -> Result<(), DeviceError> {
        for step in steps {
            for launch in &step.launches {
                device.launch(launch, |slot| step.addresses[slot])?;
            }
        }
        Ok(())
    }

    /// Runs one call on `x` [n, hidden]: a decode step for `Phase::Decode` (n is 1), else prefill.
    /// Returns the slots that `wanted` names; the position moves on.
    ///
    /// # Errors
    /// Data that an op refuses (by the fault word), and the device's errors.
    ///
    /// # Panics
    /// If n is beyond `n_max`, or a wanted slot is not there in this phase.
    pub fn call(&mut self, phase: Phase, x: &Tensor, wanted: &[&str]) -> Result<Slots, CallError> {
        let n = x.meta.shape[0];
        assert!(n <= self.n_max && (phase == Phase::Prefill || n == 1), "{n} tokens");
        self.begin(phase, x)?;
        let steps = &self.lowered[&(phase, n)];
        if phase == Phase::Decode && self.options.graph {
            if self.graph.is_none() {
                self.graph = Some(self.device.capture(|d| CudaSession::launch_all(d, steps))?);
            }
            let graph = self.graph.as_ref().expect("captured above");
            self.device.replay(graph)?;
        } else {
            CudaSession::launch_all(self.device, steps)?;
        }
        self.device.synchronize()?;
        self.check_fault(phase, n)?;
        self.position += n;
        wanted.iter().map(|name| Ok(((*name).to_owned(), self.read(phase, name, n)?))).collect()
    }

    fn begin(&mut self, phase: Phase, x: &Tensor) -> Result<(), CallError> {
        let n = x.meta.shape[0];
        // What the position would make an op refuse is known to the host.
        for step in &self.programs[index(phase)].steps {
            self.programs[index(phase)].question(step, self.dtype, n, self.position)?;
        }
        self.lower(phase, n)?;
        let input = self.programs[0].find("x").expect("a block has an input");
        self.device.upload(&self.arena, self.offsets[0][&input], &x.bytes)?;
        let position = (self.position as i32).to_le_bytes();
        self.device.upload(&self.arena, self.header, &position)?;
        Ok(())
    }

    fn check_fault(&self, phase: Phase, n: usize) -> Result<(), CallError> {
        let mut word = [0u8; 4];
        self.device.download(&self.arena, self.fault, &mut word)?;
        let code = u32::from_le_bytes(word) as usize;
        if code == 0 {
            return Ok(());
        }
        self.device.upload(&self.arena, self.fault, &[0; 4])?;
        let steps = &self.lowered[&(phase, n)];
        let step = steps.iter().find(|s| s.faults.len() >= code);
        let (name, (kind, operand)) = step.map_or_else(
            || (String::new(), (RefusalKind::NotSupported, "")),
            |s| (s.step.clone(), s.faults[code - 1]),
        );
        let source = Refusal::new(kind, operand, "the data break the rule; seen on the device");
        Err(CallError::Refused { step: name, source })
    }

    /// A slot's tensor as it lies in memory.
    fn read(&self, phase: Phase, name: &str, n: usize) -> Result<Tensor, DeviceError> {
        let program = &self.programs[index(phase)];
        let id = program.find(name).unwrap_or_else(|| panic!("no slot {name}"));
        let slot = &program.slots[id.0];
        let meta = Meta::new(slot.dtype, &concrete(&slot.shape, n));
        let mut bytes = vec![0; meta.bytes().expect("checked")];
        self.device.download(&self.arena, self.offsets[index(phase)][&id], &mut bytes)?;
        Ok(Tensor { meta, bytes })
    }

    /// Runs one call step by step and holds each step against its own definition on the operands
    /// that it really had: step name and worst difference as a share of the largest result.
    ///
    /// # Errors
    /// As [`CudaSession::call`].
    pub fn local(&mut self, phase: Phase, x: &Tensor) -> Result<Vec<(String, f64)>, CallError> {
        let n = x.meta.shape[0];
        self.begin(phase, x)?;
        let mut shares = Vec::new();
        for (i, step) in self.programs[index(phase)].steps.iter().enumerate() {
            let before = self.operands(phase, step, n)?;
            let bound = &self.lowered[&(phase, n)][i];
            CudaSession::launch_all(self.device, std::slice::from_ref(bound))?;
            self.device.synchronize()?;
            let program = &self.programs[index(phase)];
            let (op, question) = program.question(step, self.dtype, n, self.position)?;
            let inputs = Inputs::of(before.iter().map(|(name, t)| (name.as_str(), t)));
            let want = ops::answer(op, &question, &inputs)
                .map_err(|source| CallError::Refused { step: step.name.clone(), source })?;
            let mut worst = 0.0f64;
            for ((_, view), want) in step.results.iter().zip(want) {
                let got = self.read(phase, &program.slots[view.slot.0].name, n)?.to_f64();
                let want = want.to_f64();
                let size = want.iter().fold(f64::MIN_POSITIVE, |m, w| m.max(w.abs()));
                for (g, w) in got.iter().zip(&want) {
                    worst =
                        worst.max(if g.is_nan() { f64::INFINITY } else { (g - w).abs() / size });
                }
            }
            shares.push((step.name.clone(), worst));
        }
        self.check_fault(phase, n)?;
        self.position += n;
        Ok(shares)
    }

    fn operands(&self, phase: Phase, step: &Step, n: usize) -> Result<Slots, DeviceError> {
        let program = &self.programs[index(phase)];
        step.operands
            .iter()
            .map(|(name, view)| {
                let mut tensor = self.read(phase, &program.slots[view.slot.0].name, n)?;
                tensor.meta = program.meta(view, n);
                Ok(((*name).to_owned(), tensor))
            })
            .collect()
    }
}

/// The values of a Program and from which step to which each must exist; traced ones to the end.
fn lifetimes(program: &Program, n: usize, traced: &[Id]) -> (Vec<Id>, Vec<Need>) {
    let last_step = program.steps.len();
    let (mut ids, mut needs) = (Vec::new(), Vec::new());
    for (i, slot) in program.slots.iter().enumerate().filter(|(_, s)| s.kind == Kind::Value) {
        let touches = |views: &[(&'static str, crate::program::View)]| {
            views.iter().any(|(_, v)| v.slot == Id(i))
        };
        let writes = program.steps.iter().position(|s| touches(&s.results));
        let Some(first) = writes else { continue };
        let reads = program.steps.iter().rposition(|s| touches(&s.operands));
        let is_result = reads.is_none() || traced.contains(&Id(i));
        let last = if is_result { last_step } else { reads.unwrap_or(first) };
        let meta = Meta::new(slot.dtype, &concrete(&slot.shape, n));
        ids.push(Id(i));
        needs.push(Need { bytes: meta.bytes().expect("checked"), first, last });
    }
    (ids, needs)
}
