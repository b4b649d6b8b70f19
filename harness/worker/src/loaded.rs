//! A model that a worker holds, for the calls that name it by its handle.

use goldgate_engine::model::Config;
use goldgate_engine::session::Model;
use goldgate_engine::tokenizer::Tokenizer;

/// A model that is in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) config: Config,
    /// Whether calls measure each step against its own definition.
    pub(crate) local: bool,
    /// Absent where the file has no vocabulary that can be read.
    pub(crate) tokenizer: Option<Tokenizer>,
}

/// Ids as the engine takes them. A negative one is out of every range, and the op says so.
pub(crate) fn ids(ids: &[i32]) -> Vec<u32> {
    ids.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect()
}
