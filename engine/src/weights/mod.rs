//! Model files: GGUF and safetensors, opened strictly, mapped, never converted in silence.
//!
//! Opening reads headers alone: every count, length, offset and shape is checked against the file
//! before anything is believed, no device is touched, and no request for memory passes
//! [`refusal::budget`]. What costs time (hashes, scans for NaN) is a function of its own.

pub mod file;
pub mod gguf;
pub mod json;
pub mod refusal;
pub mod safetensors;
pub mod scan;
pub mod stored;

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use file::Mapped;
pub use gguf::Gguf;
pub use refusal::{Code, Malformed, Warnings};
pub use safetensors::SafeTensors;
pub use stored::Stored;

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// How it is stored.
    pub dtype: Stored,
    /// Row-major, last axis fastest (the dimensions of a GGUF file, reversed).
    pub shape: Vec<usize>,
    /// Where its data begin, in bytes from the beginning of its file.
    pub offset: u64,
    /// How many bytes they are.
    pub bytes: u64,
    /// Which file of the checkpoint it lies in, from 0.
    pub shard: u16,
}

/// A checkpoint: one GGUF file, or a configuration with safetensors.
#[derive(Debug)]
pub enum Checkpoint {
    /// One file with everything.
    Gguf(Gguf),
    /// A folder as published on the hub.
    Hf {
        /// `config.json`: an object.
        config: Json,
        /// The weights.
        tensors: SafeTensors,
        /// The folder.
        folder: PathBuf,
    },
}

impl Checkpoint {
    /// Opens a folder with `config.json`, a `.safetensors` file or an index beside it, or a GGUF
    /// file. A file is known by its first bytes, whatever its name.
    ///
    /// # Errors
    /// What is wrong with the first file that is malformed.
    pub fn open(path: &Path) -> Result<Checkpoint, Malformed> {
        if path.is_dir() {
            return Checkpoint::hub(path, path);
        }
        let ends = |ending: &str| path.to_string_lossy().ends_with(ending);
        let folder = path.parent().unwrap_or(Path::new(""));
        if ends(".index.json") {
            return Checkpoint::hub(path, folder);
        }
        let file = Mapped::open(path)?;
        let header = file.get(8) == Some(&b'{') && !file.starts_with(b"GGUF");
        drop(file);
        match header || ends(".safetensors") {
            true => Checkpoint::hub(path, folder),
            false => Gguf::open(path).map(Checkpoint::Gguf),
        }
    }

    fn hub(weights: &Path, folder: &Path) -> Result<Checkpoint, Malformed> {
        let tensors = SafeTensors::open(weights)?;
        let config = config(&folder.join("config.json"))?;
        Ok(Checkpoint::Hf { config, tensors, folder: folder.to_path_buf() })
    }

    /// Every tensor.
    pub fn tensors(&self) -> &[TensorInfo] {
        match self {
            Checkpoint::Gguf(gguf) => gguf.tensors(),
            Checkpoint::Hf { tensors, .. } => tensors.tensors(),
        }
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.position(name).and_then(|at| self.tensors().get(at))
    }

    /// Which of [`Checkpoint::tensors`] has that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        match self {
            Checkpoint::Gguf(gguf) => gguf.position(name),
            Checkpoint::Hf { tensors, .. } => tensors.position(name),
        }
    }

    /// The data of one of [`Checkpoint::tensors`]: exactly [`TensorInfo::bytes`] of them.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        match self {
            Checkpoint::Gguf(gguf) => gguf.bytes(tensor),
            Checkpoint::Hf { tensors, .. } => tensors.bytes(tensor),
        }
    }

    /// The files that hold weights, by [`TensorInfo::shard`].
    pub fn files(&self) -> Vec<&Mapped> {
        match self {
            Checkpoint::Gguf(gguf) => vec![gguf.file()],
            Checkpoint::Hf { tensors, .. } => tensors.files().iter().collect(),
        }
    }

    /// Holds every file with weights to what it was when it was opened.
    ///
    /// # Errors
    /// `HASH` with the first that is another by now, or that was written to; `IO`.
    pub fn unchanged(&self) -> Result<(), Malformed> {
        self.files().into_iter().try_for_each(Mapped::unchanged)
    }

    /// The file that a refusal of the configuration names.
    pub fn described_by(&self) -> PathBuf {
        match self {
            Checkpoint::Gguf(gguf) => gguf.file().path().to_path_buf(),
            Checkpoint::Hf { folder, .. } => folder.join("config.json"),
        }
    }

    /// What is odd and legal about the files.
    pub fn warnings(&self) -> &Warnings {
        match self {
            Checkpoint::Gguf(gguf) => gguf.warnings(),
            Checkpoint::Hf { tensors, .. } => tensors.warnings(),
        }
    }
}

/// Longest `config.json`, bytes.
const CONFIG: usize = 1 << 20;

fn config(path: &Path) -> Result<Json, Malformed> {
    let file = Mapped::open(path)?;
    if file.len() > CONFIG {
        let expected = format!("at most {CONFIG} bytes");
        return Err(Malformed::new(Code::HeaderLen, path, "file", file.len(), expected).at(0));
    }
    let text = json::Text::new(path, &file, 0)?;
    let value = json::tree(text)?;
    match value.is_object() {
        true => Ok(value),
        false => Err(text.refuse(Code::JsonType, 0, "", "another value", "an object")),
    }
}

/// The data of a tensor whose place was checked when its file was opened.
fn data<'a>(file: &'a Mapped, tensor: &TensorInfo) -> &'a [u8] {
    let range = tensor.offset as usize..(tensor.offset + tensor.bytes) as usize;
    file.get(range).unwrap_or_default()
}

/// The order of tensors by name, for [`find`].
fn by_name(tensors: &[TensorInfo]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    order.sort_by(|a, b| tensors[*a as usize].name.cmp(&tensors[*b as usize].name));
    order
}

/// Which tensor has that name.
fn find(tensors: &[TensorInfo], names: &[u32], name: &str) -> Option<usize> {
    let found = names.binary_search_by(|i| tensors[*i as usize].name.as_str().cmp(name)).ok()?;
    Some(names[found] as usize)
}

/// The first two items of one name, in the order of the second.
fn duplicate<T>(items: &[T], name: impl Fn(&T) -> &str) -> Option<(usize, usize)> {
    let mut order: Vec<u32> = (0..items.len() as u32).collect();
    order.sort_by_key(|&i| (name(&items[i as usize]), i));
    let pairs = order.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize));
    pairs.filter(|(a, b)| name(&items[*a]) == name(&items[*b])).min_by_key(|(_, second)| *second)
}
