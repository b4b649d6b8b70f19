//! Words that several calls share.

/// Codes of refused files and kinds of refusal: the lists that docs/wire.md closes.
pub use goldgate_tensor::{Code, RefusalKind};

/// How special tokens are treated where one word says it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// None is added, and what looks like one is text.
    #[default]
    None,
    /// The model's policy adds them at the ends; what looks like one is text.
    Add,
    /// None is added; those written in the text are taken as such.
    Parse,
}

impl Special {
    /// The three, in the order of their names.
    pub const ALL: [Special; 3] = [Special::Add, Special::None, Special::Parse];

    /// As specs and the command line spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Special::Add => "add",
            Special::None => "none",
            Special::Parse => "parse",
        }
    }

    /// `add_special` and `parse_special`.
    pub const fn flags(self) -> (bool, bool) {
        (matches!(self, Special::Add), matches!(self, Special::Parse))
    }
}
