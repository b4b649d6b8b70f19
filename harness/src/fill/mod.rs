//! Inputs are computed and never stored, with the same bits on every machine and in every language.
//!
//! Element i of a tensor takes word i of its stream ([`philox`]); `normal` and `outliers` take
//! words 12i to 12i + 11. Everything is computed in binary64 with exactly the operations below, in
//! this order, and rounded once at the end:
//!
//! | fill | value of element i; w its word, n the number of elements |
//! |---|---|
//! | `uniform: [lo, hi]` | lo + (hi - lo) · (w / 2^32) |
//! | `normal: [mean, std]` | mean + std · (sum of twelve w / 2^32 - 6), the sum in integers |
//! | `integers: [lo, hi]`, `ids` | lo + floor(w · (hi - lo + 1) / 2^32) |
//! | `powers: [lo, hi]` | 2^k, k = lo + floor((w >> 1) · (hi - lo + 1) / 2^31); odd w: negative |
//! | `outliers` | `normal: [0, std]`, times `times` where i mod `every` = `every` - 1 |
//! | `ramp: [from, to]` | from + (to - from) · (i / (n - 1)); from where n = 1 |
//! | `constant: c`, `values` | as written |
//! | `one_hot: last` | 1 in the last element of each row, else 0 |
//! | `blocks` | see [`blocks`] |
//!
//! Then comes the grid. `common`: rounded to 8 significant bits, ties to even; magnitudes above
//! 65280 become 65280, those below 2^-14 become 2^-14 or, up to half of it, 0. A value is therefore
//! the same in f32, f16 and bf16. `full`: rounded to the stored type. NaN and infinities are kept.

pub mod blocks;
mod input;
pub mod philox;
pub mod read;

pub use input::{Fill, Grid, Input};

use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, Tensor};
use half::{bf16, f16};
use philox::Philox;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::line::hex;

/// How many elements one task fills.
const CHUNK: usize = 1 << 15;

/// Fills one operand.
pub fn fill(input: &Input) -> Tensor {
    fill_as(input, input.meta.dtype)
}

/// Fills one operand in a stored type other than its own: on the common grid the values are the
/// same in every floating type.
///
/// # Panics
/// If the meta does not describe a tensor. Expansion refuses such cases.
pub fn fill_as(input: &Input, dtype: DType) -> Tensor {
    let [stem, case, name] = &input.key;
    let stream = Philox::for_tensor([stem, case, name]);
    let meta = Meta::new(dtype, &input.meta.shape);
    let bytes = meta.bytes().unwrap_or_else(|| panic!("{name} cannot be {meta}"));
    let mut data = vec![0u8; bytes];
    // Blocks take their words block by block, so they have a layout of the stream of their own.
    if dtype.is_block() {
        blocks::fill(&input.fill, dtype, &stream, &mut data);
        return Tensor { meta, bytes: data };
    }
    let size = dtype.bytes();
    let element = Element {
        fill: &input.fill,
        stream,
        count: input.meta.volume().unwrap_or(0),
        // A scalar counts as a row of one, and an empty axis must not become a divisor of zero.
        row: input.meta.shape.last().copied().unwrap_or(1).max(1),
    };
    data.par_chunks_mut(CHUNK * size).enumerate().for_each(|(chunk, bytes)| {
        for (j, slot) in bytes.chunks_exact_mut(size).enumerate() {
            let x = element.value(chunk * CHUNK + j);
            // Nothing is rounded twice: a value of the common grid is exact in every float type,
            // and on the full grid only storing rounds.
            store(on_grid(x, input.grid, dtype), dtype, slot);
        }
    });
    Tensor { meta, bytes: data }
}

struct Element<'a> {
    fill: &'a Fill,
    stream: Philox,
    count: usize,
    row: usize,
}

