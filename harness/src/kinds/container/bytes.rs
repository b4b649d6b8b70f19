//! Builds the bytes of a good file from a description, and records where each of its fields lies.
//!
//! Written from the texts of the formats, without the engine's tables: the builder of the files
//! must be a second witness, independent of the reader under test.

use std::ops::Range;

use goldgate_tensor::DType;
use goldgate_tensor::shape::Meta;
use serde_json::{Map, Value, json};

use crate::fill::{Fill, Grid, Input, fill};

/// A file before any edits.
#[derive(Clone, Debug)]
pub enum Base {
    /// A single GGUF file.
    Gguf {
        /// The metadata records.
        metadata: Vec<Entry>,
        /// The tensors.
        tensors: Vec<Tensor>,
    },
    /// A folder of the hub: `config.json` and safetensors.
    Hub {
        /// The configuration.
        config: Value,
        /// The tensors.
        tensors: Vec<Tensor>,
        /// How many files hold them. If there are several, an index is added.
        shards: usize,
    },
    /// A single JSON file.
    Json {
        /// Its name.
        file: String,
        /// Its value.
        json: Value,
    },
    /// Another base, with further JSON files in its folder.
    WithFiles {
        /// The base that the question is about.
        base: Box<Base>,
        /// Name and value of each further file.
        others: Vec<(String, Value)>,
    },
}

/// A metadata record, with its value in the bytes of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The number of its type.
    pub id: u32,
    /// The value.
    pub value: Vec<u8>,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// The name of the type.
    pub dtype: String,
    /// The shape, row-major.
    pub shape: Vec<u64>,
    /// How it is filled; zeros where nothing is specified.
    pub fill: Option<Fill>,
}

/// Name, number in GGUF, word in safetensors, elements per block, bytes per block.
type Type = (&'static str, u32, &'static str, u64, u64);

const TYPES: &[Type] = &[
    ("bf16", 30, "BF16", 1, 2),
    ("f16", 1, "F16", 1, 2),
    ("f32", 0, "F32", 1, 4),
    ("f4", u32::MAX, "F4", 2, 1),
    ("f64", 28, "F64", 1, 8),
    ("i32", 26, "I32", 1, 4),
    ("i8", 24, "I8", 1, 1),
    ("mxfp4", 39, "", 32, 17),
    ("q4_0", 2, "", 32, 18),
    ("q4_k", 12, "", 256, 144),
    ("q5_0", 6, "", 32, 22),
    ("q5_k", 13, "", 256, 176),
    ("q6_k", 14, "", 256, 210),
    ("q8_0", 8, "", 32, 34),
    ("u8", u32::MAX, "U8", 1, 1),
];

/// The names of the types that a tensor may have.
pub fn types() -> Vec<&'static str> {
    TYPES.iter().map(|t| t.0).collect()
}

impl Tensor {
    fn dtype(&self) -> Result<Type, String> {
        let found = TYPES.iter().find(|t| t.0 == self.dtype);
        found.copied().ok_or_else(|| format!("no type {}", self.dtype))
    }

    fn data(&self) -> Result<Vec<u8>, String> {
        let (_, _, _, elements, bytes) = self.dtype()?;
        // Rounded up to whole blocks, as a file stores them.
        let count: u64 = self.shape.iter().product();
        let length = count.div_ceil(elements) * bytes;
        // Every variant of a case writes its base anew, so a base must stay small.
        if length > 1 << 20 {
            return Err(format!("{} has {length} bytes, at most 1 MiB", self.name));
        }
        let Some(how) = &self.fill else { return Ok(vec![0; length as usize]) };
        let dtype: DType =
            self.dtype.parse().map_err(|_| format!("{} cannot be filled", self.dtype))?;
        let shape: Vec<usize> = self.shape.iter().map(|&d| d as usize).collect();
        let meta = Meta::new(dtype, &shape);
        let key = ["container".to_owned(), "base".to_owned(), self.name.clone()];
        let input =
            Input { name: self.name.clone(), meta, fill: how.clone(), grid: Grid::Common, key };
        Ok(fill(&input).bytes)
    }
}

