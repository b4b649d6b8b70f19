//! Asks about a model: loads it, opens sessions, feeds tokens, and collects the answers.

pub mod alongside;
pub mod draws;
mod generation;
mod load;
mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use goldgate_tensor::DType;
use goldgate_wire::call::{
    self, Close, Extend, Extended, Fork, Loaded, Open, Tokenize, Vocabulary, Want,
};
use goldgate_wire::words::{Logits, Phase, Texts, TraceMode};
use goldgate_wire::{Observed, globs};

use crate::kinds::model::ask::alongside::Alongside;
use crate::kinds::model::ask::draws::Drawn;
use crate::kinds::model::case::{Ask, Draws, Generation, Load, Prompt, Way};
use crate::kinds::model::class::log_softmax;
use crate::kinds::model::golden::Rows;
use crate::line::{Caller, Stopped};

/// The answers of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The type of its activations, as its answer to `load` reports it.
    pub activations: Option<DType>,
    /// The ids that it made of the prompt's text, if it was asked.
    pub ids: Option<Vec<i32>>,
    /// The answer to the question itself.
    pub content: Content,
    /// Time and memory as `load` reported them; each name contains the unit.
    pub figures: BTreeMap<String, f64>,
    /// What it reported about the kernels behind its answers.
    pub route: Route,
    /// What was not asked because the subject does not offer it, in words.
    pub unasked: Vec<String>,
}

/// What answers to `extend` and `generate` reported about the kernels that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// All kernel entries that were named.
    pub entries: BTreeSet<String>,
    /// How many answers had an empty list.
    pub empty: u32,
    /// How many answers had no list.
    pub silent: u32,
}

/// Generated text, as a subject produced it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The ids that were handed out, one list per run.
    pub runs: Vec<Vec<i32>>,
    /// The text of the first run's ids; none where a text may be cut inside a token.
    pub text: Option<Vec<u8>>,
    /// The same without control tokens, if there are any.
    pub bare: Option<Vec<u8>>,
    /// The text that the first run itself reported, which is without control tokens.
    pub reported: Option<Vec<u8>>,
    /// Why the first run ended.
    pub stop: Option<String>,
    /// Logits of every position along the golden's text.
    pub forced: Option<Rows>,
    /// Bytes in use according to the driver, after the first run and after the last.
    pub used: Vec<f64>,
    /// Whether tokens were drawn by a generator other than the golden's.
    pub own_draws: bool,
    /// All sequences of a batch, if one was requested.
    pub alongside: Vec<Alongside>,
}

/// The answer to the question itself, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The result of loading.
    Load {
        /// The refusal: kind or code, operand or field, message.
        refused: Option<(String, String, String)>,
        /// Bytes in use according to the driver, after each of two rounds of loading and unloading.
        used: Vec<f64>,
        /// The bytes that `inspect` predicted.
        predicted: Option<f64>,
    },
    /// Slots, and the load of each step against its own definition.
    Stage {
        /// Slot → its rows.
        slots: BTreeMap<String, Rows>,
        /// Slot → load, where the subject reports it.
        local: BTreeMap<String, f64>,
    },
    /// Logits of the expected rows, for each way of cutting the prompt.
    Logits(Vec<(Way, Rows)>),
    /// Generated text.
    Generation(Written),
    /// Log-probability of each token of a text; 0 at the start of a window.
    Perplexity(Vec<f64>),
    /// Many short texts.
    Draws(Drawn),
}

/// A question about a model. It contains nothing of the right answer, apart from what asking needs
/// of the golden: the ids to feed, which rows were stored, and the text along which the model is
/// led.
#[derive(Clone, Debug)]
pub struct Question {
    /// The file or folder.
    pub path: PathBuf,
    /// The question `load`.
    pub load: call::Load,
    /// The text of the prompt, which the subject is also asked to encode.
    pub text: Option<String>,
    /// The ids of the prompt or of the whole text; empty if the subject's own ids are used.
    pub ids: Vec<i32>,
    /// What to ask of the loaded model.
    pub put: Put,
    /// The time limit of one call.
    pub limit: Duration,
    /// Whether each step is also compared with its own definition, where slots are asked.
    pub steps: bool,
    /// Keeps the folder of an edited file alive, where the question is about one.
    pub folder: Option<std::sync::Arc<tempfile::TempDir>>,
}

