//! An operand to be filled, and by what.

use goldgate_tensor::shape::Meta;

/// An operand to be filled.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Stored type and logical shape.
    pub meta: Meta,
    /// How its elements come about.
    pub fill: Fill,
    /// How they are rounded after that.
    pub grid: Grid,
    /// The key of its random words: stem, case, tensor.
    pub key: [String; 3],
}

/// How a tensor is filled (`Fills` in specs/README.md).
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Low end, high end.
    Uniform(f64, f64),
    /// Mean, standard deviation.
    Normal(f64, f64),
    /// Whole numbers, both ends included.
    Integers(i64, i64),
    /// ±2^k, both ends included.
    Powers(i64, i64),
    /// Normal with this deviation, every n-th element times a factor.
    Outliers {
        /// Deviation.
        std: f64,
        /// Which elements.
        every: u64,
        /// The factor.
        times: f64,
    },
    /// From, to, linear over the elements.
    Ramp(f64, f64),
    /// One number.
    Constant(f64),
    /// One in the last element of each row, zero elsewhere.
    OneHotLast,
    /// Row-major numbers; f64 so that NaN and infinities may stand.
    Values(Vec<f64>),
    /// i32, both ends included.
    Ids(i32, i32),
    /// Raw blocks with random codes and finite scales in that range.
    Blocks(f64, f64),
    /// Each code in each place once.
    EveryCode,
}

/// The grid that inputs are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// 8 significant bits inside f16's normal range: exact in f32, f16 and bf16.
    Common,
    /// Rounded to the operand's type.
    Full,
}
