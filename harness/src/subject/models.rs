//! Models and sessions of our worker: load, unload, open, extend, fork, close, generate.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::exec::times::{Part, Times};
use goldgate_engine::generate::{Request, Stop, generate};
use goldgate_engine::measure::{self, Reads};
use goldgate_engine::model::map::Map as Weights;
use goldgate_engine::model::{Config, Scaling, tensors};
use goldgate_engine::ops::Phase;
use goldgate_engine::program::ProgramError;
use goldgate_engine::sample::Sampling;
use goldgate_engine::session::{Model, Place, Session, Want, need};
use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::weights::Checkpoint;
use goldgate_engine::{Tensor, weights};
use serde_json::{Map, Value, json};

use crate::subject::handed::Handed;
use crate::subject::meant::{held, meant};
use crate::subject::plan::{Plan, card, usual};
use crate::subject::serve::{Answer, NoAnswer, Trouble};
use crate::subject::several;
use crate::subject::text::bytes;
use crate::subject::want::{compact, matches, rows, words};

/// The calls that are answered here.
pub const CALLS: &[&str] = &["close", "extend", "fork", "generate", "load", "open", "unload"];

/// Tokens that came out of generation go this way before the answer.
pub type Tell<'a> = &'a mut dyn FnMut(Value);

#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) model: Model,
    pub(super) config: Config,
    local: bool,
    /// Absent where the file has no vocabulary that can be read.
    pub(super) tokenizer: Option<Tokenizer>,
}

/// What a worker holds.
#[derive(Debug, Default)]
pub struct Models {
    next: u64,
    models: BTreeMap<u64, Loaded>,
    sessions: BTreeMap<u64, (u64, Session)>,
}

