//! Rewrites of a Program into fused steps: each a pattern of neighbouring steps and the op that
//! stands for them. A fused op's definition is the composition of theirs without the roundings in
//! between, so a rewrite removes slots and never changes the type of one that stays.

use serde_json::{Map, Value};

use crate::ops::Phase;
use crate::program::{Id, Kind, Program, Step, View};

/// A rewrite: the fused steps in place of those at `at ..`, and how many they replace.
type Rewrite = fn(&Program, usize) -> Option<(Vec<Step>, usize)>;

/// Every rewrite with the phases that it is for, in the order they are tried.
const REWRITES: &[(Rewrite, &[Phase])] = &[
    (ffn_gelu, &[Phase::Prefill, Phase::Decode]),
    (ffn_swiglu, &[Phase::Prefill, Phase::Decode]),
    (norm_residual, &[Phase::Prefill, Phase::Decode]),
    (attention_decode, &[Phase::Decode]),
];

/// The Program with every pattern of `phase` rewritten. Slots in `traced` must exist, so a pattern
/// that would remove one is left alone.
pub fn fuse(program: &Program, phase: Phase, traced: &[Id]) -> Program {
    let mut fused = program.clone();
    for (rewrite, phases) in REWRITES {
        if !phases.contains(&phase) {
            continue;
        }
        let mut at = 0;
        while at < fused.steps.len() {
            if let Some((steps, count)) = rewrite(&fused, at) {
                let gone = removed(&fused.steps[at..at + count], &steps);
                let read_later = |id: &Id| {
                    fused.steps[at + count..]
                        .iter()
                        .any(|s| s.operands.iter().any(|(_, v)| v.slot == *id))
                };
                // A pattern lies in the body or in the head, never across.
                let across = at < fused.body && fused.body < at + count;
                if !across && !gone.iter().any(|id| traced.contains(id) || read_later(id)) {
                    if at < fused.body {
                        fused.body = fused.body + steps.len() - count;
                    }
                    fused.steps.splice(at..at + count, steps);
                }
            }
            at += 1;
        }
    }
    fused
}

/// Slots that the old steps write and the new ones do not.
fn removed(old: &[Step], new: &[Step]) -> Vec<Id> {
    let writes = |steps: &[Step]| -> Vec<Id> {
        steps.iter().flat_map(|s| s.results.iter().map(|(_, v)| v.slot)).collect()
    };
    let kept = writes(new);
    writes(old).into_iter().filter(|id| !kept.contains(id)).collect()
}

fn operand<'a>(step: &'a Step, name: &str) -> Option<&'a View> {
    step.operands.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
}

fn result<'a>(step: &'a Step, name: &str) -> Option<&'a View> {
    step.results.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// residual, then a norm of the sum.
fn norm_residual(p: &Program, at: usize) -> Option<(Vec<Step>, usize)> {
    let [add, norm] = p.steps.get(at..at + 2)? else { return None };
    let op = match norm.op {
        "layernorm" => "layernorm_residual",
        "rmsnorm" => "rmsnorm_residual",
        _ => return None,
    };
    let sum = result(add, "y")?;
    if add.op != "residual" || operand(norm, "x")?.slot != sum.slot {
        return None;
    }
    let mut operands = vec![
        ("x", operand(add, "b")?.clone()),
        ("residual", operand(add, "a")?.clone()),
        ("gamma", operand(norm, "gamma")?.clone()),
    ];
    operands.extend(operand(norm, "beta").map(|beta| ("beta", beta.clone())));
    let fused = Step {
        name: norm.name.clone(),
        op,
        attributes: norm.attributes.clone(),
        scalars: Vec::new(),
        operands,
        results: vec![("y", result(norm, "y")?.clone()), ("sum", sum.clone())],
    };
    Some((vec![fused], 2))
}

