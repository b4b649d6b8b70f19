//! The checks that a subject of ours answers as a whole: one layer as a Program, questions after a
//! refusal, questions side by side.

use std::collections::BTreeMap;

use goldgate_engine::cuda::{Device as Card, Settings};
use goldgate_engine::exec::cpu::CpuSession;
use goldgate_engine::exec::cuda::{CudaSession, Options};
use goldgate_engine::fuse::fuse;
use goldgate_engine::model::gpt2::{Config, block, weights};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::Program;
use goldgate_engine::shape::Meta;
use goldgate_engine::{DType, Tensor};
use serde_json::json;

use crate::case::{Fill, Grid, Input};
use crate::fill::fill;
use crate::subject::OpQuestion;
use crate::subject::serve::{Device, NoAnswer};

/// A block whose widths are unequal and no powers of two.
const CONFIG: Config = Config { hidden: 192, heads: 3, ffn: 320, context: 96, eps: 1e-5 };

/// Tokens of the prompt: more than one split of keys, and no multiple of anything.
const TOKENS: usize = 67;

/// The worst difference that a layer may show against its definition, as a share of the largest
/// number: the class of its activations (f32: 24 bits through some ten sums; f16, bf16: a few
/// roundings of the type).
fn limit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 1e-5,
    }
}

fn tensor(name: &str, dtype: DType, shape: &[usize], size: f64) -> Tensor {
    fill(&Input {
        name: name.to_owned(),
        meta: Meta::new(dtype, shape),
        fill: Fill::Normal(0.0, size),
        grid: Grid::Full,
        key: ["layer".to_owned(), "gpt2".to_owned(), name.to_owned()],
    })
}

/// A layer with its weights and a prompt.
struct Layer {
    dtype: DType,
    program: Program,
    weights: BTreeMap<String, Tensor>,
    x: Tensor,
}

impl Layer {
    fn new(dtype: DType) -> Result<Layer, String> {
        let weights: BTreeMap<String, Tensor> = weights(&CONFIG)
            .into_iter()
            .map(|(name, shape)| {
                let stored = if shape.len() == 1 { DType::F32 } else { dtype };
                (name.to_owned(), tensor(name, stored, &shape, 0.1))
            })
            .collect();
        let found = |name: &str| weights.get(name).map(|t| t.meta.clone());
        let program = block(&CONFIG, dtype, dtype, found).map_err(|e| e.to_string())?;
        program.check(dtype, TOKENS).map_err(|e| e.to_string())?;
        let x = tensor("x", DType::F32, &[TOKENS, CONFIG.hidden], 1.0);
        Ok(Layer { dtype, program, weights, x })
    }

    fn open<'c>(&self, card: &'c mut Card, options: Options) -> Result<CudaSession<'c>, String> {
        CudaSession::open(card, &self.program, self.dtype, &self.weights, TOKENS, &[], options)
            .map_err(|e| e.to_string())
    }

    /// The output by the definitions, step by step, plain.
    fn defined(&self, x: &Tensor) -> Result<Tensor, String> {
        let mut session = CpuSession::open(&self.program, self.dtype, &self.weights);
        let mut slots = session.call(x).map_err(|e| e.to_string())?;
        slots.remove("out").ok_or_else(|| "no slot out".to_owned())
    }

    fn within(&self, what: &str, got: &Tensor, want: &Tensor) -> Result<(), String> {
        let (got, want) = (got.to_f64(), want.to_f64());
        let size = want.iter().fold(1e-9, |m: f64, x| m.max(x.abs()));
        let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / size);
        let worst = worst.fold(0.0, |m: f64, x| if x.is_nan() { f64::INFINITY } else { m.max(x) });
        let limit = limit(self.dtype);
        // Written so that NaN fails.
        if worst <= limit {
            return Ok(());
        }
        Err(format!(
            "{} {what}: off by {worst:.2e} of the largest, at most {limit:.0e}",
            self.dtype
        ))
    }
}