/// What to ask of a loaded model, by kind.
#[derive(Clone, Debug)]
pub enum Put {
    /// Whether it loads.
    Load(Load),
    /// Slots by globs, and the logits if the golden has them.
    Stage {
        /// Globs of slots.
        slots: Vec<String>,
        /// Whether to ask for logits as well.
        logits: bool,
    },
    /// Logits of some rows, for each way of cutting the prompt.
    Logits {
        /// The indices of the rows.
        rows: Vec<usize>,
        /// The ways in which the tokens are cut into calls.
        ways: Vec<Way>,
        /// Whether the ways are compared with each other, bit by bit.
        forms: bool,
    },
    /// Generated text.
    Generation {
        /// The settings.
        generation: Generation,
        /// The text along which logits are asked (teacher forcing), after the free runs.
        forced: Vec<i32>,
        /// Whether the ids are turned back into text, for comparison.
        decoded: bool,
        /// Whether runs and batches are compared with each other.
        forms: bool,
    },
    /// The probability of a text, in windows of this many tokens.
    Perplexity(usize),
    /// Many short texts.
    Draws {
        /// The settings.
        draws: Draws,
        /// The tokens behind each context whose logits are asked, too.
        next: Vec<i32>,
        /// Whether texts of the same seed are compared with each other.
        forms: bool,
    },
}

/// The calls of one trial about a model.
struct Asking<'a, 'c> {
    to: &'a mut Caller<'c>,
    question: &'a Question,
    /// The answer to `load`; the default if it was refused.
    loaded: Loaded,
    route: Route,
    /// What was left out, because the subject does not offer it.
    unasked: Vec<String>,
}

/// Asks one question.
///
/// # Errors
/// The trial ended before all its answers arrived.
pub fn ask(question: &Question, to: &mut Caller<'_>) -> Result<Answer, Stopped> {
    to.set_limit(question.limit);
    let (loaded, route) = (Loaded::default(), Route::default());
    let mut asking = Asking { to, question, loaded, route, unasked: Vec::new() };
    let answer = asking.answer();
    let route = std::mem::take(&mut asking.route);
    let unasked = std::mem::take(&mut asking.unasked);
    if answer.is_err() {
        // After an error another process may be answering, and it has no model.
        to.forget_model();
    }
    answer.map(|answer| Answer { route, unasked, ..answer })
}

impl Asking<'_, '_> {
    fn answer(&mut self) -> Result<Answer, Stopped> {
        // Checked before anything is loaded, so that an unsupported case costs no time.
        self.needs()?;
        let question = self.question;
        let content = match &question.put {
            Put::Load(load) => return self.load(load, question.load.clone()),
            Put::Stage { slots, logits } => self.stage(slots, *logits)?,
            Put::Logits { rows, ways, forms } => {
                let ways = self.offered(ways, *forms)?;
                self.hold(&question.load)?;
                let each = ways.iter().map(|way| Ok((*way, self.way(*way, rows)?)));
                Content::Logits(each.collect::<Result<_, Stopped>>()?)
            }
            Put::Generation { generation, forced, decoded, .. } => {
                let mut load = question.load.clone();
                // Memory is planned when the model is loaded, so the plan must know of the batch.
                if generation.beside > 0 {
                    load.options.sequences = Some(generation.beside as u64 + 1);
                }
                self.hold(&load)?;
                Content::Generation(self.generation(generation, forced, *decoded)?)
            }
            Put::Perplexity(window) => {
                self.hold(&question.load)?;
                Content::Perplexity(self.windows(*window)?)
            }
            Put::Draws { draws, next, forms } => {
                let mut load = question.load.clone();
                // Thousands of texts: a batch at a time, where the subject offers it.
                let together = self.texts_together();
                load.options.sequences = (together > 1).then_some(together);
                self.hold(&load)?;
                Content::Draws(self.drawn(draws, next, *forms)?)
            }
        };
        let ids = match &question.text {
            Some(text) => self.tokenized(text)?,
            None => None,
        };
        let figures = figures(&self.loaded);
        let (route, unasked) = (Route::default(), Vec::new());
        Ok(Answer { activations: self.loaded.activations, ids, content, figures, route, unasked })
    }

