//! Asks a case about a model: loads it, opens sessions, feeds tokens, and gathers what comes back.

pub mod beside;
mod generation;
mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use serde_json::{Value, json};

use crate::models::ask::beside::Beside;
use crate::models::golden::{ModelGolden, Rows};
use crate::models::listen::{Listener, Said, Tensors};
use crate::models::{Ask, At, Hub, ModelCase, Prompt, Way};
use crate::subject::text::bytes;
use crate::subject::want::matches;
use crate::verdict::{FailKind, NotRun, Verdict};

/// What a subject answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What it does to activations, as its answer to `load` says.
    pub activations: Option<DType>,
    /// The ids that it makes of the prompt's text, where it was asked.
    pub ids: Option<Vec<i32>>,
    /// What was asked for.
    pub content: Content,
    /// What `load` said of time and memory: unit in the name.
    pub figures: BTreeMap<String, f64>,
    /// What it said of the kernels behind its answers.
    pub route: Route,
}

/// What answers to `extend` and `generate` said of the kernels that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Every entry that was named.
    pub entries: BTreeSet<String>,
    /// Answers with an empty list.
    pub empty: u32,
    /// Answers without a list.
    pub silent: u32,
}

/// A text that goes on, as a subject wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// The ids that were handed out, a list a run.
    pub runs: Vec<Vec<i32>>,
    /// What the first run's ids are turned back into; none where a text may be cut inside a token.
    pub text: Option<Vec<u8>>,
    /// The same without control tokens, where there are some.
    pub bare: Option<Vec<u8>>,
    /// The text that the first run handed out itself: without control tokens.
    pub told: Option<Vec<u8>>,
    /// Why the first run ended.
    pub stop: Option<String>,
    /// Logits of every position along the golden's text.
    pub forced: Option<Rows>,
    /// Bytes that the driver counted after the first run and after the last.
    pub used: Vec<f64>,
    /// Whether tokens were drawn by another generator than the golden's.
    pub own_draws: bool,
    /// Every sequence of a batch, where one was asked for.
    pub beside: Vec<Beside>,
}

/// What was asked for, a kind each.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// What came of loading.
    Load {
        /// The refusal: kind or code, operand or field, message.
        refused: Option<(String, String, String)>,
        /// Bytes that the driver counted after each of two rounds of loading and unloading.
        used: Vec<f64>,
        /// Bytes that `inspect` foretold.
        foretold: Option<f64>,
    },
    /// Slots, and the load of each step against its own definition.
    Stage {
        /// Slot → its rows.
        slots: BTreeMap<String, Rows>,
        /// Slot → load, where the subject tells it.
        local: BTreeMap<String, f64>,
    },
    /// Logits of the awaited rows, in each way.
    Logits(Vec<(Way, Rows)>),
    /// Text that goes on.
    Generation(Written),
    /// Log-probability of each token of a text; 0 where a window begins.
    Perplexity(Vec<f64>),
}

/// The question that loaded what a listener holds, and its answer.
pub type Held = Option<(Value, Value)>;

/// One listener and the model that it holds.
pub struct Asker<'l> {
    listener: &'l mut dyn Listener,
    /// Where the forms lie.
    golden: PathBuf,
    models: Vec<PathBuf>,
    loaded: &'l mut Held,
    /// Longest that one call may take.
    limit: Duration,
    /// Whether each step is also held to its own definition.
    steps: bool,
    /// Of the case that is being asked.
    route: Route,
}

