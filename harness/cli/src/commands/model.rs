//! What commands that load a model share: the options of `load`, and a subject with a loaded model.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_harness::line::Transport;
use goldgate_harness::subject::pool::Slot;
use goldgate_harness::subject::worker::Reply;
use goldgate_harness::subject::{Launch, SubjectSpec};
use goldgate_wire::answer::{Answer, Refused};
use goldgate_wire::call::{self, LoadOptions};
use goldgate_wire::{Call, Hello, Tensors};
use serde_json::{Value, json};

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
    /// Whether any option is given.
    pub fn is_given(&self) -> bool {
        self.sizing.is_given() || self.vram_budget.is_some()
    }
}

impl Sizing {
    /// The options in the form that `load` takes. An invalid type is passed on, because the subject
    /// must refuse it.
    pub fn options(&self) -> LoadOptions {
        let mut options = LoadOptions {
            context: self.context,
            chunk: self.chunk,
            plan: self.plan.parse().ok(),
            yarn: self.yarn.as_deref().and_then(|ramp| ramp.parse().ok()),
            ..LoadOptions::default()
        };
        for (name, word, option) in [
            ("activations", &self.dtype, &mut options.activations),
            ("kv", &self.kv, &mut options.kv),
        ] {
            let Some(word) = word else { continue };
            *option = word.parse().ok();
            // An unknown word is passed on as it was written, so that the subject's refusal can
            // name it.
            if option.is_none() {
                options.more.insert(name.to_owned(), word.as_str().into());
            }
        }
        options
    }

    /// Whether any option is given.
    pub fn is_given(&self) -> bool {
        let words = self.dtype.is_some() || self.kv.is_some();
        words || self.context.is_some() || self.chunk.is_some()
    }

    /// The options with positions for `count` tokens, unless a number is given.
    pub fn at_least(&self, count: u64) -> LoadOptions {
        LoadOptions { context: Some(self.context.unwrap_or(count)), ..self.options() }
    }
}

/// A subject with a loaded model.
pub struct Loaded {
    slot: Slot,
    // Kept until the end, because large answers are files in this folder.
    _scratch: tempfile::TempDir,
    /// The subject's answer to `load`.
    pub model: call::Loaded,
    /// The same answer as received: the `ok` of `load`.
    pub facts: Value,
}

/// Either the result, or the exit code of a command whose refusal has already been printed.
pub type Asked<T> = Result<Result<T, Exit>, Failure>;

/// The time limit of loading and generating.
const LIMIT: Duration = Duration::from_secs(3600);

impl ModelArgs {
    /// The load options as far as the command line gives them.
    pub fn options(&self) -> LoadOptions {
        self.how.sizing.options()
    }

    /// Starts the subject and loads the model. A refusal is printed here.
    ///
    /// # Errors
    /// The subject cannot be started.
    pub fn load(&self, options: LoadOptions, json_out: bool) -> Asked<Loaded> {
        self.how.load(&self.model, &self.on, options, json_out)
    }

    /// Does the same for another file, with a subject of its own.
    ///
    /// # Errors
    /// The subject cannot be started.
    pub fn load_other(&self, path: &Path, json_out: bool) -> Asked<Loaded> {
        self.how.load(path, &self.on, self.options(), json_out)
    }
}