    /// Loads the model of a question, unless it is already loaded.
    fn hold(&mut self, load: &call::Load) -> Result<(), Stopped> {
        self.loaded = self.to.model(load)?;
        Ok(())
    }

    /// Opens a session of the loaded model.
    fn open(&mut self) -> Result<u64, Stopped> {
        Ok(self.to.call(&Open { model: self.loaded.model })?.session)
    }

    fn close(&mut self, session: u64) -> Result<(), Stopped> {
        self.to.call(&Close { session })
    }

    fn extend(
        &mut self,
        session: u64,
        ids: &[i32],
        want: Want,
        phase: Option<Phase>,
    ) -> Result<Extended, Stopped> {
        let answered = self.to.call(&Extend { session, want, phase, ids: ids.to_vec() })?;
        self.route.note(&answered.observed);
        Ok(answered)
    }

    /// The answer of a fresh session that is fed all ids at once.
    fn at_once(&mut self, ids: &[i32], want: Want) -> Result<Extended, Stopped> {
        let session = self.open()?;
        let answered = self.extend(session, ids, want, Some(Phase::Prefill))?;
        self.close(session)?;
        Ok(answered)
    }

    fn stage(&mut self, slots: &[String], with_logits: bool) -> Result<Content, Stopped> {
        let question = self.question;
        let mut load = question.load.clone();
        load.options.trace = slots.to_vec();
        // A fused step does not keep its inner values, so slots are compared in a run without
        // fusion.
        load.options.trace_mode = Some(TraceMode::Unfused);
        self.hold(&load)?;
        // Logits are a slot like the others to the judge, but a field of their own on the wire.
        let logits = if with_logits { Logits::All } else { Logits::None };
        let want = Want { trace: slots.to_vec(), logits, rows: None };
        let answered = self.at_once(&question.ids, want.clone())?;
        let rows =
            answered.results.iter().map(|(name, tensor)| (name.clone(), Rows::from_tensor(tensor)));
        let rows: BTreeMap<String, Rows> = rows.collect();
        if !question.steps {
            return Ok(Content::Stage { slots: rows, local: BTreeMap::new() });
        }
        // Once more with fusion: there each step is compared with its own definition on its own
        // operands.
        load.options.trace_mode = Some(TraceMode::Local);
        self.hold(&load)?;
        let answered = self.at_once(&question.ids, want)?;
        // A subject may report every step, and the case asks about some.
        let local = answered.local().filter(|(slot, _)| globs::any(slots, slot));
        let local = local.map(|(slot, load)| (slot.to_owned(), load)).collect();
        Ok(Content::Stage { slots: rows, local })
    }

    /// Logits of some rows, with the tokens cut into calls in one way.
    fn way(&mut self, way: Way, stored: &[usize]) -> Result<Rows, Stopped> {
        let ids = &self.question.ids;
        let cuts: Vec<usize> = match way {
            Way::Whole => vec![ids.len()],
            Way::Chunks(n) => (0..ids.len()).skip(n).step_by(n).chain([ids.len()]).collect(),
            Way::Prefix(n) => vec![n.min(ids.len()), ids.len()],
            Way::OneByOne => (1..=ids.len()).collect(),
        };
        // Chunks of a prompt must say so: a last chunk of one token would otherwise run as a decode
        // step.
        let phase = if way == Way::OneByOne { Phase::Decode } else { Phase::Prefill };
        let mut session = self.open()?;
        let mut rows = Rows::default();
        let mut from = 0;
        for to in cuts {
            // A prefix as long as the prompt leaves nothing for the second call.
            if to == from {
                continue;
            }
            let here = stored.iter().filter(|r| (from..to).contains(*r));
            let here: Vec<u64> = here.map(|r| (r - from) as u64).collect();
            // Logits that nobody compares are not asked for, because a row is as wide as the
            // vocabulary.
            let logits = if here.is_empty() { Logits::None } else { Logits::All };
            let want = Want { logits, rows: Some(here), ..Want::default() };
            let answered = self.extend(session, &ids[from..to], want, Some(phase))?;
            if logits == Logits::All {
                let more = Rows::from_tensor(answered.result("logits")?);
                rows.width = more.width;
                rows.numbers.extend(more.numbers);
            }
            // The fork takes over, so that its cached prefix is what the remaining tokens build on.
            if matches!(way, Way::Prefix(_)) && to < ids.len() {
                let fork = self.to.call(&Fork { session, keep: to as u64 })?.session;
                self.close(session)?;
                session = fork;
            }
            from = to;
        }
        self.close(session)?;
        Ok(rows)
    }

