//! What ops on single elements share: the grid of elementwise.cuh.

use crate::cuda::{Args, Launch, Page};

/// Threads a block.
const THREADS: usize = 256;

/// Vectors that a thread holds at once (FLIGHT in elementwise.cuh).
pub(crate) const FLIGHT: usize = 4;

/// A launch over `count` elements where the narrowest operand has `bytes` bytes an element.
pub(crate) fn launch(
    page: &'static Page,
    entry: String,
    count: usize,
    bytes: usize,
    args: Args,
) -> Launch {
    let vectors = count / (16 / bytes);
    let blocks = vectors.div_ceil(THREADS * FLIGHT).max(1);
    Launch::new(page, entry, blocks as u32, THREADS as u32, args)
}