impl How {
    /// Starts the subject `on` and loads the model at `path`, with a progress bar on a terminal if
    /// it takes long. A refusal is printed here.
    ///
    /// # Errors
    /// The subject cannot be started.
    pub fn load(
        &self,
        path: &Path,
        on: &str,
        options: LoadOptions,
        json_out: bool,
    ) -> Asked<Loaded> {
        let spec = SubjectSpec::parse(on).map_err(|e| Failure::Usage(e.to_string()))?;
        let scratch = tempfile::tempdir()?;
        let folder = scratch.path().to_path_buf();
        let launch = Launch::new(std::env::current_exe()?, spec, folder);
        let mut slot = Slot::open(launch).map_err(|absent| Failure::Absent(absent.message))?;
        let options = LoadOptions {
            budget_bytes: self.vram_budget,
            graph: Some(self.graph == "on"),
            ..options
        };
        let yarn = options.yarn;
        let (question, none) = call::Load { path: absolute(path), options }.question();
        let (answer, _) = progress::shown("loading", |events| {
            slot.tell(events);
            put(&mut slot, question, none, json_out)
        })?;
        let (facts, tensors) = match answer {
            Ok(answer) => answer,
            Err(exit) => return Ok(Err(exit)),
        };
        let model = read::<call::Load>(facts.clone(), tensors)?;
        // A subject that does not know the option would silently compute something else.
        if yarn.is_some() && model.yarn != yarn {
            return Err(Failure::Absent("not offered: yarn".to_owned()));
        }
        Ok(Ok(Loaded { slot, _scratch: scratch, model, facts }))
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

impl Loaded {
    /// Asks one more question about the model.
    ///
    /// # Errors
    /// The subject is gone.
    pub fn ask<C: Call>(&mut self, call: &C, json_out: bool) -> Asked<C::Answer> {
        Ok(self.timed(call, json_out)?.map(|(answer, _)| answer))
    }

    /// Asks a question and measures how long it takes.
    ///
    /// # Errors
    /// The subject is gone.
    pub fn timed<C: Call>(&mut self, call: &C, json_out: bool) -> Asked<(C::Answer, Duration)> {
        let (question, tensors) = call.question();
        let (answer, time) = put(&mut self.slot, question, tensors, json_out)?;
        match answer {
            Ok((body, tensors)) => Ok(Ok((read::<C>(body, tensors)?, time))),
            Err(exit) => Ok(Err(exit)),
        }
    }

    /// Whether the subject offers a call.
    pub fn offers<C: Call>(&self) -> bool {
        self.slot.hello().offers(C::NAME)
    }

    /// What the subject reported about itself.
    pub fn hello(&self) -> &Hello {
        self.slot.hello()
    }

    /// Forwards the events of later questions to a channel.
    pub fn tell(&mut self, events: std::sync::mpsc::Sender<Value>) {
        self.slot.tell(events);
    }

    /// Ends the subject.
    pub fn finish(self) {
        self.slot.finish();
    }
}

/// Reads an `ok` as the type of its call.
fn read<C: Call>(body: Value, tensors: Tensors) -> Result<C::Answer, Failure> {
    C::read_answer(body, tensors).map_err(|bad| Failure::Absent(format!("{}: {bad}", C::NAME)))
}

/// An answer as received, and how long it took.
type Put = (Result<(Value, Tensors), Exit>, Duration);

/// Puts a question. A refusal is printed here.
fn put(slot: &mut Slot, question: Value, tensors: Tensors, json_out: bool) -> Result<Put, Failure> {
    let heard = slot.call(question, tensors, LIMIT);
    let heard = heard.map_err(|absent| Failure::Absent(absent.message))?;
    let answer = match heard.reply {
        Reply::Answer(answer) => answer,
        other => return Err(Failure::Absent(format!("{other:?}\n{}", heard.stderr))),
    };
    // Printed exactly as received.
    let shown = json!({ answer.key: answer.body });
    match answer.answer().map_err(Failure::Absent)? {
        Answer::Ok(body, tensors) => Ok((Ok((body, tensors)), heard.time)),
        Answer::Refused(refused) => {
            let Refused { kind, operand, message, file, .. } = *refused;
            match (json_out, file) {
                (true, _) => say_json(&shown)?,
                (false, Some(_)) => eprintln!("{message}"),
                (false, None) => eprintln!("error[{kind}] field={operand} found={message:?}"),
            }
            Ok((Err(Exit::BadInput), heard.time))
        }
        Answer::Unsupported(what) => Err(Failure::Absent(format!("not offered: {what}"))),
        Answer::Failed(failed) => Err(Failure::Absent(failed.message)),
    }
}
