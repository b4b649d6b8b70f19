//! What a checkpoint says about its model, from either kind of file, and what no model may say.
//!
//! Real models are no multiples of each other: a head's size is given apart from hidden / heads
//! (gpt-oss: 64 heads of 64 on 2880), keys have fewer heads than queries, the head may be the
//! embedding again. What changes numbers must stand in the file; what the format itself fills in is
//! told in the warnings.

mod gguf;
mod hub;

use crate::model::detect::Architecture;
use crate::weights::{Checkpoint, Code, Malformed, Warnings};

/// How the frequencies of a rotation are stretched beyond the context that was trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Llama 3.1: low frequencies divided by `factor`, a ramp between two wavelengths. A GGUF file
    /// holds the divisors themselves (`rope_freqs.weight`) instead, and says nothing here.
    Llama3 {
        /// By what low frequencies are divided.
        factor: f64,
        /// Wavelengths above `original_context` over this are stretched whole.
        low_freq_factor: f64,
        /// Wavelengths below `original_context` over this stay.
        high_freq_factor: f64,
        /// The context before stretching.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// By what interpolated frequencies are divided.
        factor: f64,
        /// Rotations over the original context above which a frequency stays.
        beta_fast: f64,
        /// Rotations below which it is interpolated whole.
        beta_slow: f64,
        /// The context before stretching.
        original_context: f64,
        /// Whether the ends of the ramp are rounded to whole dimensions.
        truncate: bool,
        /// The factor on cos and sin, where the file gives it; else 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
    },
}

/// The rotation of q and k by their positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// How many elements of a head are rotated.
    pub rotary: usize,
    /// Stretching, if any.
    pub scaling: Option<Scaling>,
}

/// Experts of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token is sent to.
    pub used: usize,
    /// Width of one.
    pub feed_forward: usize,
}

/// The numbers of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which architecture.
    pub architecture: Architecture,
    /// Positions that it was made for.
    pub context: usize,
    /// Rows of the embedding; the tokenizer may have fewer tokens.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head; not always hidden / heads.
    pub head_size: usize,
    /// Width of the feed-forward; of one expert where there are experts.
    pub feed_forward: usize,
    /// Added under the root of every norm.
    pub norm_eps: f64,
    /// The rotation; `None` for learned positions.
    pub rope: Option<Rope>,
    /// Keys that a windowed layer sees, the query's own included; layers 0, 2, 4 … are windowed.
    pub window: Option<usize>,
    /// Whether each head has a learned logit that takes part in its softmax.
    pub sinks: bool,
    /// The experts, if the feed-forward is a mixture.
    pub experts: Option<Experts>,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// A number that no such model has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}; must be {wanted}")]
pub struct ConfigError {
    /// `PARAM` for counts, `RANGE` for reals.
    pub code: Code,
    /// The field of [`Config`].
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// The rule, with the number that it was held against.
    pub wanted: String,
}

impl Config {
    /// The configuration of a checkpoint, checked, and the defaults that were filled in.
    ///
    /// # Errors
    /// `NO_ARCHITECTURE`, `ARCH_UNKNOWN`, `PARAM`, `PARAM_TYPE` or `RANGE`, with the key.
    pub fn of(checkpoint: &Checkpoint) -> Result<(Config, Warnings), Malformed> {
        let architecture = Architecture::of(checkpoint)?;
        match checkpoint {
            Checkpoint::Gguf(file) => gguf::read(architecture, file),
            Checkpoint::Hf { config, tensors, folder } => {
                hub::read(architecture, config, tensors, &folder.join("config.json"))
            }
        }
    }

