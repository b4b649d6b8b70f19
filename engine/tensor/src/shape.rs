//! Shapes: checked products, and the symbols by which operands of an op agree.

use std::collections::BTreeMap;
use std::fmt;

use crate::dtype::DType;

/// The number of elements, or `None` where the product overflows.
pub fn volume(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis))
}

/// Stored type and logical shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// How the elements are stored.
    pub dtype: DType,
    /// Logical shape, row-major.
    pub shape: Vec<usize>,
}

impl Meta {
    /// A meta of `dtype` and `shape`.
    pub fn new(dtype: DType, shape: &[usize]) -> Meta {
        Meta { dtype, shape: shape.to_vec() }
    }

    /// The number of elements, or `None` where the product overflows.
    pub fn volume(&self) -> Option<usize> {
        volume(&self.shape)
    }

    /// The number of bytes: `None` where it overflows, or where the last axis of a block type is
    /// not a multiple of its block.
    pub fn bytes(&self) -> Option<usize> {
        let last = self.shape.last().copied().unwrap_or(1);
        if !last.is_multiple_of(self.dtype.elements()) {
            return None;
        }
        (self.volume()? / self.dtype.elements()).checked_mul(self.dtype.bytes())
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

/// The number that each symbol of a signature stands for in one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dims(BTreeMap<&'static str, usize>);

impl Dims {
    /// The axes and their lengths, in the order of their symbols.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.0.iter().map(|(symbol, length)| (*symbol, *length))
    }

    /// The number of `symbol`.
    ///
    /// # Panics
    /// If no operand that is there has it: a mistake in a signature, found by any case of the op.
    pub fn get(&self, symbol: &str) -> usize {
        *self.0.get(symbol).unwrap_or_else(|| panic!("no operand has the axis {symbol}"))
    }

    /// The number of `symbol`, if an operand that is there has it.
    pub fn find(&self, symbol: &str) -> Option<usize> {
        self.0.get(symbol).copied()
    }

    /// Binds `symbol` to `axis`, or returns the number that it already has where they differ.
    pub fn bind(&mut self, symbol: &'static str, axis: usize) -> Result<(), usize> {
        match *self.0.entry(symbol).or_insert(axis) {
            bound if bound == axis => Ok(()),
            bound => Err(bound),
        }
    }
}
