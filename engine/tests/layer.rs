//! One layer of GPT-2 as a Program: fused against plain, prefill against decode, on the CPU; and
//! on a device, where there is one: the same bits however a prompt is cut, with overlap and
//! without, graph and launches, fused and plain.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::{Device, DeviceError, Settings};
use goldgate_engine::exec::cpu::{CallInputs, CpuModel, CpuSession, Slots};
use goldgate_engine::exec::cuda::{CudaModel, CudaSession, Options};
use goldgate_engine::exec::local::load;
use goldgate_engine::fuse::fuse;
use goldgate_engine::model::build::Types;
use goldgate_engine::model::gpt2::{Config, block, weights};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::{Program, ProgramError, Sizes};
use goldgate_engine::{DType, Tensor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CONFIG: Config = Config { hidden: 192, heads: 3, ffn: 320, context: 160, eps: 1e-5 };

type Weights = BTreeMap<String, Tensor>;

const F32: Types = Types { dtype: DType::F32, kv: DType::F32 };

fn random(rng: &mut StdRng, dtype: DType, shape: &[usize], size: f64) -> Tensor {
    let count = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|_| (rng.random::<f64>() - 0.5) * 2.0 * size).collect();
    Tensor::from_f64(dtype, shape, &values)
}

fn random_weights(dtype: DType) -> Weights {
    let mut rng = StdRng::seed_from_u64(3);
    weights(&CONFIG)
        .into_iter()
        .map(|(name, shape)| {
            let dtype = if shape.len() == 1 { DType::F32 } else { dtype };
            (name.to_owned(), random(&mut rng, dtype, &shape, 0.2))
        })
        .collect()
}

const LARGEST: Sizes = Sizes { n: 100, m: 0 };

/// A block for sessions of so many sequences.
fn program(dtype: DType, weights: &Weights, sequences: usize) -> Program {
    let found = |name: &str| weights.get(name).map(|t| t.meta.clone());
    let types = Types { dtype, kv: dtype };
    let program = block(&CONFIG, types, sequences, found).expect("a good configuration");
    program.check(dtype, LARGEST).expect("a good program");
    program
}

/// A call of rows of one sequence from `position` on.
fn call(x: &Tensor, position: usize) -> CallInputs {
    let n = x.meta.shape[0];
    let positions: Vec<i32> = (position..position + n).map(|p| p as i32).collect();
    CallInputs::from([("x", x.clone()), ("positions", Tensor::from_i32(&[n], &positions))])
}

/// A call of rows of several sequences, each `(sequence, position)`.
fn mixed(x: &Tensor, rows: &[(i32, i32)]) -> CallInputs {
    let of = |pick: fn(&(i32, i32)) -> i32| {
        Tensor::from_i32(&[rows.len()], &rows.iter().map(pick).collect::<Vec<_>>())
    };
    let (sequences, positions) = (of(|r| r.0), of(|r| r.1));
    CallInputs::from([("x", x.clone()), ("positions", positions), ("sequences", sequences)])
}

fn on_cpu(program: &Program, dtype: DType, weights: &Weights, inputs: &CallInputs) -> Slots {
    let model = CpuModel::load(program, dtype, weights, &mut |_| ());
    CpuSession::open(&model).call(&model, inputs, &["out"]).expect("a good call")
}

fn rows(x: &Tensor, from: usize, count: usize) -> Tensor {
    let width = x.meta.shape[1];
    let row = x.bytes.len() / x.meta.shape[0];
    let bytes = x.bytes[from * row..(from + count) * row].to_vec();
    Tensor::new(x.meta.dtype, &[count, width], bytes)
}

/// The worst difference as a share of the largest number.
fn share(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64(), b.to_f64());
    let size = b.iter().fold(1e-9, |m: f64, x| m.max(x.abs()));
    a.iter().zip(&b).map(|(a, b)| (a - b).abs() / size).fold(0.0, f64::max)
}

