//! Generated faults as data: what each changes, and its name.
//!
//! ```text
//! generated::<op>::<variant>::<kind>.<what>[.<how>]
//! generated::linear::f16-q4_k::round.x.bf16       an operand
//! generated::linear::f16::cut.result.y.n.160.zero a result
//! ```

use std::fmt;

/// A fault that a rule derives from the signature of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Its name within an op and variant, such as `round.x.bf16`.
    pub name: String,
    /// What it changes.
    pub change: Change,
}

/// What a fault changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The elements of an operand; the question that results is answered by a worker.
    Operand(&'static str, Edit),
    /// The elements of a result of the right answer.
    Result(&'static str, Edit),
    /// The value of an attribute, or of one key of it.
    Attribute(&'static str, Option<String>, Nudge),
    /// An optional operand is left out.
    Omit(&'static str),
    /// A result is that of the question before.
    Stale(&'static str),
    /// The arithmetic itself: the oracle answers with this wrong rule.
    Arithmetic(&'static str),
}

/// How elements are changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// Rounded to a type that holds fewer digits.
    Round(Narrow),
    /// Multiplied. Of a result, the unrounded golden is multiplied and then rounded: in a type of
    /// eight digits a rounded number times 1 + 2^-8 would mostly be itself.
    Scale(f64),
    /// From an index of an axis on, elements are lost.
    Cut(Axis, Edge, Lost),
    /// The first and the last entry of an axis change places.
    Exchange(Axis),
    /// Subnormal numbers of the stored type become zero, with their sign.
    Flush,
    /// The f16 scales of blocks that are subnormal become zero.
    FlushScales,
    /// Minus zero becomes zero.
    UnsignedZero,
    /// Ids lose all bits from this one on.
    Wrap(u32),
    /// The last id of an axis of that size is never given: it becomes the one before.
    LastId(&'static str),
}

/// A type with fewer digits than a stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// Eight digits, the exponents of f32.
    Bf16,
    /// Eleven digits, the exponents of f32: what a tensor core keeps of f32.
    Tf32,
    /// Four digits, magnitudes to 448 (OCP 8-bit floating point, E4M3), saturating.
    E4m3,
}

/// An axis of a tensor. Counted from the last one, because the first may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// So many axes before the last.
    FromLast(usize),
    /// The first of any shape.
    First,
    /// All elements as one axis.
    Flat,
}

/// Where a cut begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The last entry alone is lost.
    Last,
    /// The first so many entries are kept.
    At(usize),
}

/// What stands in place of lost elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Zero.
    Zero,
    /// The first entry of the axis.
    First,
}

/// How the value of an attribute is changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Nudge {
    /// A whole number and this one more.
    Add(i64),
    /// The next f32, up or down.
    Next(bool),
    /// A real number times this.
    Times(f64),
    /// True becomes false, false true.
    Turn,
    /// This word.
    Word(&'static str),
    /// A whole number without the bits from this one on.
    Wrap(u32),
    /// Removed.
    Remove,
}

impl Change {
    /// The size that an axis must exceed before a case can show the fault: the size, and the axis
    /// of the operand or result; none where small cases may show it.
    pub fn needs(&self) -> Option<(bool, &'static str, Axis, usize)> {
        match self {
            Change::Operand(name, Edit::Cut(axis, Edge::At(edge), _)) => {
                Some((false, *name, *axis, *edge))
            }
            Change::Result(name, Edit::Cut(axis, Edge::At(edge), _)) => {
                Some((true, *name, *axis, *edge))
            }
            _ => None,
        }
    }
}

impl Axis {
    /// The number of entries before, in and after the axis, for a tensor of `shape`; none if it
    /// does not have the axis.
    pub fn of(self, shape: &[usize]) -> Option<[usize; 3]> {
        let at = match self {
            Axis::Flat => return Some([1, shape.iter().product(), 1]),
            Axis::First => 0,
            Axis::FromLast(back) => shape.len().checked_sub(back + 1)?,
        };
        let size = *shape.get(at)?;
        Some([shape[..at].iter().product(), size, shape[at + 1..].iter().product()])
    }
}

impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Narrow::Bf16 => "bf16",
            Narrow::Tf32 => "tf32",
            Narrow::E4m3 => "e4m3",
        })
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edge::Last => f.write_str("last"),
            Edge::At(at) => write!(f, "{at}"),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lost::Zero => "zero",
            Lost::First => "first",
        })
    }
}
