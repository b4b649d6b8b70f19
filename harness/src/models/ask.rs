//! Asks a case about a model: loads it, opens sessions, feeds tokens, and gathers what comes back.

pub mod beside;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use serde_json::{Value, json};

use crate::models::ask::beside::Beside;
use crate::models::golden::{ModelGolden, Rows};
use crate::models::listen::{Listener, Said, Tensors};
use crate::models::{Ask, Generation, Load, ModelCase, Prompt, Way};
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
    Generation {
        /// The ids, a list a run.
        runs: Vec<Vec<i32>>,
        /// The bytes of the first run's ids.
        text: Option<Vec<u8>>,
        /// Logits of every position along the golden's text.
        forced: Option<Rows>,
        /// Bytes that the driver counted after the first run and after the last.
        used: Vec<f64>,
        /// Every sequence of a batch, where one was asked for.
        beside: Vec<Beside>,
    },
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
        Asker { listener, golden, models, loaded, limit, steps: true }
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
        let answer = self.of(case, golden);
        if matches!(answer, Err(Verdict::Fail { .. } | Verdict::NotRun { .. })) {
            // Who did not answer may be another process now, without a model.
            *self.loaded = None;
        }
        answer
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
                self.generation(generation, golden, &path)?
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
        Ok(Answer { activations, ids, content, figures: figures(facts) })
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
            Said::Ok(body, tensors) => Ok((body, tensors)),
            Said::Refused(kind, operand, message) => Err(Verdict::Fail {
                kind: FailKind::WrongRefusal,
                message: format!("{} was refused: {kind} {operand}: {message}", ask["call"]),
            }),
        }
    }

    fn load(&mut self, load: &Load, mut ask: Value) -> Result<Answer, Verdict> {
        self.drop_model()?;
        if let Some(path) = &load.path {
            // A file that is not there has no canonical name.
            let path = std::path::absolute(self.golden.join(path)).unwrap_or_default();
            ask["path"] = path.display().to_string().into();
        }
        for (key, value) in &load.with {
            ask[key] = value.clone();
        }
        let mut used = Vec::new();
        let rounds = if load.memory { 2 } else { 1 };
        let (mut facts, mut refused) = (Value::Null, None);
        for _ in 0..rounds {
            match self.listener.call(&ask, &Tensors::new(), self.limit)? {
                Said::Refused(kind, operand, message) => refused = Some((kind, operand, message)),
                Said::Ok(body, _) => {
                    *self.loaded = Some((ask.clone(), body.clone()));
                    self.one_token()?;
                    facts = body;
                    self.drop_model()?;
                }
            }
            used.extend(self.used()?.filter(|_| load.memory));
        }
        if refused.is_some() && load.path.is_none() {
            // Who refused must still answer the same question without what was wrong with it.
            load.with.keys().for_each(|key| drop(ask.as_object_mut().map(|map| map.remove(key))));
            self.hold(&ask)?;
            self.one_token()?;
        }
        Ok(Answer {
            activations: facts["activations"].as_str().and_then(|t| t.parse().ok()),
            ids: None,
            content: Content::Load { refused, used },
            figures: figures(&facts),
        })
    }

    /// A loaded model gives logits of one token.
    fn one_token(&mut self) -> Result<(), Verdict> {
        let session = self.open()?;
        let logits = self.extend(&session, &[0], &json!({"logits": "last"}), None)?;
        self.close(&session)?;
        match logits.get("logits") {
            Some(_) => Ok(()),
            None => Err(missing("logits")),
        }
    }

    /// Bytes that the driver counts, where the subject can tell.
    fn used(&mut self) -> Result<Option<f64>, Verdict> {
        if !self.listener.offers("memory") {
            return Ok(None);
        }
        let (body, _) = self.ok(&json!({"call": "memory"}), &Tensors::new())?;
        Ok(body["device_used"].as_f64())
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

    fn generation(
        &mut self,
        g: &Generation,
        golden: &ModelGolden,
        path: &Path,
    ) -> Result<Content, Verdict> {
        let ids = match (&g.prompt, golden.ids.is_empty()) {
            (_, false) => golden.ids.clone(),
            (Prompt::Ids(ids), true) => ids.clone(),
            (Prompt::Text(text), true) => self.tokenized(text, path)?.unwrap_or_default(),
        };
        let mut ask = json!({
            "call": "generate", "model": self.handle(), "max_tokens": g.max_tokens,
            "ignore_eos": true, "temperature": 0.0,
        });
        for (key, value) in &g.sampling {
            ask[key] = value.clone();
        }
        let (mut runs, mut used) = (Vec::new(), Vec::new());
        for run in 0..g.repeat {
            let (_, tensors) = self.ok(&ask, &of_ids(&ids))?;
            runs.push(tensors.get("ids").ok_or_else(|| missing("ids"))?.to_i32());
            if run == 0 || run + 1 == g.repeat {
                used.extend(self.used()?);
            }
        }
        let beside = self.beside(g, &ids, &ask)?;
        let first = runs.first().cloned().unwrap_or_default();
        let text = match self.listener.offers("detokenize") && !golden.text.is_empty() {
            false => None,
            true => {
                let ask = json!({
                    "call": "detokenize", "path": path.display().to_string(),
                    "skip_special": false,
                });
                let said = self.ok(&ask, &of_ids(&first))?.1;
                Some(said.get("text").ok_or_else(|| missing("text"))?.bytes.clone())
            }
        };
        let mut forced = None;
        if !golden.greedy.is_empty() {
            let mut along = ids;
            along.extend(&golden.greedy[..golden.greedy.len() - 1]);
            let rows: Vec<usize> = (along.len() - golden.greedy.len()..along.len()).collect();
            let session = self.open()?;
            let want = json!({"logits": "all", "rows": rows});
            let said = self.extend(&session, &along, &want, Some("prefill"))?;
            self.close(&session)?;
            forced = said.get("logits").map(Rows::of);
        }
        Ok(Content::Generation { runs, text, forced, used, beside })
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
    ["bytes_weights", "bytes_arena", "bytes_driver", "load_ms"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), facts[*key].as_f64()?)))
        .collect()
}