#[test]
fn a_block_with_a_wrong_number_or_weight_is_refused_by_name() {
    let weights = random_weights(DType::F32);
    let found = |name: &str| weights.get(name).map(|t| t.meta.clone());
    let odd = Config { heads: 5, ..CONFIG };
    let refused = block(&odd, F32, 1, found).expect_err("192 is no multiple of 5");
    assert!(matches!(refused, ProgramError::Config { field: "heads", .. }), "{refused}");
    let no_bias = |name: &str| found(name).filter(|_| name != "attn_qkv.bias");
    let refused = block(&CONFIG, F32, 1, no_bias).expect_err("a bias is missing");
    assert_eq!(refused.to_string(), "weight attn_qkv.bias: is missing");
    let wide = Config { ffn: 321, ..CONFIG };
    let refused = block(&wide, F32, 1, found).expect_err("ffn_up has 320 rows");
    let (up, down) = ("is [320, 192], wants [321, 192]", "is [192, 320], wants [192, 321]");
    let all = format!(
        "weight ffn_up.weight: {up}; weight ffn_up.bias: is [320], wants [321]; \
         weight ffn_down.weight: {down}"
    );
    assert_eq!(refused.to_string(), all);
}

#[test]
fn the_fused_program_agrees_with_the_plain_one() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights, 1);
    let fused = fuse(&plain, Phase::Prefill, &[]);
    let ops: Vec<&str> = fused.steps.iter().map(|s| s.op).collect();
    assert_eq!(ops.iter().filter(|o| **o == "layernorm_residual").count(), 1, "{ops:?}");
    assert_eq!(ops.iter().filter(|o| **o == "ffn_gelu").count(), 1, "{ops:?}");
    assert_eq!(fused.body, fused.steps.len());
    let x = random(&mut StdRng::seed_from_u64(5), DType::F32, &[23, CONFIG.hidden], 2.0);
    let run = |p: &Program| on_cpu(p, DType::F32, &weights, &call(&x, 0))["out"].clone();
    assert!(share(&run(&fused), &run(&plain)) < 1e-6);
}

#[test]
fn a_traced_slot_keeps_its_pattern_apart() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights, 1);
    let act = plain.find("ffn.act").expect("a slot");
    let fused = fuse(&plain, Phase::Prefill, &[act]);
    assert!(fused.steps.iter().any(|s| s.op == "gelu"));
}

#[test]
fn one_token_at_a_time_agrees_with_the_whole_prompt() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights, 1);
    let decode = fuse(&plain, Phase::Decode, &[]);
    assert!(decode.steps.iter().any(|s| s.op == "attention_decode"));
    let x = random(&mut StdRng::seed_from_u64(5), DType::F32, &[9, CONFIG.hidden], 2.0);
    let whole = on_cpu(&plain, DType::F32, &weights, &call(&x, 0));
    let model = CpuModel::load(&decode, DType::F32, &weights, &mut |_| ());
    let mut session = CpuSession::open(&model);
    for i in 0..9 {
        let slots = session.call(&model, &call(&rows(&x, i, 1), i), &["out"]).expect("a good call");
        assert!(share(&slots["out"], &rows(&whole["out"], i, 1)) < 1e-6, "token {i}");
    }
}

/// Prompts of three sequences of other lengths, by row of `x`.
const PROMPTS: [(i32, usize, usize); 3] = [(4, 0, 9), (0, 9, 1), (7, 10, 5)];

