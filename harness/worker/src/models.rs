//! The models and sessions of our worker, and the calls about them.

use std::collections::BTreeMap;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::exec::times::{Part, Times};
use goldgate_engine::measure::{self, Reads};
use goldgate_engine::ops::Phase;
use goldgate_engine::session::{Place, Session, Want};
use goldgate_engine::tokenizer::Tokenizer;
use goldgate_wire::call::{
    BenchModel, Close, Extend, Extended, Fork, Forked, Generate, Load, Open, OpenAnswer, StepPart,
    StepTimes, Unload,
};
use goldgate_wire::words::{self, Logits};
use goldgate_wire::{Call, Observed, Tensors, globs};
use serde_json::Value;

use crate::device::{Answer, NoAnswer, Tell, no_answer, typed};
use crate::generate;
use crate::load;
use crate::loaded::{Loaded, ids};
use crate::rows::{compact, rows};

/// The calls that are answered here.
pub const CALLS: &[&str] =
    &[Close::NAME, Extend::NAME, Fork::NAME, Generate::NAME, Load::NAME, Open::NAME, Unload::NAME];

/// The models and sessions that a worker holds.
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
        question: &Value,
        tensors: &Tensors,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        let operands = tensors.clone();
        match question["call"].as_str().unwrap_or_default() {
            Load::NAME => typed(question, operands, |load| self.load(place, load, tell)),
            Unload::NAME => typed(question, operands, |unload| self.unload(unload)),
            Open::NAME => typed(question, operands, |open| self.open(place, open)),
            Extend::NAME => typed(question, operands, |extend| self.extend(place, extend)),
            Fork::NAME => typed(question, operands, |fork| self.fork(place, fork)),
            Close::NAME => typed(question, operands, |close| self.close(close)),
            Generate::NAME => typed(question, operands, |request: &Generate| {
                generate::answer(place, self.loaded(request.model)?, request, tell)
            }),
            BenchModel::NAME => typed(question, operands, |bench| self.bench(place, bench)),
            call => Err(NoAnswer::Unsupported(format!("call {call}"))),
        }
    }

    fn load(
        &mut self,
        place: &mut Place<'_>,
        question: &Load,
        tell: Tell<'_>,
    ) -> Result<goldgate_wire::call::Loaded, NoAnswer> {
        let (loaded, mut facts) = load::load(place, question, tell)?;
        self.next += 1;
        facts.model = self.next;
        self.models.insert(self.next, loaded);
        Ok(facts)
    }

    fn unload(&mut self, question: &Unload) -> Result<(), NoAnswer> {
        let handle = question.model;
        // Sessions use the model's memory, so they end with it.
        self.sessions.retain(|_, (model, _)| *model != handle);
        self.models.remove(&handle).map(drop).ok_or_else(|| unknown_handle("model"))
    }

    fn loaded(&self, handle: u64) -> Result<&Loaded, NoAnswer> {
        self.models.get(&handle).ok_or_else(|| unknown_handle("model"))
    }

    /// The vocabulary of a loaded model.
    ///
    /// # Errors
    /// There is no such model, or its file has no vocabulary that can be read.
    pub fn tokenizer(&self, handle: u64) -> Result<&Tokenizer, NoAnswer> {
        let tokenizer = self.loaded(handle)?.tokenizer.as_ref();
        tokenizer.ok_or_else(|| NoAnswer::Unsupported("a tokenizer: the model has none".to_owned()))
    }

    fn open(&mut self, place: &mut Place<'_>, question: &Open) -> Result<OpenAnswer, NoAnswer> {
        let session = Session::open(place, &self.loaded(question.model)?.model);
        let session = session.map_err(no_answer)?;
        // The definitions on the CPU take no arena, so they report none.
        let bytes_session = Some(session.bytes() as u64).filter(|bytes| *bytes > 0);
        Ok(OpenAnswer { session: self.keep(question.model, session), bytes_session })
    }

    fn fork(&mut self, place: &mut Place<'_>, question: &Fork) -> Result<Forked, NoAnswer> {
        let (handle, loaded, session) = self.session(question.session)?;
        let length = session.length() as u64;
        // A shorter prefix than was asked for would be continued as if it were the whole one.
        if question.keep > length {
            let message = format!("{} of {length} tokens", question.keep);
            return Err(Refusal::new(RefusalKind::PositionOutOfRange, "keep", message).into());
        }
        let new = session.fork(place, &loaded.model, question.keep as usize).map_err(no_answer)?;
        Ok(Forked { session: self.keep(handle, new) })
    }

    fn close(&mut self, question: &Close) -> Result<(), NoAnswer> {
        self.sessions.remove(&question.session).map(drop).ok_or_else(|| unknown_handle("session"))
    }

    fn keep(&mut self, model: u64, session: Session) -> u64 {
        // Models and sessions share one counter, so a handle of the wrong sort is unknown.
        self.next += 1;
        self.sessions.insert(self.next, (model, session));
        self.next
    }

    fn session(&mut self, handle: u64) -> Result<(u64, &Loaded, &mut Session), NoAnswer> {
        let (model, session) =
            self.sessions.get_mut(&handle).ok_or_else(|| unknown_handle("session"))?;
        let loaded = self.models.get(model).ok_or_else(|| unknown_handle("model"))?;
        Ok((*model, loaded, session))
    }

    fn extend(&mut self, place: &mut Place<'_>, question: &Extend) -> Result<Extended, NoAnswer> {
        let ids = ids(&question.ids);
        let (_, loaded, session) = self.session(question.session)?;
        admitted(&ids, session.length(), loaded)?;
        let model = &loaded.model;
        let settings = model.settings();
        let traced = &question.want.trace;
        let rows = rows(&question.want, ids.len())?;
        let slots = settings.trace.iter().filter(|slot| globs::any(traced, slot)).cloned();
        let phase = question.phase.map(|phase| match phase {
            words::Phase::Prefill => Phase::Prefill,
            words::Phase::Decode => Phase::Decode,
        });
        let wanted = Want { rows: rows.clone(), slots: slots.collect(), phase };
        let mut loads = BTreeMap::new();
        if loaded.local {
            // A local trace captures the operands of one call, and a longer prompt would take
            // several.
            if ids.len() > settings.chunk {
                let message = format!("{} tokens, a local trace takes one chunk", ids.len());
                return Err(Refusal::new(RefusalKind::CapacityExceeded, "ids", message).into());
            }
            loads = session.local(place, model, &ids, phase).map_err(no_answer)?;
        }
        // Entries recorded by earlier calls do not belong to this question.
        model.route();
        let mut output = session.extend(place, model, &ids, &wanted).map_err(no_answer)?;
        let route = model.route();
        let mut results = Tensors::new();
        if let Some(logits) = output.slots.remove("logits") {
            if question.want.logits == Logits::Compact {
                results.extend(compact(&logits, &rows, &ids));
            } else {
                results.insert("logits".to_owned(), logits);
            }
        }
        let mut types = BTreeMap::new();
        for (name, tensor) in output.slots {
            types.insert(name.clone(), tensor.meta.dtype);
            // Traced slots are f32 on the wire; widening rounds nothing.
            let wide = Tensor::from_f64(DType::F32, &tensor.meta.shape, &tensor.to_f64());
            results.insert(name, wide);
        }
        let one = |load: f64| Tensor::from_f64(DType::F32, &[1], &[load]);
        results.extend(loads.into_iter().map(|(name, load)| (format!("{name}.local"), one(load))));
        let length = Some(session.length() as u64);
        Ok(Extended { results, types, length, observed: Observed { route, ..Observed::default() } })
    }

    /// Times a decode step, part by part.
    fn bench(
        &mut self,
        place: &mut Place<'_>,
        question: &BenchModel,
    ) -> Result<StepTimes, NoAnswer> {
        let loaded = self.loaded(question.model)?;
        let Place::Cuda(device) = place else {
            return Err(NoAnswer::Unsupported("times of a step without a card".to_owned()));
        };
        let rows = question.sequences.unwrap_or(1).max(1) as usize;
        let depth = question.depth as usize;
        let (model, words) = (&loaded.model, loaded.config.vocabulary);
        let reads = measure::reads(model.program(), model.settings().dtype, depth, rows)
            .map_err(|e| no_answer(CallError::Program(e)))?;
        let times = measure::decode(device, model, words, depth, rows).map_err(no_answer)?;
        Ok(timed(&times, reads, device.card().l2_bytes))
    }
}

