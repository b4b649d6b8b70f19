//! What our engine reports about a model file without a device, for the call `inspect` and its
//! command.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use goldgate_engine::cuda::Card;
use goldgate_engine::foreign::{Bounds, LARGEST_TEXT, read_foreign};
use goldgate_engine::model::map::Map as Form;
use goldgate_engine::model::{Config, Scaling, tensors};
use goldgate_engine::tokenizer::facts::Facts;
use goldgate_engine::weights::gguf::Value as Stored;
use goldgate_engine::weights::{Checkpoint, Malformed, Warnings};
use goldgate_wire::call::LoadOptions;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::device::{NoAnswer, refused};
use crate::load_plan::needed;

/// The file name of a tokenizer, which is also the ending by which one is recognised.
const TOKENIZER: &str = "tokenizer.json";

/// A file that was opened and is intact.
#[derive(Debug)]
pub enum Inspected {
    /// A model.
    Model(Box<Whole>),
    /// A tokenizer.json without a model.
    Tokenizer(PathBuf, Box<Facts>),
}

/// A model file with its configuration, and its vocabulary if it has a supported one.
#[derive(Debug)]
pub struct Whole {
    checkpoint: Checkpoint,
    config: Config,
    vocabulary: Option<Facts>,
    warnings: Warnings,
}

impl Inspected {
    /// Opens `path`: a model file, whose tensors and vocabulary are checked against its
    /// configuration, or a tokenizer.json. A tokenizer.json next to a GGUF file must have the same
    /// vocabulary.
    ///
    /// # Errors
    /// The first refusal.
    pub fn open(path: &Path) -> Result<Inspected, Malformed> {
        // Before it is read, only its name distinguishes it from other JSON files.
        if path.to_string_lossy().ends_with(TOKENIZER) && !path.is_dir() {
            let facts = Facts::of_json(path)?;
            return Ok(Inspected::Tokenizer(path.to_path_buf(), Box::new(facts)));
        }
        let checkpoint = Checkpoint::open(path)?;
        let (config, found) = Config::of(&checkpoint)?;
        let extra = tensors::check(&config, &checkpoint)?;
        let mut warnings = checkpoint.warnings().clone();
        warnings.join(found);
        warnings.join(extra);
        let vocabulary = vocabulary(&checkpoint, &mut warnings)?;
        if let Some(found) = &vocabulary {
            // An id beyond the embedding would read outside of it.
            found.fits(config.vocabulary, &checkpoint.described_by())?;
            warnings.join(found.warnings().clone());
        }
        Ok(Inspected::Model(Box::new(Whole { checkpoint, config, vocabulary, warnings })))
    }

    /// All facts as JSON. Hashes every byte of the files.
    pub fn facts(&self) -> Value {
        match self {
            Inspected::Model(whole) => whole.facts(),
            Inspected::Tokenizer(path, facts) => json!({
                "format": TOKENIZER,
                "tokenizer": of_vocabulary(facts),
                "files": [hashed(path)],
                "warnings": facts.warnings().list(),
            }),
        }
    }

    /// Properties that are legal but unusual, and defaults that were filled in.
    pub fn warnings(&self) -> &[String] {
        match self {
            Inspected::Model(whole) => whole.warnings.list(),
            Inspected::Tokenizer(_, facts) => facts.warnings().list(),
        }
    }

    /// The memory that `load` takes on `card` with these options; nothing for a tokenizer.
    ///
    /// # Errors
    /// Anything that `load` refuses as well.
    pub fn need(&self, card: &Card, options: &LoadOptions) -> Result<Value, NoAnswer> {
        match self {
            Inspected::Model(whole) => whole.need(card, options),
            Inspected::Tokenizer(..) => Ok(Value::Null),
        }
    }

    /// The facts as lines for people; `need` is the result of [`Inspected::need`].
    pub fn text(&self, need: &Value) -> String {
        if let Inspected::Model(whole) = self {
            return whole.text(need);
        }
        let facts = self.facts();
        let mut text = String::new();
        for (name, value) in facts["tokenizer"].as_object().into_iter().flatten() {
            line(&mut text, name, &value.to_string());
        }
        let file = &facts["files"][0];
        let word = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
        line(&mut text, "file", &format!("{} ({} bytes)", word("path"), file["bytes"]));
        line(&mut text, "sha256", &word("sha256"));
        self.warnings().iter().for_each(|warning| line(&mut text, "warning", warning));
        text
    }
}

/// The vocabulary of a model: that of its GGUF file, or of tokenizer.json in its folder. An
/// unsupported kind is only a warning, since the model itself may be fine.
fn vocabulary(
    checkpoint: &Checkpoint,
    warnings: &mut Warnings,
) -> Result<Option<Facts>, Malformed> {
    let mut offered = |opened: Result<Facts, Malformed>| match opened {
        Ok(facts) => Ok(Some(facts)),
        // The model can still be run by ids, so this is a warning and no refusal.
        Err(refused) if Facts::not_offered(&refused) => {
            warnings.add(format!("the tokenizer is not offered: {refused}"));
            Ok(None)
        }
        Err(refused) => Err(refused),
    };
    let nearby = checkpoint.described_by().with_file_name(TOKENIZER);
    let nearby = if nearby.is_file() { offered(Facts::of_json(&nearby))? } else { None };
    let Checkpoint::Gguf(gguf) = checkpoint else { return Ok(nearby) };
    let own = match Facts::of_gguf(gguf).transpose() {
        Some(opened) => offered(opened)?,
        None => None,
    };
    if let (Some(own), Some(nearby)) = (&own, &nearby) {
        // If the two differed, a text's ids would depend on which of them a program reads.
        own.same(nearby, gguf.file().path())?;
    }
    Ok(own)
}

