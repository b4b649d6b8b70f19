//! Random weights. Each depends only on its position, so that any part can be generated
//! independently.
//!
//! Plain numbers take 16 random bits each and are distributed evenly. Blocks are random bytes under
//! scales that give all types the same deviation, 0.02, and a mean near zero: where the codes are
//! not centred on zero, half of the scales are negative, or the minima compensate.

use goldgate_harness::fill::philox::Philox;
use goldgate_tensor::DType;
use half::{bf16, f16};
use rayon::prelude::*;

/// The deviation of weights, taken from GPT-2's initialisation.
const DEVIATION: f64 = 0.02;

/// The interval of plain numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    middle: f64,
    half_width: f64,
}

impl Spread {
    /// The interval for a tensor by its name: the weights of norms lie around one.
    pub fn for_tensor(name: &str) -> Spread {
        let one = name.ends_with("norm.weight");
        // An even distribution has a deviation of its half width divided by √3.
        let half_width = if one { 0.1 } else { DEVIATION * 3f64.sqrt() };
        Spread { middle: f64::from(u8::from(one)), half_width }
    }

    fn at(self, word: u16) -> f64 {
        // In the middle of each step, so that the numbers are symmetric around it.
        self.middle + self.half_width * (2.0 * (f64::from(word) + 0.5) / 65_536.0 - 1.0)
    }
}

/// How many plain numbers one counter of the generator yields.
const PER_COUNTER: usize = 8;

/// The number of bytes that are generated together: a block, or the plain numbers of one counter. A
/// tensor may end inside.
pub fn unit(dtype: DType) -> usize {
    if dtype.is_block() { dtype.bytes() } else { PER_COUNTER * dtype.bytes() }
}

/// How many units one thread generates at once.
const TASK: usize = 1 << 12;

/// Fills `data` with the units of a tensor from `first` on.
///
/// # Panics
/// If `dtype` is neither a plain float nor a block type.
pub fn fill(dtype: DType, spread: Spread, stream: &Philox, first: u64, data: &mut [u8]) {
    let unit = unit(dtype);
    // Each of the 65,536 possible numbers is rounded once, because a file has billions of them.
    let plain = if dtype.is_block() { Vec::new() } else { table(dtype, spread) };
    data.par_chunks_mut(TASK * unit).enumerate().for_each(|(task, bytes)| {
        for (i, bytes) in bytes.chunks_mut(unit).enumerate() {
            let at = first + (task * TASK + i) as u64;
            match dtype.is_block() {
                true => block(dtype, stream, at, bytes),
                false => numbers(&plain, stream.block(at), bytes),
            }
        }
    });
}

/// The bytes of the number for each 16-bit word.
fn table(dtype: DType, spread: Spread) -> Vec<u8> {
    let number = |word: u16| {
        let x = spread.at(word);
        match dtype {
            DType::F32 => (x as f32).to_le_bytes().to_vec(),
            DType::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
            DType::BF16 => bf16::from_f64(x).to_le_bytes().to_vec(),
            other => panic!("{other} is no type of synthetic weights"),
        }
    };
    (0..=u16::MAX).flat_map(number).collect()
}

fn numbers(table: &[u8], words: [u32; 4], bytes: &mut [u8]) {
    let size = table.len() >> 16;
    let halves = words.iter().flat_map(|w| [*w as u16, (*w >> 16) as u16]);
    for (slot, half) in bytes.chunks_exact_mut(size).zip(halves) {
        slot.copy_from_slice(&table[usize::from(half) * size..][..size]);
    }
}

/// Block `at` of a tensor: random bytes, then its scales.
fn block(dtype: DType, stream: &Philox, at: u64, bytes: &mut [u8]) {
    let counters = bytes.len().div_ceil(16) as u64;
    let mut sign = 0;
    for (i, part) in bytes.chunks_mut(16).enumerate() {
        let words = stream.block(at * counters + i as u64).map(u32::to_le_bytes);
        part.copy_from_slice(&words.as_flattened()[..part.len()]);
        // The sign comes from words that the block has anyway, so that none is drawn for it.
        sign ^= words[0][0];
    }
    let scale = |deviation: f64| f16::from_f64(DEVIATION / deviation).to_le_bytes();
    let signed = |deviation: f64| {
        let [low, high] = scale(deviation);
        [low, high | (sign << 7)]
    };
    // The arguments are the deviations of random codes, times random sub-scales where a type has
    // them.
    match dtype {
        DType::Q4_0 => bytes[..2].copy_from_slice(&signed(4.6)),
        DType::Q5_0 => bytes[..2].copy_from_slice(&signed(9.2)),
        DType::Q8_0 => bytes[..2].copy_from_slice(&signed(73.9)),
        // Its sub-scales have signs of their own.
        DType::Q6K => bytes[208..210].copy_from_slice(&scale(1370.0)),
        DType::Q4K => k_scales(bytes, 257.0, 7.5),
        DType::Q5K => k_scales(bytes, 524.0, 15.5),
        _ => bytes[0] = 121,
    }
}

/// Writes d, and dmin such that the minima cancel the mean of codes around `middle`.
fn k_scales(bytes: &mut [u8], deviation: f64, middle: f64) {
    let d = DEVIATION / deviation;
    bytes[..2].copy_from_slice(&f16::from_f64(d).to_le_bytes());
    // The minima take away the mean of the codes, which are never negative.
    bytes[2..4].copy_from_slice(&f16::from_f64(d * middle).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use goldgate_tensor::Tensor;

    use super::*;

    #[test]
    fn every_type_has_the_deviation_and_no_mean() {
        let stream = Philox::for_tensor(["synth", "0", "w"]);
        for dtype in DType::WEIGHTS.into_iter().filter(|t| *t != DType::Mxfp4) {
            let elements = 1 << 17;
            let mut data = vec![0; elements / dtype.elements() * dtype.bytes()];
            fill(dtype, Spread::for_tensor("w"), &stream, 0, &mut data);
            let values = Tensor::new(dtype, &[elements], data).to_f64();
            let mean = values.iter().sum::<f64>() / elements as f64;
            let square = values.iter().map(|x| x * x).sum::<f64>() / elements as f64;
            assert!(mean.abs() < 1e-3, "{dtype}: mean {mean}");
            assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.05, "{dtype}: {}", square.sqrt());
        }
    }

    #[test]
    fn a_part_made_by_itself_is_the_same() {
        let stream = Philox::for_tensor(["synth", "1", "w"]);
        for dtype in [DType::F16, DType::Q4K] {
            let (unit, spread) = (unit(dtype), Spread::for_tensor("attn_norm.weight"));
            let mut whole = vec![0; 40 * unit];
            fill(dtype, spread, &stream, 0, &mut whole);
            let mut part = vec![0; 7 * unit];
            fill(dtype, spread, &stream, 20, &mut part);
            assert_eq!(part, whole[20 * unit..27 * unit], "{dtype}");
        }
    }
}
