//! Edits of elements: numbers in, numbers out.

use goldgate_engine::ops::Values;
use goldgate_tensor::{DType, Tensor};

use crate::mutants::generated::fault::{Axis, Edge, Edit, Lost, Narrow};

/// The edited elements of a tensor of `shape`, before they are rounded to `dtype` again; none if
/// the edit does not apply to it. `ids` is the number of ids that there are, for [`Edit::LastId`].
pub fn edited(
    edit: Edit,
    values: &Values,
    shape: &[usize],
    dtype: DType,
    ids: Option<usize>,
) -> Option<Values> {
    match values {
        Values::Real(x) => real(edit, x, shape, dtype).map(Values::Real),
        Values::Ids(x) => whole(edit, x, shape, ids).map(Values::Ids),
    }
}

fn real(edit: Edit, x: &[f64], shape: &[usize], dtype: DType) -> Option<Vec<f64>> {
    let each = |f: &dyn Fn(f64) -> f64| Some(x.iter().map(|&x| f(x)).collect());
    match edit {
        Edit::Round(narrow) => each(&|x| narrow.round(x)),
        Edit::Scale(by) => each(&|x| x * by),
        Edit::Cut(axis, edge, lost) => cut(x, axis.of(shape)?, edge, lost, 0.0),
        Edit::Exchange(axis) => exchanged(x, axis.of(shape)?),
        Edit::Flush => {
            let smallest = smallest_normal(dtype)?;
            each(&|x| if x.abs() < smallest { 0f64.copysign(x) } else { x })
        }
        Edit::UnsignedZero => each(&|x| if x == 0.0 { 0.0 } else { x }),
        Edit::FlushScales | Edit::Wrap(_) | Edit::LastId(_) => None,
    }
}

fn whole(edit: Edit, x: &[i32], shape: &[usize], ids: Option<usize>) -> Option<Vec<i32>> {
    let each = |f: &dyn Fn(i32) -> i32| Some(x.iter().map(|&x| f(x)).collect());
    match edit {
        Edit::Cut(axis, edge, lost) => cut(x, axis.of(shape)?, edge, lost, 0),
        Edit::Exchange(axis) => exchanged(x, axis.of(shape)?),
        Edit::Wrap(bits) => each(&|x| if x < 0 { x } else { x & ((1 << bits) - 1) }),
        Edit::LastId(_) => {
            let last = i32::try_from(ids?.checked_sub(1)?).ok()?;
            each(&|x| if x == last { (last - 1).max(0) } else { x })
        }
        _ => None,
    }
}

/// The entries of an axis that a cut keeps; none if it loses nothing.
fn kept([_, size, _]: [usize; 3], edge: Edge) -> Option<usize> {
    let kept = match edge {
        Edge::Last => size.checked_sub(1)?,
        Edge::At(at) => at,
    };
    // One entry alone is not taken from itself, nor left without any.
    (kept < size && size > 1).then_some(kept)
}

/// Elements of an axis, from the edge on, are zero or those of its first entry.
fn cut<T: Copy>(x: &[T], place: [usize; 3], edge: Edge, lost: Lost, zero: T) -> Option<Vec<T>> {
    let (kept, [outer, size, inner]) = (kept(place, edge)?, place);
    let mut cut = x.to_vec();
    for group in 0..outer {
        let base = group * size * inner;
        for at in kept * inner..size * inner {
            cut[base + at] = match lost {
                Lost::Zero => zero,
                Lost::First => x[base + at % inner],
            };
        }
    }
    Some(cut)
}

/// The first and the last entry of an axis in each other's place.
fn exchanged<T: Copy>(x: &[T], [outer, size, inner]: [usize; 3]) -> Option<Vec<T>> {
    if size < 2 {
        return None;
    }
    let mut exchanged = x.to_vec();
    for group in 0..outer {
        let (first, last) = (group * size * inner, (group * size + size - 1) * inner);
        for at in 0..inner {
            exchanged.swap(first + at, last + at);
        }
    }
    Some(exchanged)
}

/// Whether a tensor of `shape` has what an edit moves or removes.
pub fn applies(edit: Edit, shape: &[usize]) -> bool {
    match edit {
        Edit::Cut(axis, edge, _) => axis.of(shape).is_some_and(|at| kept(at, edge).is_some()),
        Edit::Exchange(axis) => axis.of(shape).is_some_and(|[_, size, _]| size > 1),
        _ => true,
    }
}