    /// Holds every number to its range and to the others.
    ///
    /// # Errors
    /// The first field that no such model has.
    pub fn check(&self) -> Result<(), ConfigError> {
        let count = |field, found: usize, most: usize| match (1..=most).contains(&found) {
            true => Ok(()),
            false => Err(param(field, found, format!("from 1 to {most}"))),
        };
        count("context", self.context, 1_000_000)?;
        count("vocabulary", self.vocabulary, 1_000_000)?;
        count("hidden", self.hidden, 100_000)?;
        count("layers", self.layers, 512)?;
        count("heads", self.heads, 4096)?;
        count("kv_heads", self.kv_heads, self.heads)?;
        count("head_size", self.head_size, 1024)?;
        count("feed_forward", self.feed_forward, 1_000_000)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            let wanted = format!("a divisor of heads, {}", self.heads);
            return Err(param("kv_heads", self.kv_heads, wanted));
        }
        real("norm_eps", self.norm_eps, f64::MIN_POSITIVE, 0.1)?;
        if let Some(rope) = &self.rope {
            rope.check(self.head_size)?;
        }
        if let Some(window) = self.window {
            count("window", window, self.context)?;
        }
        if let Some(experts) = &self.experts {
            count("experts.count", experts.count, 65_536)?;
            count("experts.used", experts.used, experts.count)?;
            count("experts.feed_forward", experts.feed_forward, 1_000_000)?;
        }
        self.agrees()
    }

    /// What an architecture itself asks.
    fn agrees(&self) -> Result<(), ConfigError> {
        let fused = self.heads.checked_mul(self.head_size);
        if self.architecture == Architecture::Gpt2 && fused != Some(self.hidden) {
            let wanted = format!("hidden / heads, {} / {}", self.hidden, self.heads);
            return Err(param("head_size", self.head_size, wanted));
        }
        if self.architecture == Architecture::Gpt2 && self.kv_heads != self.heads {
            let wanted = format!("heads, {}; gpt2 has one key a query", self.heads);
            return Err(param("kv_heads", self.kv_heads, wanted));
        }
        if self.rope.is_none() && self.architecture.rotates() {
            return Err(param("rope.theta", "nothing", "a base of frequencies".to_owned()));
        }
        Ok(())
    }
}

impl Rope {
    fn check(&self, head_size: usize) -> Result<(), ConfigError> {
        if self.rotary == 0 || self.rotary > head_size || !self.rotary.is_multiple_of(2) {
            let wanted = format!("even, from 2 to head_size, {head_size}");
            return Err(param("rope.rotary", self.rotary, wanted));
        }
        real("rope.theta", self.theta, 1.0, 1e12)?;
        match self.scaling {
            None => Ok(()),
            Some(Scaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            }) => {
                real("rope.scaling.factor", factor, 1.0, 1e6)?;
                real("rope.scaling.original_context", original_context, 1.0, 1e6)?;
                real("rope.scaling.low_freq_factor", low_freq_factor, 1e-6, 1e6)?;
                let above = low_freq_factor.next_up();
                real("rope.scaling.high_freq_factor", high_freq_factor, above, 1e6)
            }
            Some(Scaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context,
                attention_factor,
                truncate: _,
            }) => {
                real("rope.scaling.factor", factor, 1.0, 1e6)?;
                real("rope.scaling.original_context", original_context, 1.0, 1e6)?;
                real("rope.scaling.beta_slow", beta_slow, 1e-6, 1e6)?;
                real("rope.scaling.beta_fast", beta_fast, beta_slow.next_up(), 1e6)?;
                real("rope.scaling.attention_factor", attention_factor.unwrap_or(1.0), 1e-6, 1e6)
            }
        }
    }
}

fn param(field: &'static str, found: impl ToString, wanted: String) -> ConfigError {
    ConfigError { code: Code::Param, field, found: found.to_string(), wanted }
}

/// Written so that NaN is outside of every range.
fn real(field: &'static str, found: f64, least: f64, most: f64) -> Result<(), ConfigError> {
    match found >= least && found <= most {
        true => Ok(()),
        false => {
            let wanted = format!("from {least:e} to {most:e}");
            Err(ConfigError { code: Code::Range, field, found: found.to_string(), wanted })
        }
    }
}

#[cfg(test)]
mod tests;
