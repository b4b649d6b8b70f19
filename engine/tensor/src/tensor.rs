//! A tensor in host memory: stored type, logical shape, bytes.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::quant;
use crate::shape::{Meta, volume};

/// A dense tensor, row-major, last axis fastest. Block types store whole blocks a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Stored type and logical shape.
    pub meta: Meta,
    /// Little-endian elements or raw blocks, exactly [`Meta::bytes`] of them.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of `bytes`.
    ///
    /// # Panics
    /// If the number of bytes is not that of `dtype` and `shape`.
    pub fn new(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Tensor {
        let meta = Meta::new(dtype, shape);
        assert_eq!(Some(bytes.len()), meta.bytes(), "bytes of {meta}");
        Tensor { meta, bytes }
    }

    /// Rounds `values` to `dtype`, each once, to nearest.
    ///
    /// # Panics
    /// If `dtype` is not floating or the count is not that of `shape`.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
        assert_eq!(Some(values.len()), volume(shape), "count of {shape:?}");
        let bytes = match dtype {
            DType::F64 => bytes_of(values, f64::to_le_bytes),
            DType::F32 => bytes_of(values, |x| (x as f32).to_le_bytes()),
            DType::F16 => bytes_of(values, |x| f16::from_f64(x).to_le_bytes()),
            DType::BF16 => bytes_of(values, |x| bf16::from_f64(x).to_le_bytes()),
            _ => panic!("{dtype} is not floating"),
        };
        Tensor::new(dtype, shape, bytes)
    }

    /// A tensor of ids or positions.
    pub fn from_i32(shape: &[usize], values: &[i32]) -> Tensor {
        Tensor::new(DType::I32, shape, bytes_of(values, i32::to_le_bytes))
    }

    /// The elements, widened exactly (block types: the exact value of each code, see [`quant`]).
    pub fn to_f64(&self) -> Vec<f64> {
        let dtype = self.meta.dtype;
        let blocks = self.bytes.len() / dtype.bytes();
        match blocks * dtype.elements() {
            0..=CHUNK => widen(dtype, &self.bytes),
            count => widen_large(dtype, &self.bytes, count),
        }
    }

    /// The elements of an [`DType::I32`] tensor.
    ///
    /// # Panics
    /// If the tensor is of another type.
    pub fn to_i32(&self) -> Vec<i32> {
        assert_eq!(self.meta.dtype, DType::I32, "ids are i32");
        words::<4>(&self.bytes).map(i32::from_le_bytes).collect()
    }
}

/// Elements that one task widens.
const CHUNK: usize = 1 << 16;

/// Widens `count` elements chunk by chunk on all cores.
#[cfg(feature = "rayon")]
fn widen_large(dtype: DType, bytes: &[u8], count: usize) -> Vec<f64> {
    use rayon::prelude::*;

    let mut values = vec![0.0; count];
    // Whole blocks: a block has a power of two of elements, at most 256.
    let bytes = bytes.par_chunks(CHUNK / dtype.elements() * dtype.bytes());
    values.par_chunks_mut(CHUNK).zip(bytes).for_each(|(values, bytes)| {
        values.copy_from_slice(&widen(dtype, bytes));
    });
    values
}

/// Widens every element on the calling thread.
#[cfg(not(feature = "rayon"))]
fn widen_large(dtype: DType, bytes: &[u8], _count: usize) -> Vec<f64> {
    widen(dtype, bytes)
}

fn widen(dtype: DType, b: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F64 => words::<8>(b).map(f64::from_le_bytes).collect(),
        DType::F32 => words::<4>(b).map(|w| f64::from(f32::from_le_bytes(w))).collect(),
        DType::F16 => words::<2>(b).map(|w| f16::from_le_bytes(w).to_f64()).collect(),
        DType::BF16 => words::<2>(b).map(|w| bf16::from_le_bytes(w).to_f64()).collect(),
        DType::I32 => words::<4>(b).map(|w| f64::from(i32::from_le_bytes(w))).collect(),
        DType::U8 => b.iter().map(|&x| f64::from(x)).collect(),
        block => quant::decode(block, b),
    }
}

/// The elements one after the other, each as `N` bytes. Whole elements are written at once: byte by
/// byte, through an iterator of bytes, costs a seventh of a run in an unoptimised build.
fn bytes_of<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut all = vec![0; N * values.len()];
    for (place, &value) in all.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *place = bytes(value);
    }
    all
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
