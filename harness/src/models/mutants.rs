//! Planted faults: one tensor or one number of a model's file is edited, and the case must notice;
//! a case of slots must also say where.

use std::fs;
use std::path::Path;

use goldgate_engine::Tensor;
use goldgate_engine::shape::Meta;
use goldgate_engine::weights::{Gguf, TensorInfo};
use schemars::JsonSchema;

use crate::spec::read::Reader;
use crate::spec::yaml::Node;

/// Another model in place of the case's: one tensor or one number of its GGUF file is edited.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelEdit {
    /// The tensor, by its name in the file.
    pub tensor: Option<String>,
    /// Becomes zero.
    #[schemars(default)]
    pub zero: bool,
    /// Becomes the same with the other sign.
    #[schemars(default)]
    pub negate: bool,
    /// Its memory is that of its transpose, under the same shape; square.
    #[schemars(default)]
    pub transpose: bool,
    /// Every element times that.
    pub scale: Option<f64>,
    /// Each row in the place of the one so many before it.
    pub roll_rows: Option<u64>,
    /// Rows of each of so many heads: from halves to neighbouring pairs.
    pub pairs_of_heads: Option<u64>,
    /// Its bytes become those of another tensor.
    pub copy: Option<String>,
    /// The two change places.
    pub swap: Option<String>,
    /// A number of the metadata.
    pub key: Option<String>,
    /// What it becomes.
    pub value: Option<f64>,
    /// The slot that a case of slots must name as the first that diverges.
    pub diverges_at: Option<String>,
}

/// Reads a fault.
pub fn model_edit(r: &Reader<'_>, node: &Node, path: &str) -> Option<ModelEdit> {
    let mut f = r.fields(node, path)?;
    let count = |r: &Reader<'_>, n: &Node, p: &str| Some(r.int(n, p, 1, 1 << 20)? as u64);
    let edit = ModelEdit {
        tensor: f.may("tensor", Reader::text),
        zero: f.may("zero", Reader::flag).unwrap_or_default(),
        negate: f.may("negate", Reader::flag).unwrap_or_default(),
        transpose: f.may("transpose", Reader::flag).unwrap_or_default(),
        scale: f.may("scale", Reader::number),
        roll_rows: f.may("roll_rows", count),
        pairs_of_heads: f.may("pairs_of_heads", count),
        copy: f.may("copy", Reader::text),
        swap: f.may("swap", Reader::text),
        key: f.may("key", Reader::text),
        value: f.may("value", Reader::number),
        diverges_at: f.may("diverges_at", Reader::text),
    };
    f.done();
    let flags = [edit.zero, edit.negate, edit.transpose];
    let given = [
        edit.scale.is_some(),
        edit.roll_rows.is_some(),
        edit.pairs_of_heads.is_some(),
        edit.copy.is_some(),
        edit.swap.is_some(),
    ];
    let changes = flags.iter().chain(&given).filter(|x| **x).count();
    let whole = match (&edit.tensor, &edit.key) {
        (Some(_), None) => changes == 1 && edit.value.is_none(),
        (None, Some(_)) => changes == 0 && edit.value.is_some(),
        _ => false,
    };
    if !whole {
        let expected = "one change of one `tensor`, or a `key` with its `value`";
        r.note(node, "MISSING_FIELD", path, expected);
    }
    Some(edit)
}

/// Writes the GGUF file at `original` to `file`, edited.
///
/// # Errors
/// What cannot be edited so, in words.
pub fn edited_file(original: &Path, file: &Path, edit: &ModelEdit) -> Result<(), String> {
    let gguf = Gguf::open(original).map_err(|_| "an edit wants the GGUF form".to_owned())?;
    let mut bytes = fs::read(original).map_err(|e| e.to_string())?;
    edited(&gguf, &mut bytes, edit)?;
    fs::write(file, &bytes).map_err(|e| e.to_string())
}

/// Applies an edit to the bytes of a file.
fn edited(gguf: &Gguf, bytes: &mut [u8], edit: &ModelEdit) -> Result<(), String> {
    let before = bytes.to_vec();
    if let (Some(key), Some(value)) = (&edit.key, edit.value) {
        let entry = gguf.metadata().entry(key).ok_or_else(|| format!("no key {key}"))?;
        let at = entry.offset as usize;
        let new: Vec<u8> = match entry.value.kind() {
            "float32" => (value as f32).to_le_bytes().to_vec(),
            "uint32" => (value as u32).to_le_bytes().to_vec(),
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
    match before == *bytes {
        true => Err("the edit changes nothing".to_owned()),
        false => Ok(()),
    }
}

/// Edits of one tensor; whole rows move as bytes, elements only where they are floats.
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
        let dtype = info.dtype.dtype().filter(|t| t.is_float());
        let dtype = dtype.ok_or_else(|| format!("{} is no float", info.name))?;
        let tensor = Tensor { meta: Meta::new(dtype, &info.shape), bytes: bytes.to_vec() };
        let mut numbers = tensor.to_f64();
        if edit.transpose {
            let [n, m] = info.shape[..] else { return Err("no matrix".to_owned()) };
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

/// Rows of each head from its two halves to neighbouring pairs.
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
