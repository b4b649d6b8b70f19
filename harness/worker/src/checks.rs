//! The checks by which our own subject tests itself as a whole: a layer as one Program, questions
//! after a refusal, questions on two streams.

use std::collections::BTreeMap;

use goldgate_engine::cuda::Device as Card;
use goldgate_engine::exec::cpu::{CallInputs, CpuModel, CpuSession, Slots};
use goldgate_engine::exec::cuda::{CudaModel, CudaSession, Options};
use goldgate_engine::exec::local::load;
use goldgate_engine::fuse::fuse;
use goldgate_engine::model::build::Types;
use goldgate_engine::model::gpt2::{Config, block, weights};
use goldgate_engine::ops::Phase;
use goldgate_engine::ops::sample::philox;
use goldgate_engine::program::{Program, Sizes};
use goldgate_engine::{DType, Tensor};
use goldgate_wire::call::Op;
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::device::{Device, NoAnswer};

/// A block with different widths, none of them a power of two, so that confused dimensions show.
const CONFIG: Config = Config { hidden: 192, heads: 3, ffn: 320, context: 96, eps: 1e-5 };

/// The number of prompt tokens: more than one split of keys, and a multiple of no tile size.
const TOKENS: usize = 67;

/// The number of sequences in a batch.
const BATCH: usize = 8;

/// How far the output of a whole layer may deviate from its definitions, as a fraction of the
/// largest number. Every step has its own derived bound; this check only tests their composition,
/// so the limit is a class: about ten sums of 24 bits and a few roundings.
fn limit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        _ => 1e-5,
    }
}

/// Numbers of mean 0 and deviation `size`, the same on every machine. Each is the sum of twelve
/// words from a stream per name, computed as the inputs of cases are.
fn tensor(name: &str, dtype: DType, shape: &[usize], size: f64) -> Tensor {
    // The rule of the fills in specs, written again because a worker knows nothing of the harness.
    let digest = Sha256::digest(format!("goldgate-fill-1\nlayer\ngpt2\n{name}\n"));
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| digest[at + i]));
    let key = [word(0), word(4)];
    let normal = |i: u64| {
        let blocks =
            (3 * i..3 * i + 3).flat_map(|c| philox([c as u32, (c >> 32) as u32, 0, 0], key));
        let sum: i64 = blocks.map(i64::from).sum();
        (sum - (6 << 32)) as f64 / 2f64.powi(32)
    };
    let count: usize = shape.iter().product();
    let numbers: Vec<f64> = (0..count as u64).map(|i| size * normal(i)).collect();
    Tensor::from_f64(dtype, shape, &numbers)
}

/// A layer with weights and a prompt.
struct Layer {
    dtype: DType,
    program: Program,
    weights: BTreeMap<String, Tensor>,
    x: Tensor,
}

impl Layer {
    fn new(dtype: DType, sequences: usize) -> Result<Layer, String> {
        let weights: BTreeMap<String, Tensor> = weights(&CONFIG)
            .into_iter()
            .map(|(name, shape)| {
                // Vectors are f32 in every op, whatever the type of the activations.
                let stored = if shape.len() == 1 { DType::F32 } else { dtype };
                (name.to_owned(), tensor(name, stored, &shape, 0.1))
            })
            .collect();
        let found = |name: &str| weights.get(name).map(|t| t.meta.clone());
        let types = Types { dtype, kv: dtype };
        let program = block(&CONFIG, types, sequences, found).map_err(|e| e.to_string())?;
        program.check(dtype, Sizes { n: TOKENS, m: 0 }).map_err(|e| e.to_string())?;
        let x = tensor("x", DType::F32, &[TOKENS, CONFIG.hidden], 1.0);
        Ok(Layer { dtype, program, weights, x })
    }

    fn model(&self, program: &Program) -> CpuModel {
        CpuModel::load(program, self.dtype, &self.weights, &mut |_| ())
    }

    /// The output by the definitions, step by step and without fusion.
    fn defined(&self, x: &Tensor) -> Result<Tensor, String> {
        let model = self.model(&self.program);
        out(CpuSession::open(&model)
            .call(&model, &call(x, 0), &["out"])
            .map_err(|e| e.to_string())?)
    }

