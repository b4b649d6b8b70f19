//! Chooses the type of each matrix as llama.cpp's quantiser does (llama-quant.cpp).

use std::str::FromStr;

use goldgate_engine::model::Config;
use goldgate_tensor::DType;

/// The quantisation of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All matrices of one type; for q4_0 and q5_0 the head is q6_k.
    Plain(DType),
    /// Mostly q4_k, with more bits for the head and for the value and down projections of some
    /// layers.
    Q4KM,
}

/// All words that name a quantisation.
pub const WORDS: [&str; 7] = ["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0", "q4_k_m"];

/// A word that is not one of [`WORDS`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of {list}", list = WORDS.join(", "))]
pub struct UnknownMix(String);

impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(word: &str) -> Result<Mix, UnknownMix> {
        match (WORDS.contains(&word), word.parse::<DType>()) {
            (true, Ok(dtype)) => Ok(Mix::Plain(dtype)),
            // The one word that names a mix and no type.
            (true, Err(_)) => Ok(Mix::Q4KM),
            (false, _) => Err(UnknownMix(word.to_owned())),
        }
    }
}

impl Mix {
    /// `general.file_type`, in llama.cpp's numbering.
    pub fn file_type(self) -> u32 {
        // The numbers of llama.cpp's LLAMA_FTYPE, by which tools name a mix.
        match self {
            Mix::Plain(DType::F32) => 0,
            Mix::Plain(DType::Q4_0) => 2,
            Mix::Plain(DType::Q8_0) => 7,
            Mix::Plain(DType::Q5_0) => 8,
            Mix::Plain(DType::BF16) => 32,
            Mix::Plain(_) => 1,
            Mix::Q4KM => 15,
        }
    }

    /// The type of a matrix.
    pub fn dtype(self, config: &Config, name: &str, shape: &[usize]) -> DType {
        let width = shape.last().copied().unwrap_or(0);
        // llama.cpp keeps more bits for the output, and for an embedding that is the output too.
        let head = name == "output.weight" || config.tied && name == "token_embd.weight";
        match self {
            Mix::Plain(DType::Q4_0 | DType::Q5_0) if head => fitting(DType::Q6K, width),
            Mix::Plain(dtype) => fitting(dtype, width),
            Mix::Q4KM => fitting(if head { DType::Q6K } else { k_quant(config, name) }, width),
        }
    }
}

/// The type of a layer's matrix in the mix of q4_k.
fn k_quant(config: &Config, name: &str) -> DType {
    let mut parts = name.split('.');
    let layer = parts.nth(1).and_then(|l| l.parse().ok());
    match (parts.next(), layer) {
        (Some("attn_v" | "ffn_down"), Some(l)) if more_bits(l, config.layers) => DType::Q6K,
        (Some("attn_qkv"), _) => DType::Q5K,
        _ => DType::Q4K,
    }
}

/// Whether a layer's most sensitive matrices get more bits: those of the first and the last eighth,
/// and of every third layer in between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// The replacement for a type whose blocks do not divide the rows. (Published files use q5_1 in
/// place of q5_k. It is not supported here, and q5_0 is the nearest.)
fn fitting(dtype: DType, width: usize) -> DType {
    if width.is_multiple_of(dtype.elements()) {
        return dtype;
    }
    match dtype {
        // The fallback of llama.cpp for rows that are no multiple of 256.
        DType::Q4K | DType::Q5K if width.is_multiple_of(32) => DType::Q5_0,
        DType::Q6K if width.is_multiple_of(32) => DType::Q8_0,
        _ => DType::F16,
    }
}
