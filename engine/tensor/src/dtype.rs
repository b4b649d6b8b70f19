//! How a tensor's elements are stored: plain numbers and quantised blocks.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

/// A stored type. Plain types hold one element in [`DType::bytes`] bytes; block types hold
/// [`DType::elements`] elements of a row in [`DType::bytes`] bytes (GGUF layouts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary64; goldens only.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Signed 32-bit integers: ids, positions, bit sets.
    I32,
    /// Bytes.
    U8,
    /// 32 elements: f16 scale, 4-bit codes minus 8.
    Q4_0,
    /// 32 elements: f16 scale, 5-bit codes minus 16.
    Q5_0,
    /// 32 elements: f16 scale, signed bytes.
    Q8_0,
    /// 256 elements: 4-bit codes, 6-bit scales and minima under two f16.
    Q4K,
    /// 256 elements: 5-bit codes, 6-bit scales and minima under two f16.
    Q5K,
    /// 256 elements: 6-bit codes, signed 8-bit scales under one f16.
    Q6K,
    /// 32 elements: E2M1 codes under one E8M0 scale byte, scale first (OCP MX, GGUF id 39).
    Mxfp4,
}

impl DType {
    /// Every stored type, plain ones first.
    pub const ALL: [DType; 13] = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::U8,
        DType::Q4_0,
        DType::Q5_0,
        DType::Q8_0,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::Mxfp4,
    ];

    /// The types that activations may have.
    pub const ACTIVATIONS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// The types that weights may have.
    pub const WEIGHTS: [DType; 10] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q5_0,
        DType::Q8_0,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::Mxfp4,
    ];

    /// The name in specs, on the wire and in kernel entries.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::U8 => "u8",
            DType::Q4_0 => "q4_0",
            DType::Q5_0 => "q5_0",
            DType::Q8_0 => "q8_0",
            DType::Q4K => "q4_k",
            DType::Q5K => "q5_k",
            DType::Q6K => "q6_k",
            DType::Mxfp4 => "mxfp4",
        }
    }

    /// Elements in one block; 1 for plain types.
    pub const fn elements(self) -> usize {
        match self {
            DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::Mxfp4 => 32,
            DType::Q4K | DType::Q5K | DType::Q6K => 256,
            _ => 1,
        }
    }

    /// Bytes of one block; of one element for plain types.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 => 1,
            DType::Q4_0 => 18,
            DType::Q5_0 => 22,
            DType::Q8_0 => 34,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
            DType::Mxfp4 => 17,
        }
    }

    /// Whether elements come in blocks that share scales.
    pub const fn is_block(self) -> bool {
        self.elements() > 1
    }

    /// Whether this is one of the floating types that hold one element each.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// Rounds to the nearest value of this floating type, ties to even, overflow to infinity.
    /// Integers and block types return `x`.
    pub fn round(self, x: f64) -> f64 {
        match self {
            DType::F32 => f64::from(x as f32),
            DType::F16 => f16::from_f64(x).to_f64(),
            DType::BF16 => bf16::from_f64(x).to_f64(),
            _ => x,
        }
    }

    /// Half the spacing of this type's values at `x`: the most that one rounding to nearest may
    /// move it. Subnormals keep the smallest spacing. Zero for types that are not floating.
    pub fn half_ulp(self, x: f64) -> f64 {
        let (digits, min_exponent) = match self {
            DType::F64 => (53, -1022),
            DType::F32 => (24, -126),
            DType::F16 => (11, -14),
            DType::BF16 => (8, -126),
            _ => return 0.0,
        };
        let exponent = if x == 0.0 { min_exponent } else { exponent_of(x).max(min_exponent) };
        // 2^exponent is the weight of the leading bit, so one unit is 2^(exponent - digits + 1).
        2f64.powi(exponent - digits)
    }
}

/// floor(log2 |x|) of a finite number that is not zero, exactly.
fn exponent_of(x: f64) -> i32 {
    let field = ((x.to_bits() >> 52) & 0x7ff) as i32;
    if field == 0 {
        // A subnormal: scale it into the normal range first.
        return exponent_of(x * 2f64.powi(64)) - 64;
    }
    field - 1023
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A type name that nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no stored type")]
pub struct UnknownType(pub String);

impl FromStr for DType {
    type Err = UnknownType;

    fn from_str(name: &str) -> Result<DType, UnknownType> {
        DType::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| UnknownType(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for t in DType::ALL {
            assert_eq!(t.name().parse::<DType>().ok(), Some(t));
        }
        assert!("f8".parse::<DType>().is_err());
    }

    #[test]
    fn rounding_never_moves_more_than_half_an_ulp() {
        for t in DType::ACTIVATIONS {
            for i in 0..2000 {
                let x = (f64::from(i) - 1000.0) * 0.001_234_567 * 2f64.powi(i % 20 - 10);
                assert!((t.round(x) - x).abs() <= t.half_ulp(x), "{t} at {x}");
            }
        }
    }

    #[test]
    fn half_ulp_of_one_and_of_subnormals() {
        assert_eq!(DType::F32.half_ulp(1.0), 2f64.powi(-24));
        assert_eq!(DType::F16.half_ulp(1.0), 2f64.powi(-11));
        assert_eq!(DType::BF16.half_ulp(1.9), 2f64.powi(-8));
        assert_eq!(DType::F16.half_ulp(0.0), 2f64.powi(-25));
        assert_eq!(DType::F16.half_ulp(1e-9), 2f64.powi(-25));
    }
}
