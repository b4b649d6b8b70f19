//! What a decode step must read, and how long its parts take on a card.

use crate::batch::Batch;
use crate::cuda::Device;
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::exec::cpu::{CallError, CallInputs};
use crate::exec::cuda::{CudaModel, CudaSession};
use crate::exec::times::{Question, Times};
use crate::generate::states;
use crate::program::{Kind, Program, ProgramError, Sizes};
use crate::sample::{Sampling, append};
use crate::session::{Model, Place, Session, State};
use crate::tensor::Tensor;

/// Bytes that a decode step cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Weights, each once: of tables a row a token, of experts those that tokens are sent to.
    pub weights: usize,
    /// Rows of the caches that each sequence sees, the step's own included.
    pub kv: usize,
}

/// What the step reads that has `depth` tokens before it, in each of `rows` sequences, by the
/// Program of one.
///
/// # Errors
/// A question that an op refuses.
pub fn reads(
    program: &Program,
    dtype: DType,
    depth: usize,
    rows: usize,
) -> Result<Reads, ProgramError> {
    let one = Sizes { n: 1, m: 1 };
    let mut most = vec![0usize; program.slots.len()];
    let mut kv = 0;
    for step in &program.steps {
        let (_, question) = program.question(step, dtype, one, |_| depth as i64)?;
        for (name, view) in &step.operands {
            let meta = program.slot_meta(view.slot, one);
            let bytes = meta.bytes().unwrap_or(0);
            let table = meta.shape.first().copied().unwrap_or(1).max(1);
            match &program.slots[view.slot.0].kind {
                Kind::Weight { .. } => {
                    let part = match (*name, step.op) {
                        ("table", _) => bytes / table * rows.min(table),
                        (_, "moe_ffn") => {
                            let count = |symbol| question.dims.find(symbol).unwrap_or(1).max(1);
                            bytes / count("e") * (count("t") * rows).min(count("e"))
                        }
                        _ => bytes,
                    };
                    // A table that is the head too is read whole.
                    most[view.slot.0] = most[view.slot.0].max(part);
                }
                Kind::State if step.op.starts_with("attention") => {
                    let positions = question.dims.find("c").unwrap_or(1).max(1);
                    let window = question.attributes.find_int("window").unwrap_or(0);
                    let window = usize::try_from(window).ok().filter(|w| *w > 0);
                    let seen = (depth + 1).min(positions).min(window.unwrap_or(positions));
                    kv += bytes / positions * seen * rows;
                }
                _ => {}
            }
        }
    }
    Ok(Reads { weights: most.iter().sum(), kv })
}

/// Times a greedy decode step that has `depth` tokens, all of them zero, before it, in each of
/// `rows` sequences.
///
/// # Errors
/// A context that does not hold one more token, more rows than the model was loaded for, and the
/// device's errors.
pub fn decode(
    device: &mut Device,
    model: &Model,
    vocabulary: usize,
    depth: usize,
    rows: usize,
) -> Result<Times, CallError> {
    let context = model.settings().context;
    if depth >= context {
        let message = format!("{depth} tokens and one more, context {context}");
        let source = Refusal::new(RefusalKind::CapacityExceeded, "depth", message);
        return Err(CallError::Refused { step: "attention".to_owned(), source });
    }
    let greedy = Sampling::default();
    if rows > 1 {
        let place = &mut Place::Cuda(device);
        let mut batch = Batch::open(place, model, Some((vocabulary, &greedy)), rows)?;
        let on_card = batch.card().expect("opened on a card");
        return timed(device, on_card, (vocabulary, context), depth, rows);
    }
    let model = model.extended(&append(model.program(), vocabulary, &greedy));
    let mut session = Session::open(&mut Place::Cuda(device), &model)?;
    let (State::Cuda(state), Some(cuda)) = (&mut session.state, model.cuda()) else {
        unreachable!("opened on a card")
    };
    timed(device, (cuda, state), (vocabulary, context), depth, 1)
}

/// Times a step of a session that is open; one row is of a session without `sequences`.
fn timed(
    device: &mut Device,
    (cuda, state): (&CudaModel, &mut CudaSession),
    (vocabulary, context): (usize, usize),
    depth: usize,
    rows: usize,
) -> Result<Times, CallError> {
    let each = |x: usize| Tensor::from_i32(&[rows], &vec![x as i32; rows]);
    let count = Tensor::from_i32(&[rows], &(0..rows as i32).collect::<Vec<_>>());
    let mut inputs = CallInputs::from([
        ("tokens", each(0)),
        ("positions", each(depth)),
        ("out_rows", count.clone()),
    ]);
    if rows > 1 {
        inputs.insert("sequences", count);
    }
    let mut moved: Vec<(&str, Tensor)> = Vec::new();
    for (name, mut state) in states(vocabulary, &[]) {
        state.bytes = state.bytes.repeat(rows);
        state.meta.shape.insert(0, rows);
        moved.push((name, state));
    }
    moved.retain(|(name, _)| *name != "length");
    // The step's own token is counted already.
    moved.push(("length", each(depth + 1)));
    moved.extend(inputs.iter().map(|(name, tensor)| (*name, tensor.clone())));
    for (name, tensor) in &moved {
        state.set(device, cuda, name, tensor)?;
    }
    let ask = Question {
        inputs: &inputs,
        position: depth as i64,
        room: context - depth - 1,
        restore: &|state, device| {
            moved.iter().try_for_each(|(name, tensor)| state.set(device, cuda, name, tensor))
        },
    };
    state.times(device, cuda, &ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Axis, Id, Step};

    /// A table that is the head too, and another of which one row is read.
    #[test]
    fn tables_are_read_by_rows_and_heads_whole() {
        let mut p = Program::default();
        let weight = |name: &str| Kind::Weight { tensor: name.to_owned(), first: 0 };
        let shape = |rows, width| [Axis::Is(rows), Axis::Is(width)];
        let ids = p.slot("tokens", Kind::Input, DType::I32, &[Axis::N]);
        let tied = p.slot("tied", weight("tied"), DType::F16, &shape(50, 8));
        let other = p.slot("other", weight("other"), DType::F32, &shape(7, 8));
        let row = [Axis::N, Axis::Is(8)];
        let x = p.slot("x", Kind::Value, DType::F32, &row);
        let y = p.slot("y", Kind::Value, DType::F32, &row);
        let logits = p.slot("logits", Kind::Value, DType::F32, &[Axis::N, Axis::Is(50)]);
        let mut step = |op: &'static str, operands: &[(&'static str, Id)], result| {
            let operands = operands.iter().map(|(n, id)| (*n, p.whole(*id))).collect();
            let results = vec![("y", p.whole(result))];
            let mut attributes = serde_json::Map::new();
            attributes.insert("to".to_owned(), "f32".into());
            let (name, scalars) = (op.to_owned(), Vec::new());
            p.steps.push(Step { name, op, attributes, scalars, operands, results });
        };
        step("embedding", &[("ids", ids), ("table", other)], x);
        step("embedding", &[("ids", ids), ("table", tied)], y);
        step("linear", &[("x", y), ("w", tied)], logits);
        p.body = p.steps.len();
        for (rows, table) in [(1, 1), (5, 5), (8, 7)] {
            let found = reads(&p, DType::F32, 3, rows).expect("good questions");
            assert_eq!(found, Reads { weights: table * 4 * 8 + 50 * 2 * 8, kv: 0 });
        }
    }
}
