//! The configuration in a `config.json`, in the keys of transformers 4 and 5.

use std::path::Path;

use serde_json::Value;

use super::{Config, ConfigError, Experts, Rope, Scaling};
use crate::model::detect::Architecture;
use crate::weights::json::below;
use crate::weights::refusal::begin;
use crate::weights::{Code, Malformed, SafeTensors, Warnings};

/// Fields of [`Config`] and the keys behind them: of GPT-2, of the others.
const KEYS: &[(&str, &str, &str)] = &[
    ("context", "n_positions", "max_position_embeddings"),
    ("experts.count", "", "num_local_experts"),
    ("experts.feed_forward", "", "intermediate_size"),
    ("experts.used", "", "num_experts_per_tok"),
    ("feed_forward", "n_inner", "intermediate_size"),
    ("head_size", "n_head", "head_dim"),
    ("heads", "n_head", "num_attention_heads"),
    ("hidden", "n_embd", "hidden_size"),
    ("kv_heads", "n_head", "num_key_value_heads"),
    ("layers", "n_layer", "num_hidden_layers"),
    ("norm_eps", "layer_norm_epsilon", "rms_norm_eps"),
    ("rope.theta", "", "rope_theta"),
    ("vocabulary", "vocab_size", "vocab_size"),
    ("window", "", "sliding_window"),
];

pub(super) fn read(
    architecture: Architecture,
    config: &Value,
    tensors: &SafeTensors,
    path: &Path,
) -> Result<(Config, Warnings), Malformed> {
    let mut keys = Keys { config, path, architecture, warnings: Warnings::default() };
    keys.fixed()?;
    let config = keys.config(tensors)?;
    config.check().map_err(|error| keys.refused(&error))?;
    Ok((config, keys.warnings))
}

struct Keys<'a> {
    config: &'a Value,
    path: &'a Path,
    architecture: Architecture,
    warnings: Warnings,
}

impl<'a> Keys<'a> {
    fn config(&mut self, tensors: &SafeTensors) -> Result<Config, Malformed> {
        let hidden = self.count(self.name("hidden"))?;
        let heads = self.count(self.name("heads"))?;
        let gpt2 = self.architecture == Architecture::Gpt2;
        let kv_heads = match self.optional_count("num_key_value_heads")?.filter(|_| !gpt2) {
            Some(kv_heads) => kv_heads,
            None => {
                if !gpt2 {
                    self.default("num_key_value_heads", &format!("{heads}, the heads of queries"));
                }
                heads
            }
        };
        let head_size = self.head_size(hidden, heads)?;
        let feed_forward = match self.optional_count(self.name("feed_forward"))? {
            Some(width) => width,
            None if gpt2 => {
                let width = hidden.saturating_mul(4);
                self.default("n_inner", &format!("{width}, four times n_embd"));
                width
            }
            None => return Err(self.absent("intermediate_size")),
        };
        let context = self.count(self.name("context"))?;
        Ok(Config {
            architecture: self.architecture,
            context,
            vocabulary: self.count("vocab_size")?,
            hidden,
            layers: self.count(self.name("layers"))?,
            heads,
            kv_heads,
            head_size,
            feed_forward,
            norm_eps: self.real(self.config, "", self.name("norm_eps"))?,
            rope: if gpt2 { None } else { Some(self.rope(head_size)?) },
            window: self.window()?,
            sinks: self.architecture == Architecture::GptOss,
            experts: self.experts(feed_forward)?,
            tied: self.tied(tensors)?,
        })
    }