impl Models {
    /// Answers one of [`CALLS`], or `bench` of a model.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn answer(
        &mut self,
        place: &mut Place<'_>,
        ask: &Value,
        operands: &BTreeMap<String, Tensor>,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        match ask["call"].as_str() {
            Some("load") => self.load(place, ask, tell),
            Some("unload") => {
                let handle = number(ask, "model")?;
                self.sessions.retain(|_, (model, _)| *model != handle);
                self.models.remove(&handle).map(|_| Answer::default()).ok_or_else(|| none("model"))
            }
            Some("open") => {
                let handle = number(ask, "model")?;
                let loaded = self.models.get(&handle).ok_or_else(|| none("model"))?;
                let session = Session::open(place, &loaded.model).map_err(no_answer)?;
                // The definitions take no arena, and say nothing of one.
                let taken = Some(session.bytes()).filter(|bytes| *bytes > 0);
                let session = self.keep(handle, session);
                Ok(fields(json!({"session": session, "bytes_session": taken})))
            }
            Some("extend") => self.extend(place, ask, operands),
            Some("fork") => {
                let (handle, loaded, session) = self.session(ask)?;
                let keep = number(ask, "keep")? as usize;
                let new = session.fork(place, &loaded.model, keep).map_err(no_answer)?;
                Ok(fields(json!({"session": self.keep(handle, new)})))
            }
            Some("close") => {
                let session = number(ask, "session")?;
                let gone = self.sessions.remove(&session);
                gone.map(|_| Answer::default()).ok_or_else(|| none("session"))
            }
            Some("generate") => self.generate(place, ask, operands, tell),
            Some("bench") => self.bench(place, ask),
            _ => Err(NoAnswer::Unsupported(format!("call {}", ask["call"]))),
        }
    }

    fn keep(&mut self, model: u64, session: Session) -> u64 {
        self.next += 1;
        self.sessions.insert(self.next, (model, session));
        self.next
    }

    fn session(&mut self, ask: &Value) -> Result<(u64, &Loaded, &mut Session), NoAnswer> {
        let handle = number(ask, "session")?;
        let (model, session) = self.sessions.get_mut(&handle).ok_or_else(|| none("session"))?;
        let loaded = self.models.get(model).ok_or_else(|| none("model"))?;
        Ok((*model, loaded, session))
    }

    fn load(
        &mut self,
        place: &mut Place<'_>,
        ask: &Value,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        let begin = Instant::now();
        let path = ask["path"].as_str().ok_or_else(|| bad("path is missing"))?;
        let checkpoint = Checkpoint::open(Path::new(path)).map_err(file)?;
        let (mut config, mut warnings) = Config::of(&checkpoint).map_err(file)?;
        let ramp = ramp(&mut config, ask)?;
        warnings.join(tensors::check(&config, &checkpoint).map_err(file)?);
        let map = Weights::of(&config, &checkpoint);
        let plan = Plan::of(usual(place, &map), ask, &config, &map)?;
        let sizes = need(&plan.program, &plan.settings, &card(place)).map_err(no_answer)?;
        let driver = fits(place, ask, sizes.weights + sizes.session())?;
        let mut progress = often(sizes.weights, tell);
        let meant = meant(ask, &checkpoint)?;
        // The vocabulary is read, and the file hashed, beside the weights.
        let (model, tokenizer, hash) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| Tokenizer::open(Path::new(path)).ok());
            let hash = meant.map(|(file, sha256)| scope.spawn(move || file.held_to(sha256)));
            let model = Model::load(place, &plan.program, &plan.settings, &map, &mut progress);
            (model, tokenizer.join().ok().flatten(), hash.map(|thread| thread.join()))
        });
        // Another file than was meant explains whatever else is wrong with it.
        let sha256 = held(hash)?;
        let model = model.map_err(|error| not_loaded(error, &checkpoint))?;
        self.next += 1;
        let handle = self.next;
        let answer = fields(json!({
            "model": handle,
            "architecture": config.architecture.name(),
            "config": facts(&config),
            "activations": plan.settings.dtype.name(),
            "kv": plan.kv.name(),
            "context": plan.settings.context,
            "sequences": plan.settings.sequences,
            "yarn": ramp,
            "chunk": plan.settings.chunk,
            "plan": if plan.settings.options.fused { "fused" } else { "plain" },
            "graph": plan.settings.options.graph,
            "trace": plan.settings.trace,
            "bytes_weights": model.bytes().unwrap_or(sizes.weights),
            "bytes_arena": sizes.weights + sizes.session(),
            "bytes_driver": driver,
            "load_ms": begin.elapsed().as_secs_f64() * 1e3,
            "warnings": warnings.list(),
            "sha256": sha256,
        }));
        self.models.insert(handle, Loaded { model, config, local: plan.local, tokenizer });
        Ok(answer)
    }

    fn extend(
        &mut self,
        place: &mut Place<'_>,
        ask: &Value,
        operands: &BTreeMap<String, Tensor>,
    ) -> Result<Answer, NoAnswer> {
        let ids = ids(operands)?;
        let (_, loaded, session) = self.session(ask)?;
        let model = &loaded.model;
        let context = model.settings().context;
        if session.length() + ids.len() > context {
            let message = format!("{} + {} tokens, context {context}", session.length(), ids.len());
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "ids", message).into());
        }
        let want = &ask["want"];
        let rows = rows(want, ids.len())?;
        let globs = words(&want["trace"]);
        let slots = model.settings().trace.iter().filter(|s| matches(&globs, s)).cloned().collect();
        let phase = match ask["phase"].as_str() {
            Some("prefill") => Some(Phase::Prefill),
            Some("decode") => Some(Phase::Decode),
            _ => None,
        };
        let wanted = Want { rows: rows.clone(), slots, phase };
        let mut extra = BTreeMap::new();
        if loaded.local && ids.len() > model.settings().chunk {
            let message = format!("{} tokens, a local trace takes one chunk", ids.len());
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "ids", message).into());
        }
        if loaded.local {
            let loads = session.local(place, model, &ids, phase).map_err(no_answer)?;
            let one = |load: f64| Tensor::from_f64(DType::F32, &[1], &[load]);
            extra
                .extend(loads.into_iter().map(|(name, load)| (format!("{name}.local"), one(load))));
        }
        // What others left is not this question's.
        model.route();
        let mut output = session.extend(place, model, &ids, &wanted).map_err(no_answer)?;
        let route = model.route();
        let mut results = BTreeMap::new();
        if let Some(logits) = output.slots.remove("logits") {
            if want["logits"] == "compact" {
                results.extend(compact(&logits, &rows, &ids));
            } else {
                results.insert("logits".to_owned(), logits);
            }
        }
        let mut types = Map::new();
        for (name, tensor) in output.slots {
            types.insert(name.clone(), tensor.meta.dtype.name().into());
            let wide = Tensor::from_f64(DType::F32, &tensor.meta.shape, &tensor.to_f64());
            results.insert(name, wide);
        }
        results.extend(extra);
        let mut answer = fields(json!({"types": types, "length": session.length()}));
        answer.results = results;
        answer.observed.route = route;
        Ok(answer)
    }

    /// A decode step, part by part.
    fn bench(&mut self, place: &mut Place<'_>, ask: &Value) -> Result<Answer, NoAnswer> {
        let handle = number(ask, "model")?;
        let loaded = self.models.get(&handle).ok_or_else(|| none("model"))?;
        let Place::Cuda(device) = place else {
            return Err(NoAnswer::Unsupported("times of a step without a card".to_owned()));
        };
        let count = |key: &str, usual: u64| ask[key].as_u64().unwrap_or(usual) as usize;
        let (depth, rows) = (count("depth", 0), count("sequences", 1).max(1));
        let (model, words) = (&loaded.model, loaded.config.vocabulary);
        let reads = measure::reads(model.program(), model.settings().dtype, depth, rows)
            .map_err(|e| no_answer(CallError::Program(e)))?;
        let times = measure::decode(device, model, words, depth, rows).map_err(no_answer)?;
        Ok(fields(timed(&times, reads, device.card().l2_bytes)))
    }

    fn generate(
        &mut self,
        place: &mut Place<'_>,
        ask: &Value,
        operands: &BTreeMap<String, Tensor>,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        let handle = number(ask, "model")?;
        let loaded = self.models.get(&handle).ok_or_else(|| none("model"))?;
        if operands.contains_key("lengths") {
            return several::answer(place, loaded, ask, operands, tell);
        }
        let ids = ids(operands)?;
        let context = loaded.model.settings().context;
        if ids.is_empty() || ids.len() > context {
            let message = format!("{} tokens, wants 1 to {context}", ids.len());
            return Err(Refusal::new(RefusalKind::CapacityExceeded, "ids", message).into());
        }
        // What others left is not this question's.
        loaded.model.route();
        let request = Request {
            ids: &ids,
            max_tokens: ask["max_tokens"].as_u64().unwrap_or(128) as usize,
            sampling: sampling(ask)?,
            stop_ids: &stop_ids(ask)?,
        };
        let stops = words(&ask["stop"]);
        if stops.iter().any(String::is_empty) {
            return Err(bad("stop has an empty text"));
        }
        if !stops.is_empty() && loaded.tokenizer.is_none() {
            return Err(NoAnswer::Unsupported("stop texts without a vocabulary".to_owned()));
        }
        let mut handed = Handed::new(loaded.tokenizer.as_ref(), &stops);
        let begin = Instant::now();
        let mut times = Vec::new();
        let mut take = |id: u32| {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            let ms = times.last().copied();
            tell(json!({"event": "token", "index": handed.count(), "token": id, "ms": ms}));
            handed.push(id)
        };
        let rows = loaded.config.vocabulary;
        let stop = generate(place, &loaded.model, rows, &request, &mut take).map_err(no_answer)?;
        let mut answer = fields(json!({
            "stop": stop_name(stop),
            "first_token_ms": times.first(),
            "total_ms": begin.elapsed().as_secs_f64() * 1e3,
        }));
        let (ids, text) = handed.finish();
        answer.results.insert("ids".to_owned(), Tensor::from_i32(&[ids.len()], &ids));
        answer.results.extend(text.map(|text| ("text".to_owned(), bytes(text))));
        answer.observed.route = loaded.model.route();
        Ok(answer)
    }
}

