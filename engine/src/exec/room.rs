//! Where everything of a model and of a session lies: two arenas, each taken once.

use std::collections::HashMap;

use crate::cuda::Card;
use crate::dtype::DType;
use crate::exec::plan::{ALIGN, Need, plan};
use crate::ops::Phase;
use crate::program::{Id, Kind, Program, ProgramError, Sizes, View};

/// Both phases, in the order of their programs.
pub const PHASES: [Phase; 2] = [Phase::Prefill, Phase::Decode];

/// A phase's place in lists of two.
pub fn index(phase: Phase) -> usize {
    usize::from(phase == Phase::Decode)
}

/// Hands out aligned ranges of an arena.
#[derive(Debug, Default)]
struct Taken(usize);

impl Taken {
    fn take(&mut self, bytes: usize) -> usize {
        let at = self.0;
        self.0 = (self.0 + bytes).next_multiple_of(ALIGN);
        at
    }
}

/// Where each weight lies in the arena of a model.
#[derive(Debug)]
pub struct Shelf {
    /// Offsets.
    pub offsets: HashMap<Id, usize>,
    /// All of it.
    pub bytes: usize,
}

impl Shelf {
    /// The weights of a Program, in its order.
    pub fn of(program: &Program) -> Shelf {
        let mut taken = Taken::default();
        let none = Sizes { n: 0, m: 0 };
        let mut offsets = HashMap::new();
        for (i, slot) in program.slots.iter().enumerate() {
            if matches!(slot.kind, Kind::Weight { .. }) {
                let bytes = program.slot_meta(Id(i), none).bytes().expect("checked");
                offsets.insert(Id(i), taken.take(bytes));
            }
        }
        Shelf { offsets, bytes: taken.0 }
    }
}

/// Where everything of a session lies in its arena.
#[derive(Debug)]
pub struct Room {
    /// Offsets of states, inputs and values, a map a phase; only values differ.
    pub offsets: [HashMap<Id, usize>; 2],
    /// Where the states end: they begin at 0.
    pub states: usize,
    /// Where values begin, behind the inputs.
    pub values: usize,
    /// Scratch of the step that runs.
    pub workspace: usize,
    /// Tables, a region a phase.
    pub constants: [usize; 2],
    /// A fault word a step.
    pub faults: usize,
    /// How many of them.
    pub steps: usize,
    /// All of it.
    pub bytes: usize,
}

impl Room {
    /// Plans a session for calls of up to `largest` (prefill) and `rows` tokens (decode). The
    /// Program of decode steps has every slot of the other, and perhaps more; a state of it may be
    /// several of the other's, end to end. Slots in `traced` keep their memory until the call ends.
    ///
    /// # Errors
    /// A question that an op refuses.
    pub fn of(
        programs: &[Program; 2],
        dtype: DType,
        largest: Sizes,
        rows: usize,
        traced: &[Id],
        card: &Card,
    ) -> Result<Room, ProgramError> {
        let mut taken = Taken::default();
        let mut fixed: HashMap<Id, usize> = HashMap::new();
        let mut states = 0;
        // Both phases use the same room for values and workspace.
        let few = Sizes { n: rows, m: if largest.m == 0 { 0 } else { rows } };
        let most = Sizes { n: largest.n.max(few.n), m: largest.m.max(few.m) };
        for kind in [Kind::State, Kind::Input] {
            let slots = programs[1].slots.iter().enumerate();
            for (i, _) in slots.filter(|(_, s)| s.kind == kind) {
                let meta = programs[1].slot_meta(Id(i), most);
                fixed.insert(Id(i), taken.take(meta.bytes().expect("checked")));
            }
            if kind == Kind::State {
                states = taken.0;
            }
        }
        let (mut values, mut workspace, mut constants) = (0usize, 0usize, [0usize; 2]);
        let mut places: [HashMap<Id, usize>; 2] = Default::default();
        for (i, (program, sizes)) in programs.iter().zip([largest, few]).enumerate() {
            let (ids, needs) = lifetimes(program, sizes, traced);
            let (offsets, bytes) = plan(&needs);
            values = values.max(bytes);
            places[i] = ids.into_iter().zip(offsets).collect();
            for step in program.steps_of(sizes) {
                let (op, mut question) = program.question(step, dtype, sizes, |_| 0)?;
                question.phase = Some(PHASES[i]);
                let lowered = op.lower(&question, card);
                let aligned = |bytes: usize| bytes.next_multiple_of(ALIGN);
                workspace = workspace.max(lowered.workspace.iter().map(|w| aligned(w.1)).sum());
                constants[i] += lowered.constants.iter().map(|c| aligned(c.1.len())).sum::<usize>();
            }
        }
        let base = taken.take(values);
        let workspace = taken.take(workspace);
        let constants = constants.map(|bytes| taken.take(bytes));
        let steps = programs.iter().map(|p| p.steps.len()).max().unwrap_or(0);
        let faults = taken.take(4 * steps);
        let mut offsets = places.map(|mut places| {
            places.values_mut().for_each(|at| *at += base);
            places.extend(&fixed);
            places
        });
        parts(&programs[1], few, &mut offsets[1]);
        let values = base;
        Ok(Room { offsets, states, values, workspace, constants, faults, steps, bytes: taken.0 })
    }
}

/// Where parts of slots lie: in their wholes.
fn parts(program: &Program, sizes: Sizes, offsets: &mut HashMap<Id, usize>) {
    for i in 0..program.slots.len() {
        let (of, first) = program.memory(Id(i));
        if let Some(at) = offsets.get(&of).filter(|_| of != Id(i)) {
            offsets.insert(Id(i), at + first * row_bytes(program, of, sizes));
        }
    }
}

/// Bytes of one row of a slot, its first axis.
pub fn row_bytes(program: &Program, slot: Id, sizes: Sizes) -> usize {
    let meta = program.slot_meta(slot, sizes);
    meta.bytes().expect("checked") / meta.shape.first().copied().unwrap_or(1).max(1)
}

/// The values of a Program and from which step to which each must exist: traced ones, results, and
/// what the head reads of the body (it may run again) to the end.
fn lifetimes(program: &Program, sizes: Sizes, traced: &[Id]) -> (Vec<Id>, Vec<Need>) {
    let last_step = program.steps.len();
    let (mut ids, mut needs) = (Vec::new(), Vec::new());
    for (i, _) in program.slots.iter().enumerate().filter(|(_, s)| s.kind == Kind::Value) {
        let touches = |views: &[(&'static str, View)]| {
            views.iter().any(|(_, v)| program.memory(v.slot).0 == Id(i))
        };
        let writes = program.steps.iter().position(|s| touches(&s.results));
        let Some(first) = writes else { continue };
        let reads = program.steps.iter().rposition(|s| touches(&s.operands));
        let into_head = reads.is_some_and(|r| first < program.body && r >= program.body);
        let stays = reads.is_none() || into_head || traced.contains(&Id(i));
        let last = if stays { last_step } else { reads.unwrap_or(first) };
        let bytes = program.slot_meta(Id(i), sizes).bytes().expect("checked");
        ids.push(Id(i));
        needs.push(Need { bytes, first, last });
    }
    (ids, needs)
}
