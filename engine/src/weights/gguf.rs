//! GGUF version 3 (ggml, docs/gguf.md): header, metadata, tensor records, data.
//!
//! Strict: what the format leaves no room for is refused with the byte where it stands, no length
//! is believed before it is held against the bytes left, and nothing is read twice.

mod cursor;
mod header;
mod layout;
mod value;

use std::path::Path;
use std::sync::Arc;

use cursor::Cursor;
pub use value::{Array, Element, Entry, Metadata, Value};

use super::file::Mapped;
use super::refusal::{Malformed, Warnings};
use super::{TensorInfo, find};

/// An open GGUF file: every field checked, the data mapped and not read.
#[derive(Debug)]
pub struct Gguf {
    file: Arc<Mapped>,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    names: Vec<u32>,
    alignment: u64,
    warnings: Warnings,
}

impl Gguf {
    /// Opens `path`.
    ///
    /// # Errors
    /// The first field that breaks the format, with its byte.
    pub fn open(path: &Path) -> Result<Gguf, Malformed> {
        let file = Arc::new(Mapped::open(path)?);
        let mut warnings = Warnings::default();
        let mut cursor = Cursor::new(path, &file);
        let counts = header::counts(&mut cursor, layout::ENTRY)?;
        let metadata = header::metadata(&mut cursor, &file, counts.metadata, &mut warnings)?;
        let alignment = layout::alignment(&cursor, &metadata, &mut warnings)?;
        let records = layout::records(&mut cursor, counts.tensors)?;
        let tensors = layout::place(&cursor, records, alignment, &file)?;
        let names = super::by_name(&tensors);
        Ok(Gguf { file, metadata, tensors, names, alignment, warnings })
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, in the order of the records.
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

    /// The data of one of [`Gguf::tensors`]: exactly [`TensorInfo::bytes`] of them.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        super::data(&self.file, tensor)
    }

    /// What data are aligned to, bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The file itself.
    pub fn file(&self) -> &Mapped {
        &self.file
    }

    /// What is odd and legal.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }
}

#[cfg(test)]
pub(crate) mod tests;
