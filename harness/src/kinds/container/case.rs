//! Malformed files: described by a base and edits, made here, and put before a subject that must
//! refuse them, or open them.

use std::io;
use std::path::{Path, PathBuf};

use goldgate_tensor::Code;

use crate::kinds::container::bytes::{Base, Files};
use crate::kinds::container::edit::Edit;
use crate::line::{Family, Place};

/// A question about files: made from a base by edits, awaited to be refused or opened.
#[derive(Clone, Debug)]
pub struct ContainerCase {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its file.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// Why it exists; printed on failure.
    pub why: String,
    /// What says that it must be so.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// What the file is before the edits.
    pub base: Base,
    /// The edits, in order.
    pub edits: Vec<Edit>,
    /// What is awaited of every file.
    pub awaits: Awaits,
}

/// What is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// A refusal; what is not named may be anything.
    Refused {
        /// The code.
        code: Code,
        /// The byte.
        offset: Option<u64>,
        /// The field.
        field: Option<String>,
    },
    /// It opens; a warning that has this text, if one is named.
    Opened {
        /// A part of a warning.
        warns: Option<String>,
    },
}

impl ContainerCase {
    /// The trial's name without its subject.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::file", self.gate, self.stem, self.name)
    }

    /// Refusals prove refusing; a file that opens is a whole answer.
    pub fn family(&self) -> Family {
        match self.awaits {
            Awaits::Refused { .. } => Family::Refused,
            Awaits::Opened { .. } => Family::Exact,
        }
    }

    /// How many files it is: one, or one for each value of a list or range.
    pub fn variants(&self) -> usize {
        variants(&self.edits)
    }

    /// Makes variant `index`.
    ///
    /// # Errors
    /// An edit that does not fit the base, in words.
    pub fn make(&self, index: usize) -> Result<Files, String> {
        make(&self.base, &self.edits, index)
    }
}

/// How many files edits make: one, or one for each value of their lists and ranges.
pub fn variants(edits: &[Edit]) -> usize {
    edits.iter().map(Edit::variants).product()
}

/// Makes variant `index` of a base under edits.
///
/// # Errors
/// An edit that does not fit the base, in words.
pub fn make(base: &Base, edits: &[Edit], index: usize) -> Result<Files, String> {
    let mut files = Files::of(base)?;
    let mut rest = index;
    for edit in edits {
        let own = rest % edit.variants();
        rest /= edit.variants();
        edit.apply(&mut files, own)?;
    }
    Ok(files)
}

/// Writes files into an empty folder; the path that is asked about, and the bytes of all.
///
/// # Errors
/// What the system says.
pub fn write(files: &Files, folder: &Path) -> io::Result<(PathBuf, u64)> {
    let mut length = 0;
    for (name, bytes) in files.bytes() {
        length += bytes.len() as u64;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok((files.asked().map_or_else(|| folder.to_path_buf(), |name| folder.join(name)), length))
}
