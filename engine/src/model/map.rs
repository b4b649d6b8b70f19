//! The tensors of a checkpoint in one canonical form, whatever the file: matrices [out, in] as they
//! are stored, vectors and learned positions f32, heads rotated by halves. The names are those of
//! GGUF. Every change is lossless: rows or elements move, or are widened.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::exec::cpu::{CallError, Source};
use crate::model::llama::DIVISORS;
use crate::model::{Architecture, Config, Scaling};
use crate::shape::Meta;
use crate::tensor::Tensor;
use crate::weights::{Checkpoint, TensorInfo};

/// How a canonical tensor comes from the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Stored,
    /// Widened to f32.
    Widened,
    /// Rows of each of so many heads from neighbouring pairs to halves.
    Halves(usize),
    /// As `Halves`, widened.
    WidenedHalves(usize),
    /// [in, out] in the file.
    Transposed,
}

#[derive(Debug)]
enum From<'c> {
    File(&'c TensorInfo, DType, Form),
    Made(Vec<u8>),
}

/// A checkpoint's tensors by canonical name.
#[derive(Debug)]
pub struct Map<'c> {
    checkpoint: &'c Checkpoint,
    entries: BTreeMap<String, (Meta, From<'c>)>,
}

impl<'c> Map<'c> {
    /// Names and forms; no weight is read. Tensors of types that are not computed with are left
    /// out: a Program that needs one finds it missing.
    pub fn of(config: &Config, checkpoint: &'c Checkpoint) -> Map<'c> {
        let gguf = matches!(checkpoint, Checkpoint::Gguf(_));
        let mut entries = BTreeMap::new();
        for tensor in checkpoint.tensors() {
            let name = match gguf {
                true => Some(tensor.name.clone()),
                false => canonical(config.architecture, &tensor.name),
            };
            let (Some(name), Some(dtype)) = (name, tensor.dtype.dtype()) else { continue };
            let form = form(config, gguf, &name, tensor);
            let mut shape = tensor.shape.clone();
            if form == Form::Transposed {
                shape.reverse();
            }
            let wide = matches!(form, Form::Widened | Form::WidenedHalves(_));
            let meta = Meta { dtype: if wide { DType::F32 } else { dtype }, shape };
            entries.insert(name, (meta, From::File(tensor, dtype, form)));
        }
        if let (false, Some(divisors)) = (entries.contains_key(DIVISORS), divisors(config)) {
            let meta = Meta::new(DType::F32, &[divisors.len()]);
            let bytes = divisors.iter().flat_map(|x| x.to_le_bytes()).collect();
            entries.insert(DIVISORS.to_owned(), (meta, From::Made(bytes)));
        }
        Map { checkpoint, entries }
    }

    /// Type and shape of a canonical tensor.
    pub fn meta(&self, name: &str) -> Option<Meta> {
        self.entries.get(name).map(|(meta, _)| meta.clone())
    }

    /// The activations that suit the file: bf16 where one of its dense matrices is bf16, however
    /// the others are stored, else f16.
    pub fn activations(&self) -> DType {
        let dense = |(meta, _): &(Meta, From<'_>)| meta.shape.len() > 1 && meta.dtype.is_float();
        let bf16 = self.entries.values().filter(|e| dense(e)).any(|(m, _)| m.dtype == DType::BF16);
        if bf16 { DType::BF16 } else { DType::F16 }
    }
}

fn form(config: &Config, gguf: bool, name: &str, tensor: &TensorInfo) -> Form {
    let llama = gguf && config.architecture == Architecture::Llama;
    let heads = match name.split('.').nth(2) {
        Some("attn_q") if llama => Some(config.heads),
        Some("attn_k") if llama => Some(config.kv_heads),
        _ => None,
    };
    let vector = tensor.shape.len() == 1 || name == "position_embd.weight";
    let block = name.starts_with("blk.") && tensor.shape.len() == 2;
    match heads {
        Some(heads) if vector => Form::WidenedHalves(heads),
        Some(heads) => Form::Halves(heads),
        None if vector => Form::Widened,
        // GPT-2's published weights are those of a convolution.
        None if !gguf && block && config.architecture == Architecture::Gpt2 => Form::Transposed,
        None => Form::Stored,
    }
}

/// The canonical name of a tensor of the hub's form; `None`: a buffer that is no weight.
fn canonical(architecture: Architecture, name: &str) -> Option<String> {
    let name = name.strip_prefix("transformer.").unwrap_or(name);
    let name = name.strip_prefix("model.").unwrap_or(name);
    let whole: &[(&str, &str)] = match architecture {
        Architecture::Gpt2 => &[
            ("wte.weight", "token_embd.weight"),
            ("wpe.weight", "position_embd.weight"),
            ("ln_f.weight", "output_norm.weight"),
            ("ln_f.bias", "output_norm.bias"),
            ("lm_head.weight", "output.weight"),
        ],
        _ => &[
            ("embed_tokens.weight", "token_embd.weight"),
            ("norm.weight", "output_norm.weight"),
            ("lm_head.weight", "output.weight"),
        ],
    };
    if let Some((_, known)) = whole.iter().find(|(of_hub, _)| *of_hub == name) {
        return Some((*known).to_owned());
    }
    let modules: &[(&str, &str)] = match architecture {
        Architecture::Gpt2 => &[
            ("ln_1", "attn_norm"),
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("ln_2", "ffn_norm"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
        ],
        _ => &[
            ("input_layernorm", "attn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ],
    };
    let rest = name.strip_prefix("h.").or_else(|| name.strip_prefix("layers."))?;
    let (layer, rest) = rest.split_once('.')?;
    let (module, part) = rest.rsplit_once('.')?;
    let (_, known) = modules.iter().find(|(of_hub, _)| *of_hub == module)?;
    Some(format!("blk.{layer}.{known}.{part}"))
}

/// What llama3's scaling divides each frequency by (transformers, `_compute_llama3_parameters`),
/// rounded to f32 as GGUF files have it.
pub fn divisors(config: &Config) -> Option<Vec<f32>> {
    let rope = config.rope?;
    let Some(Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) =
        rope.scaling
    else {
        return None;
    };
    let divisor = |i: usize| {
        let wave = std::f64::consts::TAU * rope.theta.powf(2.0 * i as f64 / rope.rotary as f64);
        if wave < original_context / high_freq_factor {
            1.0
        } else if wave > original_context / low_freq_factor {
            factor
        } else {
            let smooth =
                (original_context / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Some((0..rope.rotary / 2).map(|i| divisor(i) as f32).collect())
}

/// The row of the file that stands in a canonical row: the first halves of a head are its even
/// rows, the second halves its odd ones.
fn paired(row: usize, rows: usize, heads: usize) -> usize {
    let d = rows / heads;
    let (head, i) = (row / d, row % d);
    head * d + if i < d / 2 { 2 * i } else { 2 * (i - d / 2) + 1 }
}

impl Source for Map<'_> {
    fn rows(&self, tensor: &str, first: usize, rows: usize) -> Cow<'_, [u8]> {
        let (meta, from) = &self.entries[tensor];
        let (info, dtype, form) = match from {
            From::Made(bytes) => return Cow::Borrowed(&bytes[4 * first..4 * (first + rows)]),
            From::File(info, dtype, form) => (*info, *dtype, *form),
        };
        let bytes = self.checkpoint.bytes(info);
        let all = meta.shape[0];
        let widen = |bytes: &[u8]| {
            let shape = [bytes.len() / dtype.bytes()];
            let numbers = Tensor::new(dtype, &shape, bytes.to_vec()).to_f64();
            Tensor::from_f64(DType::F32, &shape, &numbers).bytes
        };
        let row = bytes.len() / all;
        let moved = |heads: usize| {
            let mut moved: Vec<u8> = Vec::with_capacity(rows * row);
            for r in first..first + rows {
                let at = paired(r, all, heads) * row;
                moved.extend_from_slice(&bytes[at..at + row]);
            }
            moved
        };
        match form {
            Form::Stored => Cow::Borrowed(&bytes[first * row..(first + rows) * row]),
            Form::Widened => Cow::Owned(widen(&bytes[first * row..(first + rows) * row])),
            Form::Halves(heads) => Cow::Owned(moved(heads)),
            Form::WidenedHalves(heads) => Cow::Owned(widen(&moved(heads))),
            Form::Transposed => Cow::Owned(transposed(bytes, meta, dtype, first, rows)),
        }
    }

    fn unchanged(&self) -> Result<(), CallError> {
        self.checkpoint.unchanged().map_err(|malformed| CallError::Changed {
            file: malformed.file.into_path_buf(),
            field: malformed.field,
            found: malformed.found,
            expected: malformed.expected,
        })
    }
}

/// Rows `first ..` of the transpose of a plain matrix [in, out].
fn transposed(bytes: &[u8], meta: &Meta, dtype: DType, first: usize, rows: usize) -> Vec<u8> {
    let (out, width, size) = (meta.shape[0], meta.shape[1], dtype.bytes());
    let mut turned = Vec::with_capacity(rows * width * size);
    for row in first..first + rows {
        for column in 0..width {
            let at = (column * out + row) * size;
            turned.extend_from_slice(&bytes[at..at + size]);
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves() {
        let order: Vec<usize> = (0..8).map(|r| paired(r, 8, 2)).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn names_of_the_hub() {
        let gpt2 = |name| canonical(Architecture::Gpt2, name);
        assert_eq!(gpt2("h.3.mlp.c_fc.bias").as_deref(), Some("blk.3.ffn_up.bias"));
        assert_eq!(gpt2("transformer.wpe.weight").as_deref(), Some("position_embd.weight"));
        assert_eq!(gpt2("transformer.h.0.attn.bias"), None);
        let llama = |name| canonical(Architecture::Llama, name);
        assert_eq!(
            llama("model.layers.11.self_attn.k_proj.weight").as_deref(),
            Some("blk.11.attn_k.weight")
        );
    }

    #[test]
    fn a_transpose_by_rows() {
        let meta = Meta::new(DType::U8, &[3, 2]);
        assert_eq!(transposed(&[1, 2, 3, 4, 5, 6], &meta, DType::U8, 1, 2), [2, 5, 3, 6]);
    }
}
