//! What our engine says of a model file, without a device: the call `inspect` and its command.

use std::fmt::Write;
use std::path::Path;

use goldgate_engine::cuda::Card;
use goldgate_engine::model::map::Map as Form;
use goldgate_engine::model::{Config, Scaling, tensors};
use goldgate_engine::weights::gguf::Value as Stored;
use goldgate_engine::weights::{Checkpoint, Malformed, Warnings};
use serde_json::{Map, Value, json};

use crate::report::provenance::hex;
use crate::subject::plan::needed;
use crate::subject::serve::NoAnswer;

/// A model file that was opened and found whole.
#[derive(Debug)]
pub struct Inspected {
    checkpoint: Checkpoint,
    config: Config,
    warnings: Warnings,
}

impl Inspected {
    /// Opens `path`, reads its configuration, and holds its tensors to it.
    ///
    /// # Errors
    /// The first refusal.
    pub fn open(path: &Path) -> Result<Inspected, Malformed> {
        let checkpoint = Checkpoint::open(path)?;
        let (config, told) = Config::of(&checkpoint)?;
        let extra = tensors::check(&config, &checkpoint)?;
        let mut warnings = checkpoint.warnings().clone();
        warnings.join(told);
        warnings.join(extra);
        Ok(Inspected { checkpoint, config, warnings })
    }

    /// All that there is to say, as JSON. Hashes every byte.
    pub fn facts(&self) -> Value {
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
            "tokenizer": tokenizer(&self.checkpoint),
            "files": files,
            "tensors": tensors,
            "warnings": self.warnings.list(),
        })
    }

    /// The memory that `load` takes on a card with the options of `ask`, which are those of `load`:
    /// the card whose figures were taken, what is in force, and bytes.
    ///
    /// # Errors
    /// What `load` refuses too.
    pub fn need(&self, ask: &Value) -> Result<Value, NoAnswer> {
        needed(&Card::h200(), ask, &self.config, &Form::of(&self.config, &self.checkpoint))
    }

    /// What is odd and legal, and the defaults that were filled in.
    pub fn warnings(&self) -> &[String] {
        self.warnings.list()
    }

    /// The facts as lines for people; `need` as [`Inspected::need`] gave it.
    pub fn text(&self, need: &Value) -> String {
        let facts = self.facts();
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name:<14} {value}");
        };
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

/// What the file itself says of its tokenizer: scalars as they stand, lists by their lengths.
fn tokenizer(checkpoint: &Checkpoint) -> Value {
    let Checkpoint::Gguf(gguf) = checkpoint else { return Value::Null };
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

/// A refusal as the wire says it.
pub fn refusal(m: &Malformed) -> Value {
    let mut said = json!({
        "kind": "Malformed", "code": m.code.as_str(), "file": m.file.to_string_lossy(),
        "operand": m.field, "field": m.field, "found": m.found, "expected": m.expected,
        "message": m.to_string(),
    });
    if let Some(offset) = m.offset {
        said["offset"] = offset.into();
    }
    if let Some(place) = &m.json {
        said["line"] = place.line.into();
        said["column"] = place.column.into();
        said["pointer"] = place.pointer.as_str().into();
    }
    said
}
