//! Raw blocks of quantised types.
//!
//! `blocks: { scale: [lo, hi] }`: block b takes words b·W to b·W + W - 1,
//! where W = ceil(bytes / 4) + 2. The bytes of the block are first those words, little-endian;
//! then its scales are written over them. A scale is s(w) = lo + (hi - lo) · (w / 2^32), rounded to
//! f16 and at most 65504, where w is the last word but one; the second scale (q4_k, q5_k) uses the
//! last word.
//!
//! | type | scales |
//! |---|---|
//! | q4_0, q5_0, q8_0, q6_k | d = s, negative where the last word is odd |
//! | q4_k, q5_k | d = s, dmin = s of the last word; 6-bit scales and minima stay random |
//! | mxfp4 | 2^k, k from ceil(log2 lo) to floor(log2 hi), as `powers` draws it |
//!
//! `blocks: every_code`: place p of block b has the code (b + p) mod C, where C is the number of
//! codes. d = 1 and dmin = 1/2; the 6-bit scale of sub-block j is (8b + j) mod 64 and its minimum
//! (8b + j + 32) mod 64; the 8-bit scale of q6_k's sub-block j is (16b + j) mod 256 as a signed
//! byte; the scale byte of mxfp4 is b mod 256, so that 256 blocks contain all of them, 0 and 255
//! included.

use goldgate_tensor::DType;
use half::f16;
use rayon::prelude::*;

use crate::fill::Fill;
use crate::fill::philox::Philox;

/// Fills `data`, which consists of whole blocks of `dtype`.
///
/// # Panics
/// If the fill is not one of blocks. Expansion refuses such cases.
pub fn fill(fill: &Fill, dtype: DType, stream: &Philox, data: &mut [u8]) {
    let size = dtype.bytes();
    // Each block takes its words by its own index, so the number of threads cannot change the data.
    data.par_chunks_mut(size).enumerate().for_each(|(b, block)| match fill {
        Fill::Blocks(lo, hi) => random(dtype, (*lo, *hi), stream, b as u64, block),
        Fill::EveryCode => every_code(dtype, b, block),
        other => panic!("{other:?} does not fill blocks"),
    });
}