impl Element<'_> {
    fn value(&self, i: usize) -> f64 {
        let word = || u64::from(self.stream.word(i as u64));
        // In 128 bits, because the product of a word and the range may exceed 64 bits.
        let between = |lo: i64, hi: i64, w: u64, bits: u32| {
            lo + ((u128::from(w) * (hi - lo + 1) as u128) >> bits) as i64
        };
        match self.fill {
            Fill::Uniform(lo, hi) => lo + (hi - lo) * (word() as f64 / 2f64.powi(32)),
            Fill::Normal(mean, std) => mean + std * self.normal(i),
            Fill::Integers(lo, hi) => between(*lo, *hi, word(), 32) as f64,
            Fill::Ids(lo, hi) => between((*lo).into(), (*hi).into(), word(), 32) as f64,
            Fill::Powers(lo, hi) => {
                // One word gives sign and exponent, so the exponent is drawn from the bits that the
                // sign leaves.
                let w = word();
                let power = 2f64.powi(between(*lo, *hi, w >> 1, 31) as i32);
                if w & 1 == 1 { -power } else { power }
            }
            Fill::Outliers { std, every, times } => {
                let x = std * self.normal(i);
                if i as u64 % every == every - 1 { x * times } else { x }
            }
            // A ramp of one element has no step: the general formula would divide zero by zero.
            Fill::Ramp(from, _) if self.count < 2 => *from,
            Fill::Ramp(from, to) => from + (to - from) * (i as f64 / (self.count - 1) as f64),
            Fill::Constant(c) => *c,
            Fill::OneHotLast => f64::from(u8::from(i % self.row == self.row - 1)),
            Fill::Values(values) => values[i],
            Fill::Blocks(..) | Fill::EveryCode => panic!("blocks are filled as blocks"),
        }
    }

    /// The sum of words 12i to 12i + 11 over 2^32, minus 6. Its variance is 1, and it is exact.
    fn normal(&self, i: usize) -> f64 {
        let first = 3 * i as u64;
        let sum: i64 =
            (first..first + 3).flat_map(|counter| self.stream.block(counter)).map(i64::from).sum();
        // Twelve words add up to less than 2^36, so the conversion is exact and every language gets
        // the same bits.
        (sum - (6 << 32)) as f64 / 2f64.powi(32)
    }
}

fn on_grid(x: f64, grid: Grid, dtype: DType) -> f64 {
    match grid {
        // Ids are never rounded: 8 significant bits would make another id of a large one.
        Grid::Common if dtype.is_float() => common(x),
        _ => x,
    }
}

/// The nearest value of the common grid.
pub fn common(x: f64) -> f64 {
    // 255 * 2^8, the largest number of 8 significant bits that f16 holds.
    const TOP: f64 = 65280.0;
    let tiny = 2f64.powi(-14);
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    // Below 2^-14 f16 loses significant bits, so a value there would differ from type to type.
    if x.abs() < tiny {
        return if x.abs() <= tiny / 2.0 { 0f64.copysign(x) } else { tiny.copysign(x) };
    }
    // Adding and subtracting 2^44 times the weight of the leading bit rounds to 8 bits, ties to
    // even.
    let unit = f64::from_bits(x.abs().to_bits() & (0x7ff << 52)) * 2f64.powi(45);
    let rounded = (x.abs() + unit) - unit;
    // The limit comes after rounding, which may reach 65536, a number that f16 does not hold.
    rounded.min(TOP).copysign(x)
}

fn store(x: f64, dtype: DType, slot: &mut [u8]) {
    match dtype {
        DType::F64 => slot.copy_from_slice(&x.to_le_bytes()),
        DType::F32 => slot.copy_from_slice(&(x as f32).to_le_bytes()),
        // From f64 in one step, because rounding to f32 in between would round twice.
        DType::F16 => slot.copy_from_slice(&f16::from_f64(x).to_le_bytes()),
        DType::BF16 => slot.copy_from_slice(&bf16::from_f64(x).to_le_bytes()),
        DType::I32 => slot.copy_from_slice(&(x as i32).to_le_bytes()),
        _ => slot[0] = x as u8,
    }
}

