//! What `load` takes and refuses is what was foretold without a device.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_engine::cuda::Card;
use goldgate_engine::model::Config;
use goldgate_engine::model::map::Map as Weights;
use goldgate_engine::weights::Checkpoint;
use goldgate_engine::{DType, RefusalKind, measure};
use goldgate_wire::call::LoadOptions;
use goldgate_worker::load_plan::Plan;
use goldgate_worker::{Cpu, Device, Inspected, NoAnswer};
use serde_json::{Value, json};

fn tiny() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models");
    let names = ["gpt2-tiny", "llama-tiny", "qwen2-tiny"];
    let forms = ["hf", "f16.gguf", "q8_0.gguf", "q4_k_m.gguf"];
    let all = names.iter().flat_map(|n| forms.map(|f| folder.join(n).join(f)));
    all.map(|path| path.display().to_string()).collect()
}

#[test]
fn what_is_foretold_is_what_load_says() {
    let none = BTreeMap::new();
    let mut cpu = Cpu::default();
    for path in tiny() {
        let whole = Inspected::open(Path::new(&path)).expect("a good file");
        for (context, chunk, dtype, kv) in
            [(1, 1, "f16", "f16"), (100, 512, "f32", "f32"), (128, 7, "bf16", "f16")]
        {
            let ask = json!({"call": "load", "path": path, "context": context, "chunk": chunk,
                             "activations": dtype, "kv": kv});
            let options = LoadOptions::read(&ask).expect("options");
            let need = whole.need(&Card::h200(), &options).expect("it runs");
            let loaded = cpu.model(&ask, &none, &mut |_| ()).expect("loads").fields;
            for key in ["bytes_weights", "bytes_arena", "context", "chunk", "kv"] {
                assert_eq!(need[key], loaded[key], "{path} {key} at {context}");
            }
            let bytes = need.as_object().expect("facts").iter();
            let sum: u64 = bytes
                .filter(|(k, _)| k.starts_with("bytes_"))
                .filter_map(|(_, v)| v.as_u64())
                .sum();
            assert_eq!(Some(sum), need["bytes_arena"].as_u64().map(|all| 2 * all));
            let unload = json!({"call": "unload", "model": loaded["model"]});
            cpu.model(&unload, &none, &mut |_| ()).expect("unloads");
        }
        let far = LoadOptions { context: Some(1 << 40), ..LoadOptions::default() };
        let beyond = whole.need(&Card::h200(), &far).expect_err("beyond the model");
        assert!(matches!(beyond, NoAnswer::Refused(r) if r.operand == "context"));
    }
}

#[test]
fn a_step_reads_every_weight_once_and_the_cache_so_far() {
    let path = tiny().into_iter().find(|p| p.ends_with("llama-tiny/f16.gguf")).expect("there");
    let checkpoint = Checkpoint::open(Path::new(&path)).expect("a good file");
    let (config, _) = Config::of(&checkpoint).expect("a configuration");
    let map = Weights::of(&config, &checkpoint);
    let options = LoadOptions { context: Some(128), ..LoadOptions::default() };
    let plan = Plan::new(DType::F16, &options, &config, &map).expect("runs");
    let reads = measure::reads(&plan.program, DType::F16, 9, 1).expect("good questions");
    // Two layers, keys and values, ten positions, two heads of 80, two bytes.
    assert_eq!(reads.kv, 2 * 2 * 10 * 2 * 80 * 2);
    let eight = measure::reads(&plan.program, DType::F16, 9, 8).expect("good questions");
    assert_eq!(eight.kv, 8 * reads.kv);
    let bytes = |name: &str| checkpoint.tensor(name).map_or(0, |t| t.bytes as usize);
    let all: usize = checkpoint.tensors().iter().map(|t| t.bytes as usize).sum();
    let table = bytes("token_embd.weight");
    assert_eq!(reads.weights, all - table + table / config.vocabulary);
    assert_eq!(eight.weights, all - table + 8 * (table / config.vocabulary));
}

#[test]
fn state_is_for_every_sequence_and_weights_are_there_once() {
    let path = tiny().into_iter().find(|p| p.ends_with("qwen2-tiny/f16.gguf")).expect("there");
    let whole = Inspected::open(Path::new(&path)).expect("a good file");
    let need = |sequences: u64| {
        let (context, chunk) = (Some(100), Some(64));
        let sequences = Some(sequences);
        let options = LoadOptions { context, chunk, sequences, ..LoadOptions::default() };
        whole.need(&Card::h200(), &options).expect("it runs")
    };
    let (one, eight) = (need(1), need(8));
    assert_eq!(one["bytes_weights"], eight["bytes_weights"]);
    let state = |facts: &Value| facts["bytes_state"].as_u64().expect("bytes");
    assert!(state(&eight) <= 8 * state(&one), "padding is once a state");
    assert!(state(&eight) > 7 * state(&one));
    let nine = LoadOptions { sequences: Some(9), ..LoadOptions::default() };
    let nine = whole.need(&Card::h200(), &nine).expect_err("too many");
    let NoAnswer::Refused(refusal) = nine else { panic!("{nine:?}") };
    assert_eq!((&*refusal.operand, refusal.kind), ("sequences", RefusalKind::CapacityExceeded));
}

#[test]
fn a_weight_that_is_not_finite_is_refused_by_its_place_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.gguf");
    let good = tiny().into_iter().find(|p| p.ends_with("gpt2-tiny/q8_0.gguf")).expect("there");
    let whole = Inspected::open(Path::new(&good)).expect("a good file").facts();
    let tensors = whole["tensors"].as_array().expect("tensors");
    let tensor = tensors.iter().find(|t| t["name"] == "blk.1.ffn_up.weight").expect("named");
    let at = tensor["offset"].as_u64().expect("a place") + 3 * 34;
    let mut bytes = std::fs::read(good).expect("read");
    bytes[at as usize..at as usize + 2].copy_from_slice(&[0x00, 0x7c]);
    std::fs::write(&path, bytes).expect("written");
    let ask = json!({"call": "load", "path": path.display().to_string()});
    let refused = Cpu::default().model(&ask, &BTreeMap::new(), &mut |_| ());
    let Err(NoAnswer::File(malformed)) = refused else { panic!("{refused:?}") };
    assert_eq!(malformed.code.as_str(), "NONFINITE_SCALE");
    assert_eq!(malformed.field, "blk.1.ffn_up.weight.block[3]");
    assert_eq!(malformed.offset, Some(at));
}
