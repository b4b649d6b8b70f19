//! Model files of real shapes with random weights, for tests of loading, memory and speed, where
//! the size of a model matters and its output does not.
//!
//! A file has the metadata, names, types and sizes of a published GGUF file of the model. Its
//! weights are finite, the same for the same seed, and small enough to keep activations finite.

pub mod mix;
pub mod models;
pub mod vocabulary;
pub mod weights;

use std::io::{self, Write};

use goldgate_engine::model::map::divisors;
use goldgate_engine::model::tensors::{Role, of_gguf};
use goldgate_engine::model::{Architecture, Config, Scaling};
use goldgate_engine::weights::Stored;
use goldgate_harness::fill::philox::Philox;
use goldgate_tensor::DType;
use mix::Mix;
use models::Model;
use vocabulary::Vocabulary;

/// The alignment of the data and of each tensor.
const ALIGN: u64 = 32;

/// How many bytes of weights are generated at once.
const SLAB: usize = 32 << 20;

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The shape, row-major: the last axis varies fastest.
    pub shape: Vec<usize>,
    /// The stored type.
    pub dtype: DType,
}

impl Tensor {
    /// The size of its data in bytes.
    pub fn bytes(&self) -> u64 {
        let volume: u64 = self.shape.iter().map(|x| *x as u64).product();
        volume / self.dtype.elements() as u64 * self.dtype.bytes() as u64
    }
}

/// A file before it is written.
#[derive(Clone, Debug)]
pub struct Synth {
    model: &'static Model,
    config: Config,
    mix: Mix,
    seed: u64,
    tensors: Vec<Tensor>,
}