#[test]
fn sequences_that_share_a_call_do_not_see_each_other() {
    let weights = random_weights(DType::F32);
    let several = program(DType::F32, &weights, 8);
    let x = random(&mut StdRng::seed_from_u64(6), DType::F32, &[18, CONFIG.hidden], 2.0);
    let decode = fuse(&several, Phase::Decode, &[]);
    let prompt_model = CpuModel::load(&several, DType::F32, &weights, &mut |_| ());
    let step_model = CpuModel::load(&decode, DType::F32, &weights, &mut |_| ());
    let mut session = CpuSession::open(&prompt_model);
    for (sequence, first, count) in PROMPTS {
        let of: Vec<_> = (0..count as i32).map(|p| (sequence, p)).collect();
        session
            .call(&prompt_model, &mixed(&rows(&x, first, count), &of), &["out"])
            .expect("a good call");
    }
    let step: Vec<_> = PROMPTS.iter().map(|(s, _, count)| (*s, *count as i32)).collect();
    let slots =
        session.call(&step_model, &mixed(&rows(&x, 15, 3), &step), &["out"]).expect("a good call");
    let single = program(DType::F32, &weights, 1);
    for (row, (_, first, count)) in PROMPTS.into_iter().enumerate() {
        let mut own = rows(&x, first, count);
        own.bytes.extend(rows(&x, 15 + row, 1).bytes);
        own.meta.shape[0] += 1;
        let alone = on_cpu(&single, DType::F32, &weights, &call(&own, 0));
        let (got, want) = (rows(&slots["out"], row, 1), rows(&alone["out"], count, 1));
        assert!(share(&got, &want) < 1e-6, "row {row}");
    }
}

/// One test at a time has the card: what one allocates is not counted by another.
static CARD: Mutex<()> = Mutex::new(());