    /// Log-probability of each token, with every window starting from an empty session.
    fn windows(&mut self, window: usize) -> Result<Vec<f64>, Stopped> {
        let mut logprobs = Vec::with_capacity(self.question.ids.len());
        for ids in self.question.ids.chunks(window) {
            let next = self.next_logprobs(ids)?;
            // The first token of a window is given, so nothing predicts it; the list still has one
            // entry per token.
            logprobs.push(0.0);
            logprobs.extend(&next[..(ids.len() - 1).min(next.len())]);
        }
        Ok(logprobs)
    }

    /// The log-probability of each token that follows one of `ids`, given those before it.
    fn next_logprobs(&mut self, ids: &[i32]) -> Result<Vec<f64>, Stopped> {
        if self.to.hello().returns(Logits::Compact) {
            let want = Want { logits: Logits::Compact, ..Want::default() };
            return Ok(self.at_once(ids, want)?.result("next_logprob")?.to_f64());
        }
        // A subject without the compact form gives whole rows, and they hold the same numbers.
        let want = Want { logits: Logits::All, ..Want::default() };
        let rows = Rows::from_tensor(self.at_once(ids, want)?.result("logits")?);
        let next = |(row, id): (&[f64], &i32)| {
            let at = usize::try_from(*id).ok();
            at.and_then(|at| log_softmax(row).get(at).copied()).unwrap_or(f64::NAN)
        };
        Ok(rows.iter().zip(ids.get(1..).unwrap_or_default()).map(next).collect())
    }

    /// The ids of a text, if the subject offers to encode.
    fn tokenized(&mut self, text: &str) -> Result<Option<Vec<i32>>, Stopped> {
        // A subject without a tokenizer can still run models, so the ids are then taken from the
        // golden.
        if !self.to.hello().treats(Texts::Encode) {
            return Ok(None);
        }
        let answered = self.to.call(&Tokenize {
            vocabulary: self.vocabulary(),
            add_special: false,
            parse_special: false,
            text: text.as_bytes().to_vec(),
        })?;
        Ok(Some(answered.ids))
    }

    /// The vocabulary of the case's own file.
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary::Path(self.question.path.display().to_string())
    }
}

impl Route {
    /// Adds what one answer reported.
    fn note(&mut self, observed: &Observed) {
        match &observed.route {
            None => self.silent += 1,
            Some(list) if list.is_empty() => self.empty += 1,
            Some(list) => self.entries.extend(list.iter().cloned()),
        }
    }
}

/// The tokens that a case begins with.
pub fn prompt(ask: &Ask) -> Option<&Prompt> {
    match ask {
        Ask::Stage { prompt, .. } | Ask::Logits { prompt, .. } => Some(prompt),
        Ask::Generation(g) => Some(&g.prompt),
        Ask::Load(_) | Ask::Perplexity { .. } | Ask::Draws(_) => None,
    }
}

/// The numbers that `load` reports.
fn figures(loaded: &Loaded) -> BTreeMap<String, f64> {
    let bytes = |n: Option<u64>| n.map(|n| n as f64);
    let all = [
        ("bytes_weights", bytes(loaded.bytes_weights)),
        ("bytes_arena", bytes(loaded.bytes_arena)),
        ("bytes_driver", bytes(loaded.bytes_driver)),
        ("load_ms", loaded.load_ms),
    ];
    all.into_iter().filter_map(|(key, x)| Some((key.to_owned(), x?))).collect()
}
