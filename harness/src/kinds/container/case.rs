//! Malformed files: described by a base and edits, made here, and given to a subject that must
//! refuse or open them.

use std::io;
use std::path::{Path, PathBuf};

use goldgate_tensor::Code;

use crate::kinds::container::bytes::{Base, Files};
use crate::kinds::container::edit::Edit;
use crate::line::{Family, Place};

/// A question about files, which are made from a base by edits and must be refused or opened.
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
    /// The authority for the expected answer.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// The file before the edits.
    pub base: Base,
    /// The file that must open, where that is another one.
    pub control: Option<Base>,
    /// The edits, in order.
    pub edits: Vec<Edit>,
    /// What is expected for every file.
    pub expected: FileExpectation,
}

/// The expected outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileExpectation {
    /// A refusal; parts that are not given may be anything.
    Refused {
        /// The code.
        code: Code,
        /// The offset of the offending byte.
        offset: Option<u64>,
        /// The name of the offending field.
        field: Option<String>,
    },
    /// It opens, with a warning that contains this text, if one is given.
    Opened {
        /// A part of the warning.
        warns: Option<String>,
    },
}

impl ContainerCase {
    /// The trial's name without its subject.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::file", self.gate, self.stem, self.name)
    }

    /// The family of the case: refusals prove only refusing, while a file that opens is a full
    /// answer.
    pub fn family(&self) -> Family {
        match self.expected {
            FileExpectation::Refused { .. } => Family::Refused,
            FileExpectation::Opened { .. } => Family::Exact,
        }
    }

    /// The number of files that the case generates: one, or one per value of a list or range.
    pub fn variants(&self) -> usize {
        variants(&self.edits)
    }

    /// Makes the file of variant `index`.
    ///
    /// # Errors
    /// An edit does not fit the base; the reason in words.
    pub fn make(&self, index: usize) -> Result<Files, String> {
        make(&self.base, &self.edits, index)
    }
}

/// How many files the edits make: one, or one per value of their lists and ranges.
pub fn variants(edits: &[Edit]) -> usize {
    edits.iter().map(Edit::variants).product()
}

/// Makes variant `index` of a base under edits.
///
/// # Errors
/// An edit does not fit the base; the reason in words.
pub fn make(base: &Base, edits: &[Edit], index: usize) -> Result<Files, String> {
    // Begun anew for each variant, because edits change the files in place.
    let mut files = Files::from_base(base)?;
    // The index counts through all combinations, with the first edit as the fastest digit.
    let mut rest = index;
    for edit in edits {
        let own = rest % edit.variants();
        rest /= edit.variants();
        edit.apply(&mut files, own)?;
    }
    Ok(files)
}

/// Writes files into an empty folder. Returns the path that the question is about, and the size of
/// all files.
///
/// # Errors
/// Those of the file system.
pub fn write(files: &Files, folder: &Path) -> io::Result<(PathBuf, u64)> {
    let mut length = 0;
    for (name, bytes) in files.bytes() {
        length += bytes.len() as u64;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok((files.asked().map_or_else(|| folder.to_path_buf(), |name| folder.join(name)), length))
}
