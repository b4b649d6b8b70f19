//! What commands that load a model share: the options of `load`, and a subject that has loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_harness::line::Transport;
use goldgate_harness::subject::pool::Slot;
use goldgate_harness::subject::worker::Reply;
use goldgate_harness::subject::{Launch, SubjectSpec};
use goldgate_tensor::Tensor;
use goldgate_wire::hello::Hello;
use serde_json::{Map, Value, json};

use crate::commands::{Exit, Failure, progress, say_json};

/// How a model is loaded, and where.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// A GGUF file, or a folder with config.json and safetensors.
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    /// `cpu`, `cuda:0`, or a command.
    #[arg(long, value_name = "SUBJECT", default_value = "cpu")]
    pub on: String,
    #[command(flatten)]
    pub how: How,
}

/// What decides how much memory a model takes.
#[derive(Debug, clap::Args)]
pub struct Sizing {
    /// Type of activations: f32, f16 or bf16; without it the subject's own.
    #[arg(long, value_name = "D")]
    dtype: Option<String>,
    /// Type of the cache: f16, bf16 or f32.
    #[arg(long, value_name = "C")]
    kv: Option<String>,
    /// Positions of a session.
    #[arg(long, value_name = "N")]
    context: Option<u64>,
    /// Prompt tokens of one call.
    #[arg(long, value_name = "N")]
    chunk: Option<u64>,
    /// Ends of YaRN's ramp: as its formula gives them, or rounded to whole dimensions; without it
    /// as the file says.
    #[arg(long, value_name = "RAMP", value_parser = ["reference", "rounded"])]
    yarn: Option<String>,
    /// `plain`: without rewrites.
    #[arg(long, value_name = "PLAN", value_parser = ["fused", "plain"], default_value = "fused")]
    plan: String,
}

/// How a model is loaded.
#[derive(Debug, clap::Args)]
pub struct How {
    #[command(flatten)]
    pub sizing: Sizing,
    /// Refuse a model that needs more.
    #[arg(long, value_name = "BYTES")]
    vram_budget: Option<u64>,
    /// `off`: launches one by one.
    #[arg(long, value_name = "GRAPH", value_parser = ["on", "off"], default_value = "on")]
    graph: String,
}

impl How {
    /// Whether anything was named.
    pub fn is_given(&self) -> bool {
        self.sizing.is_given() || self.vram_budget.is_some()
    }
}

impl Sizing {
    /// As `load` takes it.
    pub fn ask(&self) -> Value {
        json!({
            "activations": self.dtype, "kv": self.kv, "context": self.context,
            "chunk": self.chunk, "plan": self.plan, "yarn": self.yarn,
        })
    }

    /// Whether anything was named.
    pub fn is_given(&self) -> bool {
        let words = self.dtype.is_some() || self.kv.is_some();
        words || self.context.is_some() || self.chunk.is_some()
    }

    /// The same with positions for `count` tokens, where no number was named.
    pub fn at_least(&self, count: u64) -> Value {
        let mut ask = self.ask();
        ask["context"] = self.context.unwrap_or(count).into();
        ask
    }
}

/// A subject with a model in it.
pub struct Loaded {
    slot: Slot,
    _scratch: tempfile::TempDir,
    /// The model's handle.
    pub handle: u64,
    /// The `ok` of `load`.
    pub facts: Value,
}

/// What a question came to.
pub enum Said {
    /// `ok`, and its tensors.
    Ok(Value, BTreeMap<String, Tensor>),
    /// How the command ends: what was refused has been told.
    End(Exit),
}

/// Longest that loading and generating may take.
const LIMIT: Duration = Duration::from_secs(3600);

impl ModelArgs {
    /// Starts the subject and loads the model; a refusal is told here.
    ///
    /// # Errors
    /// A subject that is not there.
    pub fn load(&self, more: &Value, json_out: bool) -> Result<Result<Loaded, Exit>, Failure> {
        self.how.load(&self.model, &self.on, more, json_out)
    }

    /// The same for another file: a subject of its own.
    ///
    /// # Errors
    /// A subject that is not there.
    pub fn load_other(&self, path: &Path, json_out: bool) -> Result<Result<Loaded, Exit>, Failure> {
        self.how.load(path, &self.on, &json!({}), json_out)
    }
}

