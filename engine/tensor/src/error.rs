//! Refusals: what a correct engine must say to a malformed question.

use std::fmt;
use std::str::FromStr;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Why a question is refused. The list is closed and part of the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RefusalKind { $($(#[$doc])* $name),* }

        impl RefusalKind {
            /// Every kind, in the order of their codes on the device.
            pub const ALL: &[RefusalKind] = &[$(RefusalKind::$name),*];

            /// The name on the wire and in specs.
            pub const fn name(self) -> &'static str {
                match self { $(RefusalKind::$name => stringify!($name)),* }
            }
        }
    };
}

kinds! {
    /// An axis of length zero.
    EmptyAxis,
    /// Another number of axes than the op has.
    RankMismatch,
    /// Shapes that disagree with each other or with the op.
    ShapeMismatch,
    /// An operand of another type than the question says.
    DtypeMismatch,
    /// A stored type that the op does not take there.
    TypeUnsupported,
    /// A required operand is not there.
    OperandMissing,
    /// An operand that the op does not have.
    OperandUnknown,
    /// An id outside the table.
    IdOutOfRange,
    /// A position outside the table or cache.
    PositionOutOfRange,
    /// A required attribute is not there.
    AttributeMissing,
    /// An attribute that the op does not have.
    AttributeUnknown,
    /// An attribute outside its range.
    AttributeOutOfRange,
    /// A NaN where a choice must be made.
    NotANumber,
    /// More than the memory or cache can hold.
    CapacityExceeded,
    /// Well formed, and nobody promised it.
    NotSupported,
    /// A file that breaks its format.
    Malformed,
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RefusalKind {
    type Err = ();

    fn from_str(name: &str) -> Result<RefusalKind, ()> {
        RefusalKind::ALL.iter().copied().find(|k| k.name() == name).ok_or(())
    }
}

/// A malformed question. Reads on after "could not run layernorm: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {operand}: {message}")]
pub struct Refusal {
    /// What is wrong.
    pub kind: RefusalKind,
    /// Which operand or attribute is.
    pub operand: String,
    /// Both numbers, in words.
    pub message: String,
}

impl Refusal {
    /// A refusal of `operand`.
    pub fn new(kind: RefusalKind, operand: &str, message: impl Into<String>) -> Refusal {
        Refusal { kind, operand: operand.to_owned(), message: message.into() }
    }
}
