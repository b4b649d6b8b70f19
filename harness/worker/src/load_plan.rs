//! The decisions of `load` before a weight is read, and the memory that follows from them. Shared
//! with `inspect`, so that both report the same numbers.

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
use goldgate_wire::call::LoadOptions;
use goldgate_wire::globs;
use goldgate_wire::words::{Fusion, TraceMode};
use serde_json::{Value, json};

use crate::device::{NoAnswer, no_answer};

/// The positions of a session, if no number is given.
const CONTEXT: usize = 4096;

/// The prompt tokens of one call, if no number is given.
const CHUNK: usize = 512;

/// A Program, and how it is to be run.
#[derive(Debug)]
pub struct Plan {
    /// The Program before any rewrite.
    pub program: Program,
    /// How it is run.
    pub settings: Settings,
    /// The type of the cache.
    pub kv: DType,
    /// Whether calls report how far each step is from its own definition.
    pub local: bool,
}

impl Plan {
    /// The plan for the options of `load`; `usual` is the type of activations if none is given.
    ///
    /// # Errors
    /// The context exceeds the model's, there are too many sequences, or the model cannot run here.
    pub fn new(
        usual: DType,
        options: &LoadOptions,
        config: &Config,
        map: &Weights<'_>,
    ) -> Result<Plan, NoAnswer> {
        let dtype = options.activations.unwrap_or(usual);
        // A narrower cache would add a rounding that the class f32 does not allow.
        let cache = if dtype == DType::F32 { DType::F32 } else { DType::F16 };
        let kv = options.kv.unwrap_or(cache);
        let count = |given: Option<u64>, usual: usize| given.map_or(usual, |count| count as usize);
        let context = count(options.context, config.context.min(CONTEXT));
        // Beyond its context a model has no positions, or was not trained on them.
        if context > config.context {
            let message = format!("is {context}, the model was made for {}", config.context);
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "context", message).into());
        }
        // A longer chunk than the context would reserve memory that no call can use.
        let chunk = count(options.chunk, CHUNK).min(context);
        let sequences = count(options.sequences, 1);
        if sequences > MOST {
            let message = format!("is {sequences}, at most {MOST} go side by side");
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "sequences", message).into());
        }
        // Several sequences are a rewrite of the Program for one.
        let capacity = Capacity { context, sequences: 1 };
        let types = Types { dtype, kv };
        let program = model::program(config, types, capacity, |name| map.meta(name))
            .map_err(|e| no_answer(CallError::Program(e)))?;
        let mode = options.trace_mode.unwrap_or_default();
        let fused = mode != TraceMode::Unfused && options.plan != Some(Fusion::Plain);
        let graph = options.graph.unwrap_or(true);
        let trace = traced(&program, &options.trace, fused);
        let options = Options { fused, graph, ..Options::default() };
        let settings = Settings { dtype, context, sequences, chunk, trace, options };
        Ok(Plan { program, settings, kv, local: mode == TraceMode::Local })
    }

    /// Whether steps are fused.
    pub fn fusion(&self) -> Fusion {
        if self.settings.options.fused { Fusion::Fused } else { Fusion::Plain }
    }

    /// The options in force, under the names of the wire.
    pub fn facts(&self) -> Value {
        json!({
            "activations": self.settings.dtype.name(),
            "kv": self.kv.name(),
            "context": self.settings.context,
            "sequences": self.settings.sequences,
            "chunk": self.settings.chunk,
            "plan": self.fusion().name(),
        })
    }
}

/// The slots that exist at run time and match one of the globs.
fn traced(program: &Program, globs: &[String], fused: bool) -> Vec<String> {
    let phases = [Phase::Prefill, Phase::Decode];
    let runs = phases.map(|phase| match fused {
        true => fuse(program, phase, &[]),
        false => program.clone(),
    });
    let written = |p: &Program, i: usize| {
        p.steps.iter().any(|s| s.results.iter().any(|(_, v)| v.slot.0 == i))
    };
    // Only what every phase computes: a slot that fusion removes in one would be missing from its
    // answers.
    let there = |i: usize| {
        let slot = &program.slots[i];
        slot.kind == Kind::State || slot.kind == Kind::Value && runs.iter().all(|p| written(p, i))
    };
    let names = (0..program.slots.len()).filter(|i| there(*i));
    names.map(|i| program.slots[i].name.clone()).filter(|name| globs::any(globs, name)).collect()
}

/// The card that a place is planned for. The CPU has none, so the H200's properties are used.
pub fn card(place: &Place<'_>) -> Card {
    match place {
        Place::Cpu => Card::h200(),
        Place::Cuda(device) => device.card().clone(),
    }
}

/// The type of activations if none is given.
pub fn usual(place: &Place<'_>, map: &Weights<'_>) -> DType {
    if matches!(place, Place::Cpu) { DType::F32 } else { map.activations() }
}

/// What a model needs on `card`, with the options in force, as JSON. The numbers are exact: `load`
/// takes two arenas, one of `bytes_weights` and one of the rest.
///
/// # Errors
/// Those of [`Plan::new`].
pub fn needed(
    card: &Card,
    options: &LoadOptions,
    config: &Config,
    map: &Weights<'_>,
) -> Result<Value, NoAnswer> {
    let plan = Plan::new(map.activations(), options, config, map)?;
    let bytes = need(&plan.program, &plan.settings, card).map_err(no_answer)?;
    let mut facts = plan.facts();
    // Grids depend on the card, and the scratch memory on the grids.
    facts["card"] = card.name.as_str().into();
    facts["multiprocessors"] = card.multiprocessors.into();
    for (name, count) in parts(&bytes) {
        facts[name] = count.into();
    }
    Ok(facts)
}

/// All memory taken on the device, under the names of the wire; the last entry is the sum.
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
