//! Several sequences as a rewrite of the Program of one: the same weights and the same slots, with
//! an axis of sequences before every state, for decode steps whose rows are of one sequence each.
//!
//! Caches lie by sequence, and a row says which it is of. What the steps of sampling keep (tokens
//! so far, draws, seen tokens, the seed) lies by row, so that the chain is written once a row and
//! knows no sequences; when a sequence ends, the rows behind it move up.

use crate::dtype::DType;
use crate::program::{Axis, Id, Kind, Program, Slot, Step, Tail};

/// What a decode step of several sequences brings, an element a row.
pub const INPUTS: [&str; 3] = ["tokens", "positions", "sequences"];

/// The Program of decode steps with up to `sequences` rows, and `sequences` \[n\] as one more thing
/// that a call brings. A state of the Program of one becomes `sequences` of them, end to end.
///
/// # Panics
/// If the Program has no positions.
pub fn several(one: &Program, sequences: usize) -> Program {
    let mut p = one.clone();
    for slot in p.slots.iter_mut().filter(|s| s.kind == Kind::State) {
        slot.shape.insert(0, Axis::Is(sequences));
    }
    let positions = p.find("positions").expect("a model has positions");
    let of = p.slot("sequences", Kind::Input, DType::I32, &[Axis::N]);
    let begin = p.steps.len() - p.tail.each;
    let chain = p.steps.split_off(begin);
    for i in 0..begin {
        let mut step = p.steps[i].clone();
        let places = [("sequences", of), ("positions", positions)];
        by_sequence(&p, &mut step, sequences, places);
        p.steps[i] = step;
    }
    tail(&mut p, &chain, sequences);
    p
}

/// A step that looks across rows: its caches have an axis more, and each row says whose it is and
/// where it stands, which one scalar said before.
fn by_sequence(p: &Program, step: &mut Step, sequences: usize, places: [(&'static str, Id); 2]) {
    let mut across = false;
    for (_, view) in step.operands.iter_mut().chain(&mut step.results) {
        if p.slots[view.slot.0].kind == Kind::State {
            view.shape.insert(0, Axis::Is(sequences));
            across = true;
        }
    }
    if across {
        step.scalars.clear();
        step.operands.extend(places.map(|(name, slot)| (name, p.whole(slot))));
    }
}

/// The chain of sampling, a copy a row over that row of every slot. A chain that begins with
/// argmax, which works row by row, has it once for all rows.
fn tail(p: &mut Program, chain: &[Step], rows: usize) {
    // What the chain writes first is one element, and now one a row.
    for (_, view) in chain.iter().flat_map(|s| &s.results) {
        let slot = &mut p.slots[view.slot.0];
        if slot.kind == Kind::Value && slot.shape == [Axis::Is(1)] {
            slot.shape = vec![Axis::M];
        }
    }
    let mut chain = chain;
    if let [first, rest @ ..] = chain
        && first.op == "argmax"
    {
        let mut step = first.clone();
        for (_, view) in step.operands.iter_mut().chain(&mut step.results) {
            *view = p.whole(view.slot);
        }
        p.steps.push(step);
        chain = rest;
    }
    for row in 0..rows {
        for step in chain {
            let mut step = step.clone();
            step.name = format!("{}.{row}", step.name);
            let views = step.operands.iter_mut().chain(&mut step.results);
            views.for_each(|(_, view)| view.slot = part(p, view.slot, row));
            step.scalars.iter_mut().for_each(|(_, slot)| *slot = part(p, *slot, row));
            p.steps.push(step);
        }
    }
    p.tail = Tail { each: chain.len(), rows };
}

/// The slot that is one row of another.
fn part(p: &mut Program, of: Id, row: usize) -> Id {
    let kind = Kind::Part { of, first: row };
    if let Some(known) = p.slots.iter().position(|s| s.kind == kind) {
        return Id(known);
    }
    let whole = &p.slots[of.0];
    let (name, dtype) = (format!("{}.{row}", whole.name), whole.dtype);
    let mut shape = whole.shape.clone();
    shape[0] = Axis::Is(1);
    p.slot(&name, kind, dtype, &shape)
}

/// The slots of which each row of a step has its own row: what a call brings, and the states of the
/// chain.
pub fn by_row(p: &Program) -> Vec<Id> {
    let brought = INPUTS.iter().filter_map(|name| p.find(name));
    let whole = |slot: &Slot| match slot.kind {
        Kind::Part { of, .. } if p.slots[of.0].kind == Kind::State => Some(of),
        _ => None,
    };
    let mut states: Vec<Id> = p.slots.iter().filter_map(whole).collect();
    states.sort_unstable();
    states.dedup();
    brought.chain(states).collect()
}