/// Why a generation ended, as the wire says it.
pub(super) fn stop_name(stop: Stop) -> &'static str {
    match stop {
        Stop::Token => "eos",
        Stop::Caller => "stop",
        Stop::Length => "length",
        Stop::Context => "context",
    }
}

/// How the ends of YaRN's ramp are taken, `yarn` in place of what the file says: null for a model
/// that has none.
fn ramp(config: &mut Config, ask: &Value) -> Result<Value, NoAnswer> {
    let asked = match ask["yarn"].as_str() {
        None => None,
        Some("reference") => Some(false),
        Some("rounded") => Some(true),
        Some(other) => return Err(bad(&format!("yarn is {other}, wants reference or rounded"))),
    };
    let scaling = config.rope.as_mut().and_then(|rope| rope.scaling.as_mut());
    let Some(Scaling::Yarn { truncate, .. }) = scaling else {
        let message = "the model has no YaRN";
        let refusal = Refusal::new(RefusalKind::NotSupported, "yarn", message);
        return if asked.is_some() { Err(refusal.into()) } else { Ok(Value::Null) };
    };
    *truncate = asked.unwrap_or(*truncate);
    Ok(if *truncate { "rounded" } else { "reference" }.into())
}

pub(super) fn sampling(ask: &Value) -> Result<Sampling, NoAnswer> {
    let usual = Sampling::default();
    let real = |key: &str, usual: f64, low: f64, high: f64| match &ask[key] {
        Value::Null => Ok(usual),
        given => match given.as_f64() {
            Some(x) if (low..=high).contains(&x) => Ok(x),
            _ => {
                let message = format!("is {given}, wants {low} to {high}");
                Err(NoAnswer::from(Refusal::new(RefusalKind::AttributeOutOfRange, key, message)))
            }
        },
    };
    Ok(Sampling {
        temperature: real("temperature", usual.temperature, 0.0, 2.0)?,
        top_k: ask["top_k"].as_u64().unwrap_or(0) as usize,
        top_p: real("top_p", usual.top_p, 0.0, 1.0)?,
        min_p: real("min_p", usual.min_p, 0.0, 1.0)?,
        repetition_penalty: real("repetition_penalty", 1.0, f64::MIN_POSITIVE, 2.0)?,
        seed: ask["seed"].as_u64().unwrap_or(0),
    })
}

