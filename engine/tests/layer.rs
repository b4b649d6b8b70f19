//! One layer of GPT-2 as a Program: fused against plain, prefill against decode, on the CPU; and
//! on a device, where there is one: the same bits however a prompt is cut, with overlap and
//! without, graph and launches, fused and plain.

use std::collections::BTreeMap;
use std::path::PathBuf;

use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::{Device, DeviceError, Settings};
use goldgate_engine::exec::cpu::{CpuSession, Slots};
use goldgate_engine::exec::cuda::{CudaSession, Options};
use goldgate_engine::fuse::fuse;
use goldgate_engine::model::gpt2::{Config, block, weights};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::{Program, ProgramError};
use goldgate_engine::{DType, Tensor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CONFIG: Config = Config { hidden: 192, heads: 3, ffn: 320, context: 160, eps: 1e-5 };

type Weights = BTreeMap<String, Tensor>;

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

fn program(dtype: DType, weights: &Weights) -> Program {
    let found = |name: &str| weights.get(name).map(|t| t.meta.clone());
    let program = block(&CONFIG, dtype, dtype, found).expect("a good configuration");
    program.check(dtype, 100).expect("a good program");
    program
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
    let refused = block(&odd, DType::F32, DType::F32, found).expect_err("192 is no multiple of 5");
    assert!(matches!(refused, ProgramError::Config { field: "heads", .. }), "{refused}");
    let no_bias = |name: &str| found(name).filter(|_| name != "attn_qkv.bias");
    let refused = block(&CONFIG, DType::F32, DType::F32, no_bias).expect_err("a bias is missing");
    assert_eq!(refused.to_string(), "weight attn_qkv.bias: is missing");
    let wide = Config { ffn: 321, ..CONFIG };
    let refused = block(&wide, DType::F32, DType::F32, found).expect_err("ffn_up has 320 rows");
    assert_eq!(refused.to_string(), "weight ffn_up.weight: is [320, 192], wants [321, 192]");
}

#[test]
fn the_fused_program_agrees_with_the_plain_one() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights);
    let fused = fuse(&plain, Phase::Prefill, &[]);
    let ops: Vec<&str> = fused.steps.iter().map(|s| s.op).collect();
    assert_eq!(ops.iter().filter(|o| **o == "layernorm_residual").count(), 1, "{ops:?}");
    assert_eq!(ops.iter().filter(|o| **o == "ffn_gelu").count(), 1, "{ops:?}");
    let x = random(&mut StdRng::seed_from_u64(5), DType::F32, &[23, CONFIG.hidden], 2.0);
    let run = |p: &Program| {
        CpuSession::open(p, DType::F32, &weights).call(&x).expect("a good call")["out"].clone()
    };
    assert!(share(&run(&fused), &run(&plain)) < 1e-6);
}

#[test]
fn a_traced_slot_keeps_its_pattern_apart() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights);
    let act = plain.find("ffn.act").expect("a slot");
    let fused = fuse(&plain, Phase::Prefill, &[act]);
    assert!(fused.steps.iter().any(|s| s.op == "gelu"));
}

#[test]
fn one_token_at_a_time_agrees_with_the_whole_prompt() {
    let weights = random_weights(DType::F32);
    let plain = program(DType::F32, &weights);
    let decode = fuse(&plain, Phase::Decode, &[]);
    assert!(decode.steps.iter().any(|s| s.op == "attention_decode"));
    let x = random(&mut StdRng::seed_from_u64(5), DType::F32, &[9, CONFIG.hidden], 2.0);
    let whole = CpuSession::open(&plain, DType::F32, &weights).call(&x).expect("a good call");
    let mut session = CpuSession::open(&decode, DType::F32, &weights);
    for i in 0..9 {
        let slots = session.call(&rows(&x, i, 1)).expect("a good call");
        assert!(share(&slots["out"], &rows(&whole["out"], i, 1)) < 1e-6, "token {i}");
    }
}

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

fn open<'d>(
    device: &'d mut Device,
    program: &Program,
    dtype: DType,
    weights: &Weights,
    options: Options,
) -> CudaSession<'d> {
    CudaSession::open(device, program, dtype, weights, 100, &[], options).expect("a session")
}

/// The output of a prompt cut into chunks of at most `size`, laid end to end.
fn in_chunks(session: &mut CudaSession<'_>, x: &Tensor, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < x.meta.shape[0] {
        let count = size.min(x.meta.shape[0] - at);
        let slots = session.call(Phase::Prefill, &rows(x, at, count), &["out"]);
        bytes.extend(slots.expect("a good call")["out"].bytes.iter());
        at += count;
    }
    bytes
}

#[test]
fn on_a_device_bits_do_not_depend_on_chunks_overlap_or_graph() {
    let Some(mut device) = device() else { return };
    for dtype in DType::ACTIVATIONS {
        let weights = random_weights(dtype);
        let plain = program(dtype, &weights);
        let x = random(&mut StdRng::seed_from_u64(9), DType::F32, &[97, CONFIG.hidden], 2.0);
        let options = Options::default();
        let whole = in_chunks(&mut open(&mut device, &plain, dtype, &weights, options), &x, 97);
        for size in [1, 7, 64] {
            let mut session = open(&mut device, &plain, dtype, &weights, options);
            assert!(in_chunks(&mut session, &x, size) == whole, "{dtype} in chunks of {size}");
        }
        // Fused against plain, and both against the definitions.
        let want = CpuSession::open(&plain, dtype, &weights).call(&x).expect("a good call");
        let out = Tensor::new(DType::F32, &[97, CONFIG.hidden], whole.clone());
        let unfused = Options { fused: false, ..options };
        let mut session = open(&mut device, &plain, dtype, &weights, unfused);
        let apart = Tensor::new(DType::F32, &[97, CONFIG.hidden], in_chunks(&mut session, &x, 97));
        let limit =
            [1e-5, 4e-3, 3e-2][DType::ACTIVATIONS.iter().position(|t| *t == dtype).unwrap()];
        println!(
            "{dtype}: fused {:.1e}, plain {:.1e}",
            share(&out, &want["out"]),
            share(&apart, &want["out"])
        );
        assert!(
            share(&out, &want["out"]) < limit && share(&apart, &want["out"]) < limit,
            "{dtype}"
        );
        // Decode: 1000 runs with overlap and graph against one without either.
        let token = rows(&x, 40, 1);
        let quiet = Options { graph: false, overlap: false, fused: true };
        let decode = |session: &mut CudaSession<'_>| -> Slots {
            session.rewind(40);
            session.call(Phase::Decode, &token, &["out", "kv.k"]).expect("a good call")
        };
        let mut session = open(&mut device, &plain, dtype, &weights, quiet);
        in_chunks(&mut session, &rows(&x, 0, 40), 40);
        let once = decode(&mut session);
        assert!(share(&once["out"], &rows(&want["out"], 40, 1)) < limit, "{dtype} decode");
        drop(session);
        let mut session = open(&mut device, &plain, dtype, &weights, options);
        in_chunks(&mut session, &rows(&x, 0, 40), 40);
        for run in 0..1000 {
            assert!(decode(&mut session) == once, "{dtype} decode run {run}");
        }
        let before = session.bytes();
        // Each step against its own definition on its own operands.
        session.rewind(0);
        for (step, worst) in session.local(Phase::Prefill, &rows(&x, 0, 40)).expect("a good call") {
            println!("{dtype} {step}: local {worst:.1e}");
            assert!(worst < limit, "{dtype} {step}: {worst:e}");
        }
        assert_eq!(before, session.bytes(), "nothing allocates after opening");
    }
}