impl<'l> Asker<'l> {
    /// Asks `listener` about files below `golden` and in the folders of `--models`.
    pub fn new(
        listener: &'l mut dyn Listener,
        loaded: &'l mut Held,
        golden: &Path,
        models: &[PathBuf],
    ) -> Asker<'l> {
        let limit = Duration::from_secs(60);
        let (golden, models) = (golden.to_owned(), models.to_vec());
        let route = Route::default();
        Asker { listener, golden, models, loaded, limit, steps: true, route }
    }

    /// Slots are compared with goldens alone, not with each step's own definition.
    pub fn leave_steps_alone(&mut self) {
        self.steps = false;
    }

    /// Asks one case; `golden` is there where the case has one.
    ///
    /// # Errors
    /// What the row is called where there is no answer.
    pub fn ask(&mut self, case: &ModelCase, golden: &ModelGolden) -> Result<Answer, Verdict> {
        self.limit = case.timeout;
        self.route = Route::default();
        let answer = self.of(case, golden);
        if matches!(answer, Err(Verdict::Fail { .. } | Verdict::NotRun { .. })) {
            // Who did not answer may be another process now, without a model.
            *self.loaded = None;
        }
        let route = std::mem::take(&mut self.route);
        answer.map(|answer| Answer { route, ..answer })
    }

    fn of(&mut self, case: &ModelCase, golden: &ModelGolden) -> Result<Answer, Verdict> {
        let missing = |message| Verdict::NotRun { kind: NotRun::NoModel, message };
        let path = case.form.find(&self.golden, &self.models).map_err(missing)?;
        for call in ["load", "open", "extend"] {
            if !self.listener.offers(call) {
                let message = format!("does not offer {call}");
                return Err(Verdict::NotRun { kind: NotRun::Unsupported, message });
            }
        }
        let mut ask = json!({
            "call": "load", "path": path.display().to_string(), "context": case.context,
        });
        if let Some(dtype) = case.activations {
            ask["activations"] = dtype.name().into();
        }
        if let At::Hub(Hub { sha256: Some(sha256), .. }) = &case.form.at {
            ask["sha256"] = sha256.as_str().into();
        }
        let content = match &case.ask {
            Ask::Load(load) => return self.load(load, ask),
            Ask::Stage { slots, .. } => self.stage(&ask, slots, golden)?,
            Ask::Logits { ways, .. } => {
                self.hold(&ask)?;
                let each = ways.iter().map(|way| Ok((*way, self.way(*way, golden)?)));
                Content::Logits(each.collect::<Result<_, Verdict>>()?)
            }
            Ask::Generation(generation) => {
                self.goes_beside(generation)?;
                if generation.beside > 0 {
                    ask["sequences"] = (generation.beside + 1).into();
                }
                self.hold(&ask)?;
                Content::Generation(self.generation(generation, golden, &path)?)
            }
            Ask::Perplexity { window, .. } => {
                self.hold(&ask)?;
                Content::Perplexity(self.windows(*window, golden)?)
            }
        };
        let ids = match prompt(&case.ask) {
            Some(Prompt::Text(text)) => self.tokenized(text, &path)?,
            _ => None,
        };
        let facts = self.loaded.as_ref().map_or(&Value::Null, |(_, facts)| facts);
        let activations = facts["activations"].as_str().and_then(|t| t.parse().ok());
        Ok(Answer { activations, ids, content, figures: figures(facts), route: Route::default() })
    }

    /// Loads what a question asks for, unless it is there already.
    fn hold(&mut self, ask: &Value) -> Result<u64, Verdict> {
        if let Some((held, facts)) = &*self.loaded
            && held == ask
        {
            return Ok(facts["model"].as_u64().unwrap_or_default());
        }
        self.drop_model()?;
        let (facts, _) = self.ok(ask, &Tensors::new())?;
        let handle = facts["model"].as_u64().unwrap_or_default();
        *self.loaded = Some((ask.clone(), facts));
        Ok(handle)
    }

    fn drop_model(&mut self) -> Result<(), Verdict> {
        if let Some((_, facts)) = self.loaded.take() {
            self.ok(&json!({"call": "unload", "model": facts["model"]}), &Tensors::new())?;
        }
        Ok(())
    }

    fn handle(&self) -> Value {
        self.loaded.as_ref().map_or(Value::Null, |(_, facts)| facts["model"].clone())
    }

    /// A call that must be answered.
    fn ok(&mut self, ask: &Value, tensors: &Tensors) -> Result<(Value, Tensors), Verdict> {
        match self.listener.call(ask, tensors, self.limit)? {
            Said::Ok(body, tensors) => {
                if ask["call"] == "extend" || ask["call"] == "generate" {
                    self.route.note(&body["observed"]["route"]);
                }
                Ok((body, tensors))
            }
            Said::Refused(kind, operand, message) => Err(Verdict::Fail {
                kind: FailKind::WrongRefusal,
                message: format!("{} was refused: {kind} {operand}: {message}", ask["call"]),
            }),
        }
    }

    fn open(&mut self) -> Result<Value, Verdict> {
        let ask = json!({"call": "open", "model": self.handle()});
        Ok(self.ok(&ask, &Tensors::new())?.0["session"].clone())
    }

    fn close(&mut self, session: &Value) -> Result<(), Verdict> {
        self.ok(&json!({"call": "close", "session": session}), &Tensors::new()).map(|_| ())
    }

    fn extend(
        &mut self,
        session: &Value,
        ids: &[i32],
        want: &Value,
        phase: Option<&str>,
    ) -> Result<Tensors, Verdict> {
        let mut ask = json!({"call": "extend", "session": session, "want": want});
        if let Some(phase) = phase {
            ask["phase"] = phase.into();
        }
        Ok(self.ok(&ask, &of_ids(ids))?.1)
    }

    fn stage(
        &mut self,
        ask: &Value,
        globs: &[String],
        golden: &ModelGolden,
    ) -> Result<Content, Verdict> {
        let mut ask = ask.clone();
        ask["trace"] = json!(globs);
        ask["trace_mode"] = "unfused".into();
        self.hold(&ask)?;
        let logits = if golden.slots.contains_key("logits") { "all" } else { "none" };
        let want = json!({"trace": globs, "logits": logits});
        let session = self.open()?;
        let slots = self.extend(&session, &golden.ids, &want, Some("prefill"))?;
        self.close(&session)?;
        let slots: BTreeMap<String, Rows> =
            slots.iter().map(|(name, tensor)| (name.clone(), Rows::of(tensor))).collect();
        if !self.steps {
            return Ok(Content::Stage { slots, local: BTreeMap::new() });
        }
        // The same in the fused run, each step against its own definition on its own operands.
        ask["trace_mode"] = "local".into();
        self.hold(&ask)?;
        let session = self.open()?;
        let said = self.extend(&session, &golden.ids, &want, Some("prefill"))?;
        self.close(&session)?;
        let local = said.iter().filter_map(|(name, tensor)| {
            let slot = name.strip_suffix(".local")?;
            let named = matches(globs, slot);
            named.then(|| (slot.to_owned(), tensor.to_f64().first().copied().unwrap_or(f64::NAN)))
        });
        Ok(Content::Stage { slots, local: local.collect() })
    }

    /// Logits of the awaited rows, the tokens cut into calls in one way.
    fn way(&mut self, way: Way, golden: &ModelGolden) -> Result<Rows, Verdict> {
        let ids = &golden.ids;
        let cuts: Vec<usize> = match way {
            Way::Whole => vec![ids.len()],
            Way::Chunks(n) => (0..ids.len()).skip(n).step_by(n).chain([ids.len()]).collect(),
            Way::Prefix(n) => vec![n.min(ids.len()), ids.len()],
            Way::OneByOne => (1..=ids.len()).collect(),
        };
        let phase = if way == Way::OneByOne { "decode" } else { "prefill" };
        let mut session = self.open()?;
        let mut rows = Rows::default();
        let mut from = 0;
        for to in cuts {
            if to == from {
                continue;
            }
            let here: Vec<usize> =
                golden.rows.iter().filter(|r| (from..to).contains(*r)).map(|r| r - from).collect();
            let logits = if here.is_empty() { "none" } else { "all" };
            let want = json!({"logits": logits, "rows": here});
            let said = self.extend(&session, &ids[from..to], &want, Some(phase))?;
            if !here.is_empty() {
                let logits = said.get("logits").ok_or_else(|| missing("logits"))?;
                let more = Rows::of(logits);
                rows.width = more.width;
                rows.numbers.extend(more.numbers);
            }
            if matches!(way, Way::Prefix(_)) && to < ids.len() {
                let ask = json!({"call": "fork", "session": session, "keep": to});
                let fork = self.ok(&ask, &Tensors::new())?.0["session"].clone();
                self.close(&session)?;
                session = fork;
            }
            from = to;
        }
        self.close(&session)?;
        Ok(rows)
    }

    /// Log-probability of each token, every window from an empty session.
    fn windows(&mut self, window: usize, golden: &ModelGolden) -> Result<Vec<f64>, Verdict> {
        let mut logprobs = Vec::with_capacity(golden.ids.len());
        for ids in golden.ids.chunks(window) {
            let session = self.open()?;
            let want = json!({"logits": "compact"});
            let said = self.extend(&session, ids, &want, Some("prefill"))?;
            self.close(&session)?;
            let next = said.get("next_logprob").ok_or_else(|| missing("next_logprob"))?.to_f64();
            logprobs.push(0.0);
            logprobs.extend(&next[..(ids.len() - 1).min(next.len())]);
        }
        Ok(logprobs)
    }

    /// The ids of a text, where the subject offers it.
    fn tokenized(&mut self, text: &str, path: &Path) -> Result<Option<Vec<i32>>, Verdict> {
        if !self.listener.offers("tokenize") {
            return Ok(None);
        }
        let ask = json!({
            "call": "tokenize", "path": path.display().to_string(), "add_special": false,
            "parse_special": false,
        });
        let text = Tensors::from([("text".to_owned(), bytes(text.as_bytes().to_vec()))]);
        let said = self.ok(&ask, &text)?.1;
        Ok(said.get("ids").map(Tensor::to_i32))
    }
}

