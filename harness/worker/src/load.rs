//! The call `load` of our worker: checks a file against its configuration, sizes it, and reads it.

use std::path::Path;
use std::time::{Duration, Instant};

use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::model::map::Map as Weights;
use goldgate_engine::model::{Config, Scaling, tensors};
use goldgate_engine::session::{Model, Place, need};
use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::weights::{self, Checkpoint};
use goldgate_wire::Event;
use goldgate_wire::call::{self, Load};
use goldgate_wire::words::YarnRamp;
use serde_json::{Map, Value, json};

use crate::device::{NoAnswer, Tell, no_answer};
use crate::file_hash::{compared, expected};
use crate::load_plan::{Plan, card, usual};
use crate::loaded::Loaded;

/// Loads a model. Returns it with the answer, whose handle is not assigned yet.
///
/// # Errors
/// Why there is no model.
pub(crate) fn load(
    place: &mut Place<'_>,
    question: &Load,
    tell: Tell<'_>,
) -> Result<(Loaded, call::Loaded), NoAnswer> {
    let begin = Instant::now();
    let Load { path, options } = question;
    let path = Path::new(path);
    let checkpoint = Checkpoint::open(path)?;
    let (mut config, mut warnings) = Config::of(&checkpoint)?;
    let yarn = ramp(&mut config, options.yarn)?;
    warnings.join(tensors::check(&config, &checkpoint)?);
    let map = Weights::of(&config, &checkpoint);
    let plan = Plan::new(usual(place, &map), options, &config, &map)?;
    let sizes = need(&plan.program, &plan.settings, &card(place)).map_err(no_answer)?;
    let bytes = sizes.weights + sizes.session();
    // Before any weight is read: a refusal must come before anything is allocated.
    let bytes_driver = fits(place, options.budget_bytes, bytes)?;
    let mut progress = often(sizes.weights, tell);
    let hash = expected(options.sha256.as_deref(), &checkpoint)?;
    // The vocabulary is read and the file is hashed while the weights load.
    let (model, tokenizer, hash) = std::thread::scope(|scope| {
        // A model without a vocabulary can still be run by ids, so its absence is no error.
        let tokenizer = scope.spawn(|| Tokenizer::open(path).ok());
        let hash = hash.map(|(file, sha256)| scope.spawn(move || file.held_to(sha256)));
        let model = Model::load(place, &plan.program, &plan.settings, &map, &mut progress);
        (model, tokenizer.join().ok().flatten(), hash.map(|thread| thread.join()))
    });
    // A wrong file explains all other errors, so its hash is reported first.
    let sha256 = compared(hash)?;
    let model = model.map_err(|error| not_loaded(error, &checkpoint))?;
    let answer = call::Loaded {
        model: 0,
        architecture: Some(config.architecture.name().to_owned()),
        config: facts(&config),
        activations: Some(plan.settings.dtype),
        kv: Some(plan.kv),
        context: Some(plan.settings.context as u64),
        sequences: Some(plan.settings.sequences as u64),
        yarn,
        chunk: Some(plan.settings.chunk as u64),
        plan: Some(plan.fusion()),
        graph: Some(plan.settings.options.graph),
        trace: plan.settings.trace.clone(),
        bytes_weights: Some(model.bytes().unwrap_or(sizes.weights) as u64),
        bytes_arena: Some(bytes as u64),
        bytes_driver,
        load_ms: Some(begin.elapsed().as_secs_f64() * 1e3),
        warnings: warnings.list().to_vec(),
        sha256,
    };
    Ok((Loaded { model, config, local: plan.local, tokenizer }, answer))
}

/// How the ends of YaRN's ramp are computed: as requested, or else as the file states; none for a
/// model without YaRN.
fn ramp(config: &mut Config, asked: Option<YarnRamp>) -> Result<Option<YarnRamp>, NoAnswer> {
    let scaling = config.rope.as_mut().and_then(|rope| rope.scaling.as_mut());
    let Some(Scaling::Yarn { truncate, .. }) = scaling else {
        let message = "the model has no YaRN";
        let refusal = Refusal::new(RefusalKind::NotSupported, "yarn", message);
        return if asked.is_some() { Err(refusal.into()) } else { Ok(None) };
    };
    *truncate = asked.map_or(*truncate, |ramp| ramp == YarnRamp::Rounded);
    Ok(Some(if *truncate { YarnRamp::Rounded } else { YarnRamp::Reference }))
}

/// The shortest time between two progress events.
const OFTEN: Duration = Duration::from_millis(100);

/// Reports from time to time how many of `total` bytes are done.
fn often(total: usize, tell: Tell<'_>) -> impl FnMut(usize) {
    let mut last = Instant::now();
    move |done| {
        if last.elapsed() >= OFTEN {
            last = Instant::now();
            tell(Event::Progress { done: done as u64, total: total as u64 });
        }
    }
}

/// Why a model was not loaded: first a file that changed meanwhile, which makes all else doubtful;
/// then a weight that is not finite, by its place in the file.
fn not_loaded(error: CallError, checkpoint: &Checkpoint) -> NoAnswer {
    // A file that changed meanwhile explains any other error, so it is reported first.
    if let Err(malformed) = checkpoint.unchanged() {
        return malformed.into();
    }
    // Searched for in the file, because loading knows the tensor and not the byte.
    if let CallError::NotFinite { .. } = error
        && let Err(malformed) = weights::scan::all(checkpoint)
    {
        return malformed.into();
    }
    no_answer(error)
}

/// Refuses what exceeds the budget or the card. Returns the memory that was in use before.
fn fits(place: &Place<'_>, budget: Option<u64>, bytes: usize) -> Result<Option<u64>, NoAnswer> {
    let refuse = |message: String| {
        Err(NoAnswer::from(Refusal::new(RefusalKind::CapacityExceeded, "path", message)))
    };
    // The budget comes first, because it holds however much memory the card has left.
    if let Some(budget) = budget.filter(|budget| bytes as u64 > *budget) {
        return refuse(format!("needs {bytes} bytes, the budget is {budget}"));
    }
    let Place::Cuda(device) = place else { return Ok(None) };
    let (free, total) = device.memory_info().map_err(|e| no_answer(e.into()))?;
    if bytes > free {
        return refuse(format!("needs {bytes} bytes, {free} of {total} are free"));
    }
    Ok(Some((total - free) as u64))
}

fn facts(c: &Config) -> Map<String, Value> {
    let facts = json!({
        "context": c.context, "vocabulary": c.vocabulary, "hidden": c.hidden, "layers": c.layers,
        "heads": c.heads, "kv_heads": c.kv_heads, "head_size": c.head_size,
        "feed_forward": c.feed_forward, "norm_eps": c.norm_eps, "tied": c.tied,
    });
    facts.as_object().cloned().unwrap_or_default()
}
