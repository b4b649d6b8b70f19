//! What `load` decides before a weight is read, and the memory that it comes to: the same numbers
//! for a model that is loaded and for one that is only looked at.

use goldgate_engine::batch::MOST;
use goldgate_engine::cuda::Card;
use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::exec::cuda::Options;
use goldgate_engine::fuse::fuse;
use goldgate_engine::model::build::{Capacity, Types};
use goldgate_engine::model::map::Map as Weights;
use goldgate_engine::model::{self, Config};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::{Kind, Program};
use goldgate_engine::session::{NeedBytes, Place, Settings, need};
use serde_json::{Value, json};

use crate::subject::models::{bad, no_answer};
use crate::subject::serve::NoAnswer;
use crate::subject::want::{matches, words};

/// Positions of a session where nobody says how many.
const CONTEXT: usize = 4096;

/// Prompt tokens of one call where nobody says how many.
const CHUNK: usize = 512;

/// A Program with how it is to be run.
#[derive(Debug)]
pub struct Plan {
    /// Before any rewrite.
    pub program: Program,
    /// How it runs.
    pub settings: Settings,
    /// The type of the cache.
    pub kv: DType,
    /// Whether calls tell how far each step is from its own definition.
    pub local: bool,
}

impl Plan {
    /// Reads the options of `load`; `usual` is the type of activations where none is named.
    ///
    /// # Errors
    /// Options that make no sense, a context beyond the model's, a model that does not run here.
    pub fn of(
        usual: DType,
        ask: &Value,
        config: &Config,
        map: &Weights<'_>,
    ) -> Result<Plan, NoAnswer> {
        let kind = |key: &str| match ask[key].as_str() {
            None => Ok(None),
            Some(word) => match word.parse::<DType>() {
                Ok(t) if DType::ACTIVATIONS.contains(&t) => Ok(Some(t)),
                _ => Err(bad(&format!("{key} is {word}, wants f32, f16 or bf16"))),
            },
        };
        let dtype = kind("activations")?.unwrap_or(usual);
        let cache = if dtype == DType::F32 { DType::F32 } else { DType::F16 };
        let kv = kind("kv")?.unwrap_or(cache);
        let count = |key: &str, usual: usize| match &ask[key] {
            Value::Null => Ok(usual),
            given => match given.as_u64() {
                Some(n) if n > 0 => Ok(n as usize),
                _ => Err(bad(&format!("{key} is {given}, wants a whole number above 0"))),
            },
        };
        let context = count("context", config.context.min(CONTEXT))?;
        if context > config.context {
            let message = format!("is {context}, the model was made for {}", config.context);
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "context", message).into());
        }
        let chunk = count("chunk", CHUNK)?.min(context);
        let sequences = count("sequences", 1)?;
        if sequences > MOST {
            let message = format!("is {sequences}, at most {MOST} go side by side");
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "sequences", message).into());
        }
        // Several sequences are a rewrite of the Program of one.
        let capacity = Capacity { context, sequences: 1 };
        let types = Types { dtype, kv };
        let program = model::program(config, types, capacity, |name| map.meta(name))
            .map_err(|e| no_answer(CallError::Program(e)))?;
        let mode = ask["trace_mode"].as_str().unwrap_or("as_run");
        if !["as_run", "unfused", "local"].contains(&mode) {
            return Err(bad(&format!("trace_mode is {mode}")));
        }
        let fused = mode != "unfused" && ask["plan"] != "plain";
        let options = Options { fused, graph: ask["graph"] != false, ..Options::default() };
        let trace = traced(&program, &words(&ask["trace"]), fused);
        let settings = Settings { dtype, context, sequences, chunk, trace, options };
        Ok(Plan { program, settings, kv, local: mode == "local" })
    }

    /// The options in force, by the names of the wire.
    pub fn facts(&self) -> Value {
        json!({
            "activations": self.settings.dtype.name(),
            "kv": self.kv.name(),
            "context": self.settings.context,
            "sequences": self.settings.sequences,
            "chunk": self.settings.chunk,
            "plan": if self.settings.options.fused { "fused" } else { "plain" },
        })
    }
}

