//! The tensor records of a GGUF file, and where their data must lie: aligned, one after the other,
//! up to the end of the file.

use super::cursor::Cursor;
use super::value::{Metadata, Value};
use crate::weights::refusal::{Code, Malformed, Warnings, begin};
use crate::weights::stored::{NEWER, REMOVED, Stored};
use crate::weights::{TensorInfo, duplicate};

/// The alignment of a file that names none (GGUF).
const ALIGNMENT: u64 = 32;
/// The largest alignment: one page of the largest kind that files are mapped with.
const ALIGNMENT_MOST: u64 = 65_536;
/// Longest tensor name, in bytes (GGUF).
const NAME: u64 = 64;
/// No size or sum of sizes may pass this: it must also fit in a signed length.
const MOST: u64 = i64::MAX as u64;

/// The alignment that the metadata ask for.
pub(super) fn alignment(
    cursor: &Cursor<'_>,
    metadata: &Metadata,
    warnings: &mut Warnings,
) -> Result<u64, Malformed> {
    let Some(entry) = metadata.entry("general.alignment") else { return Ok(ALIGNMENT) };
    let refuse = |code, found: String, expected: &str| {
        Err(cursor.refuse(code, entry.offset, &entry.key, found, expected))
    };
    let Value::U32(alignment) = entry.value else {
        return refuse(Code::AlignType, entry.value.kind().to_owned(), "uint32");
    };
    if !alignment.is_power_of_two() {
        return refuse(Code::Align, alignment.to_string(), "a power of two");
    }
    if u64::from(alignment) > ALIGNMENT_MOST {
        return refuse(Code::AlignRange, alignment.to_string(), "at most 65536");
    }
    if alignment < 8 {
        warnings.add(format!("general.alignment is {alignment}; the format wants a multiple of 8"));
    }
    Ok(alignment.into())
}

/// A tensor record as read, before its place is checked.
pub(super) struct Record {
    info: TensorInfo,
    /// From the beginning of the data, as written.
    relative: u64,
    /// The byte where the offset stands.
    at: u64,
    /// The byte where the record begins.
    record: u64,
}

/// What a record takes in memory, bytes.
pub(super) const ENTRY: usize = size_of::<Record>();