/// A file while it is being edited: it stays in parts until its bytes are touched.
#[derive(Clone, Debug)]
pub enum File {
    /// Metadata and tensors of GGUF.
    Gguf(Vec<Entry>, Vec<Tensor>),
    /// A JSON text and what follows it: the data of safetensors, or nothing. With data, the length
    /// of the text precedes it.
    Json(Text, Option<Vec<u8>>),
    /// Bytes, with the places of the named fields.
    Bytes(Vec<u8>, Vec<(String, Range<usize>)>),
}

/// A JSON text, as a value or as literal text.
#[derive(Clone, Debug)]
pub enum Text {
    /// A value, written without spaces.
    Value(Value),
    /// A literal text, which may be malformed.
    Written(String),
}

impl Text {
    /// The text as the file will contain it.
    pub fn written(&self) -> String {
        match self {
            Text::Value(value) => value.to_string(),
            Text::Written(text) => text.clone(),
        }
    }
}

/// Files by name. Edits refer to the first unless they name another.
#[derive(Clone, Debug)]
pub struct Files {
    /// Name and content of each file.
    pub files: Vec<(String, File)>,
    /// Whether the question is about the folder and not about the first file.
    pub folder: bool,
}

impl Files {
    /// The files of a base.
    ///
    /// # Errors
    /// A tensor cannot be written; the reason in words.
    pub fn from_base(base: &Base) -> Result<Files, String> {
        match base {
            Base::Gguf { metadata, tensors } => {
                let file = File::Gguf(metadata.clone(), tensors.clone());
                Ok(Files { files: vec![("model.gguf".to_owned(), file)], folder: false })
            }
            Base::Hub { config, tensors, shards } => {
                let mut files = hub(tensors, *shards)?;
                let config = File::Json(Text::Value(config.clone()), None);
                files.push(("config.json".to_owned(), config));
                Ok(Files { files, folder: true })
            }
            Base::Json { file, json } => {
                let content = File::Json(Text::Value(json.clone()), None);
                Ok(Files { files: vec![(file.clone(), content)], folder: false })
            }
            Base::WithFiles { base, others } => {
                let mut files = Files::from_base(base)?;
                for (name, json) in others {
                    // Of two files with one name only the later would be on disk.
                    if files.files.iter().any(|(own, _)| own == name) {
                        return Err(format!("{name} is there already"));
                    }
                    files.files.push((name.clone(), File::Json(Text::Value(json.clone()), None)));
                }
                Ok(files)
            }
        }
    }

    /// The file that the question is about; `None` for the folder.
    pub fn asked(&self) -> Option<&str> {
        (!self.folder).then(|| self.files[0].0.as_str())
    }

    /// Name and bytes of every file.
    pub fn bytes(&self) -> Vec<(&str, Vec<u8>)> {
        self.files.iter().map(|(name, f)| (name.as_str(), f.clone().finish().0)).collect()
    }
}

/// Safetensors split into this many files, preceded by an index if there are several.
fn hub(tensors: &[Tensor], shards: usize) -> Result<Vec<(String, File)>, String> {
    // Publishers add an index only where there are several files.
    if shards <= 1 {
        return Ok(vec![("model.safetensors".to_owned(), safetensors(tensors.iter())?)]);
    }
    let name = |shard: usize| format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
    let (mut files, mut map, mut total) = (Vec::new(), Map::new(), 0);
    for shard in 0..shards {
        // Dealt out in turn, so that each shard has tensors of every part of the model.
        let own: Vec<&Tensor> = tensors.iter().skip(shard).step_by(shards).collect();
        for tensor in &own {
            map.insert(tensor.name.clone(), name(shard).into());
            total += tensor.data()?.len();
        }
        files.push((name(shard), safetensors(own.into_iter())?));
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    // First, because edits refer to the first file and the index is what a reader opens.
    files.insert(0, (INDEX.to_owned(), File::Json(Text::Value(index), None)));
    Ok(files)
}

const INDEX: &str = "model.safetensors.index.json";

fn safetensors<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Result<File, String> {
    let mut header = Map::new();
    // Written by publishers, so readers must expect it.
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for tensor in tensors {
        let (_, _, word, ..) = tensor.dtype()?;
        let begin = data.len();
        data.extend(tensor.data()?);
        let entry =
            json!({"dtype": word, "shape": tensor.shape, "data_offsets": [begin, data.len()]});
        header.insert(tensor.name.clone(), entry);
    }
    Ok(File::Json(Text::Value(Value::Object(header)), Some(data)))
}

impl File {
    /// The bytes, with the places of the named fields.
    pub fn finish(self) -> (Vec<u8>, Vec<(String, Range<usize>)>) {
        match self {
            File::Bytes(bytes, fields) => (bytes, fields),
            File::Gguf(metadata, tensors) => gguf(&metadata, &tensors),
            File::Json(text, None) => (text.written().into_bytes(), Vec::new()),
            File::Json(text, Some(data)) => {
                let text = text.written();
                let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
                bytes.extend(text.as_bytes());
                let fields = vec![
                    ("header_len".to_owned(), 0..8),
                    ("header".to_owned(), 8..bytes.len()),
                    ("data".to_owned(), bytes.len()..bytes.len() + data.len()),
                ];
                bytes.extend(data);
                (bytes, fields)
            }
        }
    }
}

/// Bytes under construction, with the places of the fields written so far.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    fields: Vec<(String, Range<usize>)>,
}