impl Route {
    /// Notes what one answer said.
    fn note(&mut self, said: &Value) {
        match said.as_array() {
            None => self.silent += 1,
            Some(list) if list.is_empty() => self.empty += 1,
            Some(list) => {
                self.entries.extend(list.iter().filter_map(Value::as_str).map(String::from))
            }
        }
    }
}

/// The tokens that a case begins with.
pub fn prompt(ask: &Ask) -> Option<&Prompt> {
    match ask {
        Ask::Stage { prompt, .. } | Ask::Logits { prompt, .. } => Some(prompt),
        Ask::Generation(g) => Some(&g.prompt),
        Ask::Load(_) | Ask::Perplexity { .. } => None,
    }
}

fn of_ids(ids: &[i32]) -> Tensors {
    Tensors::from([("ids".to_owned(), Tensor::from_i32(&[ids.len()], ids))])
}

fn missing(name: &str) -> Verdict {
    Verdict::Fail { kind: FailKind::Shape, message: format!("no {name} in the answer") }
}

/// What `load` says in numbers.
fn figures(facts: &Value) -> BTreeMap<String, f64> {
    ["bytes_weights", "bytes_arena", "bytes_session", "bytes_driver", "load_ms"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), facts[*key].as_f64()?)))
        .collect()
}