    /// The key behind a field.
    fn name(&self, field: &str) -> &'static str {
        let known = KEYS.iter().find(|(name, ..)| *name == field);
        known.map_or("config", |(_, gpt2, others)| match self.architecture {
            Architecture::Gpt2 => gpt2,
            _ => others,
        })
    }

    fn refuse(&self, code: Code, key: &str, found: impl ToString, expected: &str) -> Malformed {
        Malformed::new(code, self.path, key, begin(&found.to_string()), expected)
    }

    fn refused(&self, error: &ConfigError) -> Malformed {
        let key = match error.field.strip_prefix("rope.scaling.") {
            Some(_) => error.field,
            None => self.name(error.field),
        };
        self.refuse(error.code, key, &error.found, &error.wanted)
    }

    fn absent(&self, key: &str) -> Malformed {
        self.refuse(Code::Param, key, "nothing", "a value; there is no default")
    }

    fn default(&mut self, key: &str, value: &str) {
        self.warnings.add(format!("{key} is absent: {value}, the default of the format"));
    }

    /// A key that is there and not null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn optional_count(&self, key: &str) -> Result<Option<usize>, Malformed> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value.as_u64().and_then(|x| usize::try_from(x).ok());
        let refusal = || self.refuse(Code::ParamType, key, value, "a whole number");
        whole.map(Some).ok_or_else(refusal)
    }

    fn count(&self, key: &str) -> Result<usize, Malformed> {
        self.optional_count(key)?.ok_or_else(|| self.absent(key))
    }

    fn optional_real(
        &self,
        object: &Value,
        above: &str,
        key: &str,
    ) -> Result<Option<f64>, Malformed> {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let field = || format!("{above}{key}");
        let refusal = || self.refuse(Code::ParamType, &field(), value, "a number");
        value.as_f64().map(Some).ok_or_else(refusal)
    }

    fn real(&self, object: &Value, above: &str, key: &str) -> Result<f64, Malformed> {
        let absent = || self.absent(&format!("{above}{key}"));
        self.optional_real(object, above, key)?.ok_or_else(absent)
    }

    /// What the engine computes in one way alone must be that way.
    fn fixed(&mut self) -> Result<(), Malformed> {
        let string = |key: &str| self.get(key).and_then(Value::as_str);
        let (key, wanted) = match self.architecture {
            Architecture::Gpt2 => ("activation_function", "gelu_new"),
            _ => ("hidden_act", "silu"),
        };
        match string(key) {
            Some(found) if found != wanted => {
                return Err(self.refuse(Code::Param, key, found, wanted));
            }
            Some(_) => {}
            None => self.default(key, wanted),
        }
        let off = ["mlp_bias", "scale_attn_by_inverse_layer_idx", "use_sliding_window"];
        let on = ["scale_attn_weights"];
        let switches = off.iter().map(|key| (key, false)).chain(on.iter().map(|key| (key, true)));
        for (key, wanted) in switches {
            if let Some(value) = self.get(key)
                && value.as_bool() != Some(wanted)
            {
                return Err(self.refuse(Code::Param, key, value, &wanted.to_string()));
            }
        }
        let oss = self.architecture == Architecture::GptOss;
        if let Some(limit) = self.get("swiglu_limit").filter(|_| oss)
            && limit.as_f64() != Some(7.0)
        {
            return Err(self.refuse(Code::Param, "swiglu_limit", limit, "7.0"));
        }
        self.layer_types()
    }

    /// Windowed layers are the even ones of gpt-oss, and no others.
    fn layer_types(&self) -> Result<(), Malformed> {
        let Some(types) = self.get("layer_types") else { return Ok(()) };
        let refusal =
            |found: &Value, wanted: &str| self.refuse(Code::Param, "layer_types", found, wanted);
        let types = types.as_array().ok_or_else(|| refusal(types, "an array"))?;
        for (layer, found) in types.iter().enumerate() {
            let windowed = self.architecture == Architecture::GptOss && layer % 2 == 0;
            let wanted = if windowed { "sliding_attention" } else { "full_attention" };
            if found.as_str() != Some(wanted) {
                return Err(refusal(found, &format!("{wanted} in layer {layer}")));
            }
        }
        Ok(())
    }

    fn head_size(&mut self, hidden: usize, heads: usize) -> Result<usize, Malformed> {
        if let Some(size) = self.optional_count("head_dim")? {
            return Ok(size);
        }
        // Zero heads are refused by the rules of a configuration.
        let size = hidden.checked_div(heads).unwrap_or_default();
        if heads > 0 && !hidden.is_multiple_of(heads) {
            let wanted = format!("a divisor of {hidden}, or a head_dim of its own");
            return Err(self.refuse(Code::Param, self.name("heads"), heads, &wanted));
        }
        if self.architecture.rotates() {
            self.default("head_dim", &format!("{size}, hidden / heads"));
        }
        Ok(size)
    }

    fn window(&self) -> Result<Option<usize>, Malformed> {
        match self.architecture {
            // Whether the window of a Qwen2 is used is a switch of its own, and must be off.
            Architecture::GptOss => self.count("sliding_window").map(Some),
            _ => Ok(None),
        }
    }

    fn experts(&self, feed_forward: usize) -> Result<Option<Experts>, Malformed> {
        if self.architecture != Architecture::GptOss {
            return Ok(None);
        }
        let count = self.count("num_local_experts")?;
        let used = match self.optional_count("num_experts_per_tok")? {
            Some(used) => used,
            None => self.count("experts_per_token")?,
        };
        Ok(Some(Experts { count, used, feed_forward }))
    }

    /// A checkpoint that does not say is tied if it has no head.
    fn tied(&mut self, tensors: &SafeTensors) -> Result<bool, Malformed> {
        if let Some(value) = self.get("tie_word_embeddings") {
            let refusal =
                || self.refuse(Code::ParamType, "tie_word_embeddings", value, "a boolean");
            return value.as_bool().ok_or_else(refusal);
        }
        let tied = tensors.tensor("lm_head.weight").is_none();
        let why = if tied { "no lm_head.weight" } else { "there is an lm_head.weight" };
        self.warnings.add(format!("tie_word_embeddings is absent: {tied}, because of {why}"));
        Ok(tied)
    }

    fn rope(&mut self, head_size: usize) -> Result<Rope, Malformed> {
        // transformers 5 puts everything into one object; 4 has the base beside the scaling.
        let five = self.get("rope_parameters");
        let (object, above) = match (five, self.get("rope_scaling")) {
            (Some(object), _) => (Some(object), "rope_parameters."),
            (None, object) => (object, "rope_scaling."),
        };
        if let Some(found) = object.filter(|o| !o.is_object()) {
            let key = above.trim_end_matches('.');
            return Err(self.refuse(Code::ParamType, key, found, "an object"));
        }
        let inside = match five {
            Some(object) => self.optional_real(object, above, "rope_theta")?,
            None => None,
        };
        let theta = match inside {
            Some(theta) => Some(theta),
            None => self.optional_real(self.config, "", "rope_theta")?,
        };
        let theta = match theta {
            Some(theta) => theta,
            None => {
                self.default("rope_theta", "10000");
                10_000.0
            }
        };
        let part = match object {
            Some(object) => self.optional_real(object, above, "partial_rotary_factor")?,
            None => None,
        };
        let part = part.unwrap_or(1.0);
        if !(part > 0.0 && part <= 1.0) {
            let key = below("rope", "partial_rotary_factor");
            return Err(self.refuse(Code::Range, &key, part, "above 0, at most 1"));
        }
        let rotary = (head_size as f64 * part) as usize;
        let scaling = match object {
            Some(object) => self.scaling(object, above)?,
            None => None,
        };
        Ok(Rope { theta, rotary, scaling })
    }

    fn scaling(&mut self, object: &Value, above: &str) -> Result<Option<Scaling>, Malformed> {
        let kind = object.get("rope_type").or_else(|| object.get("type"));
        let field = format!("{above}rope_type");
        match kind.map(|kind| kind.as_str().ok_or(kind)) {
            None | Some(Ok("default")) => Ok(None),
            Some(Ok("llama3")) => Ok(Some(Scaling::Llama3 {
                factor: self.real(object, above, "factor")?,
                low_freq_factor: self.real(object, above, "low_freq_factor")?,
                high_freq_factor: self.real(object, above, "high_freq_factor")?,
                original_context: self.real(object, above, "original_max_position_embeddings")?,
            })),
            Some(Ok("yarn")) => self.yarn(object, above).map(Some),
            Some(Ok(other)) => {
                Err(self.refuse(Code::Param, &field, other, "default, llama3 or yarn"))
            }
            Some(Err(found)) => Err(self.refuse(Code::ParamType, &field, found, "a string")),
        }
    }

    fn yarn(&mut self, object: &Value, above: &str) -> Result<Scaling, Malformed> {
        for key in ["mscale", "mscale_all_dim"] {
            if let Some(found) = object.get(key).filter(|value| !value.is_null()) {
                let field = format!("{above}{key}");
                return Err(self.refuse(Code::Param, &field, found, "absent"));
            }
        }
        let mut or = |key: &str, default: f64| match self.optional_real(object, above, key)? {
            Some(value) => Ok(value),
            None => {
                self.default(&format!("{above}{key}"), &default.to_string());
                Ok(default)
            }
        };
        let beta_fast = or("beta_fast", 32.0)?;
        let beta_slow = or("beta_slow", 1.0)?;
        let truncate = match object.get("truncate") {
            None => {
                self.default(&format!("{above}truncate"), "true");
                true
            }
            Some(value) => value.as_bool().ok_or_else(|| {
                self.refuse(Code::ParamType, &format!("{above}truncate"), value, "a boolean")
            })?,
        };
        Ok(Scaling::Yarn {
            factor: self.real(object, above, "factor")?,
            beta_fast,
            beta_slow,
            original_context: self.real(object, above, "original_max_position_embeddings")?,
            truncate,
            attention_factor: self.optional_real(object, above, "attention_factor")?,
        })
    }
}
