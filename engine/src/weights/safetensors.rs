//! safetensors: one file, or a folder whose index names shards.
//!
//! The format as its authors describe it, without what their reader lets through: no name twice, no
//! field that the format lacks, no byte that belongs to no tensor.

mod header;
mod shards;

use std::path::Path;

use super::file::Mapped;
use super::refusal::{Malformed, Warnings};
use super::{TensorInfo, find};

/// Open safetensors: every header checked, the data mapped and not read.
#[derive(Debug)]
pub struct SafeTensors {
    files: Vec<Mapped>,
    tensors: Vec<TensorInfo>,
    names: Vec<u32>,
    warnings: Warnings,
}

impl SafeTensors {
    /// Opens a file, an index (`….index.json`), or a folder that holds one or the other.
    ///
    /// # Errors
    /// The first field that breaks the format, with its byte; for an index also shards that do not
    /// make one checkpoint.
    pub fn open(path: &Path) -> Result<SafeTensors, Malformed> {
        if path.is_dir() {
            let index = path.join("model.safetensors.index.json");
            return match index.exists() {
                true => shards::open(&index),
                false => SafeTensors::file(&path.join("model.safetensors")),
            };
        }
        match path.extension().is_some_and(|ending| ending == "json") {
            true => shards::open(path),
            false => SafeTensors::file(path),
        }
    }

    fn file(path: &Path) -> Result<SafeTensors, Malformed> {
        let file = Mapped::open(path)?;
        let tensors = header::read(&file, 0)?;
        Ok(SafeTensors::of(vec![file], tensors, Warnings::default()))
    }

    fn of(files: Vec<Mapped>, tensors: Vec<TensorInfo>, warnings: Warnings) -> SafeTensors {
        let names = super::by_name(&tensors);
        SafeTensors { files, tensors, names, warnings }
    }

    /// Every tensor, in the order of the headers.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.position(name).and_then(|at| self.tensors.get(at))
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        find(&self.tensors, &self.names, name)
    }

    /// The data of one of [`SafeTensors::tensors`]: exactly [`TensorInfo::bytes`] of them. They may
    /// begin at any byte.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        self.files.get(usize::from(tensor.shard)).map_or(&[], |file| super::data(file, tensor))
    }

    /// The files, by [`TensorInfo::shard`].
    pub fn files(&self) -> &[Mapped] {
        &self.files
    }

    /// What is odd and legal.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }
}

#[cfg(test)]
mod tests;