/// `count` tensor records.
pub(super) fn records(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Record>, Malformed> {
    let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for index in 0..count {
        records.push(record(cursor, index)?);
    }
    let name = |record: &Record| record.info.name.clone();
    if let Some((first, second)) = duplicate(&records, |r| &r.info.name) {
        let again = &records[second];
        let found = format!("{}, which tensors[{first}] has", name(again));
        let field = format!("tensors[{second}].name");
        return Err(cursor.refuse(Code::NameDup, again.record, field, found, "a name of its own"));
    }
    Ok(records)
}

fn record(cursor: &mut Cursor<'_>, index: u64) -> Result<Record, Malformed> {
    let start = cursor.at();
    let name = name(cursor, index)?;
    let field = |part: &str| format!("tensors[{index}].{part}");
    let at = cursor.at();
    let count = cursor.u32(|| field("n_dims"))?;
    if count > 4 {
        return Err(cursor.refuse(Code::Ndims, at, field("n_dims"), count, "at most 4"));
    }
    let first = cursor.at();
    let mut dims = [1u64; 4];
    for (i, dim) in dims.iter_mut().enumerate().take(count as usize) {
        let at = cursor.at();
        *dim = cursor.u64(|| field(&format!("dims[{i}]")))?;
        if *dim > MOST {
            let field = field(&format!("dims[{i}]"));
            return Err(cursor.refuse(Code::DimRange, at, field, *dim, format!("at most {MOST}")));
        }
    }
    let dims = &dims[..count as usize];
    let at = cursor.at();
    let id = cursor.u32(|| field("type"))?;
    let dtype = stored(cursor, at, &field("type"), id)?;
    let elements = product(dims).ok_or_else(|| {
        let found = format!("{dims:?}");
        cursor.refuse(Code::DimOverflow, first, field("dims"), found, "a product below 2^63")
    })?;
    let row = dims.first().copied().unwrap_or(1);
    if !row.is_multiple_of(dtype.elements()) {
        let expected = format!("rows of whole blocks of {} ({dtype})", dtype.elements());
        let field = field("dims[0]");
        return Err(cursor.refuse(Code::Block, first, field, row, expected));
    }
    let bytes = (elements / dtype.elements()).checked_mul(dtype.bytes()).filter(|b| *b <= MOST);
    let bytes = bytes.ok_or_else(|| {
        let found = format!("{dims:?} of {dtype}");
        cursor.refuse(Code::SizeOverflow, first, field("dims"), found, "fewer than 2^63 bytes")
    })?;
    let at = cursor.at();
    let relative = cursor.u64(|| field("offset"))?;
    // Row-major: the format lists the fastest axis first.
    let shape = dims.iter().rev().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    let info = TensorInfo { name, dtype, shape, offset: 0, bytes, shard: 0 };
    Ok(Record { info, relative, at, record: start })
}

fn name(cursor: &mut Cursor<'_>, index: u64) -> Result<String, Malformed> {
    let field = || format!("tensors[{index}].name");
    let at = cursor.at();
    let length = cursor.u64(field)?;
    if length > NAME {
        let expected = format!("at most {NAME} bytes");
        return Err(cursor.refuse(Code::NameLen, at, field(), length, expected));
    }
    if length == 0 {
        return Err(cursor.refuse(Code::NameEmpty, at, field(), 0, "a name"));
    }
    let at = cursor.at();
    let bytes = cursor.take(length, field)?;
    let Ok(name) = std::str::from_utf8(bytes) else {
        let found = begin(&bytes.escape_ascii().to_string());
        return Err(cursor.refuse(Code::Utf8, at, field(), found, "UTF-8"));
    };
    if name.chars().any(char::is_control) {
        let expected = "no control characters";
        return Err(cursor.refuse(Code::NameChars, at, field(), begin(name), expected));
    }
    Ok(name.to_owned())
}

fn stored(cursor: &Cursor<'_>, at: u64, field: &str, id: u32) -> Result<Stored, Malformed> {
    if let Some(stored) = Stored::of_gguf(id) {
        return Ok(stored);
    }
    let refuse =
        |code, found: String, expected: &str| Err(cursor.refuse(code, at, field, found, expected));
    if let Some((_, name)) = REMOVED.iter().find(|(removed, _)| *removed == id) {
        return refuse(Code::TypeRemoved, format!("{id} ({name})"), "a type that GGUF still has");
    }
    if NEWER.contains(&id) {
        return refuse(Code::TypeUnsupported, id.to_string(), "at most 39; needs a newer reader");
    }
    refuse(Code::TypeInvalid, id.to_string(), "a type from 0 to 39")
}

/// The product, and that no order of the factors would pass the limit: a zero hides nothing.
fn product(dims: &[u64]) -> Option<u64> {
    let product = |least: u64| {
        dims.iter().try_fold(1u64, |p, d| p.checked_mul(*d.max(&least)).filter(|p| *p <= MOST))
    };
    product(1)?;
    product(0)
}

/// Gives every tensor its place in the file.
pub(super) fn place(
    cursor: &Cursor<'_>,
    mut records: Vec<Record>,
    alignment: u64,
    bytes: &[u8],
) -> Result<Vec<TensorInfo>, Malformed> {
    let header = cursor.at();
    let length = cursor.length();
    let start = header.next_multiple_of(alignment);
    sizes(cursor, &records, alignment)?;
    for (index, record) in records.iter_mut().enumerate() {
        record.info.offset = offset(cursor, record, index, (start, alignment))?;
    }
    let end = tile(cursor, &records, start, alignment)?;
    let padded = end.next_multiple_of(alignment);
    // A file without tensors may end at once, or after its padding.
    let last = if records.is_empty() { header } else { end };
    if length > padded {
        let found = format!("{} bytes", length - padded);
        return Err(cursor.refuse(Code::Trailing, padded, "file", found, "the end of the file"));
    }
    let mut ends: Vec<(u64, u64)> = vec![(header, start.min(length)), (last, length)];
    let used = |r: &Record| r.info.offset + r.info.bytes;
    ends.extend(records.iter().map(|r| (used(r), used(r).next_multiple_of(alignment))));
    for (from, to) in ends {
        zeros(cursor, bytes, from, to.min(length))?;
    }
    Ok(records.into_iter().map(|record| record.info).collect())
}

/// The sum of all padded sizes, and each size against the file.
fn sizes(cursor: &Cursor<'_>, records: &[Record], alignment: u64) -> Result<(), Malformed> {
    let mut sum = 0u64;
    for (index, record) in records.iter().enumerate() {
        let padded = record.info.bytes.checked_next_multiple_of(alignment);
        let next = padded.and_then(|padded| sum.checked_add(padded)).filter(|sum| *sum <= MOST);
        let Some(next) = next else {
            let found = format!("{sum} bytes before it, {} of its own", record.info.bytes);
            let (field, expected) = (format!("tensors[{index}]"), "a sum below 2^63 bytes");
            let at = record.record;
            return Err(cursor.refuse(Code::SizeOverflow, at, field, found, expected));
        };
        sum = next;
    }
    for (index, record) in records.iter().enumerate() {
        let (has, needs) = (cursor.length(), record.info.bytes);
        if needs > has {
            let found = format!("{} of {needs} bytes", begin(&record.info.name));
            let expected = format!("at most the file's {has} bytes");
            let field = format!("tensors[{index}]");
            return Err(cursor.refuse(Code::SizeRange, record.record, field, found, expected));
        }
    }
    Ok(())
}

fn offset(
    cursor: &Cursor<'_>,
    record: &Record,
    index: usize,
    (start, alignment): (u64, u64),
) -> Result<u64, Malformed> {
    let relative = record.relative;
    let aligned = relative.is_multiple_of(alignment);
    // A tensor without bytes may lie at the very end.
    let place = start
        .checked_add(relative)
        .filter(|place| *place <= cursor.length() || (relative == 0 && start > cursor.length()));
    let (code, expected) = match (aligned, place) {
        (true, Some(place)) => return Ok(place),
        (true, None) => (Code::OffsetRange, format!("inside {} bytes", cursor.length())),
        (false, Some(_)) => (Code::OffsetAlign, format!("a multiple of {alignment}")),
        (false, None) => {
            let length = cursor.length();
            (Code::Offset, format!("a multiple of {alignment} inside {length} bytes"))
        }
    };
    Err(cursor.refuse(code, record.at, format!("tensors[{index}].offset"), relative, expected))
}

/// Holds the tensors to lie one after the other; the end of the last.
fn tile(
    cursor: &Cursor<'_>,
    records: &[Record],
    start: u64,
    alignment: u64,
) -> Result<u64, Malformed> {
    let mut order: Vec<u32> = (0..records.len() as u32).collect();
    order.sort_by_key(|&i| {
        let record = &records[i as usize];
        (record.relative, record.info.bytes, i)
    });
    let (mut end, mut before) = (start, "the header");
    for (nth, &i) in order.iter().enumerate() {
        let Record { info, at, .. } = &records[i as usize];
        let next = if nth == 0 { start } else { end.next_multiple_of(alignment) };
        let field = format!("tensors[{i}].offset");
        let found = |what: &str| format!("{} {what} {}", begin(&info.name), begin(before));
        let expected = format!("{}", next - start);
        if info.offset < next {
            let found = found("inside");
            return Err(cursor.refuse(Code::Overlap, *at, field, found, expected));
        }
        if info.offset > next {
            let found = found(&format!("{} bytes after", info.offset - next));
            return Err(cursor.refuse(Code::Gap, *at, field, found, expected));
        }
        // Neither addend passes 2^63, see `sizes`.
        end = info.offset + info.bytes;
        if end > cursor.length() {
            let left = cursor.length().saturating_sub(info.offset);
            let found = format!("{} has {left} bytes", begin(&info.name));
            let expected = format!("{} bytes", info.bytes);
            let field = format!("tensors[{i}]");
            return Err(cursor.refuse(Code::DataShort, info.offset, field, found, expected));
        }
        before = &info.name;
    }
    Ok(end)
}

fn zeros(cursor: &Cursor<'_>, bytes: &[u8], from: u64, to: u64) -> Result<(), Malformed> {
    // Both ends are at most the length of a mapped file.
    let range = bytes.get(from as usize..to as usize).unwrap_or_default();
    match range.iter().position(|b| *b != 0) {
        None => Ok(()),
        Some(i) => {
            let found = format!("byte 0x{:02x}", range[i]);
            Err(cursor.refuse(Code::Padding, from + i as u64, "padding", found, "zero"))
        }
    }
}
