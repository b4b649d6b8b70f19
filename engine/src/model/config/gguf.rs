//! The configuration in the metadata of a GGUF file: keys under the name of the architecture.

use super::{Config, ConfigError, Experts, Rope, Scaling};
use crate::model::detect::Architecture;
use crate::weights::gguf::{Entry, Gguf, Value};
use crate::weights::refusal::begin;
use crate::weights::{Code, Malformed, Warnings};

/// Fields of [`Config`] and the keys behind them, for refusals.
const KEYS: &[(&str, &str)] = &[
    ("context", "context_length"),
    ("experts.count", "expert_count"),
    ("experts.feed_forward", "expert_feed_forward_length"),
    ("experts.used", "expert_used_count"),
    ("feed_forward", "feed_forward_length"),
    ("head_size", "attention.key_length"),
    ("heads", "attention.head_count"),
    ("hidden", "embedding_length"),
    ("kv_heads", "attention.head_count_kv"),
    ("layers", "block_count"),
    ("rope.rotary", "rope.dimension_count"),
    ("rope.scaling.attention_factor", "rope.scaling.attn_factor"),
    ("rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
    ("rope.scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
    ("rope.scaling.factor", "rope.scaling.factor"),
    ("rope.scaling.original_context", "rope.scaling.original_context_length"),
    ("rope.theta", "rope.freq_base"),
    ("window", "attention.sliding_window"),
];

pub(super) fn read(
    architecture: Architecture,
    file: &Gguf,
) -> Result<(Config, Warnings), Malformed> {
    let prefix = file.metadata().get("general.architecture").and_then(Value::as_str);
    let prefix = prefix.unwrap_or_default().to_owned();
    let mut keys = Keys { file, prefix, architecture, warnings: Warnings::default() };
    keys.whole()?;
    let config = keys.config()?;
    config.check().map_err(|error| keys.refused(&error))?;
    Ok((config, keys.warnings))
}

struct Keys<'a> {
    file: &'a Gguf,
    prefix: String,
    architecture: Architecture,
    warnings: Warnings,
}

impl Keys<'_> {
    fn config(&mut self) -> Result<Config, Malformed> {
        let heads = self.count("attention.head_count")?;
        let hidden = self.count("embedding_length")?;
        let context = self.count("context_length")?;
        let head_size = self.head_size(hidden, heads)?;
        let kv_heads = match self.optional_count("attention.head_count_kv")? {
            Some(kv_heads) => kv_heads,
            None => {
                if self.architecture.rotates() {
                    self.default("attention.head_count_kv", &heads.to_string());
                }
                heads
            }
        };
        let eps = match self.architecture {
            Architecture::Gpt2 => "attention.layer_norm_epsilon",
            _ => "attention.layer_norm_rms_epsilon",
        };
        let feed_forward = self.count("feed_forward_length")?;
        let experts = self.experts(feed_forward)?;
        Ok(Config {
            architecture: self.architecture,
            context,
            vocabulary: self.vocabulary()?,
            hidden,
            layers: self.count("block_count")?,
            heads,
            kv_heads,
            head_size,
            feed_forward: experts.map_or(feed_forward, |e| e.feed_forward),
            norm_eps: self.real(eps)?,
            rope: match self.architecture.rotates() {
                true => Some(self.rope(head_size)?),
                false => None,
            },
            window: self.window(context)?,
            sinks: self.architecture == Architecture::GptOss,
            experts,
            tied: self.file.tensor("output.weight").is_none(),
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.file.metadata().entry(&self.key(key))
    }

    fn refuse(&self, code: Code, key: &str, found: impl ToString, expected: &str) -> Malformed {
        let offset = self.file.metadata().entry(key).map(|entry| entry.offset);
        let path = self.file.file().path();
        Malformed { offset, ..Malformed::new(code, path, key, found.to_string(), expected) }
    }

    /// A broken rule of [`Config`], at the key behind it.
    fn refused(&self, error: &ConfigError) -> Malformed {
        let eps = match self.architecture {
            Architecture::Gpt2 => "attention.layer_norm_epsilon",
            _ => "attention.layer_norm_rms_epsilon",
        };
        let key = KEYS.iter().find(|(field, _)| *field == error.field).map_or(eps, |(_, key)| key);
        let key = match error.field {
            "vocabulary" => "token_embd.weight".to_owned(),
            _ => self.key(key),
        };
        self.refuse(error.code, &key, &error.found, &error.wanted)
    }

    fn default(&mut self, key: &str, value: &str) {
        let key = self.key(key);
        self.warnings.add(format!("{key} is absent: {value}, the default of the format"));
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>, Malformed> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let whole = entry.value.as_u64().and_then(|x| usize::try_from(x).ok());
        let found = || format!("{} {}", entry.value.kind(), entry.value);
        let refusal = || self.refuse(Code::ParamType, &entry.key, found(), "a whole number");
        whole.map(Some).ok_or_else(refusal)
    }

    fn count(&self, key: &str) -> Result<usize, Malformed> {
        self.optional_count(key)?.ok_or_else(|| self.absent(key))
    }

    fn absent(&self, key: &str) -> Malformed {
        self.refuse(Code::Param, &self.key(key), "nothing", "a value; there is no default")
    }

    fn optional_real(&self, key: &str) -> Result<Option<f64>, Malformed> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let found = || format!("{} {}", entry.value.kind(), entry.value);
        let refusal = || self.refuse(Code::ParamType, &entry.key, found(), "a real number");
        entry.value.as_f64().map(Some).ok_or_else(refusal)
    }

    fn real(&self, key: &str) -> Result<f64, Malformed> {
        self.optional_real(key)?.ok_or_else(|| self.absent(key))
    }

    /// A part of a split file is no checkpoint.
    fn whole(&self) -> Result<(), Malformed> {
        let count = self.file.metadata().get("split.count").and_then(Value::as_u64);
        match count {
            Some(count) if count > 1 => {
                let number = self.file.metadata().get("split.no").and_then(Value::as_u64);
                let found =
                    format!("part {} of {count}", number.map_or(0, |n| n.saturating_add(1)));
                let expected = "one whole file; merge the parts first";
                Err(self.refuse(Code::Shard, "split.count", found, expected))
            }
            _ => Ok(()),
        }
    }

    /// Rows of the embedding.
    fn vocabulary(&mut self) -> Result<usize, Malformed> {
        let name = "token_embd.weight";
        let Some(table) = self.file.tensor(name) else {
            return Err(self.refuse(Code::TensorMissing, name, "nothing", "the embedding"));
        };
        let &[rows, _] = table.shape.as_slice() else {
            let found = format!("{:?}", table.shape);
            return Err(self.refuse(Code::Shape, name, found, "[vocabulary, hidden]"));
        };
        if let Some(said) = self.optional_count("vocab_size")?
            && said != rows
        {
            let key = self.key("vocab_size");
            self.warnings.add(format!("{key} is {said}; the embedding has {rows} rows"));
        }
        Ok(rows)
    }

    fn head_size(&mut self, hidden: usize, heads: usize) -> Result<usize, Malformed> {
        let key_length = self.optional_count("attention.key_length")?;
        let value_length = self.optional_count("attention.value_length")?;
        let size = match key_length {
            Some(size) => size,
            None => {
                // Zero heads are refused by the rules of a configuration.
                let size = hidden.checked_div(heads).unwrap_or_default();
                if heads > 0 && !hidden.is_multiple_of(heads) {
                    let wanted = format!("a divisor of {hidden}, or a key_length of its own");
                    let key = self.key("attention.head_count");
                    return Err(self.refuse(Code::Param, &key, heads, &wanted));
                }
                if self.architecture.rotates() {
                    self.default("attention.key_length", &format!("{size}, hidden / heads"));
                }
                size
            }
        };
        match value_length {
            Some(found) if found != size => {
                let wanted = format!("the key's length, {size}");
                let key = self.key("attention.value_length");
                Err(self.refuse(Code::Param, &key, found, &wanted))
            }
            _ => Ok(size),
        }
    }

    fn experts(&mut self, feed_forward: usize) -> Result<Option<Experts>, Malformed> {
        let count = self.optional_count("expert_count")?;
        if self.architecture != Architecture::GptOss {
            let key = self.key("expert_count");
            return match count {
                None | Some(0) => Ok(None),
                Some(count) => {
                    Err(self.refuse(Code::Param, &key, count, "0; experts come with gpt-oss"))
                }
            };
        }
        let width = match self.optional_count("expert_feed_forward_length")? {
            Some(width) => width,
            None => {
                let value = format!("feed_forward_length, {feed_forward}");
                self.default("expert_feed_forward_length", &value);
                feed_forward
            }
        };
        let count = self.count("expert_count")?;
        let used = self.count("expert_used_count")?;
        Ok(Some(Experts { count, used, feed_forward: width }))
    }

    fn window(&self, context: usize) -> Result<Option<usize>, Malformed> {
        let window = self.optional_count("attention.sliding_window")?;
        if self.architecture != Architecture::GptOss {
            let key = self.key("attention.sliding_window");
            return match window.filter(|w| (1..context).contains(w)) {
                None => Ok(None),
                Some(window) => {
                    Err(self.refuse(Code::Param, &key, window, "absent; windows come with gpt-oss"))
                }
            };
        }
        if let Some(entry) = self.entry("attention.sliding_window_pattern")
            && entry.value.as_u64() != Some(2)
        {
            let found = entry.value.to_string();
            return Err(self.refuse(Code::Param, &entry.key, found, "2: every other layer"));
        }
        window.map(Some).ok_or_else(|| self.absent("attention.sliding_window"))
    }

    fn rope(&mut self, head_size: usize) -> Result<Rope, Malformed> {
        let theta = match self.optional_real("rope.freq_base")? {
            Some(theta) => theta,
            None => {
                self.default("rope.freq_base", "10000");
                10_000.0
            }
        };
        let rotary = match self.optional_count("rope.dimension_count")? {
            Some(rotary) => rotary,
            None => {
                self.default("rope.dimension_count", &format!("{head_size}, the head's size"));
                head_size
            }
        };
        Ok(Rope { theta, rotary, scaling: self.scaling()? })
    }

    fn scaling(&mut self) -> Result<Option<Scaling>, Malformed> {
        let kind = match self.entry("rope.scaling.type") {
            None => None,
            Some(entry) => Some(entry.value.as_str().map(begin).ok_or_else(|| {
                self.refuse(Code::ParamType, &entry.key, entry.value.kind(), "a string")
            })?),
        };
        let factor = self.optional_real("rope.scaling.factor")?;
        match (kind.as_deref(), factor) {
            (None | Some("none"), None) | (Some("none"), Some(_)) => Ok(None),
            (None | Some("linear"), Some(1.0)) => Ok(None),
            (Some("yarn"), _) => self.yarn().map(Some),
            (kind, _) => {
                let key = self.key("rope.scaling.type");
                Err(self.refuse(Code::Param, &key, kind.unwrap_or("nothing"), "none or yarn"))
            }
        }
    }

    fn yarn(&mut self) -> Result<Scaling, Malformed> {
        let factor = self.real("rope.scaling.factor")?;
        let original = self.count("rope.scaling.original_context_length")?;
        let mut beta = |key: &str, default: f64| match self.optional_real(key)? {
            Some(beta) => Ok(beta),
            None => {
                self.default(key, &default.to_string());
                Ok(default)
            }
        };
        let beta_fast = beta("rope.scaling.yarn_beta_fast", 32.0)?;
        let beta_slow = beta("rope.scaling.yarn_beta_slow", 1.0)?;
        // The format has no key for it; the published gpt-oss does not round its ramp.
        let truncate = self.architecture != Architecture::GptOss;
        let rounded = if truncate { "rounded" } else { "not rounded" };
        self.warnings.add(format!("the ends of the YaRN ramp are {rounded}; GGUF does not say"));
        let attention_factor = self.optional_real("rope.scaling.attn_factor")?;
        let original_context = original as f64;
        Ok(Scaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_context,
            truncate,
            attention_factor,
        })
    }
}