impl Writer {
    fn put(&mut self, name: String, bytes: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.extend(bytes);
        self.fields.push((name, begin..self.bytes.len()));
    }

    fn pad(&mut self, alignment: usize, name: String) {
        let end = self.bytes.len().next_multiple_of(alignment);
        let zeros = vec![0; end - self.bytes.len()];
        self.put(name, &zeros);
    }
}

/// GGUF version 3, following docs/gguf.md of ggml.
fn gguf(metadata: &[Entry], tensors: &[Tensor]) -> (Vec<u8>, Vec<(String, Range<usize>)>) {
    let alignment = metadata
        .iter()
        .find(|entry| entry.key == "general.alignment" && entry.id == 4)
        .and_then(|entry| entry.value.first_chunk().map(|w| u32::from_le_bytes(*w)))
        // A malformed alignment is itself a test case, so the layout falls back to the default.
        .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 16)
        .unwrap_or(32) as usize;
    let mut w = Writer::default();
    w.put("magic".to_owned(), b"GGUF");
    w.put("version".to_owned(), &3u32.to_le_bytes());
    w.put("tensor_count".to_owned(), &(tensors.len() as u64).to_le_bytes());
    w.put("kv_count".to_owned(), &(metadata.len() as u64).to_le_bytes());
    for Entry { key, id, value } in metadata {
        w.put(format!("{key}.key_len"), &(key.len() as u64).to_le_bytes());
        w.put(format!("{key}.key"), key.as_bytes());
        w.put(format!("{key}.type"), &id.to_le_bytes());
        let at = w.bytes.len();
        w.put(format!("{key}.value"), value);
        // A string begins with its length; an array with the type and the number of its elements.
        match id {
            8 => w.fields.push((format!("{key}.len"), at..at + 8)),
            9 => {
                w.fields.push((format!("{key}.element"), at..at + 4));
                w.fields.push((format!("{key}.len"), at + 4..at + 12));
            }
            _ => {}
        }
    }
    let mut offset = 0;
    // Tensors that cannot be written were refused when the case was read.
    let data: Vec<Vec<u8>> = tensors.iter().map(|t| t.data().unwrap_or_default()).collect();
    for (tensor, data) in tensors.iter().zip(&data) {
        let name = &tensor.name;
        w.put(format!("{name}.name_len"), &(name.len() as u64).to_le_bytes());
        w.put(format!("{name}.name"), name.as_bytes());
        w.put(format!("{name}.n_dims"), &(tensor.shape.len() as u32).to_le_bytes());
        // GGUF lists the fastest axis first, specs the slowest.
        for (i, dim) in tensor.shape.iter().rev().enumerate() {
            w.put(format!("{name}.dims[{i}]"), &dim.to_le_bytes());
        }
        // A type that GGUF lacks gets a number that no reader knows.
        let id = tensor.dtype().map_or(u32::MAX, |t| t.1);
        w.put(format!("{name}.type"), &id.to_le_bytes());
        w.put(format!("{name}.offset"), &(offset as u64).to_le_bytes());
        offset = (offset + data.len()).next_multiple_of(alignment);
    }
    // GGUF counts the offsets of tensors from the first aligned byte after the header.
    w.pad(alignment, "padding".to_owned());
    for (tensor, data) in tensors.iter().zip(&data) {
        w.put(format!("{}.data", tensor.name), data);
        w.pad(alignment, format!("{}.padding", tensor.name));
    }
    (w.bytes, w.fields)
}
