//! The description of an operand that is to be filled.

use goldgate_tensor::shape::Meta;

/// An operand that is to be filled.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its stored type and logical shape.
    pub meta: Meta,
    /// How its elements are computed.
    pub fill: Fill,
    /// How they are rounded afterwards.
    pub grid: Grid,
    /// The key of its random words: stem, case, tensor. A new name is therefore new data.
    pub key: [String; 3],
}

/// How a tensor is filled (`Fills` in specs/README.md).
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Evenly distributed: low end, high end.
    Uniform(f64, f64),
    /// Normally distributed: mean, standard deviation.
    Normal(f64, f64),
    /// Whole numbers, both ends included.
    Integers(i64, i64),
    /// ±2^k, both ends of k included.
    Powers(i64, i64),
    /// Normal with this deviation; every n-th element is multiplied by a factor.
    Outliers {
        /// The standard deviation.
        std: f64,
        /// The distance between multiplied elements.
        every: u64,
        /// The factor.
        times: f64,
    },
    /// Linear over the elements: first value, last value.
    Ramp(f64, f64),
    /// The same number everywhere.
    Constant(f64),
    /// One in the last element of each row, zero elsewhere.
    OneHotLast,
    /// Row-major numbers, as f64 so that NaN and infinities are possible.
    Values(Vec<f64>),
    /// Values of type i32, both ends included.
    Ids(i32, i32),
    /// Raw blocks with random codes, and finite scales in this range.
    Blocks(f64, f64),
    /// Raw blocks in which each code occurs once in each place.
    EveryCode,
}

/// The grid that inputs are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// 8 significant bits inside f16's normal range, so that a value is exact in f32, f16 and bf16.
    Common,
    /// Rounded to the operand's own type.
    Full,
}
