//! A model held by a worker, for the calls that refer to it by its handle.

use goldgate_engine::model::Config;
use goldgate_engine::session::Model;
use goldgate_engine::tokenizer::Tokenizer;

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) config: Config,
    /// Whether calls measure each step against its own definition.
    pub(crate) local: bool,
    /// Absent if the file has no readable vocabulary.
    pub(crate) tokenizer: Option<Tokenizer>,
}

/// Ids in the engine's type. A negative id becomes one that is out of every range, so that the op
/// refuses it.
pub(crate) fn ids(ids: &[i32]) -> Vec<u32> {
    // A negative id becomes one that no vocabulary has, so that it is refused instead of wrapped.
    ids.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect()
}
