//! The numbers of a model: what its file says, before any weight is looked at.

/// A family of models: one file in this folder builds its Program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Learned positions, layernorm, GELU.
    Gpt2,
    /// Rotary positions, windows, sinks, experts.
    GptOss,
    /// Rotary positions, rmsnorm, a gated feed-forward.
    Llama,
    /// As Llama, with biases on q, k and v.
    Qwen2,
}

/// How rotary frequencies are stretched beyond the context that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Llama 3: long waves are stretched, short ones kept, between them a blend.
    Llama3 {
        /// By how much long waves are stretched.
        factor: f64,
        /// Waves longer than the original context over this one are long.
        low_freq_factor: f64,
        /// Waves shorter than the original context over this one are short.
        high_freq_factor: f64,
        /// Positions of the original context.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// By how much the context grows.
        factor: f64,
        /// Pairs that turn more often than this over the original context are kept.
        beta_fast: f64,
        /// Pairs that turn less often are stretched.
        beta_slow: f64,
        /// Positions of the original context.
        original_context: f64,
        /// Whether the range of pairs between is rounded to whole ones.
        truncate: bool,
        /// Factor of sines and cosines; `None`: 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
    },
}

/// Rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Elements of a head that are rotated, even.
    pub rotary: usize,
    /// How frequencies are stretched.
    pub scaling: Option<Scaling>,
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a token uses.
    pub used: usize,
    /// Width of one.
    pub feed_forward: usize,
}

/// The numbers of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family.
    pub architecture: Architecture,
    /// Positions that the model was made for.
    pub context: usize,
    /// Rows of the embedding, tokens or not.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads, a divisor of the query heads.
    pub kv_heads: usize,
    /// Elements of a head; heads · head_size need not be hidden.
    pub head_size: usize,
    /// Width of the feed-forward.
    pub feed_forward: usize,
    /// Added under the root of every norm.
    pub norm_eps: f64,
    /// Rotary positions, where the family has them.
    pub rope: Option<Rope>,
    /// Keys that a windowed layer sees, the query's own included.
    pub window: Option<usize>,
    /// Whether each head has a sink.
    pub sinks: bool,
    /// Experts in place of one feed-forward.
    pub experts: Option<Experts>,
    /// Whether the head is the embedding.
    pub tied: bool,
}