/// The slots that exist in what runs and that a glob names.
fn traced(program: &Program, globs: &[String], fused: bool) -> Vec<String> {
    let phases = [Phase::Prefill, Phase::Decode];
    let runs = phases.map(|phase| match fused {
        true => fuse(program, phase, &[]),
        false => program.clone(),
    });
    let written = |p: &Program, i: usize| {
        p.steps.iter().any(|s| s.results.iter().any(|(_, v)| v.slot.0 == i))
    };
    let there = |i: usize| {
        let slot = &program.slots[i];
        slot.kind == Kind::State || slot.kind == Kind::Value && runs.iter().all(|p| written(p, i))
    };
    let names = (0..program.slots.len()).filter(|i| there(*i));
    names.map(|i| program.slots[i].name.clone()).filter(|name| matches(globs, name)).collect()
}

/// The card that a place is lowered for; the CPU has none, and the H200's figures are taken.
pub fn card(place: &Place<'_>) -> Card {
    match place {
        Place::Cpu => Card::h200(),
        Place::Cuda(device) => device.card().clone(),
    }
}

/// The type of activations where none is named.
pub fn usual(place: &Place<'_>, map: &Weights<'_>) -> DType {
    if matches!(place, Place::Cpu) { DType::F32 } else { map.activations() }
}

/// What a model needs on `card`, with the options in force, as JSON. Exact: `load` takes two arenas
/// of `bytes_weights` and of the rest.
///
/// # Errors
/// As [`Plan::of`].
pub fn needed(
    card: &Card,
    ask: &Value,
    config: &Config,
    map: &Weights<'_>,
) -> Result<Value, NoAnswer> {
    let plan = Plan::of(map.activations(), ask, config, map)?;
    let bytes = need(&plan.program, &plan.settings, card).map_err(no_answer)?;
    let mut facts = plan.facts();
    // Grids, and with them scratch, follow the card.
    facts["card"] = card.name.as_str().into();
    facts["multiprocessors"] = card.multiprocessors.into();
    for (name, count) in parts(&bytes) {
        facts[name] = count.into();
    }
    Ok(facts)
}

/// Everything that is taken on the device, by the names of the wire; the last one is the sum.
pub fn parts(bytes: &NeedBytes) -> [(&'static str, usize); 7] {
    [
        ("bytes_weights", bytes.weights),
        ("bytes_state", bytes.state),
        ("bytes_inputs", bytes.inputs),
        ("bytes_values", bytes.values),
        ("bytes_workspace", bytes.workspace),
        ("bytes_tables", bytes.tables),
        ("bytes_arena", bytes.weights + bytes.session()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use goldgate_engine::measure;
    use goldgate_engine::weights::Checkpoint;

    use super::*;
    use crate::subject::inspect::Inspected;
    use crate::subject::serve::{Cpu, Device};

    fn tiny() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/models");
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
                let need = whole.need(&Card::h200(), &ask).expect("it runs");
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
            let beyond = whole
                .need(&Card::h200(), &json!({"context": 1u64 << 40}))
                .expect_err("beyond the model");
            assert!(matches!(beyond, NoAnswer::Refused(r) if r.operand == "context"));
        }
    }

    #[test]
    fn a_step_reads_every_weight_once_and_the_cache_so_far() {
        let path = tiny().into_iter().find(|p| p.ends_with("llama-tiny/f16.gguf")).expect("there");
        let checkpoint = Checkpoint::open(Path::new(&path)).expect("a good file");
        let (config, _) = Config::of(&checkpoint).expect("a configuration");
        let map = Weights::of(&config, &checkpoint);
        let plan = Plan::of(DType::F16, &json!({"context": 128}), &config, &map).expect("runs");
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
            let ask = json!({"context": 100, "chunk": 64, "sequences": sequences});
            whole.need(&Card::h200(), &ask).expect("it runs")
        };
        let (one, eight) = (need(1), need(8));
        assert_eq!(one["bytes_weights"], eight["bytes_weights"]);
        let state = |facts: &Value| facts["bytes_state"].as_u64().expect("bytes");
        assert!(state(&eight) <= 8 * state(&one), "padding is once a state");
        assert!(state(&eight) > 7 * state(&one));
        let nine = whole.need(&Card::h200(), &json!({"sequences": 9})).expect_err("too many");
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
}
