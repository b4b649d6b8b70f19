//! Planted faults: edits one tensor or one number in a model's file. The case must detect the
//! fault, and a case of slots must also locate it.

use std::fs;
use std::path::Path;

use goldgate_engine::weights::{Gguf, TensorInfo};
use goldgate_tensor::Tensor;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign};
use goldgate_tensor::shape::Meta;

use crate::kinds::mutant::model::ModelEdit;

/// Writes an edited copy of the GGUF file at `original` to `file`.
///
/// # Errors
/// Why the edit is impossible, in words.
pub fn edited_file(original: &Path, file: &Path, edit: &ModelEdit) -> Result<(), String> {
    let gguf = Gguf::open(original).map_err(|_| "an edit wants the GGUF form".to_owned())?;
    let mut bytes =
        read_foreign(original, Bounds::of_user(LARGEST_WHOLE)).map_err(|e| e.to_string())?;
    edited(&gguf, &mut bytes, edit)?;
    fs::write(file, &bytes).map_err(|e| e.to_string())
}

/// Applies an edit to the bytes of a file.
fn edited(gguf: &Gguf, bytes: &mut [u8], edit: &ModelEdit) -> Result<(), String> {
    // Kept, because a swap needs the old bytes and an edit without effect must be noticed.
    let before = bytes.to_vec();
    if let (Some(key), Some(value)) = (&edit.key, edit.value) {
        let entry = gguf.metadata().entry(key).ok_or_else(|| format!("no key {key}"))?;
        let at = entry.offset as usize;
        let new: Vec<u8> = match entry.value.kind() {
            "float32" => (value as f32).to_le_bytes().to_vec(),
            "uint32" => (value as u32).to_le_bytes().to_vec(),
            // Values of another size would shift everything behind them.
            other => return Err(format!("{key} is {other}, no number of four bytes")),
        };
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    if let Some(name) = &edit.tensor {
        let find = |name: &String| gguf.tensor(name).ok_or_else(|| format!("no tensor {name}"));
        let info = find(name)?;
        let whole = info.offset as usize..(info.offset + info.bytes) as usize;
        match (&edit.copy, &edit.swap) {
            (None, None) => in_place(info, &mut bytes[whole.clone()], edit)?,
            (Some(other), _) | (_, Some(other)) => {
                let from = find(other)?;
                // Anything else would move the tensors behind it, and the file would be malformed
                // instead of wrong.
                if (from.bytes, from.dtype) != (info.bytes, info.dtype) {
                    return Err(format!("{name} and {other} are not of one size and type"));
                }
                let there = from.offset as usize..(from.offset + from.bytes) as usize;
                bytes[whole.clone()].copy_from_slice(&before[there.clone()]);
                if edit.swap.is_some() {
                    bytes[there].copy_from_slice(&before[whole.clone()]);
                }
            }
        }
    }
    // An edit without effect would plant no fault, and its survival would mean nothing.
    match before == *bytes {
        true => Err("the edit changes nothing".to_owned()),
        false => Ok(()),
    }
}

/// Edits one tensor. Whole rows are moved as bytes; elements are changed only in float tensors.
fn in_place(info: &TensorInfo, bytes: &mut [u8], edit: &ModelEdit) -> Result<(), String> {
    let rows = info.shape.first().copied().unwrap_or(1);
    let row = bytes.len() / rows.max(1);
    if edit.zero {
        bytes.fill(0);
    } else if let Some(by) = edit.roll_rows {
        bytes.rotate_left((by as usize % rows.max(1)) * row);
    } else if let Some(heads) = edit.pairs_of_heads {
        pairs(bytes, row, heads as usize)?;
    } else {
        // The elements of a block share its scale, so none of them can be changed alone.
        let dtype = info.dtype.dtype().filter(|t| t.is_float());
        let dtype = dtype.ok_or_else(|| format!("{} is no float", info.name))?;
        let tensor = Tensor { meta: Meta::new(dtype, &info.shape), bytes: bytes.to_vec() };
        let mut numbers = tensor.to_f64();
        if edit.transpose {
            let [n, m] = info.shape[..] else { return Err("no matrix".to_owned()) };
            // The shape stays, so only a square matrix can be transposed in place.
            if n != m {
                return Err(format!("{n} by {m} is not square"));
            }
            numbers = (0..n * n).map(|i| numbers[i % n * n + i / n]).collect();
        }
        let factor = edit.scale.unwrap_or(if edit.negate { -1.0 } else { 1.0 });
        numbers.iter_mut().for_each(|x| *x *= factor);
        bytes.copy_from_slice(&Tensor::from_f64(dtype, &info.shape, &numbers).bytes);
    }
    Ok(())
}

/// Rearranges the rows of each head from two halves into neighbouring pairs.
fn pairs(bytes: &mut [u8], row: usize, heads: usize) -> Result<(), String> {
    let before = bytes.to_vec();
    let head = bytes.len() / row / heads.max(1);
    if !head.is_multiple_of(2) || head * heads * row != bytes.len() {
        return Err(format!("{heads} heads do not divide the rows into pairs"));
    }
    for (to, new) in bytes.chunks_exact_mut(row).enumerate() {
        let (of, i) = (to / head, to % head);
        let from = of * head + i / 2 + i % 2 * (head / 2);
        new.copy_from_slice(&before[from * row..(from + 1) * row]);
    }
    Ok(())
}