fn random(dtype: DType, (lo, hi): (f64, f64), stream: &Philox, b: u64, block: &mut [u8]) {
    let words = block.len().div_ceil(4) as u64 + 2;
    for (j, bytes) in block.chunks_mut(4).enumerate() {
        let word = stream.word(b * words + j as u64).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
    let (one, two) = (stream.word(b * words + words - 2), stream.word(b * words + words - 1));
    let scale = |w: u32| {
        let s = lo + (hi - lo) * (f64::from(w) / 2f64.powi(32));
        // A larger scale would round to infinity in f16, and specs promise finite scales.
        f16::from_f64(s.min(65504.0)).to_le_bytes()
    };
    // These types have one scale, so the second word is free to decide its sign.
    let signed = |w: u32| {
        let [low, high] = scale(w);
        [low, high | (u8::from(two & 1 == 1) << 7)]
    };
    match dtype {
        DType::Q4K | DType::Q5K => {
            block[..2].copy_from_slice(&scale(one));
            block[2..4].copy_from_slice(&scale(two));
        }
        DType::Q6K => block[208..210].copy_from_slice(&signed(one)),
        DType::Mxfp4 => block[0] = exponent(lo, hi, one),
        _ => block[..2].copy_from_slice(&signed(one)),
    }
}

/// The scale byte of mxfp4, whose value is 2^(byte - 127).
fn exponent(lo: f64, hi: f64, w: u32) -> u8 {
    let bottom = 2f64.powi(-127);
    // The ends are clamped, because a logarithm of zero is infinite and a byte holds only these
    // exponents.
    let high = (hi.max(bottom).log2().floor() as i64).clamp(-127, 127);
    let low = (lo.max(bottom).log2().ceil() as i64).clamp(-127, high);
    let k = low + ((u64::from(w >> 1) * (high - low + 1) as u64) >> 31) as i64;
    (k + 127) as u8
}

fn every_code(dtype: DType, b: usize, block: &mut [u8]) {
    let one = f16::ONE.to_le_bytes();
    // Different from d, so that a kernel that uses d in place of dmin gives other numbers.
    let half = f16::from_f32(0.5).to_le_bytes();
    match dtype {
        DType::Q4_0 => {
            block[..2].copy_from_slice(&one);
            nibbles(b, 16, &mut block[2..]);
        }
        DType::Mxfp4 => {
            block[0] = (b % 256) as u8;
            nibbles(b, 16, &mut block[1..]);
        }
        DType::Q5_0 => {
            block[..2].copy_from_slice(&one);
            let high = (0..32).fold(0u32, |bits, p| bits | ((((b + p) % 32) as u32 >> 4) << p));
            block[2..6].copy_from_slice(&high.to_le_bytes());
            nibbles(b, 32, &mut block[6..]);
        }
        DType::Q8_0 => {
            block[..2].copy_from_slice(&one);
            for (p, byte) in block[2..].iter_mut().enumerate() {
                *byte = ((b + p) % 256) as u8;
            }
        }
        DType::Q4K | DType::Q5K => {
            block[..2].copy_from_slice(&one);
            block[2..4].copy_from_slice(&half);
            pack_scales(b, &mut block[4..16]);
            k_codes(dtype, b, &mut block[16..]);
        }
        _ => {
            q6_codes(b, block);
            for (j, byte) in block[192..208].iter_mut().enumerate() {
                *byte = ((16 * b + j) % 256) as u8;
            }
            block[208..210].copy_from_slice(&one);
        }
    }
}

/// Packs 32 places into 16 bytes: place p in the low nibble of byte p, place p + 16 in the high
/// one.
fn nibbles(b: usize, codes: usize, bytes: &mut [u8]) {
    for (p, byte) in bytes.iter_mut().enumerate() {
        let code = |p: usize| ((b + p) % codes) as u8 & 15;
        *byte = code(p) | (code(p + 16) << 4);
    }
}

/// Packs eight 6-bit scales and eight 6-bit minima into 12 bytes, in the layout of q4_k and q5_k.
fn pack_scales(b: usize, bytes: &mut [u8]) {
    let scale = |j: usize| ((8 * b + j) % 64) as u8;
    let min = |j: usize| ((8 * b + j + 32) % 64) as u8;
    for j in 0..4 {
        bytes[j] = scale(j) | ((scale(j + 4) >> 4) << 6);
        bytes[j + 4] = min(j) | ((min(j + 4) >> 4) << 6);
        bytes[j + 8] = (scale(j + 4) & 15) | ((min(j + 4) & 15) << 4);
    }
}

/// Packs 256 places in four groups of 64: the first 32 of each group in low nibbles, the others in
/// high ones. For q5_k the fifth bits precede them, as bit 2g or 2g + 1 of byte l.
fn k_codes(dtype: DType, b: usize, bytes: &mut [u8]) {
    let codes = if dtype == DType::Q5K { 32 } else { 16 };
    let code = |p: usize| ((b + p) % codes) as u8;
    let low = if dtype == DType::Q5K { 32 } else { 0 };
    // The fifth bits are combined with what is there, so they must start from zero.
    bytes.fill(0);
    for group in 0..4 {
        for l in 0..32 {
            let (a, c) = (code(64 * group + l), code(64 * group + l + 32));
            bytes[low + 32 * group + l] = (a & 15) | ((c & 15) << 4);
            if dtype == DType::Q5K {
                bytes[l] |= ((a >> 4) << (2 * group)) | ((c >> 4) << (2 * group + 1));
            }
        }
    }
}

/// Packs 256 places of 6 bits: in each half of 128, the places l, l + 32, l + 64 and l + 96 share
/// the high byte l.
fn q6_codes(b: usize, block: &mut [u8]) {
    let code = |p: usize| ((b + p) % 64) as u8;
    for half in 0..2 {
        for l in 0..32 {
            let [q1, q2, q3, q4] = [0, 32, 64, 96].map(|o| code(128 * half + l + o));
            block[64 * half + l] = (q1 & 15) | ((q3 & 15) << 4);
            block[64 * half + l + 32] = (q2 & 15) | ((q4 & 15) << 4);
            block[128 + 32 * half + l] =
                (q1 >> 4) | ((q2 >> 4) << 2) | ((q3 >> 4) << 4) | ((q4 >> 4) << 6);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kind: &Fill, dtype: DType, blocks: usize) -> Vec<u8> {
        let mut data = vec![0; blocks * dtype.bytes()];
        fill(kind, dtype, &Philox::for_tensor(["a", "b", "c"]), &mut data);
        data
    }

    fn f16_at(block: &[u8], at: usize) -> f64 {
        f16::from_le_bytes([block[at], block[at + 1]]).to_f64()
    }

    #[test]
    fn scales_are_finite_and_in_range() {
        for (dtype, at) in [
            (DType::Q4_0, &[0][..]),
            (DType::Q5_0, &[0]),
            (DType::Q8_0, &[0]),
            (DType::Q4K, &[0, 2]),
            (DType::Q5K, &[0, 2]),
            (DType::Q6K, &[208]),
        ] {
            let data = filled(&Fill::Blocks(0.5, 2.0), dtype, 200);
            for block in data.chunks(dtype.bytes()) {
                for &at in at {
                    let d = f16_at(block, at).abs();
                    assert!((0.5..=2.0).contains(&d), "{dtype} {d}");
                }
            }
        }
        let data = filled(&Fill::Blocks(0.25, 4.0), DType::Mxfp4, 200);
        let scales: Vec<u8> = data.chunks(17).map(|b| b[0]).collect();
        assert!(scales.iter().all(|s| (125..=129).contains(s)));
        assert!(scales.contains(&125) && scales.contains(&129));
        assert_eq!(exponent(0.0, 0.0, u32::MAX), 0);
        assert_eq!(exponent(0.0, f64::MAX, u32::MAX), 254);
    }

    /// The code in each place, decoded as the format's description says.
    fn codes(dtype: DType, block: &[u8]) -> Vec<u8> {
        let nibble = |bytes: &[u8], p: usize| {
            if p < 16 { bytes[p] & 15 } else { bytes[p - 16] >> 4 }
        };
        let k = |bytes: &[u8], p: usize| {
            let byte = bytes[32 * (p / 64) + p % 32];
            if p % 64 < 32 { byte & 15 } else { byte >> 4 }
        };
        (0..dtype.elements())
            .map(|p| match dtype {
                DType::Q4_0 => nibble(&block[2..], p),
                DType::Mxfp4 => nibble(&block[1..], p),
                DType::Q5_0 => nibble(&block[6..], p) | ((block[2 + p / 8] >> (p % 8)) & 1) << 4,
                DType::Q8_0 => block[2 + p],
                DType::Q4K => k(&block[16..], p),
                DType::Q5K => k(&block[48..], p) | ((block[16 + p % 32] >> (p / 32)) & 1) << 4,
                _ => {
                    let (half, q, l) = (p / 128, p % 128 / 32, p % 32);
                    let low = block[64 * half + l + 32 * (q % 2)];
                    let low = if q < 2 { low & 15 } else { low >> 4 };
                    low | ((block[128 + 32 * half + l] >> (2 * q)) & 3) << 4
                }
            })
            .collect()
    }

    #[test]
    fn every_code_stands_in_every_place_once() {
        for (dtype, count) in [
            (DType::Q4_0, 16),
            (DType::Q5_0, 32),
            (DType::Q8_0, 256),
            (DType::Q4K, 16),
            (DType::Q5K, 32),
            (DType::Q6K, 64),
            (DType::Mxfp4, 16),
        ] {
            let data = filled(&Fill::EveryCode, dtype, count);
            let blocks: Vec<Vec<u8>> =
                data.chunks(dtype.bytes()).map(|b| codes(dtype, b)).collect();
            for place in 0..dtype.elements() {
                let mut seen: Vec<u8> = blocks.iter().map(|b| b[place]).collect();
                seen.sort_unstable();
                let all: Vec<u8> = (0..count).map(|c| c as u8).collect();
                assert_eq!(seen, all, "{dtype} place {place}");
            }
        }
        let scales: Vec<u8> =
            filled(&Fill::EveryCode, DType::Mxfp4, 256).chunks(17).map(|b| b[0]).collect();
        assert_eq!(scales, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn six_bit_scales_unpack_to_what_was_packed() {
        for b in 0..16 {
            let mut s = [0; 12];
            pack_scales(b, &mut s);
            for j in 0..8 {
                let (scale, min) = if j < 4 {
                    (s[j] & 63, s[j + 4] & 63)
                } else {
                    ((s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4)
                };
                assert_eq!(usize::from(scale), (8 * b + j) % 64);
                assert_eq!(usize::from(min), (8 * b + j + 32) % 64);
            }
        }
    }
}