/// SHA-256 of a tensor's values: its shape as JSON and a newline, then each element as a
/// little-endian binary64 (for block types and ids the raw bytes, under the name of the type).
/// Floating types that hold the same values have the same hash, so that one golden can serve them.
pub fn hash(tensor: &Tensor) -> String {
    let mut hash = Sha256::new();
    let meta = &tensor.meta;
    let kind = if meta.dtype.is_float() { "values" } else { meta.dtype.name() };
    // The shape is part of the hash: the same numbers in another shape are another question.
    hash.update(format!("{kind} {:?}\n", meta.shape));
    if meta.dtype.is_float() {
        // In chunks, so that a tensor of gigabytes is never held a second time at eight bytes per
        // element.
        for chunk in tensor.bytes.chunks(CHUNK * meta.dtype.bytes()) {
            let count = chunk.len() / meta.dtype.bytes();
            let part = Tensor { meta: Meta::new(meta.dtype, &[count]), bytes: chunk.to_vec() };
            let wide = Tensor::from_f64(DType::F64, &[count], &part.to_f64());
            hash.update(&wide.bytes);
        }
    } else {
        hash.update(&tensor.bytes);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(fill: Fill, dtype: DType, shape: &[usize], grid: Grid) -> Input {
        let key = ["layernorm", "one", "x"].map(str::to_owned);
        Input { name: "x".into(), meta: Meta::new(dtype, shape), fill, grid, key }
    }

    fn values(kind: Fill, n: usize) -> Vec<f64> {
        fill(&input(kind, DType::F64, &[n], Grid::Full)).to_f64()
    }

    #[test]
    fn every_fill_is_what_its_row_says() {
        let stream = Philox::for_tensor(["layernorm", "one", "x"]);
        let w = |i: u64| f64::from(stream.word(i));
        let u = values(Fill::Uniform(-1.0, 3.0), 9);
        assert_eq!(u[5], -1.0 + 4.0 * (w(5) / 4294967296.0));
        let sum: f64 = (24..36).map(w).sum();
        assert_eq!(values(Fill::Normal(10.0, 2.0), 3)[2], 10.0 + 2.0 * (sum / 4294967296.0 - 6.0));
        let ints = values(Fill::Integers(-4, 4), 1000);
        for k in -4..=4 {
            assert!(ints.contains(&f64::from(k)), "{k}");
        }
        assert!(ints.iter().all(|x| x.abs() <= 4.0 && x.fract() == 0.0));
        let powers = values(Fill::Powers(-2, 1), 1000);
        for p in [0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0] {
            assert!(powers.contains(&p), "{p}");
        }
        assert!(powers.iter().all(|x| (0.25..=2.0).contains(&x.abs())));
        let plain = values(Fill::Normal(0.0, 1.5), 12);
        let rare = values(Fill::Outliers { std: 1.5, every: 5, times: 200.0 }, 12);
        for i in 0..12 {
            assert_eq!(rare[i], if i == 4 || i == 9 { plain[i] * 200.0 } else { plain[i] });
        }
        assert_eq!(values(Fill::Ramp(1.0, 2.0), 3), [1.0, 1.5, 2.0]);
        assert_eq!(values(Fill::Ramp(1.0, 2.0), 1), [1.0]);
        assert_eq!(values(Fill::Constant(7.0), 2), [7.0, 7.0]);
        let hot = fill(&input(Fill::OneHotLast, DType::F32, &[2, 3], Grid::Common));
        assert_eq!(hot.to_f64(), [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
        let ids = fill(&input(Fill::Ids(3, 5), DType::I32, &[99], Grid::Common)).to_i32();
        assert!(ids.iter().all(|x| (3..=5).contains(x)) && ids.contains(&3) && ids.contains(&5));
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_deviation_one() {
        let x = values(Fill::Normal(0.0, 1.0), 100_000);
        let mean = x.iter().sum::<f64>() / 1e5;
        let variance = x.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn the_common_grid_is_exact_in_every_type() {
        for (x, want) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (1.003_906_25, 1.0),       // a tie, to even
            (1.011_718_75, 1.015_625), // a tie, to even
            (255.6, 256.0),
            (-257.2, -258.0),
            (1e9, 65280.0),
            (-1e9, -65280.0),
            (2f64.powi(-15), 0.0),
            (1.1 * 2f64.powi(-15), 2f64.powi(-14)),
            (-1e-9, 0.0),
        ] {
            assert_eq!(common(x), want, "{x}");
        }
        assert!(common(f64::NAN).is_nan());
        assert_eq!(common(f64::NEG_INFINITY), f64::NEG_INFINITY);
        for x in values(Fill::Normal(0.0, 300.0), 5000) {
            let y = common(x);
            assert!(DType::ACTIVATIONS.iter().all(|t| t.round(y) == y), "{x} {y}");
            assert!((y - x).abs() <= x.abs() / 256.0, "{x} {y}");
        }
    }

    #[test]
    fn one_hash_for_one_set_of_values() {
        let hash_in =
            |dtype, grid| hash(&fill(&input(Fill::Normal(0.0, 1.0), dtype, &[3, 5], grid)));
        assert_eq!(hash_in(DType::F32, Grid::Common), hash_in(DType::BF16, Grid::Common));
        assert_eq!(hash_in(DType::F32, Grid::Common), hash_in(DType::F16, Grid::Common));
        assert_ne!(hash_in(DType::F32, Grid::Full), hash_in(DType::F16, Grid::Full));
    }

    #[test]
    fn chunks_do_not_show() {
        let long = values(Fill::Uniform(0.0, 1.0), CHUNK + 9);
        let stream = Philox::for_tensor(["layernorm", "one", "x"]);
        assert_eq!(long[CHUNK + 3], f64::from(stream.word(CHUNK as u64 + 3)) / 4294967296.0);
    }
}
