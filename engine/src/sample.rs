//! Sampling as the last steps of a Program: the chain of the vocabulary, then `advance`.

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::program::{Axis, Id, Kind, Program, Step, Tail, View};

/// How the next token is chosen; the default is greedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; up to 2.
    pub temperature: f64,
    /// The most likely tokens that stay; 0: all.
    pub top_k: usize,
    /// The least mass that stays; 1: all.
    pub top_p: f64,
    /// The least share of the most likely token's mass that stays; 0: all.
    pub min_p: f64,
    /// What logits of seen tokens are divided (or, where negative, multiplied) by; 1: nothing.
    pub repetition_penalty: f64,
    /// Key of the generator, below 2^53.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// The slot of the token that a step sampled.
pub const SAMPLED: &str = "sampled";

fn view(slot: Id, shape: &[usize]) -> View {
    View { slot, shape: shape.iter().copied().map(Axis::Is).collect() }
}

/// Adds to a model's Program, whose calls want one row, the choice of the next token; a call then
/// leaves `tokens` and `positions` as the next one needs them. The states `length` \[1\] (tokens of
/// the sequence), `draws` \[2\] and `seen` [vocabulary / 32] are set before the first call.
///
/// # Panics
/// If the Program has no tokens or logits.
pub fn append(program: &Program, vocabulary: usize, sampling: &Sampling) -> Program {
    let mut p = program.clone();
    let find = |p: &Program, name: &str| p.find(name).unwrap_or_else(|| panic!("no slot {name}"));
    let (logits, tokens, positions) =
        (find(&p, "logits"), find(&p, "tokens"), find(&p, "positions"));
    let words = vocabulary.div_ceil(32);
    let state = |p: &mut Program, name: &str, count: usize| {
        p.slot(name, Kind::State, DType::I32, &[Axis::Is(count)])
    };
    let (length, draws, seen) =
        (state(&mut p, "length", 1), state(&mut p, "draws", 2), state(&mut p, "seen", words));
    let sampled = p.slot(SAMPLED, Kind::Value, DType::I32, &[Axis::Is(1)]);
    let row = || vec![("logits", view(logits, &[vocabulary]))];
    let mut step = |op: &'static str,
                    attributes: Value,
                    operands: Vec<(&'static str, View)>,
                    results: Vec<(&'static str, View)>,
                    scalars: Vec<(&'static str, Id)>| {
        let attributes = attributes.as_object().cloned().unwrap_or_else(Map::new);
        let name = op.to_owned();
        p.steps.push(Step { name, op, attributes, scalars, operands, results });
    };
    if sampling.repetition_penalty != 1.0 {
        let mut operands = row();
        operands.push(("seen", view(seen, &[words])));
        let value = json!({"value": sampling.repetition_penalty});
        step("repetition_penalty", value, operands, row(), Vec::new());
    }
    if sampling.temperature == 0.0 {
        let x = vec![("x", view(logits, &[1, vocabulary]))];
        step("argmax", json!({}), x, vec![("ids", view(sampled, &[1]))], Vec::new());
    } else {
        let mut filter = |op, value: Value| step(op, json!({"value": value}), row(), row(), vec![]);
        filter("temperature", json!(sampling.temperature));
        if sampling.top_k > 0 {
            filter("top_k", json!(sampling.top_k));
        }
        if sampling.top_p < 1.0 {
            filter("top_p", json!(sampling.top_p));
        }
        if sampling.min_p > 0.0 {
            filter("min_p", json!(sampling.min_p));
        }
        let seed = json!({"seed": sampling.seed});
        let id = vec![("id", view(sampled, &[1]))];
        step("sample", seed, row(), id, vec![("index", draws)]);
    }
    let counters = vec![
        ("token", view(tokens, &[1])),
        ("position", view(positions, &[1])),
        ("length", view(length, &[1])),
        ("draws", view(draws, &[1])),
        ("seen", view(seen, &[words])),
    ];
    let mut operands = vec![("id", view(sampled, &[1]))];
    operands.extend(counters.clone());
    step("advance", json!({}), operands, counters, Vec::new());
    p.tail = Tail { each: p.steps.len() - program.steps.len(), rows: 1 };
    p
}

/// [`append`] with the seed in a state, `seed` \[2\], the lower word first, in place of the one
/// that `sampling` names: so sequences that share their steps have seeds of their own.
pub fn append_keyed(program: &Program, vocabulary: usize, sampling: &Sampling) -> Program {
    let mut p = append(program, vocabulary, sampling);
    let seed = p.slot("seed", Kind::State, DType::I32, &[Axis::Is(2)]);
    for step in p.steps.iter_mut().filter(|s| s.op == "sample") {
        step.attributes.remove("seed");
        step.scalars.push(("seed", seed));
    }
    p
}
