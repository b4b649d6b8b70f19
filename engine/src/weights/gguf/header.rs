//! The header of a GGUF file and its metadata records.

use std::sync::Arc;

use super::cursor::Cursor;
use super::value::{Array, Element, Entry, Metadata, Value};
use crate::weights::file::Mapped;
use crate::weights::refusal::{Code, Malformed, Warnings, begin, budget};

/// Longest key, in bytes (GGUF).
const KEY: u64 = 65_535;
/// Longest string value, in bytes; a chat template of 100 KB is the longest seen.
const STRING: u64 = (1 << 20) - 1;
/// Most elements of an array; the largest published list of merges has 446,189.
const ARRAY: u64 = 999_999;
/// Most metadata records; published files have 20 to 60.
const KV: u64 = 65_536;
/// Most tensors; the largest published files have below 2,000.
const TENSORS: u64 = 9_999;
/// The fewest bytes of a metadata record: length, one letter, type, one byte.
const KV_BYTES: u64 = 8 + 1 + 4 + 1;
/// The fewest bytes of a tensor record: length, one letter, no dimensions, type, offset.
const TENSOR_BYTES: u64 = 8 + 1 + 4 + 4 + 8;

/// How many records follow.
pub(super) struct Counts {
    pub(super) tensors: u64,
    pub(super) metadata: u64,
}

/// Magic, version and counts: the first 24 bytes. `entry` is the size of a tensor's entry in
/// memory.
pub(super) fn counts(cursor: &mut Cursor<'_>, entry: usize) -> Result<Counts, Malformed> {
    magic(cursor)?;
    let version = cursor.u32(|| "version".into())?;
    if version != 3 {
        let code = if version.swap_bytes() == 3 { Code::Endian } else { Code::Version };
        let expected = match code {
            Code::Endian => "3, little-endian; this file is big-endian",
            _ => "3",
        };
        return Err(cursor.refuse(code, 4, "version", version, expected));
    }
    let tensors = cursor.u64(|| "tensor_count".into())?;
    let metadata = cursor.u64(|| "kv_count".into())?;
    let tensor = (tensors, TENSOR_BYTES, entry, TENSORS);
    let left = held(cursor, 8, "tensor_count", tensor, cursor.left())?;
    held(cursor, 16, "kv_count", (metadata, KV_BYTES, size_of::<Entry>(), KV), left)?;
    Ok(Counts { tensors, metadata })
}

/// What a count leaves of the bytes left; `COUNT` if it cannot be held by the file, by the limit
/// of its kind, or by the memory that a file of this length may ask for.
fn held(
    cursor: &Cursor<'_>,
    offset: u64,
    field: &str,
    (count, smallest, entry, limit): (u64, u64, usize, u64),
    left: u64,
) -> Result<u64, Malformed> {
    let needs = count.checked_mul(smallest);
    let Some(rest) = needs.and_then(|needs| left.checked_sub(needs)) else {
        let expected = format!("records of at least {smallest} bytes each, {left} bytes are left");
        return Err(cursor.refuse(Code::Count, offset, field, count, expected));
    };
    if count > limit {
        let expected = format!("at most {limit}");
        return Err(cursor.refuse(Code::Count, offset, field, count, expected));
    }
    let most = budget(cursor.length()) / entry as u64;
    if count > most {
        let length = cursor.length();
        let expected = format!("at most {most} records in a file of {length} bytes");
        return Err(cursor.refuse(Code::Count, offset, field, count, expected));
    }
    Ok(rest)
}

fn magic(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    let found = cursor.array::<4>(|| "magic".into())?;
    if found == *b"GGUF" {
        return Ok(());
    }
    let hint = match &found {
        b"FUGG" => "; a byte-swapped file is not read",
        b"ggml" | b"lmgg" | b"ggjt" | b"tjgg" | b"GGJT" | b"GGMF" | b"ggmf" | b"fmgg" | b"ggla" => {
            "; a legacy format from before GGUF, convert it again"
        }
        b"vers" => "; a Git LFS pointer, run `git lfs pull`",
        b"<!DO" | b"<!do" | b"<htm" | b"<HTM" | b"404:" | b"Not " | b"Entr" | b"Inva" => {
            "; text of a web server, not a model"
        }
        b"PK\x03\x04" => "; a zip archive, not a model",
        _ => "",
    };
    let (shown, expected) = (found.escape_ascii(), format!("GGUF{hint}"));
    Err(cursor.refuse(Code::Magic, 0, "magic", shown, expected))
}

/// `count` metadata records.
pub(super) fn metadata(
    cursor: &mut Cursor<'_>,
    file: &Arc<Mapped>,
    count: u64,
    warnings: &mut Warnings,
) -> Result<Metadata, Malformed> {
    let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for index in 0..count {
        entries.push(entry(cursor, file, index, warnings)?);
    }
    no_key_twice(cursor, &entries)?;
    Ok(Metadata(entries))
}

fn entry(
    cursor: &mut Cursor<'_>,
    file: &Arc<Mapped>,
    index: u64,
    warnings: &mut Warnings,
) -> Result<Entry, Malformed> {
    let record = cursor.at();
    let key = key(cursor, index, warnings)?;
    let field = || key.clone();
    let at = cursor.at();
    let id = cursor.u32(field)?;
    let offset = cursor.at();
    let value = match (id, Element::of(id)) {
        (9, _) => Value::Array(array(cursor, file, &key)?),
        (_, Some(element)) => scalar(cursor, element, &key)?,
        (_, None) => {
            return Err(cursor.refuse(Code::ValueType, at, key, id, "a type from 0 to 12"));
        }
    };
    Ok(Entry { key, value, record, offset })
}