fn rows(x: &Tensor, from: usize, count: usize) -> Tensor {
    let row = x.bytes.len() / x.meta.shape[0];
    let mut shape = x.meta.shape.clone();
    shape[0] = count;
    Tensor::new(x.meta.dtype, &shape, x.bytes[from * row..(from + count) * row].to_vec())
}

/// The prompt with another last token.
fn other_end(x: &Tensor) -> Tensor {
    let mut y = x.clone();
    let row = x.bytes.len() / x.meta.shape[0];
    let first = rows(x, 0, 1).bytes;
    y.bytes[x.bytes.len() - row..].copy_from_slice(&first);
    y
}

fn earlier_rows(a: &Tensor, b: &Tensor) -> Result<(), String> {
    let count = a.meta.shape[0] - 1;
    match rows(a, 0, count) == rows(b, 0, count) {
        true if a != b => Ok(()),
        true => Err("another last token changed nothing at all".to_owned()),
        false => Err("another last token changed the bits of an earlier row".to_owned()),
    }
}

/// The checks of a layer on the CPU.
///
/// # Errors
/// What does not hold.
pub fn on_cpu(case: &str) -> Result<(), String> {
    for dtype in DType::ACTIVATIONS {
        let layer = Layer::new(dtype)?;
        let want = layer.defined(&layer.x)?;
        match case {
            "gpt2_agrees_with_its_steps" => {
                let fused = fuse(&layer.program, Phase::Prefill, &[]);
                let mut session = CpuSession::open(&fused, dtype, &layer.weights);
                let slots = session.call(&layer.x).map_err(|e| e.to_string())?;
                layer.within("fused", &slots["out"], &want)?;
            }
            "later_token_changes_nothing" => {
                earlier_rows(&want, &layer.defined(&other_end(&layer.x))?)?;
            }
            "prefill_agrees_with_decode" => {
                let decode = fuse(&layer.program, Phase::Decode, &[]);
                let mut session = CpuSession::open(&decode, dtype, &layer.weights);
                for i in 0..TOKENS {
                    let slots = session.call(&rows(&layer.x, i, 1)).map_err(|e| e.to_string())?;
                    layer.within(&format!("token {i}"), &slots["out"], &rows(&want, i, 1))?;
                }
            }
            other => return Err(format!("no check layer::{other}")),
        }
    }
    Ok(())
}

/// The checks of a layer on a card.
///
/// # Errors
/// What does not hold.
pub fn on_card(card: &mut Card, case: &str) -> Result<(), String> {
    for dtype in DType::ACTIVATIONS {
        let layer = Layer::new(dtype)?;
        let prompt = |session: &mut CudaSession<'_>, x: &Tensor| {
            session.rewind(0);
            let mut slots = session.call(Phase::Prefill, x, &["out"]).map_err(|e| e.to_string())?;
            slots.remove("out").ok_or_else(|| "no slot out".to_owned())
        };
        let want = layer.defined(&layer.x)?;
        let all = Options::default();
        match case {
            "gpt2_agrees_with_its_steps" => {
                for fused in [true, false] {
                    let mut session = layer.open(card, Options { fused, ..all })?;
                    layer.within("prompt", &prompt(&mut session, &layer.x)?, &want)?;
                    session.rewind(0);
                    let steps =
                        session.local(Phase::Prefill, &layer.x).map_err(|e| e.to_string())?;
                    if let Some((step, worst)) = steps.iter().find(|(_, w)| *w > limit(dtype)) {
                        return Err(format!("{dtype} step {step} is off by {worst:.2e}"));
                    }
                }
            }
            "later_token_changes_nothing" => {
                let mut session = layer.open(card, all)?;
                let first = prompt(&mut session, &layer.x)?;
                earlier_rows(&first, &prompt(&mut session, &other_end(&layer.x))?)?;
                for size in [1, 7, 64] {
                    in_chunks(&mut session, &layer.x, size, &first)?;
                }
            }
            "prefill_agrees_with_decode" => {
                let mut session = layer.open(card, all)?;
                for i in 0..TOKENS {
                    let slots = session.call(Phase::Decode, &rows(&layer.x, i, 1), &["out"]);
                    let out = slots.map_err(|e| e.to_string())?;
                    layer.within(&format!("token {i}"), &out["out"], &rows(&want, i, 1))?;
                }
            }
            other => return Err(format!("no check layer::{other}")),
        }
    }
    Ok(())
}