fn device() -> Option<Device> {
    let prefixes = ["/usr/local", "/usr"].map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = home.map(|h| h.join(".cache/goldgate"));
    let settings = Settings { search: usual_folders(&prefixes), cache, ..Settings::default() };
    match Device::open(&settings, 0) {
        Ok(device) => Some(device),
        Err(e @ (DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("nothing ran: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// A session on a card.
struct Run<'d> {
    device: &'d mut Device,
    model: CudaModel,
    session: CudaSession,
}

impl<'d> Run<'d> {
    fn open(
        device: &'d mut Device,
        program: &Program,
        dtype: DType,
        weights: &Weights,
        options: Options,
    ) -> Run<'d> {
        let model =
            CudaModel::load(device, program, dtype, weights, &[], options, &mut |_| ()).unwrap();
        let session = CudaSession::open(device, &model, LARGEST, 8).expect("a session");
        Run { device, model, session }
    }

    fn call(&mut self, phase: Phase, inputs: &CallInputs, wanted: &[&str]) -> Slots {
        let Run { device, model, session } = self;
        let sizes = session.call(device, model, phase, inputs).expect("a good call");
        session.read(device, model, phase, sizes, wanted).expect("slots")
    }

    /// The output of a prompt cut into chunks of at most `size`, laid end to end.
    fn in_chunks(&mut self, x: &Tensor, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < x.meta.shape[0] {
            let count = size.min(x.meta.shape[0] - at);
            let inputs = call(&rows(x, at, count), at);
            bytes.extend(&self.call(Phase::Prefill, &inputs, &["out"])["out"].bytes);
            at += count;
        }
        bytes
    }

    /// Each step's load against its own definition on its own operands.
    fn local(&mut self, phase: Phase, inputs: &CallInputs) -> Vec<(String, f64)> {
        let Run { device, model, session } = self;
        let (program, dtype) = (model.program_of(phase).clone(), model.dtype());
        let sizes = Sizes { n: inputs["positions"].meta.shape[0], m: 0 };
        let first = inputs["positions"].to_i32()[0];
        let mut loads = Vec::new();
        let look = |step: &goldgate_engine::program::Step, before: &Slots, after: &Slots| {
            let (op, mut question) = program.question(step, dtype, sizes, |_| first.into())?;
            question.phase = Some(phase);
            let load = load(op, &question, before, after).expect("a definition");
            loads.push((step.name.clone(), load));
            Ok(())
        };
        session.each_step(device, model, phase, inputs, look).expect("a good call");
        loads
    }
}

#[test]
fn on_a_device_bits_do_not_depend_on_chunks_overlap_or_graph() {
    let _card = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut device) = device() else { return };
    for dtype in DType::ACTIVATIONS {
        let weights = random_weights(dtype);
        let plain = program(dtype, &weights, 1);
        let x = random(&mut StdRng::seed_from_u64(9), DType::F32, &[97, CONFIG.hidden], 2.0);
        let options = Options::default();
        let whole = Run::open(&mut device, &plain, dtype, &weights, options).in_chunks(&x, 97);
        for size in [1, 7, 64] {
            let mut run = Run::open(&mut device, &plain, dtype, &weights, options);
            assert!(run.in_chunks(&x, size) == whole, "{dtype} in chunks of {size}");
        }
        // Decode: 1000 runs with overlap and graph against one without either.
        let token = call(&rows(&x, 40, 1), 40);
        let decode = |run: &mut Run<'_>| run.call(Phase::Decode, &token, &["out", "kv.k"]);
        let quiet = Options { graph: false, overlap: false, fused: true };
        let mut run = Run::open(&mut device, &plain, dtype, &weights, quiet);
        run.in_chunks(&rows(&x, 0, 40), 40);
        let once = decode(&mut run);
        let mut run = Run::open(&mut device, &plain, dtype, &weights, options);
        run.in_chunks(&rows(&x, 0, 40), 40);
        assert!(decode(&mut run) == once, "{dtype} first decode run");
        let free = |run: &Run<'_>| run.device.memory_info().expect("a count").0;
        let before = free(&run);
        for time in 1..1000 {
            assert!(decode(&mut run) == once, "{dtype} decode run {time}");
        }
        assert_eq!(before, free(&run), "nothing allocates once a step has run");
        for fused in [true, false] {
            let mut run =
                Run::open(&mut device, &plain, dtype, &weights, Options { fused, ..options });
            for phase in [Phase::Prefill, Phase::Decode] {
                let count = if phase == Phase::Prefill { 40 } else { 1 };
                for (step, load) in run.local(phase, &call(&rows(&x, 0, count), 0)) {
                    println!("{dtype} {phase:?} fused {fused} {step}: load {load:.2}");
                    assert!(load <= 1.0, "{dtype} {phase:?} {step}: load {load}");
                }
            }
        }
    }
}

#[test]
fn on_a_device_a_row_has_the_same_bits_alone_among_eight_and_at_another_place() {
    let _card = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut device) = device() else { return };
    for dtype in DType::ACTIVATIONS {
        let weights = random_weights(dtype);
        let several = program(dtype, &weights, 8);
        let x = random(&mut StdRng::seed_from_u64(4), DType::F32, &[80, CONFIG.hidden], 2.0);
        for fused in [true, false] {
            let options = Options { fused, ..Options::default() };
            let mut run = Run::open(&mut device, &several, dtype, &weights, options);
            // Sequence s has a prompt of 9 s + 1 tokens.
            for s in 0..8usize {
                let of: Vec<_> = (0..9 * s as i32 + 1).map(|p| (s as i32, p)).collect();
                let prompt = mixed(&rows(&x, 0, of.len()), &of);
                run.call(Phase::Prefill, &prompt, &["out"]);
            }
            let step = |order: &[usize]| {
                let mut x_rows = rows(&x, 0, 1);
                x_rows.bytes = order.iter().flat_map(|s| rows(&x, 70 + s, 1).bytes).collect();
                x_rows.meta.shape[0] = order.len();
                let of: Vec<_> = order.iter().map(|s| (*s as i32, 9 * *s as i32 + 1)).collect();
                mixed(&x_rows, &of)
            };
            let all = [0, 1, 2, 3, 4, 5, 6, 7];
            let whole = run.call(Phase::Decode, &step(&all), &["out"])["out"].clone();
            let moved = [5, 2, 7, 0, 3, 6, 1, 4];
            let other = run.call(Phase::Decode, &step(&moved), &["out"])["out"].clone();
            for (place, s) in moved.into_iter().enumerate() {
                assert!(rows(&other, place, 1) == rows(&whole, s, 1), "{dtype} moved {s}");
                let alone = run.call(Phase::Decode, &step(&[s]), &["out"])["out"].clone();
                assert!(alone == rows(&whole, s, 1), "{dtype} alone {s}");
            }
            for pair in [[3, 6], [6, 1]] {
                let two = run.call(Phase::Decode, &step(&pair), &["out"])["out"].clone();
                assert!(rows(&two, 1, 1) == rows(&whole, pair[1], 1), "{dtype} {pair:?}");
            }
        }
    }
}
