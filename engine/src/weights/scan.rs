//! What costs a pass over the data: scales and weights that are not finite.

use half::{bf16, f16};

use super::refusal::{Code, Malformed, begin};
use super::{Checkpoint, TensorInfo};
use crate::dtype::DType;

/// Looks for block scales that are NaN or infinite, and plain weights that are. Types that the
/// engine does not compute with are passed over.
///
/// # Errors
/// `NONFINITE_SCALE` or `WEIGHT_NONFINITE` with tensor, block or element, and byte.
pub fn finite(checkpoint: &Checkpoint, tensor: &TensorInfo) -> Result<(), Malformed> {
    let Some(dtype) = tensor.dtype.dtype() else { return Ok(()) };
    let bytes = checkpoint.bytes(tensor);
    // Packed blocks of a published MXFP4 checkpoint keep their scales in a tensor of bytes.
    let scales = dtype == DType::U8 && tensor.name.ends_with("_scales");
    let found = match scales {
        true => bytes.iter().position(|b| *b == 255).map(|i| (i, i, "NaN".to_owned())),
        false => first(dtype, bytes),
    };
    let Some((index, byte, found)) = found else { return Ok(()) };
    let (code, unit) = match dtype.is_block() || scales {
        true => (Code::NonfiniteScale, "block"),
        false => (Code::WeightNonfinite, "element"),
    };
    let files = checkpoint.files();
    let path = files.get(usize::from(tensor.shard)).map(|file| file.path());
    let field = format!("{}.{unit}[{index}]", begin(&tensor.name));
    let path = path.unwrap_or(std::path::Path::new(""));
    let refusal = Malformed::new(code, path, field, found, "a finite number");
    Err(refusal.at(tensor.offset + byte as u64))
}

/// Block or element, byte, and value of the first that is not finite.
fn first(dtype: DType, bytes: &[u8]) -> Option<(usize, usize, String)> {
    let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f64();
    let at = |size: usize, places: &[usize], read: &dyn Fn(&[u8]) -> f64| {
        bytes.chunks_exact(size).enumerate().find_map(|(i, block)| {
            let odd = places.iter().find(|&&p| !read(&block[p..]).is_finite())?;
            Some((i, i * size + odd, read(&block[*odd..]).to_string()))
        })
    };
    let size = dtype.bytes();
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => at(size, &[0], &half),
        DType::Q4K | DType::Q5K => at(size, &[0, 2], &half),
        DType::Q6K => at(size, &[size - 2], &half),
        DType::Mxfp4 => at(size, &[0], &|b| if b[0] == 255 { f64::NAN } else { 0.0 }),
        DType::F16 => at(size, &[0], &half),
        DType::BF16 => at(size, &[0], &|b| bf16::from_le_bytes([b[0], b[1]]).to_f64()),
        DType::F32 => {
            at(size, &[0], &|b| b.first_chunk().map_or(0.0, |w| f32::from_le_bytes(*w).into()))
        }
        DType::F64 => at(size, &[0], &|b| b.first_chunk().map_or(0.0, |w| f64::from_le_bytes(*w))),
        DType::I32 | DType::U8 => None,
    }
}
