//! What costs a pass over the data: scales and weights that are not finite.

use half::{bf16, f16};
use rayon::prelude::*;

use super::refusal::{Code, Malformed, begin};
use super::{Checkpoint, TensorInfo};
use crate::dtype::DType;
use crate::quant::is_finite;

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
        false if is_finite(dtype, bytes) => None,
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

/// [`finite`] of every tensor, on all cores: the first refusal in the order of the file.
///
/// # Errors
/// As [`finite`].
pub fn all(checkpoint: &Checkpoint) -> Result<(), Malformed> {
    let refusal = |tensor: &TensorInfo| finite(checkpoint, tensor).err();
    checkpoint.tensors().par_iter().find_map_first(refusal).map_or(Ok(()), Err)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::gguf::tests::{Builder, in_memory};

    /// Code, offset in the tensor and field of the refusal of a tensor of type `id`.
    fn refused(id: u32, dims: &[u64], data: &[u8]) -> Option<(Code, u64, String)> {
        let builder = Builder::default().string("general.architecture", "llama");
        let bytes = builder.tensor("w", dims, id, data).bytes();
        let (_kept, path) = in_memory(&bytes);
        let checkpoint = Checkpoint::open(&path).expect("a good file");
        let tensor = checkpoint.tensor("w").expect("w").clone();
        let refusal = finite(&checkpoint, &tensor).err()?;
        let offset = refusal.offset.expect("a byte") - tensor.offset;
        Some((refusal.code, offset, refusal.field))
    }

    #[test]
    fn scales_that_are_not_finite_are_found_in_every_block_format() {
        let nan = [0x00, 0x7e];
        for (id, places) in [
            (2, &[0][..]),
            (6, &[0]),
            (8, &[0]),
            (12, &[0, 2]),
            (13, &[0, 2]),
            (14, &[208]),
            (39, &[0]),
        ] {
            let stored = crate::weights::Stored::of_gguf(id).expect("a type");
            let (row, size) = (stored.elements(), stored.bytes() as usize);
            assert_eq!(refused(id, &[row, 3], &vec![0; 3 * size]), None, "{stored}");
            for place in places {
                let mut data = vec![0; 3 * size];
                let at = size + place;
                match id {
                    39 => data[at] = 255,
                    _ => data[at..at + 2].copy_from_slice(&nan),
                }
                let found = refused(id, &[row, 3], &data).expect("a refusal");
                let wanted = (Code::NonfiniteScale, at as u64, "w.block[1]".to_owned());
                assert_eq!(found, wanted, "{stored}");
            }
        }
    }

    #[test]
    fn weights_that_are_not_finite_are_found() {
        for (id, bytes) in [
            (0, f32::NAN.to_le_bytes().to_vec()),
            (0, f32::NEG_INFINITY.to_le_bytes().to_vec()),
            (1, f16::INFINITY.to_le_bytes().to_vec()),
            (30, bf16::NAN.to_le_bytes().to_vec()),
        ] {
            let mut data = vec![0; bytes.len()];
            data.extend(&bytes);
            let wanted = (Code::WeightNonfinite, bytes.len() as u64, "w.element[1]".to_owned());
            assert_eq!(refused(id, &[2], &data), Some(wanted));
        }
        // Whole numbers are always finite, whatever their bits.
        assert_eq!(refused(26, &[1], &[255; 4]), None);
    }

    #[test]
    fn scales_of_a_published_checkpoint_are_bytes_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let header = r#"{"w_blocks":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
            "w_scales":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([255, 255, 0, 255]);
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
        std::fs::write(folder.path().join("config.json"), "{}").expect("written");
        let checkpoint = Checkpoint::open(folder.path()).expect("a good folder");
        let scan = |name: &str| finite(&checkpoint, checkpoint.tensor(name).expect("named"));
        scan("w_blocks").expect("codes may have any bits");
        let refusal = scan("w_scales").expect_err("a NaN");
        assert_eq!((refusal.code, &*refusal.field), (Code::NonfiniteScale, "w_scales.block[1]"));
    }
}