fn key(cursor: &mut Cursor<'_>, index: u64, warnings: &mut Warnings) -> Result<String, Malformed> {
    let field = || format!("metadata[{index}].key");
    let at = cursor.at();
    let length = cursor.u64(field)?;
    if length > KEY || length > cursor.left() {
        let expected = format!("at most {}", KEY.min(cursor.left()));
        return Err(cursor.refuse(Code::KeyLen, at, field(), length, expected));
    }
    if length == 0 {
        return Err(cursor.refuse(Code::KeyEmpty, at, field(), 0, "a key"));
    }
    let at = cursor.at();
    let bytes = cursor.take(length, field)?;
    let Ok(key) = std::str::from_utf8(bytes) else {
        let found = begin(&bytes.escape_ascii().to_string());
        return Err(cursor.refuse(Code::KeyUtf8, at, field(), found, "ASCII"));
    };
    if !key.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(cursor.refuse(Code::KeyChars, at, field(), begin(key), "printable ASCII"));
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
    if !key.bytes().all(plain) {
        warnings.add(format!("the key {} is not lower_snake_case", begin(key)));
    }
    Ok(key.to_owned())
}

fn scalar(cursor: &mut Cursor<'_>, element: Element, key: &str) -> Result<Value, Malformed> {
    let field = || key.to_owned();
    Ok(match element {
        Element::U8 => Value::U8(u8::from_le_bytes(cursor.array(field)?)),
        Element::I8 => Value::I8(i8::from_le_bytes(cursor.array(field)?)),
        Element::U16 => Value::U16(u16::from_le_bytes(cursor.array(field)?)),
        Element::I16 => Value::I16(i16::from_le_bytes(cursor.array(field)?)),
        Element::U32 => Value::U32(cursor.u32(field)?),
        Element::I32 => Value::I32(i32::from_le_bytes(cursor.array(field)?)),
        Element::F32 => Value::F32(f32::from_le_bytes(cursor.array(field)?)),
        Element::Bool => Value::Bool(boolean(cursor, field)?),
        Element::String => Value::String(string(cursor, field)?.to_owned()),
        Element::U64 => Value::U64(cursor.u64(field)?),
        Element::I64 => Value::I64(i64::from_le_bytes(cursor.array(field)?)),
        Element::F64 => Value::F64(f64::from_le_bytes(cursor.array(field)?)),
    })
}

fn boolean(cursor: &mut Cursor<'_>, field: impl Fn() -> String) -> Result<bool, Malformed> {
    let at = cursor.at();
    match cursor.array(&field)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(cursor.refuse(Code::Bool, at, field(), other, "0 or 1")),
    }
}

fn string<'a>(cursor: &mut Cursor<'a>, field: impl Fn() -> String) -> Result<&'a str, Malformed> {
    let at = cursor.at();
    let length = cursor.u64(&field)?;
    if length > STRING || length > cursor.left() {
        let expected = format!("at most {} bytes", STRING.min(cursor.left()));
        return Err(cursor.refuse(Code::StrLen, at, field(), length, expected));
    }
    let at = cursor.at();
    let bytes = cursor.take(length, &field)?;
    std::str::from_utf8(bytes).map_err(|e| {
        let byte = e.valid_up_to() as u64;
        let found = format!("byte 0x{:02x}", bytes[e.valid_up_to()]);
        cursor.refuse(Code::Utf8, at + byte, field(), found, "UTF-8")
    })
}

fn array(cursor: &mut Cursor<'_>, file: &Arc<Mapped>, key: &str) -> Result<Array, Malformed> {
    let field = || key.to_owned();
    let at = cursor.at();
    let id = cursor.u32(field)?;
    if id == 9 {
        return Err(cursor.refuse(Code::ArrNested, at, key, "an array", "elements, no arrays"));
    }
    let Some(element) = Element::of(id) else {
        return Err(cursor.refuse(Code::ArrType, at, key, id, "a type from 0 to 12"));
    };
    let at = cursor.at();
    let count = cursor.u64(field)?;
    let fits = count.checked_mul(element.bytes()).is_some_and(|needs| needs <= cursor.left());
    if count > ARRAY || !fits {
        let most = ARRAY.min(cursor.left() / element.bytes());
        let expected = format!("at most {most} of {}", element.name());
        return Err(cursor.refuse(Code::ArrLen, at, key, count, expected));
    }
    let start = cursor.at();
    match element {
        Element::String => {
            for i in 0..count {
                string(cursor, || format!("{key}[{i}]"))?;
            }
        }
        Element::Bool => {
            for i in 0..count {
                boolean(cursor, || format!("{key}[{i}]"))?;
            }
        }
        _ => drop(cursor.take(count * element.bytes(), field)?),
    }
    // Both ends lie in a mapped file, so they are places in memory.
    let range = start as usize..cursor.at() as usize;
    Ok(Array { file: Arc::clone(file), element, count: count as usize, range })
}

fn no_key_twice(cursor: &Cursor<'_>, entries: &[Entry]) -> Result<(), Malformed> {
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    order.sort_by_key(|&i| (entries[i as usize].key.as_str(), i));
    let twice =
        order.windows(2).map(|pair| (&entries[pair[0] as usize], &entries[pair[1] as usize]));
    let mut twice: Vec<_> = twice.filter(|(a, b)| a.key == b.key).collect();
    twice.sort_by_key(|(_, second)| second.record);
    match twice.first() {
        None => Ok(()),
        Some((first, second)) => {
            let found = format!("again; first at {}", first.record);
            Err(cursor.refuse(Code::KeyDup, second.record, &second.key, found, "once"))
        }
    }
}