    fn within(&self, what: &str, got: &Tensor, want: &Tensor) -> Result<(), String> {
        let (got, want) = (got.to_f64(), want.to_f64());
        // Never zero, because the differences are divided by it.
        let size = want.iter().fold(1e-9, |m: f64, x| m.max(x.abs()));
        let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / size);
        let worst = worst.fold(0.0, |m: f64, x| if x.is_nan() { f64::INFINITY } else { m.max(x) });
        let limit = limit(self.dtype);
        // Written such that NaN fails.
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

/// A call with rows of one sequence from `position` on.
fn call(x: &Tensor, position: usize) -> CallInputs {
    let n = x.meta.shape[0];
    let positions: Vec<i32> = (position..position + n).map(|p| p as i32).collect();
    CallInputs::from([("x", x.clone()), ("positions", Tensor::from_i32(&[n], &positions))])
}

/// A call with rows of several sequences, given sequence and position of each row.
fn mixed(x: &Tensor, rows: &[(i32, i32)]) -> CallInputs {
    let column = |pick: fn(&(i32, i32)) -> i32| {
        Tensor::from_i32(&[rows.len()], &rows.iter().map(pick).collect::<Vec<_>>())
    };
    let (sequences, positions) = (column(|r| r.0), column(|r| r.1));
    CallInputs::from([("x", x.clone()), ("positions", positions), ("sequences", sequences)])
}

fn out(mut slots: Slots) -> Result<Tensor, String> {
    slots.remove("out").ok_or_else(|| "no slot out".to_owned())
}

/// The prompt with a different last token.
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
        // Otherwise a layer that ignores its input would pass.
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
        if case == "rows_of_a_batch" {
            batch_on_cpu(&Layer::new(dtype, BATCH)?, &Layer::new(dtype, 1)?)?;
            continue;
        }
        let layer = Layer::new(dtype, 1)?;
        let want = layer.defined(&layer.x)?;
        match case {
            "gpt2_agrees_with_its_steps" => {
                let model = layer.model(&fuse(&layer.program, Phase::Prefill, &[]));
                let slots = CpuSession::open(&model).call(&model, &call(&layer.x, 0), &["out"]);
                layer.within("fused", &out(slots.map_err(|e| e.to_string())?)?, &want)?;
            }
            "later_token_changes_nothing" => {
                earlier_rows(&want, &layer.defined(&other_end(&layer.x))?)?;
            }
            "prefill_agrees_with_decode" => {
                let model = layer.model(&fuse(&layer.program, Phase::Decode, &[]));
                let mut session = CpuSession::open(&model);
                for i in 0..TOKENS {
                    let slots = session.call(&model, &call(&rows(&layer.x, i, 1), i), &["out"]);
                    let got = out(slots.map_err(|e| e.to_string())?)?;
                    layer.within(&format!("token {i}"), &got, &rows(&want, i, 1))?;
                }
            }
            other => return Err(format!("no check layer::{other}")),
        }
    }
    Ok(())
}

/// The prompt length of a sequence in the batch. All lengths differ, and one crosses a split of
/// keys.
fn length(sequence: usize) -> usize {
    // All different, so that a kernel that takes one length for another is noticed.
    9 * sequence + 2
}

/// The decode step of some sequences of the batch, in this order.
fn step(layer: &Layer, order: &[usize]) -> CallInputs {
    let row = |s: &usize| rows(&layer.x, 58 + s, 1).bytes;
    let mut x = rows(&layer.x, 0, 1);
    (x.bytes, x.meta.shape[0]) = (order.iter().flat_map(row).collect(), order.len());
    let places: Vec<_> = order.iter().map(|s| (*s as i32, length(*s) as i32)).collect();
    mixed(&x, &places)
}

fn prompt_of(layer: &Layer, sequence: usize) -> CallInputs {
    let places: Vec<_> = (0..length(sequence) as i32).map(|p| (sequence as i32, p)).collect();
    mixed(&rows(&layer.x, 0, places.len()), &places)
}

/// Checks that rows of eight sequences in one call agree with each sequence alone.
fn batch_on_cpu(several: &Layer, single: &Layer) -> Result<(), String> {
    let prefill = several.model(&several.program);
    let decode = several.model(&fuse(&several.program, Phase::Decode, &[]));
    let mut session = CpuSession::open(&prefill);
    for s in 0..BATCH {
        session.call(&prefill, &prompt_of(several, s), &["out"]).map_err(|e| e.to_string())?;
    }
    let order: Vec<usize> = (0..BATCH).collect();
    let got =
        out(session.call(&decode, &step(several, &order), &["out"]).map_err(|e| e.to_string())?)?;
    for s in 0..BATCH {
        let mut own = rows(&several.x, 0, length(s));
        own.bytes.extend(rows(&several.x, 58 + s, 1).bytes);
        own.meta.shape[0] += 1;
        let want = rows(&single.defined(&own)?, length(s), 1);
        several.within(&format!("sequence {s} of a batch"), &rows(&got, s, 1), &want)?;
    }
    Ok(())
}

