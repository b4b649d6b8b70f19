//! Which matrix gets which type, as llama.cpp's quantiser chooses (llama-quant.cpp).

use std::str::FromStr;

use goldgate_engine::model::Config;
use goldgate_tensor::DType;

/// What a file is quantised to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Every matrix of one type; where that is q4_0 or q5_0, the head is q6_k.
    Plain(DType),
    /// Mostly q4_k; more bits for the head and for some layers' values and down projections.
    Q4KM,
}

/// Every word that names one.
pub const WORDS: [&str; 7] = ["f32", "f16", "bf16", "q8_0", "q5_0", "q4_0", "q4_k_m"];

/// A word that is none of [`WORDS`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is none of {list}", list = WORDS.join(", "))]
pub struct UnknownMix(String);

impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(word: &str) -> Result<Mix, UnknownMix> {
        match (WORDS.contains(&word), word.parse::<DType>()) {
            (true, Ok(dtype)) => Ok(Mix::Plain(dtype)),
            (true, Err(_)) => Ok(Mix::Q4KM),
            (false, _) => Err(UnknownMix(word.to_owned())),
        }
    }
}

impl Mix {
    /// `general.file_type`, by llama.cpp's numbers.
    pub fn file_type(self) -> u32 {
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
        let head = name == "output.weight" || config.tied && name == "token_embd.weight";
        match self {
            Mix::Plain(DType::Q4_0 | DType::Q5_0) if head => fitting(DType::Q6K, width),
            Mix::Plain(dtype) => fitting(dtype, width),
            Mix::Q4KM => fitting(if head { DType::Q6K } else { k_quant(config, name) }, width),
        }
    }
}

/// The type of a matrix of a layer among q4_k.
fn k_quant(config: &Config, name: &str) -> DType {
    let mut parts = name.split('.');
    let layer = parts.nth(1).and_then(|l| l.parse().ok());
    match (parts.next(), layer) {
        (Some("attn_v" | "ffn_down"), Some(l)) if more_bits(l, config.layers) => DType::Q6K,
        (Some("attn_qkv"), _) => DType::Q5K,
        _ => DType::Q4K,
    }
}

/// The layers whose most delicate matrices get more bits: the first and the last eighth, and every
/// third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// What stands in where rows are no whole number of blocks. (Published files have q5_1 in place of
/// q5_k; that is not computed with here, and q5_0 is the next.)
fn fitting(dtype: DType, width: usize) -> DType {
    if width.is_multiple_of(dtype.elements()) {
        return dtype;
    }
    match dtype {
        DType::Q4K | DType::Q5K if width.is_multiple_of(32) => DType::Q5_0,
        DType::Q6K if width.is_multiple_of(32) => DType::Q8_0,
        _ => DType::F16,
    }
}
