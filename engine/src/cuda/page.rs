//! Kernel pages: text that NVRTC compiles, headers as text beside it.

use super::launch::Layout;

/// What a page needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requires {
    /// mma.sync and cp.async: compute capability 8.0 and later.
    Sm80,
    /// wgmma and setmaxnreg: compute capability 9.0 alone, compiled as sm_90a.
    Sm90a,
}

/// One file of cuda/: its text is compiled in, so that a carried binary needs no source tree.
#[derive(Debug)]
pub struct Page {
    /// The stem of the file.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
    /// What it needs.
    pub requires: Requires,
    /// The argument structs of its entries; a page whose struct differs does not compile.
    pub layouts: &'static [&'static Layout],
    /// Defines by which its entries are compiled one by one; empty: one compilation has them all.
    pub variants: &'static [Variant],
}

/// A set of defines of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variant(pub &'static [(&'static str, &'static str)]);

/// Shared headers, by the name that pages include.
pub const HEADERS: &[(&str, &str)] = &[
    ("activations.cuh", include_str!("../../../cuda/activations.cuh")),
    ("attention.cuh", include_str!("../../../cuda/attention.cuh")),
    ("blocks.cuh", include_str!("../../../cuda/blocks.cuh")),
    ("common.cuh", include_str!("../../../cuda/common.cuh")),
    ("elementwise.cuh", include_str!("../../../cuda/elementwise.cuh")),
    ("norms.cuh", include_str!("../../../cuda/norms.cuh")),
    ("products.cuh", include_str!("../../../cuda/products.cuh")),
];

impl Page {
    /// The whole text to compile: the page, then a check of every argument struct.
    pub fn source(&self, text: &str) -> String {
        let mut source = format!("#line 1 \"{}.cu\"\n{text}\n", self.name);
        for layout in self.layouts {
            source.push_str(&layout.assertions());
        }
        source
    }
}
