//! Where something was written: for errors and failure pages.

/// Where something was written: for errors and failure pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path as given, below the specs folder.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}