pub(super) fn stop_ids(ask: &Value) -> Result<Vec<u32>, NoAnswer> {
    let list = ask["stop_ids"].as_array().into_iter().flatten();
    let id = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    list.map(|v| id(v).ok_or_else(|| bad("stop_ids wants ids"))).collect()
}

pub(super) fn ids(operands: &BTreeMap<String, Tensor>) -> Result<Vec<u32>, NoAnswer> {
    match operands.get("ids") {
        Some(t) if t.meta.dtype == DType::I32 && t.meta.shape.len() == 1 => {
            // A negative id is out of every range, and the op says so.
            Ok(t.to_i32().into_iter().map(|id| u32::try_from(id).unwrap_or(u32::MAX)).collect())
        }
        Some(t) => {
            let message = format!("is {}, wants i32 [n]", t.meta);
            Err(Refusal::new(RefusalKind::DtypeMismatch, "ids", message).into())
        }
        None => Err(Refusal::new(RefusalKind::OperandMissing, "ids", "is missing").into()),
    }
}

/// A decode step as the wire tells it.
fn timed(times: &Times, reads: Reads, l2_bytes: u64) -> Value {
    let part = |p: &Part| {
        json!({
            "step": p.name, "op": p.op, "steps": p.steps, "launches": p.launches,
            "entries": p.entries, "us": p.us, "bytes": p.bytes,
            "cached": p.bytes < l2_bytes as f64,
        })
    };
    json!({
        "step_us": times.step_us,
        "parts": times.parts.iter().map(part).collect::<Vec<_>>(),
        "bytes_weights": reads.weights,
        "bytes_kv": reads.kv,
    })
}

/// How often progress is told at most.
const OFTEN: Duration = Duration::from_millis(100);

