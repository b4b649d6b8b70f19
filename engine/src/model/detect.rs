//! Which architecture a checkpoint is, by the name that it gives itself.

use crate::weights::refusal::begin;
use crate::weights::{Checkpoint, Code, Malformed};

/// An architecture that this engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// GPT-2: layernorm, learned positions, GELU.
    Gpt2,
    /// gpt-oss: sinks, windows, experts in MXFP4.
    GptOss,
    /// Llama: rmsnorm, rope, SwiGLU.
    Llama,
    /// Qwen2 and 2.5: Llama with biases of q, k and v.
    Qwen2,
}

/// Architecture, its name in GGUF (the prefix of its keys) and in `config.json`; alphabetical.
const NAMES: &[(Architecture, &[&str], &str)] = &[
    (Architecture::Gpt2, &["gpt2"], "gpt2"),
    (Architecture::GptOss, &["gpt-oss", "gptoss"], "gpt_oss"),
    (Architecture::Llama, &["llama"], "llama"),
    (Architecture::Qwen2, &["qwen2"], "qwen2"),
];

impl Architecture {
    /// The name, as GGUF files have it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Gpt2 => "gpt2",
            Architecture::GptOss => "gpt-oss",
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
        }
    }

    /// Whether positions are rotations of q and k.
    pub fn rotates(self) -> bool {
        self != Architecture::Gpt2
    }

    /// The architecture that a checkpoint names.
    ///
    /// # Errors
    /// `NO_ARCHITECTURE`, or `ARCH_UNKNOWN` with the name.
    pub fn of(checkpoint: &Checkpoint) -> Result<Architecture, Malformed> {
        let file = checkpoint.described_by();
        let (field, name, offset) = match checkpoint {
            Checkpoint::Gguf(gguf) => {
                let entry = gguf.metadata().entry("general.architecture");
                let name = entry.and_then(|e| e.value.as_str());
                ("general.architecture", name, entry.map(|e| e.offset))
            }
            Checkpoint::Hf { config, .. } => {
                ("model_type", config.get("model_type").and_then(|name| name.as_str()), None)
            }
        };
        let gguf = matches!(checkpoint, Checkpoint::Gguf(_));
        let refuse = |code, found: &str| {
            let expected = known(gguf).join(", ");
            let refusal = Malformed::new(code, &file, field, found, expected);
            Err(Malformed { offset, ..refusal })
        };
        let Some(name) = name else { return refuse(Code::NoArchitecture, "no name") };
        let known = |(_, in_gguf, in_config): &&(_, &[&str], &str)| match gguf {
            true => in_gguf.contains(&name),
            false => *in_config == name,
        };
        match NAMES.iter().find(known) {
            Some((architecture, ..)) => Ok(*architecture),
            None => refuse(Code::ArchUnknown, &begin(name)),
        }
    }
}

fn known(gguf: bool) -> Vec<&'static str> {
    let names = NAMES.iter().flat_map(|(_, in_gguf, in_config)| match gguf {
        true => in_gguf.to_vec(),
        false => vec![*in_config],
    });
    names.collect()
}