impl Synth {
    /// The file of a model. `config` may have fewer layers or a different context than the model.
    pub fn new(model: &'static Model, config: Config, mix: Mix, seed: u64) -> Synth {
        let scaled = matches!(config.rope.and_then(|r| r.scaling), Some(Scaling::Llama3 { .. }));
        let mut tensors = Vec::new();
        // By the list of the reader, so that the file has the tensors that loading demands.
        for wanted in of_gguf(&config) {
            // Of the optional tensors, published files have only the divisors.
            if wanted.optional && !(scaled && wanted.name == "rope_freqs.weight") {
                continue;
            }
            let dtype = match wanted.role {
                Role::Matrix => mix.dtype(&config, &wanted.name, &wanted.shape),
                Role::Vector | Role::Packed => DType::F32,
            };
            tensors.push(Tensor { name: wanted.name, shape: wanted.shape, dtype });
        }
        Synth { model, config, mix, seed, tensors }
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The size of all weights in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Tensor::bytes).sum()
    }

    /// Writes the file. `progress` receives the bytes of weights written so far.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let mut header = self.header();
        header.resize(header.len().next_multiple_of(ALIGN as usize), 0);
        out.write_all(&header)?;
        let mut gone = 0;
        for tensor in &self.tensors {
            self.data(tensor, out, &mut |bytes| progress(gone + bytes))?;
            gone += tensor.bytes();
            progress(gone);
            // GGUF aligns the beginning of every tensor.
            let padding = tensor.bytes().next_multiple_of(ALIGN) - tensor.bytes();
            out.write_all(&[0; ALIGN as usize][..padding as usize])?;
        }
        out.flush()
    }

    /// Writes the data of one tensor.
    fn data(
        &self,
        tensor: &Tensor,
        out: &mut impl Write,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        // Not random, because these numbers follow from the configuration.
        if tensor.name == "rope_freqs.weight" {
            let numbers = divisors(&self.config).unwrap_or_default();
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            return out.write_all(&bytes);
        }
        // Keyed by the name, so that a tensor is the same wherever it is in the file.
        let stream = Philox::for_tensor(["synth", &self.seed.to_string(), &tensor.name]);
        let spread = weights::Spread::for_tensor(&tensor.name);
        let (unit, bytes) = (weights::unit(tensor.dtype) as u64, tensor.bytes());
        // Whole units, so that every slab can be generated independently.
        let slab = SLAB as u64 / unit * unit;
        let mut buffer = vec![0u8; slab.min(bytes) as usize];
        let mut at = 0;
        while at < bytes {
            let part = &mut buffer[..slab.min(bytes - at) as usize];
            weights::fill(tensor.dtype, spread, &stream, at / unit, part);
            out.write_all(part)?;
            at += part.len() as u64;
            progress(at);
        }
        Ok(())
    }

    /// Everything before the padding that precedes the data.
    fn header(&self) -> Vec<u8> {
        let mut keys = Keys::default();
        self.describe(&mut keys);
        Vocabulary::with_size(self.model.words, self.config.vocabulary).describe(&mut keys);
        let mut header = b"GGUF".to_vec();
        // The version of GGUF that published files have.
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend(keys.count.to_le_bytes());
        header.extend(keys.bytes);
        let mut offset = 0;
        for tensor in &self.tensors {
            string(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            // GGUF lists the fastest axis first.
            tensor.shape.iter().rev().for_each(|x| header.extend((*x as u64).to_le_bytes()));
            header.extend(type_id(tensor.dtype).to_le_bytes());
            header.extend(u64::to_le_bytes(offset));
            offset += tensor.bytes().next_multiple_of(ALIGN);
        }
        header
    }

    /// Writes `general.*` and the keys of the architecture.
    fn describe(&self, keys: &mut Keys) {
        let c = &self.config;
        let prefix = c.architecture.name();
        keys.text("general.architecture", prefix);
        keys.text("general.type", "model");
        keys.text("general.name", &format!("{} with random weights", self.model.name));
        keys.number("general.quantization_version", 2);
        keys.number("general.file_type", self.mix.file_type());
        let mut number = |key: &str, x: usize| keys.number(&format!("{prefix}.{key}"), x as u32);
        number("block_count", c.layers);
        number("context_length", c.context);
        number("embedding_length", c.hidden);
        number("feed_forward_length", c.feed_forward);
        number("attention.head_count", c.heads);
        // GPT-2 has neither grouped heads nor rotation, so the keys below mean nothing for it.
        if c.architecture == Architecture::Gpt2 {
            keys.real("gpt2.attention.layer_norm_epsilon", c.norm_eps as f32);
            return;
        }
        number("attention.head_count_kv", c.kv_heads);
        number("attention.key_length", c.head_size);
        number("attention.value_length", c.head_size);
        number("vocab_size", c.vocabulary);
        keys.real(&format!("{prefix}.attention.layer_norm_rms_epsilon"), c.norm_eps as f32);
        if let Some(rope) = &c.rope {
            keys.number(&format!("{prefix}.rope.dimension_count"), rope.rotary as u32);
            keys.real(&format!("{prefix}.rope.freq_base"), rope.theta as f32);
        }
    }
}

/// The number of a type in the file.
fn type_id(dtype: DType) -> u32 {
    let known = |id: &u32| Stored::of_gguf(*id).is_some_and(|stored| stored == dtype);
    // Taken from the reader's table, so that no second table can disagree with it.
    (0..64).find(known).unwrap_or_default()
}

/// Metadata under construction.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    count: u64,
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Keys {
    fn key(&mut self, key: &str, kind: u32) {
        string(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
        self.count += 1;
    }

    /// A u32.
    pub fn number(&mut self, key: &str, value: u32) {
        // GGUF numbers its types: 4 is u32, 5 i32, 6 f32, 7 a flag, 8 text and 9 an array.
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A f32.
    pub fn real(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    /// A boolean.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.bytes.push(u8::from(value));
    }

    /// A string.
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        string(&mut self.bytes, value);
    }

    /// A list of strings.
    pub fn texts(&mut self, key: &str, values: &[String]) {
        self.key(key, 9);
        self.bytes.extend(8u32.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|text| string(&mut self.bytes, text));
    }

    /// A list of i32.
    pub fn numbers(&mut self, key: &str, values: &[i32]) {
        self.key(key, 9);
        self.bytes.extend(5u32.to_le_bytes());
        self.bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|x| self.bytes.extend(x.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests;
