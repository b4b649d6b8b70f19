//! The place where something was written, for errors and failure pages.

/// The place where something was written, for errors and failure pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path as given, below the specs folder.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
}