/// A prompt in chunks has the bits of the whole.
fn in_chunks(
    session: &mut CudaSession<'_>,
    x: &Tensor,
    size: usize,
    whole: &Tensor,
) -> Result<(), String> {
    session.rewind(0);
    let mut bytes = Vec::new();
    for at in (0..TOKENS).step_by(size) {
        let chunk = rows(x, at, size.min(TOKENS - at));
        let slots = session.call(Phase::Prefill, &chunk, &["out"]).map_err(|e| e.to_string())?;
        bytes.extend_from_slice(&slots["out"].bytes);
    }
    match bytes == whole.bytes {
        true => Ok(()),
        false => Err(format!("in chunks of {size} the bits are others than at once")),
    }
}

/// A gather of rows: a question that only its data can spoil.
fn gather(ids: &[i32]) -> OpQuestion {
    let table = tensor("table", DType::F16, &[37, 64], 1.0);
    let tensors = [("ids", Tensor::from_i32(&[ids.len()], ids)), ("table", table)];
    OpQuestion {
        op: "embedding".to_owned(),
        dtype: DType::F16,
        attributes: json!({"to": "D"}).as_object().cloned().unwrap_or_default(),
        tensors: tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect(),
        alias: BTreeMap::new(),
    }
}

/// The checks of errors, on any subject of ours.
///
/// # Errors
/// What does not hold.
pub fn faults(device: &mut dyn Device, case: &str) -> Result<(), String> {
    let said = |e: NoAnswer| format!("{e:?}");
    let before = device.op(&gather(&[3, 36, 0])).map_err(said)?.results;
    match device.op(&gather(&[3, 37, 0])) {
        Err(NoAnswer::Refused(r)) if r.operand == "ids" && r.kind.name() == "IdOutOfRange" => {}
        other => return Err(format!("id 37 of 37 rows: {other:?}")),
    }
    match case {
        "bad_id_is_refused" => Ok(()),
        "next_question_is_unharmed" => {
            let after = device.op(&gather(&[3, 36, 0])).map_err(said)?.results;
            match after == before {
                true => Ok(()),
                false => Err("the next question has other bits".to_owned()),
            }
        }
        other => Err(format!("no check fault::{other}")),
    }
}

/// Two questions on two streams, many times over, have the bits that each has alone.
///
/// # Errors
/// What does not hold.
pub fn streams(settings: &Settings, index: usize) -> Result<(), String> {
    let ask = |name: &str, rows: usize| {
        let mut tensors = BTreeMap::new();
        tensors.insert("x".to_owned(), tensor(name, DType::F16, &[rows, 1031], 3.0));
        OpQuestion {
            op: "softmax".to_owned(),
            dtype: DType::F16,
            attributes: serde_json::Map::new(),
            tensors,
            alias: BTreeMap::new(),
        }
    };
    let run = |question: &OpQuestion, times: usize| {
        let mut own = super::cuda::Cuda::open(settings, index).map_err(|e| e.to_string())?;
        let mut bits = Vec::new();
        for _ in 0..times {
            bits.push(own.op(question).map_err(|e| format!("{e:?}"))?.results);
        }
        Ok::<_, String>(bits)
    };
    let questions = [ask("left", 700), ask("right", 300)];
    let alone = [run(&questions[0], 1)?, run(&questions[1], 1)?];
    let together = std::thread::scope(|scope| {
        let handles = questions.each_ref().map(|q| scope.spawn(|| run(q, 50)));
        handles.map(|h| h.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    for (alone, together) in alone.iter().zip(together) {
        if together?.iter().any(|bits| *bits != alone[0]) {
            return Err("side by side the bits are others than alone".to_owned());
        }
    }
    Ok(())
}