impl How {
    /// Starts the subject `on` and loads the model at `path`, with a bar on a terminal where that
    /// takes long; a refusal is told here.
    ///
    /// # Errors
    /// A subject that is not there.
    pub fn load(
        &self,
        path: &Path,
        on: &str,
        more: &Value,
        json_out: bool,
    ) -> Result<Result<Loaded, Exit>, Failure> {
        let spec = SubjectSpec::parse(on).map_err(|e| Failure::Usage(e.to_string()))?;
        let scratch = tempfile::tempdir()?;
        let folder = scratch.path().to_path_buf();
        let launch = Launch::new(std::env::current_exe()?, spec, folder);
        let mut slot = Slot::open(launch).map_err(|absent| Failure::Absent(absent.message))?;
        let mut ask = Map::new();
        let given = json!({
            "call": "load", "path": absolute(path), "budget_bytes": self.vram_budget,
            "graph": self.graph == "on",
        });
        let all = [&given, &self.sizing.ask(), more];
        for (key, value) in all.into_iter().filter_map(Value::as_object).flatten() {
            if !value.is_null() {
                ask.insert(key.clone(), value.clone());
            }
        }
        let ask = Value::Object(ask);
        let (said, _) = progress::shown("loading", |events| {
            slot.tell(events);
            ask_slot(&mut slot, &ask, &BTreeMap::new(), json_out)
        })?;
        match said {
            Said::End(exit) => Ok(Err(exit)),
            Said::Ok(facts, _) => {
                // A subject that does not know the option would compute something else.
                if self.sizing.yarn.as_deref().is_some_and(|yarn| facts["yarn"] != yarn) {
                    return Err(Failure::Absent("not offered: yarn".to_owned()));
                }
                let handle = facts["model"].as_u64().unwrap_or_default();
                Ok(Ok(Loaded { slot, _scratch: scratch, handle, facts }))
            }
        }
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

impl Loaded {
    /// One more question about the model.
    ///
    /// # Errors
    /// A subject that is gone.
    pub fn ask(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
        json_out: bool,
    ) -> Result<Said, Failure> {
        Ok(ask_slot(&mut self.slot, ask, tensors, json_out)?.0)
    }

    /// The same, and how long it took.
    ///
    /// # Errors
    /// A subject that is gone.
    pub fn timed(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
        json_out: bool,
    ) -> Result<(Said, Duration), Failure> {
        ask_slot(&mut self.slot, ask, tensors, json_out)
    }

    /// Whether the subject offers a call.
    pub fn offers(&self, call: &str) -> bool {
        self.slot.hello().offers(call)
    }

    /// What the subject said of itself.
    pub fn hello(&self) -> &Hello {
        self.slot.hello()
    }

    /// Sends the events of later questions to a channel.
    pub fn tell(&mut self, events: std::sync::mpsc::Sender<Value>) {
        self.slot.tell(events);
    }

    /// Ends the subject.
    pub fn finish(self) {
        self.slot.finish();
    }
}

fn ask_slot(
    slot: &mut Slot,
    ask: &Value,
    tensors: &BTreeMap<String, Tensor>,
    json_out: bool,
) -> Result<(Said, Duration), Failure> {
    let heard = slot.call(ask, tensors, LIMIT).map_err(|absent| Failure::Absent(absent.message))?;
    let (key, body, tensors) = match heard.reply {
        Reply::Answer { key, body, tensors } => (key, body, tensors),
        other => return Err(Failure::Absent(format!("{other:?}\n{}", heard.stderr))),
    };
    let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match key {
        "ok" => Ok((Said::Ok(body, tensors), heard.time)),
        "refused" => {
            let line = match body["code"].is_string() {
                true => word("message"),
                false => {
                    let (kind, field) = (word("kind"), word("operand"));
                    format!("error[{kind}] field={field} found={:?}", word("message"))
                }
            };
            match json_out {
                true => say_json(&json!({ "refused": body }))?,
                false => eprintln!("{line}"),
            }
            Ok((Said::End(Exit::BadInput), heard.time))
        }
        "unsupported" => Err(Failure::Absent(format!("not offered: {}", word("what")))),
        _ => Err(Failure::Absent(word("message"))),
    }
}
