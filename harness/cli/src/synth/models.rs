//! The published models whose shapes are available.

use goldgate_engine::model::{Architecture, Config, Rope, Scaling};

/// The vocabulary of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// GPT-2: 50,257 tokens.
    Gpt2,
    /// Llama 3: 128,000 tokens and 256 special ones.
    Llama3,
    /// Qwen2: 151,643 tokens, three special ones, and padding.
    Qwen2,
}

/// A published model.
#[derive(Debug, PartialEq)]
pub struct Model {
    /// The name on the command line.
    pub name: &'static str,
    /// The vocabulary that it has.
    pub words: Words,
    /// Layers, hidden, heads, heads of keys, feed-forward, context, vocabulary.
    shape: [usize; 7],
    /// Whether the head is tied to the embedding.
    tied: bool,
    /// The divisor of low frequencies in Llama 3's scaling; 0 for no scaling.
    factor: f64,
}

/// All models, smallest first within a family.
pub const ALL: &[Model] = &[
    Model {
        name: "gpt2-124m",
        words: Words::Gpt2,
        shape: [12, 768, 12, 12, 3072, 1024, 50_257],
        tied: true,
        factor: 0.0,
    },
    Model {
        name: "gpt2-1.5b",
        words: Words::Gpt2,
        shape: [48, 1600, 25, 25, 6400, 1024, 50_257],
        tied: true,
        factor: 0.0,
    },
    Model {
        name: "llama-3.2-1b",
        words: Words::Llama3,
        shape: [16, 2048, 32, 8, 8192, 131_072, 128_256],
        tied: true,
        factor: 32.0,
    },
    Model {
        name: "llama-3.1-8b",
        words: Words::Llama3,
        shape: [32, 4096, 32, 8, 14_336, 131_072, 128_256],
        tied: false,
        factor: 8.0,
    },
    Model {
        name: "qwen2.5-0.5b",
        words: Words::Qwen2,
        shape: [24, 896, 14, 2, 4864, 32_768, 151_936],
        tied: true,
        factor: 0.0,
    },
    Model {
        name: "qwen2.5-7b",
        words: Words::Qwen2,
        shape: [28, 3584, 28, 4, 18_944, 32_768, 152_064],
        tied: false,
        factor: 0.0,
    },
];

impl Model {
    /// The model with this name.
    pub fn find(name: &str) -> Option<&'static Model> {
        ALL.iter().find(|model| model.name == name)
    }

    /// Its configuration.
    pub fn config(&self) -> Config {
        let [layers, hidden, heads, kv_heads, feed_forward, context, vocabulary] = self.shape;
        let head_size = hidden / heads;
        let (architecture, theta, norm_eps) = match self.words {
            Words::Gpt2 => (Architecture::Gpt2, None, 1e-5),
            Words::Llama3 => (Architecture::Llama, Some(500_000.0), 1e-5),
            Words::Qwen2 => (Architecture::Qwen2, Some(1_000_000.0), 1e-6),
        };
        // The published numbers of Llama 3.1 and 3.2, which differ in the factor alone.
        let scaling = (self.factor > 0.0).then_some(Scaling::Llama3 {
            factor: self.factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        });
        Config {
            architecture,
            context,
            vocabulary,
            hidden,
            layers,
            heads,
            kv_heads,
            head_size,
            feed_forward,
            norm_eps,
            rope: theta.map(|theta| Rope { theta, rotary: head_size, scaling }),
            window: None,
            sinks: false,
            experts: None,
            tied: self.tied,
        }
    }
}