/// The tensor after an edit that only moves or removes whole elements, by their bytes: zero is all
/// zero bits in every type, blocks included. None for other edits, and where the edit would begin
/// inside of a block.
pub fn moved(edit: Edit, tensor: &Tensor) -> Option<Tensor> {
    let (dtype, shape) = (tensor.meta.dtype, &tensor.meta.shape);
    let place = |axis: Axis| -> Option<([usize; 3], usize)> {
        let [outer, size, inner] = axis.of(shape)?;
        let per = dtype.elements();
        // Blocks lie along the last axis: elsewhere they are whole, there an entry is a block.
        match inner.is_multiple_of(per) {
            true => Some(([outer, size, inner / per * dtype.bytes()], 1)),
            false => Some(([outer, size / per, dtype.bytes()], per)),
        }
    };
    let bytes = match edit {
        Edit::Cut(axis, Edge::At(at), lost) => {
            let (place, per) = place(axis)?;
            let first_of_block = per > 1 && lost == Lost::First;
            if !at.is_multiple_of(per) || first_of_block {
                return None;
            }
            cut(&tensor.bytes, place, Edge::At(at / per), lost, 0)?
        }
        Edit::Cut(axis, Edge::Last, lost) => match place(axis)? {
            (place, 1) => cut(&tensor.bytes, place, Edge::Last, lost, 0)?,
            _ => return None,
        },
        Edit::Exchange(axis) => match place(axis)? {
            (place, 1) => exchanged(&tensor.bytes, place)?,
            _ => return None,
        },
        _ => return None,
    };
    Some(Tensor { meta: tensor.meta.clone(), bytes })
}

/// The smallest normal number of a floating type.
fn smallest_normal(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F32 | DType::BF16 => Some(f64::from(f32::MIN_POSITIVE)),
        DType::F16 => Some(f64::from(2f32.powi(-14))),
        _ => None,
    }
}

impl Narrow {
    /// The nearest number of this type, ties to even.
    pub fn round(self, x: f64) -> f64 {
        match self {
            Narrow::Bf16 => DType::BF16.round(x),
            Narrow::Tf32 => digits(x, 11, -126),
            // The format has no infinity, and engines saturate where they store it.
            Narrow::E4m3 if x.is_nan() => x,
            Narrow::E4m3 => digits(x.clamp(-448.0, 448.0), 4, -6),
        }
    }

    /// Whether rounding to this type can change a number of `stored`; of blocks, their numbers.
    pub fn changes(self, stored: DType) -> bool {
        match self {
            Narrow::Bf16 => stored != DType::BF16,
            Narrow::Tf32 => stored == DType::F32 || stored.is_block(),
            Narrow::E4m3 => true,
        }
    }
}

/// `x` rounded to so many significant binary digits, fewer below 2^`lowest`.
fn digits(x: f64, digits: i32, lowest: i32) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    // The exponent field, without the errors of a logarithm; f64's own subnormals are far below.
    let exponent = (((x.to_bits() >> 52) & 0x7ff) as i32 - 1023).max(lowest);
    let unit = 2f64.powi(exponent - digits + 1);
    (x / unit).round_ties_even() * unit
}

/// Block types with the byte offsets of their f16 scales.
fn scales(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q6K => &[208],
        _ => &[],
    }
}

/// Whether blocks of a type have f16 scales.
pub fn has_scales(dtype: DType) -> bool {
    !scales(dtype).is_empty()
}

/// The blocks with their subnormal scales taken as zero.
pub fn without_subnormal_scales(tensor: &Tensor) -> Tensor {
    let mut flushed = tensor.clone();
    for block in flushed.bytes.chunks_mut(tensor.meta.dtype.bytes()) {
        for &at in scales(tensor.meta.dtype) {
            // An exponent field of zero: the number is subnormal, or zero already.
            if block[at + 1] & 0x7c == 0 {
                block[at] = 0;
                block[at + 1] &= 0x80;
            }
        }
    }
    flushed
}

/// The tensor of edited elements: rounded once to the type of `like`, or held in f32 where that is
/// a block type, whose blocks cannot hold any numbers.
pub fn tensor(like: &Tensor, values: &Values) -> Tensor {
    let (dtype, shape) = (like.meta.dtype, &like.meta.shape);
    match values {
        Values::Ids(x) => Tensor::from_i32(shape, x),
        Values::Real(x) if dtype.is_block() => Tensor::from_f64(DType::F32, shape, x),
        Values::Real(x) => Tensor::from_f64(dtype, shape, x),
    }
}

/// Where the axis of a symbol is in a list of axes; none for a fixed number or an axis that is not
/// there.
pub fn axis_of(axes: &[&str], symbol: &str) -> Option<Axis> {
    let at = axes.iter().position(|axis| axis.trim_end_matches('?') == symbol)?;
    Some(Axis::FromLast(axes.len() - 1 - at))
}