/// Two linear, swiglu, linear, residual.
fn ffn_swiglu(p: &Program, at: usize) -> Option<(Vec<Step>, usize)> {
    let [gate, up, act, down, add] = p.steps.get(at..at + 5)? else { return None };
    let ops = [gate.op, up.op, act.op, down.op, add.op];
    if ops != ["linear", "linear", "swiglu", "linear", "residual"] {
        return None;
    }
    let chain = operand(act, "gate")?.slot == result(gate, "y")?.slot
        && operand(act, "up")?.slot == result(up, "y")?.slot
        && operand(gate, "x")?.slot == operand(up, "x")?.slot
        && operand(down, "x")?.slot == result(act, "y")?.slot
        && operand(add, "b")?.slot == result(down, "y")?.slot;
    let biased = [gate, up, down].iter().any(|s| operand(s, "bias").is_some());
    if !chain || biased {
        return None;
    }
    let fused = Step {
        name: add.name.clone(),
        op: "ffn_swiglu",
        attributes: Map::from_iter([("to".to_owned(), Value::from("f32"))]),
        scalars: Vec::new(),
        operands: vec![
            ("x", operand(gate, "x")?.clone()),
            ("w_gate", operand(gate, "w")?.clone()),
            ("w_up", operand(up, "w")?.clone()),
            ("w_down", operand(down, "w")?.clone()),
            ("residual", operand(add, "a")?.clone()),
        ],
        results: vec![("y", result(add, "y")?.clone())],
    };
    Some((vec![fused], 5))
}

/// linear, gelu, linear, residual.
fn ffn_gelu(p: &Program, at: usize) -> Option<(Vec<Step>, usize)> {
    let [up, act, down, add] = p.steps.get(at..at + 4)? else { return None };
    let ops = [up.op, act.op, down.op, add.op];
    if ops != ["linear", "gelu", "linear", "residual"] {
        return None;
    }
    let chain = operand(act, "x")?.slot == result(up, "y")?.slot
        && operand(down, "x")?.slot == result(act, "y")?.slot
        && operand(add, "b")?.slot == result(down, "y")?.slot;
    if !chain || act.attributes.contains_key("scale") {
        return None;
    }
    let fused = Step {
        name: add.name.clone(),
        op: "ffn_gelu",
        attributes: act.attributes.clone(),
        scalars: Vec::new(),
        operands: vec![
            ("x", operand(up, "x")?.clone()),
            ("w_up", operand(up, "w")?.clone()),
            ("b_up", operand(up, "bias")?.clone()),
            ("w_down", operand(down, "w")?.clone()),
            ("b_down", operand(down, "bias")?.clone()),
            ("residual", operand(add, "a")?.clone()),
        ],
        results: vec![("y", result(add, "y")?.clone())],
    };
    Some((vec![fused], 4))
}

/// kv_append and attention_prefill of one row.
fn attention_decode(p: &Program, at: usize) -> Option<(Vec<Step>, usize)> {
    let [append, attend] = p.steps.get(at..at + 2)? else { return None };
    if append.op != "kv_append" || attend.op != "attention_prefill" {
        return None;
    }
    let caches = [operand(append, "k_cache")?, operand(append, "v_cache")?];
    let same = operand(attend, "k")?.slot == caches[0].slot
        && operand(attend, "v")?.slot == caches[1].slot
        && p.slots[caches[0].slot.0].kind == Kind::State;
    if !same {
        return None;
    }
    // Without positions of their own the call is one row, and the axis of tokens falls away.
    let several = operand(attend, "positions").is_some();
    let row = |v: &View| match several {
        true => v.clone(),
        false => View { slot: v.slot, shape: v.shape[1..].to_vec() },
    };
    let mut operands = vec![
        ("q", row(operand(attend, "q")?)),
        ("k_new", row(operand(append, "k")?)),
        ("v_new", row(operand(append, "v")?)),
        ("k_cache", caches[0].clone()),
        ("v_cache", caches[1].clone()),
    ];
    for name in ["sinks", "sequences", "positions"] {
        operands.extend(operand(attend, name).map(|v| (name, v.clone())));
    }
    let fused = Step {
        name: attend.name.clone(),
        op: "attention_decode",
        attributes: attend.attributes.clone(),
        scalars: attend.scalars.iter().map(|(_, slot)| ("position", *slot)).collect(),
        operands,
        results: vec![
            ("y", row(result(attend, "y")?)),
            ("k_cache", caches[0].clone()),
            ("v_cache", caches[1].clone()),
        ],
    };
    Some((vec![fused], 2))
}