/// The session of a layer on a card.
struct Run<'c> {
    card: &'c mut Card,
    model: CudaModel,
    session: CudaSession,
}

impl<'c> Run<'c> {
    fn open(card: &'c mut Card, layer: &Layer, options: Options) -> Result<Run<'c>, String> {
        let (program, weights) = (&layer.program, &layer.weights);
        let silent = &mut |_| ();
        let model = CudaModel::load(card, program, layer.dtype, weights, &[], options, silent)
            .map_err(|e| e.to_string())?;
        let session = CudaSession::open(card, &model, Sizes { n: TOKENS, m: 0 }, BATCH)
            .map_err(|e| e.to_string())?;
        Ok(Run { card, model, session })
    }

    fn call(&mut self, phase: Phase, inputs: &CallInputs) -> Result<Tensor, String> {
        let Run { card, model, session } = self;
        let sizes = session.call(card, model, phase, inputs).map_err(|e| e.to_string())?;
        let slots = session.read(card, model, phase, sizes, &["out"]);
        out(slots.map_err(|e| e.to_string())?)
    }

    /// Checks each step, on the operands that it actually had, against its own derived bound.
    fn steps_hold(&mut self, phase: Phase, inputs: &CallInputs) -> Result<(), String> {
        let Run { card, model, session } = self;
        let (program, dtype) = (model.program_of(phase).clone(), model.dtype());
        let positions = inputs["positions"].to_i32();
        let sizes = Sizes { n: positions.len(), m: 0 };
        let mut wrong = None;
        let look = |step: &goldgate_engine::program::Step, before: &Slots, after: &Slots| {
            let first = |_| i64::from(positions[0]);
            let (op, mut question) = program.question(step, dtype, sizes, first)?;
            question.phase = Some(phase);
            match load(op, &question, before, after) {
                Ok(load) if load <= 1.0 => {}
                Ok(load) => wrong = wrong.take().or(Some(format!("{}: load {load:.2}", step.name))),
                Err(refusal) => wrong = wrong.take().or(Some(format!("{}: {refusal}", step.name))),
            }
            Ok(())
        };
        session.each_step(card, model, phase, inputs, look).map_err(|e| e.to_string())?;
        wrong.map_or(Ok(()), |what| Err(format!("{dtype} {phase:?} step {what}")))
    }
}

/// The checks of a layer on a card.
///
/// # Errors
/// What does not hold.
pub fn on_card(card: &mut Card, case: &str) -> Result<(), String> {
    let all = Options::default();
    for dtype in DType::ACTIVATIONS {
        if case == "rows_of_a_batch" {
            let layer = Layer::new(dtype, BATCH)?;
            // Fusion decides which kernels run, so the check needs both forms.
            for fused in [true, false] {
                batch_on_card(&layer, &mut Run::open(card, &layer, Options { fused, ..all })?)?;
            }
            continue;
        }
        let layer = Layer::new(dtype, 1)?;
        let want = layer.defined(&layer.x)?;
        let whole = call(&layer.x, 0);
        match case {
            "gpt2_agrees_with_its_steps" => {
                for fused in [true, false] {
                    let mut run = Run::open(card, &layer, Options { fused, ..all })?;
                    layer.within("prompt", &run.call(Phase::Prefill, &whole)?, &want)?;
                    run.steps_hold(Phase::Prefill, &whole)?;
                    run.steps_hold(Phase::Decode, &call(&rows(&layer.x, 3, 1), 66))?;
                }
            }
            "later_token_changes_nothing" => {
                let mut run = Run::open(card, &layer, all)?;
                let first = run.call(Phase::Prefill, &whole)?;
                let other = run.call(Phase::Prefill, &call(&other_end(&layer.x), 0))?;
                earlier_rows(&first, &other)?;
                for size in [1, 7, 64] {
                    in_chunks(&mut run, &layer.x, size, &first)?;
                }
            }
            "prefill_agrees_with_decode" => {
                let mut run = Run::open(card, &layer, all)?;
                for i in 0..TOKENS {
                    let got = run.call(Phase::Decode, &call(&rows(&layer.x, i, 1), i))?;
                    layer.within(&format!("token {i}"), &got, &rows(&want, i, 1))?;
                }
            }
            other => return Err(format!("no check layer::{other}")),
        }
    }
    Ok(())
}

/// Checks that a row of a decode step has the same bits alone, among eight, and at another place.
fn batch_on_card(layer: &Layer, run: &mut Run<'_>) -> Result<(), String> {
    for s in 0..BATCH {
        run.call(Phase::Prefill, &prompt_of(layer, s))?;
    }
    let order: Vec<usize> = (0..BATCH).collect();
    let whole = run.call(Phase::Decode, &step(layer, &order))?;
    run.steps_hold(Phase::Decode, &step(layer, &order))?;
    // No sequence keeps its place, so that bits that depend on the place show.
    let moved = [5, 2, 7, 0, 3, 6, 1, 4];
    let other = run.call(Phase::Decode, &step(layer, &moved))?;
    for (place, s) in moved.into_iter().enumerate() {
        let alone = run.call(Phase::Decode, &step(layer, &[s]))?;
        let same = rows(&whole, s, 1);
        if alone != same || rows(&other, place, 1) != same {
            return Err(format!("{}: sequence {s} has other bits in a batch", layer.dtype));
        }
    }
    Ok(())
}

/// Checks that a prompt in chunks has the bits of the whole.
fn in_chunks(run: &mut Run<'_>, x: &Tensor, size: usize, whole: &Tensor) -> Result<(), String> {
    let mut bytes = Vec::new();
    for at in (0..TOKENS).step_by(size) {
        let chunk = rows(x, at, size.min(TOKENS - at));
        bytes.extend(run.call(Phase::Prefill, &call(&chunk, at))?.bytes);
    }
    match bytes == whole.bytes {
        true => Ok(()),
        false => Err(format!("in chunks of {size} the bits are others than at once")),
    }
}

/// A gather of rows: a question that only its data can make invalid.
fn gather(ids: &[i32]) -> Op {
    let table = tensor("table", DType::F16, &[37, 64], 1.0);
    let tensors = [("ids", Tensor::from_i32(&[ids.len()], ids)), ("table", table)];
    Op {
        op: "embedding".to_owned(),
        dtype: DType::F16,
        attributes: json!({"to": "D"}).as_object().cloned().unwrap_or_default(),
        tensors: tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect(),
        alias: BTreeMap::new(),
        timeout_s: None,
    }
}

/// The checks of errors, for any subject of ours.
///
/// # Errors
/// What does not hold.
pub fn faults(device: &mut dyn Device, case: &str) -> Result<(), String> {
    let message = |e: NoAnswer| format!("{e:?}");
    // Asked before the fault, so that a later difference can only come from it.
    let before = device.op(&gather(&[3, 36, 0])).map_err(message)?.results;
    match device.op(&gather(&[3, 37, 0])) {
        Err(NoAnswer::Refused(r)) if r.operand == "ids" && r.kind.name() == "IdOutOfRange" => {}
        other => return Err(format!("id 37 of 37 rows: {other:?}")),
    }
    match case {
        "bad_id_is_refused" => Ok(()),
        "next_question_is_unharmed" => {
            let after = device.op(&gather(&[3, 36, 0])).map_err(message)?.results;
            match after == before {
                true => Ok(()),
                false => Err("the next question has other bits".to_owned()),
            }
        }
        other => Err(format!("no check fault::{other}")),
    }
}

/// Checks that two questions on two streams, repeated many times, have the bits that each has
/// alone. `open` opens the subject anew for each stream.
///
/// # Errors
/// What does not hold.
pub fn streams<D: Device>(open: impl Fn() -> Result<D, String> + Sync) -> Result<(), String> {
    let ask = |name: &str, rows: usize| {
        let mut tensors = BTreeMap::new();
        tensors.insert("x".to_owned(), tensor(name, DType::F16, &[rows, 1031], 3.0));
        Op {
            op: "softmax".to_owned(),
            dtype: DType::F16,
            attributes: Map::new(),
            tensors,
            alias: BTreeMap::new(),
            timeout_s: None,
        }
    };
    let run = |question: &Op, times: usize| {
        // A device for each thread, because each has a stream of its own.
        let mut own = open()?;
        let mut bits = Vec::new();
        for _ in 0..times {
            bits.push(own.op(question).map_err(|e| format!("{e:?}"))?.results);
        }
        Ok::<_, String>(bits)
    };
    let questions = [ask("left", 700), ask("right", 300)];
    let alone = [run(&questions[0], 1)?, run(&questions[1], 1)?];
    let together = std::thread::scope(|scope| {
        // Many times, because a race shows only while both threads are on the card.
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