impl Whole {
    /// What a GGUF file states about its tokenizer: scalars as they are, lists by their lengths.
    /// For a folder, the facts of its vocabulary.
    fn tokenizer(&self) -> Value {
        let Checkpoint::Gguf(gguf) = &self.checkpoint else {
            return self.vocabulary.as_ref().map_or(Value::Null, of_vocabulary);
        };
        let mut facts = Map::new();
        for entry in gguf.metadata().entries() {
            let Some(name) = entry.key.strip_prefix("tokenizer.ggml.") else { continue };
            let value = match &entry.value {
                Stored::Array(array) => json!({"count": array.len()}),
                Stored::Bool(flag) => json!(flag),
                Stored::String(text) => json!(text),
                other => other.as_u64().map_or_else(|| json!(other.to_string()), |x| json!(x)),
            };
            facts.insert(name.to_owned(), value);
        }
        Value::Object(facts)
    }

    fn facts(&self) -> Value {
        let tensors: Vec<Value> = self
            .checkpoint
            .tensors()
            .iter()
            .map(|t| {
                json!({"name": t.name, "type": t.dtype.name(), "shape": t.shape,
                   "offset": t.offset, "bytes": t.bytes, "file": t.shard})
            })
            .collect();
        let files: Vec<Value> = self
            .checkpoint
            .files()
            .iter()
            .map(|file| {
                json!({"path": file.path().to_string_lossy(), "bytes": file.len(),
                   "sha256": hex(&file.sha256())})
            })
            .collect();
        json!({
            "format": match self.checkpoint {
                Checkpoint::Gguf(_) => "gguf",
                Checkpoint::Hf { .. } => "safetensors",
            },
            "architecture": self.config.architecture.name(),
            "config": config(&self.config),
            "tokenizer": self.tokenizer(),
            "files": files,
            "tensors": tensors,
            "warnings": self.warnings.list(),
        })
    }

    /// The memory that `load` takes on `card` with these options: the properties used, the options
    /// in force, and bytes.
    ///
    /// # Errors
    /// Anything that `load` refuses as well.
    fn need(&self, card: &Card, options: &LoadOptions) -> Result<Value, NoAnswer> {
        needed(card, options, &self.config, &Form::of(&self.config, &self.checkpoint))
    }

    fn text(&self, need: &Value) -> String {
        let facts = self.facts();
        let mut text = String::new();
        let mut line = |name: &str, value: String| line(&mut text, name, &value);
        line("architecture", self.config.architecture.name().to_owned());
        for (name, value) in facts["config"].as_object().into_iter().flatten() {
            if !value.is_null() {
                line(name, value.to_string());
            }
        }
        for (name, value) in facts["tokenizer"].as_object().into_iter().flatten() {
            line("tokenizer", format!("{name} {value}"));
        }
        for file in self.checkpoint.files() {
            line("file", format!("{} ({} bytes)", file.path().display(), file.len()));
            line("sha256", hex(&file.sha256()));
        }
        for t in self.checkpoint.tensors() {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            let place = format!("at {} ({} bytes)", t.offset, t.bytes);
            line("tensor", format!("{} {} [{}] {place}", t.name, t.dtype, shape.join(", ")));
        }
        for warning in self.warnings.list() {
            line("warning", warning.clone());
        }
        for (name, value) in need.as_object().into_iter().flatten() {
            match (name.strip_prefix("bytes_"), value.as_str()) {
                (Some(part), _) => line("need", format!("{part:<15} {value:>14} bytes")),
                (None, Some(word)) => line("need", format!("{name:<15} {word}")),
                (None, None) => line("need", format!("{name:<15} {value}")),
            }
        }
        text
    }
}

/// Appends one line of facts.
fn line(text: &mut String, name: &str, value: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{name:<14} {value}");
}

/// Path, length and hash of a small file.
fn hashed(path: &Path) -> Value {
    let bytes = read_foreign(path, Bounds::of_user(LARGEST_TEXT)).unwrap_or_default();
    json!({"path": path.to_string_lossy(), "bytes": bytes.len(),
           "sha256": hex(&Sha256::digest(&bytes))})
}

fn of_vocabulary(facts: &Facts) -> Value {
    json!({"kind": facts.kind(), "tokens": facts.len(), "control": facts.control(),
           "bos": facts.bos(), "eos": facts.eos()})
}

fn config(c: &Config) -> Value {
    let mut facts = json!({
        "context": c.context, "vocabulary": c.vocabulary, "hidden": c.hidden,
        "layers": c.layers, "heads": c.heads, "kv_heads": c.kv_heads,
        "head_size": c.head_size, "feed_forward": c.feed_forward, "norm_eps": c.norm_eps,
        "window": c.window, "sinks": c.sinks, "tied": c.tied,
    });
    if let Some(e) = c.experts {
        facts["experts"] =
            json!({"count": e.count, "used": e.used, "feed_forward": e.feed_forward});
    }
    if let Some(rope) = &c.rope {
        facts["rope"] = json!({"theta": rope.theta, "rotary": rope.rotary,
                               "scaling": rope.scaling.map(scaling)});
    }
    facts
}

fn scaling(scaling: Scaling) -> Value {
    match scaling {
        Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor, "original_context": original_context,
        }),
        Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context,
            truncate,
            attention_factor,
        } => json!({
            "type": "yarn", "factor": factor, "beta_fast": beta_fast, "beta_slow": beta_slow,
            "original_context": original_context, "truncate": truncate,
            "attention_factor": attention_factor,
        }),
    }
}

/// A malformed file in the form of the wire.
pub fn refusal(m: &Malformed) -> Value {
    refused(m).json()
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