/// Tells how many of `total` bytes are done, now and then.
fn often(total: usize, tell: Tell<'_>) -> impl FnMut(usize) {
    let mut last = Instant::now();
    move |done| {
        if last.elapsed() >= OFTEN {
            last = Instant::now();
            tell(json!({"event": "progress", "done": done, "total": total}));
        }
    }
}

/// Why a model was not loaded: a file that changed, which makes all else doubtful; a weight that is
/// not finite, by its place in the file.
fn not_loaded(error: CallError, checkpoint: &Checkpoint) -> NoAnswer {
    if let Err(malformed) = checkpoint.unchanged() {
        return file(malformed);
    }
    if let CallError::NotFinite { .. } = error
        && let Err(malformed) = weights::scan::all(checkpoint)
    {
        return file(malformed);
    }
    no_answer(error)
}

/// Refuses what is beyond the budget or the card; the driver's part of the memory.
fn fits(place: &Place<'_>, ask: &Value, bytes: usize) -> Result<Value, NoAnswer> {
    let refuse = |message: String| {
        Err(NoAnswer::from(Refusal::new(RefusalKind::CapacityExceeded, "path", message)))
    };
    if let Some(budget) = ask["budget_bytes"].as_u64().filter(|b| (bytes as u64) > *b) {
        return refuse(format!("needs {bytes} bytes, the budget is {budget}"));
    }
    let Place::Cuda(device) = place else { return Ok(Value::Null) };
    let (free, total) = device.memory_info().map_err(|e| no_answer(e.into()))?;
    if bytes > free {
        return refuse(format!("needs {bytes} bytes, {free} of {total} are free"));
    }
    Ok(json!(total - free))
}

fn facts(c: &Config) -> Value {
    json!({
        "context": c.context, "vocabulary": c.vocabulary, "hidden": c.hidden, "layers": c.layers,
        "heads": c.heads, "kv_heads": c.kv_heads, "head_size": c.head_size,
        "feed_forward": c.feed_forward, "norm_eps": c.norm_eps, "tied": c.tied,
    })
}

fn number(ask: &Value, key: &str) -> Result<u64, NoAnswer> {
    ask[key].as_u64().ok_or_else(|| bad(&format!("{key} is {}, wants a number", ask[key])))
}

pub(super) fn fields(ok: Value) -> Answer {
    Answer { fields: ok.as_object().cloned().unwrap_or_default(), ..Answer::default() }
}

/// A question that makes no sense.
pub(super) fn bad(message: &str) -> NoAnswer {
    let message = message.to_owned();
    NoAnswer::Failed(Trouble { class: "bad_request", sticky: false, message })
}

fn none(what: &str) -> NoAnswer {
    bad(&format!("there is no such {what}"))
}

fn file(malformed: weights::Malformed) -> NoAnswer {
    NoAnswer::File(Box::new(malformed))
}

/// Why a call gave nothing, as the wire says it.
pub(super) fn no_answer(error: CallError) -> NoAnswer {
    match error {
        CallError::Refused { step, source } => {
            let Refusal { kind, operand, message } = source;
            NoAnswer::Refused(Refusal::new(kind, &operand, format!("step {step}: {message}")))
        }
        CallError::Program(ProgramError::Config { field, found, wanted }) => {
            let message = format!("is {found}, wants {wanted}");
            NoAnswer::Refused(Refusal::new(RefusalKind::NotSupported, field, message))
        }
        CallError::Program(error) => {
            NoAnswer::Refused(Refusal::new(RefusalKind::Malformed, "tensors", error.to_string()))
        }
        CallError::Changed { file: path, field, found, expected } => {
            file(weights::Malformed::new(weights::Code::Hash, &path, field, found, expected))
        }
        CallError::NotFinite { tensor } => {
            let message = "holds a number that is not finite";
            NoAnswer::Refused(Refusal::new(RefusalKind::Malformed, &tensor, message))
        }
        CallError::Device(e) => NoAnswer::Failed(Trouble {
            class: e.class(),
            sticky: e.is_sticky(),
            message: e.to_string(),
        }),
    }
}