/// Whether a session of `length` tokens can take these. Checked as a whole and beforehand, because
/// a prompt of several chunks would otherwise be appended up to the one that is refused.
///
/// # Errors
/// There is no token, one is not in the vocabulary, or the context is too short.
fn admitted(ids: &[u32], length: usize, loaded: &Loaded) -> Result<(), Refusal> {
    let refused = |kind, message| Err(Refusal::new(kind, "ids", message));
    let vocabulary = loaded.config.vocabulary;
    let context = loaded.model.settings().context;
    if ids.is_empty() {
        return refused(RefusalKind::EmptyAxis, "no tokens".to_owned());
    }
    if let Some(at) = ids.iter().position(|id| *id as usize >= vocabulary) {
        let message = format!("id {} at {at}, vocabulary of {vocabulary}", ids[at] as i32);
        return refused(RefusalKind::IdOutOfRange, message);
    }
    if length + ids.len() > context {
        let message = format!("{length} + {} tokens, context {context}", ids.len());
        return refused(RefusalKind::CapacityExceeded, message);
    }
    Ok(())
}

/// The times of a decode step in the form of the wire.
fn timed(times: &Times, reads: Reads, l2_bytes: u64) -> StepTimes {
    let part = |p: &Part| StepPart {
        step: p.name.clone(),
        op: p.op.to_owned(),
        steps: p.steps as u64,
        launches: p.launches as u64,
        entries: p.entries.clone(),
        us: p.us,
        bytes: p.bytes,
        // What fits into the cache is not read from memory again, so its rate is no rate of memory.
        cached: p.bytes < l2_bytes as f64,
    };
    StepTimes {
        step_us: times.step_us,
        parts: times.parts.iter().map(part).collect(),
        bytes_weights: reads.weights as u64,
        bytes_kv: reads.kv as u64,
    }
}

fn unknown_handle(what: &str) -> NoAnswer {
    NoAnswer::bad_request(format!("there is no such {what}"))
}
