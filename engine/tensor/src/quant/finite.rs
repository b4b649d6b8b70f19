//! Whether stored numbers are finite, by their bits: nothing is decoded.

use crate::dtype::DType;

/// Whether every number in `bytes`, whole elements or blocks of `dtype`, is finite; of blocks only
/// the scales can be anything else. Integers always are.
pub fn is_finite(dtype: DType, bytes: &[u8]) -> bool {
    match dtype {
        DType::F16 => !any16(bytes, 0x7c00),
        DType::BF16 => !any16(bytes, 0x7f80),
        DType::F32 => {
            let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let odd = |b: &[u8]| word(b) & 0x7f80_0000 == 0x7f80_0000;
            !bytes.chunks_exact(4).fold(false, |found, b| found | odd(b))
        }
        DType::F64 => {
            let odd = |b: &[u8]| b[7] & 0x7f == 0x7f && b[6] & 0xf0 == 0xf0;
            !bytes.chunks_exact(8).fold(false, |found, b| found | odd(b))
        }
        DType::I32 | DType::U8 => true,
        DType::Mxfp4 => !bytes.chunks_exact(dtype.bytes()).any(|block| block[0] == 255),
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => halves(dtype, bytes, &[0]),
        DType::Q4K | DType::Q5K => halves(dtype, bytes, &[0, 2]),
        DType::Q6K => halves(dtype, bytes, &[dtype.bytes() - 2]),
    }
}

/// Whether a 16-bit number has every bit of its exponent. Without an early end, so that it becomes
/// vector instructions.
fn any16(bytes: &[u8], exponent: u16) -> bool {
    let odd = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]) & exponent == exponent;
    bytes.chunks_exact(2).fold(false, |found, b| found | odd(b))
}

/// Whether the f16 at each of `places` of each block are finite.
fn halves(dtype: DType, bytes: &[u8], places: &[usize]) -> bool {
    let mut blocks = bytes.chunks_exact(dtype.bytes());
    !blocks.any(|block| places.iter().any(|at| block[at + 1] & 0x7c == 0x7c))
}
