//! What a decode step must read, and how long its parts take on a card.

use crate::cuda::Device;
use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind};
use crate::exec::cpu::{CallError, CallInputs};
use crate::exec::times::{Question, Times};
use crate::generate::states;
use crate::program::{Kind, Program, ProgramError, Sizes};
use crate::sample::{Sampling, append};
use crate::session::{Model, Place, Session, State};
use crate::tensor::Tensor;

/// Bytes that a decode step of one row cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Weights, each once: of tables one row, of experts those that a token is sent to.
    pub weights: usize,
    /// Rows of the caches that are seen, the step's own included.
    pub kv: usize,
}

/// What the step reads that has `depth` tokens before it.
///
/// # Errors
/// A question that an op refuses.
pub fn reads(program: &Program, dtype: DType, depth: usize) -> Result<Reads, ProgramError> {
    let one = Sizes { n: 1, m: 1 };
    let mut most = vec![0usize; program.slots.len()];
    let mut kv = 0;
    for step in &program.steps {
        let (_, question) = program.question(step, dtype, one, |_| depth as i64)?;
        for (name, view) in &step.operands {
            let meta = program.slot_meta(view.slot, one);
            let bytes = meta.bytes().unwrap_or(0);
            let rows = meta.shape.first().copied().unwrap_or(1).max(1);
            match &program.slots[view.slot.0].kind {
                Kind::Weight { .. } => {
                    let part = match (*name, step.op) {
                        ("table", _) => bytes / rows,
                        (_, "moe_ffn") => {
                            let count = |symbol| question.dims.find(symbol).unwrap_or(1).max(1);
                            bytes / count("e") * count("t").min(count("e"))
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
                    kv += bytes / positions * seen;
                }
                _ => {}
            }
        }
    }
    Ok(Reads { weights: most.iter().sum(), kv })
}

/// Times a greedy decode step that has `depth` tokens, all of them zero, before it.
///
/// # Errors
/// A context that does not hold one more token, and the device's errors.
pub fn decode(
    device: &mut Device,
    model: &Model,
    vocabulary: usize,
    depth: usize,
) -> Result<Times, CallError> {
    let context = model.settings().context;
    if depth >= context {
        let message = format!("{depth} tokens and one more, context {context}");
        let source = Refusal::new(RefusalKind::CapacityExceeded, "depth", message);
        return Err(CallError::Refused { step: "attention".to_owned(), source });
    }
    let model = model.extended(&append(model.program(), vocabulary, &Sampling::default()));
    let mut session = Session::open(&mut Place::Cuda(device), &model)?;
    let one = |x: usize| Tensor::from_i32(&[1], &[x as i32]);
    let inputs =
        CallInputs::from([("tokens", one(0)), ("positions", one(depth)), ("out_rows", one(0))]);
    let mut moved: Vec<(&str, Tensor)> = states(vocabulary, &[]).into_iter().collect();
    moved.retain(|(name, _)| *name != "length");
    // The step's own token is counted already.
    moved.push(("length", one(depth + 1)));
    moved.extend(inputs.iter().map(|(name, tensor)| (*name, tensor.clone())));
    let (State::Cuda(state), Some(cuda)) = (&mut session.state, model.cuda()) else {
        unreachable!("opened on a card")
    };
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
        let found = reads(&p, DType::F32, 3).expect("good questions");
        assert_eq!(found, Reads { weights: 4 * 8 + 50 * 2 * 8, kv: 0 });
    }
}
