//! Block formats: bytes in, numbers out; one file a type. Layouts are those of GGUF.
//!
//! The value of a code is exact in f64. `dequantize` gives the nearest f32, which for every type
//! but q4_k and q5_k is that exact value.

mod finite;
mod mxfp4;
mod q4_0;
mod q4_k;
mod q5_0;
mod q5_k;
mod q6_k;
mod q8_0;

use half::f16;

use crate::dtype::DType;

pub use finite::is_finite;

/// The exact value of each element of raw blocks of `dtype`, in order.
///
/// # Panics
/// If `dtype` is no block type or the bytes are no whole number of blocks.
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    assert!(bytes.len().is_multiple_of(dtype.bytes()), "whole blocks of {dtype}");
    let block: fn(&[u8], &mut Vec<f64>) = match dtype {
        DType::Q4_0 => q4_0::block,
        DType::Q5_0 => q5_0::block,
        DType::Q8_0 => q8_0::block,
        DType::Q4K => q4_k::block,
        DType::Q5K => q5_k::block,
        DType::Q6K => q6_k::block,
        DType::Mxfp4 => mxfp4::block,
        plain => panic!("{plain} is no block type"),
    };
    let mut values = Vec::with_capacity(bytes.len() / dtype.bytes() * dtype.elements());
    bytes.chunks_exact(dtype.bytes()).for_each(|b| block(b, &mut values));
    values
}

/// What each element of q4_k and q5_k subtracts, dmin · min; `None` for other types.
pub fn minima(dtype: DType, bytes: &[u8]) -> Option<Vec<f64>> {
    if !matches!(dtype, DType::Q4K | DType::Q5K) {
        return None;
    }
    let of_block = |b: &[u8]| {
        let dmin = half_at(b, 2);
        let min = |i: usize| dmin * scale_and_min(&b[4..16], i / 32).1;
        (0..256).map(min).collect::<Vec<f64>>()
    };
    Some(bytes.chunks_exact(dtype.bytes()).flat_map(of_block).collect())
}

/// The f16 at byte `at`.
fn half_at(block: &[u8], at: usize) -> f64 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f64()
}

/// Scale and minimum `j` of 8 from the 12 packed bytes of q4_k and q5_k: six bits each, the upper
/// two bits of the last four in the top of the first eight bytes.
fn scale_and_min(packed: &[u8], j: usize) -> (f64, f64) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f64::from(scale), f64::from(min))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_type() {
        for t in DType::WEIGHTS.into_iter().filter(|t| t.is_block()) {
            assert_eq!(decode(t, &vec![0; 3 * t.bytes()]).len(), 3 * t.elements(), "{t}");
        }
    }

    #[test]
    fn upper_scales_take_their_high_bits_from_the_first_bytes() {
        let mut packed = [0u8; 12];
        packed[0] = 0b1100_0000; // high bits of scale 4
        packed[4] = 0b0100_0000; // high bits of minimum 4
        packed[8] = 0x5a; // low nibble: scale 4, high nibble: minimum 4
        assert_eq!(scale_and_min(&packed, 4), (f64::from(0x3a), f64::from(0x15)));
    }
}
