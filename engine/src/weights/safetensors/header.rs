//! The header of a safetensors file: eight bytes of length, one JSON object, then the data.

use std::borrow::Cow;

use crate::weights::file::Mapped;
use crate::weights::json::{Kind, Reader, Text, below};
use crate::weights::refusal::{Code, Malformed, begin, budget};
use crate::weights::stored::Stored;
use crate::weights::{TensorInfo, duplicate};

/// Longest header, bytes; the longest published ones have a few MiB.
const HEADER: u64 = 32 << 20;
/// Most tensors of one file.
const TENSORS: usize = 65_536;
/// Longest tensor name, bytes.
const NAME: usize = 1024;
/// Most dimensions.
const RANK: usize = 8;
/// No size may pass this: it must also fit in a signed length.
const MOST: u64 = i64::MAX as u64;

/// The tensors of one file, checked.
pub(super) fn read(file: &Mapped, shard: u16) -> Result<Vec<TensorInfo>, Malformed> {
    let text = text(file)?;
    let start = 8 + length(file)?;
    let count = count(text)?;
    let most = budget(file.len() as u64) as usize / size_of::<Entry>();
    if count > TENSORS.min(most) {
        let expected = format!("at most {} tensors", TENSORS.min(most));
        return Err(text.refuse(Code::Count, 0, "", count, expected));
    }
    let entries = entries(text, count)?;
    if let Some((_, second)) = duplicate(&entries, |e| &e.info.name) {
        let again = &entries[second];
        let (pointer, found) = (below("", &again.info.name), begin(&again.info.name));
        return Err(text.refuse(Code::NameDup, again.at, pointer, found, "a name of its own"));
    }
    let data = file.len() as u64 - start;
    tile(file, &entries, text, (start, data))?;
    let place =
        |entry: Entry| TensorInfo { offset: start + entry.info.offset, shard, ..entry.info };
    Ok(entries.into_iter().map(place).collect())
}

/// The header's length, held against the file and the limit.
fn length(file: &Mapped) -> Result<u64, Malformed> {
    let refuse = |code, found: String, expected: String| {
        Err(Malformed::new(code, file.path(), "header_len", found, expected).at(0))
    };
    let Some(first) = file.first_chunk::<8>() else {
        let found = format!("{} bytes left", file.len());
        return refuse(Code::Truncated, found, "8 bytes".to_owned());
    };
    let length = u64::from_le_bytes(*first);
    let left = file.len() as u64 - 8;
    if length >= 2 && length <= left.min(HEADER) {
        return Ok(length);
    }
    let hint = match &first[..] {
        b"version " => "; a Git LFS pointer, run `git lfs pull`",
        [b'<', ..] | [b'4', b'0', b'4', ..] | [b'N', b'o', b't', ..] => {
            "; text of a web server, not a model"
        }
        [b'G', b'G', b'U', b'F', ..] => "; a GGUF file",
        _ => "",
    };
    refuse(Code::HeaderLen, length.to_string(), format!("2 to {}{hint}", left.min(HEADER)))
}

fn text(file: &Mapped) -> Result<Text<'_>, Malformed> {
    // Held against the file by `length`.
    let end = 8 + length(file)? as usize;
    let bytes = &file[8..end];
    let may_begin = |b: &u8| matches!(b, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z');
    if !bytes.first().is_some_and(may_begin) {
        let found = format!("byte 0x{:02x}", bytes[0]);
        let refusal = Malformed::new(Code::HeaderFirstByte, file.path(), "header", found, "`{`");
        return Err(refusal.at(8));
    }
    Text::new(file.path(), bytes, 8)
}

/// How many keys the object has.
fn count(text: Text<'_>) -> Result<usize, Malformed> {
    let mut reader = text.reader();
    reader.object(&String::new)?;
    let mut count = 0;
    while reader.key().is_some() {
        reader.skip();
        count += 1;
    }
    Ok(count)
}

/// A tensor as written; its offset counts from the beginning of the data.
struct Entry {
    info: TensorInfo,
    /// The byte of the text where its name begins.
    at: usize,
}

fn entries(text: Text<'_>, count: usize) -> Result<Vec<Entry>, Malformed> {
    let mut reader = text.reader();
    reader.object(&String::new)?;
    let mut entries = Vec::with_capacity(count);
    let mut metadata = false;
    while let Some((at, name)) = reader.key() {
        if name != "__metadata__" {
            entries.push(entry(&mut reader, at, &name)?);
            continue;
        }
        if std::mem::replace(&mut metadata, true) {
            let found = "again";
            return Err(text.refuse(Code::JsonDup, at, below("", &name), found, "once"));
        }
        strings(&mut reader, count)?;
    }
    Ok(entries)
}

/// `__metadata__`: strings under keys that each stand once.
fn strings(reader: &mut Reader<'_>, count: usize) -> Result<(), Malformed> {
    let text = reader.text();
    let here = || "/__metadata__".to_owned();
    reader.object(&here)?;
    let mut keys: Vec<(Cow<'_, str>, usize)> = Vec::with_capacity(count.min(64));
    while let Some((at, key)) = reader.key() {
        reader.string(&|| below("/__metadata__", &key))?;
        keys.push((key, at));
        if keys.len() > TENSORS / 64 {
            let expected = format!("at most {} keys", TENSORS / 64);
            return Err(text.refuse(Code::Count, at, here(), keys.len(), expected));
        }
    }
    if let Some((_, second)) = duplicate(&keys, |(key, _)| key) {
        let (key, at) = &keys[second];
        let pointer = below("/__metadata__", key);
        return Err(text.refuse(Code::JsonDup, *at, pointer, begin(key), "once"));
    }
    Ok(())
}

fn entry(reader: &mut Reader<'_>, at: usize, name: &str) -> Result<Entry, Malformed> {
    let text = reader.text();
    let pointer = below("", &begin(name));
    let here = || pointer.clone();
    let refuse = |code, found: &str, expected: &str| {
        Err(text.refuse(code, at, here(), begin(found), expected))
    };
    if name.is_empty() {
        return refuse(Code::NameEmpty, "\"\"", "a name");
    }
    if name.len() > NAME {
        return refuse(Code::NameLen, name, "at most 1024 bytes");
    }
    if name.chars().any(char::is_control) {
        return refuse(Code::NameChars, name, "no control characters");
    }
    reader.object(&here)?;
    let mut fields = Fields::default();
    while let Some((key_at, key)) = reader.key() {
        let below = || below(&pointer, &begin(&key));
        let twice = match &*key {
            "dtype" => fields.dtype.replace((key_at, dtype(reader, &below)?)).is_some(),
            "shape" => fields.shape.replace((key_at, shape(reader, &below)?)).is_some(),
            "data_offsets" => fields.range.replace((key_at, range(reader, &below)?)).is_some(),
            _ => {
                let expected = "dtype, shape or data_offsets";
                let found = begin(&key);
                return Err(text.refuse(Code::JsonUnknown, key_at, below(), found, expected));
            }
        };
        if twice {
            return Err(text.refuse(Code::JsonDup, key_at, below(), begin(&key), "once"));
        }
    }
    let info = fields.info(text, at, name, &pointer)?;
    Ok(Entry { info, at })
}

/// The fields of an entry, each with the byte where its key begins.
#[derive(Default)]
struct Fields {
    dtype: Option<(usize, Stored)>,
    shape: Option<(usize, Vec<usize>)>,
    range: Option<(usize, [u64; 2])>,
}

impl Fields {
    fn info(
        self,
        text: Text<'_>,
        at: usize,
        name: &str,
        pointer: &str,
    ) -> Result<TensorInfo, Malformed> {
        let missing = |code, field: &str, expected: String| {
            text.refuse(code, at, below(pointer, field), "nothing", expected)
        };
        let (_, dtype) =
            self.dtype.ok_or_else(|| missing(Code::Dtype, "dtype", Stored::words().join(" ")))?;
        let (shape_at, shape) =
            self.shape.ok_or_else(|| missing(Code::JsonType, "shape", "an array".into()))?;
        let (range_at, [from, to]) =
            self.range.ok_or_else(|| missing(Code::JsonType, "data_offsets", "an array".into()))?;
        let refuse = |code, at, field: &str, found: String, expected: String| {
            Err(text.refuse(code, at, below(pointer, field), found, expected))
        };
        let (dims, shown) = (|x: &usize| *x as u64, format!("{shape:?}"));
        // A zero must hide no overflow: the verdict does not depend on the order of dimensions.
        let product = shape
            .iter()
            .map(dims)
            .try_fold(1u64, |p, d| p.checked_mul(d.max(1)).filter(|p| *p <= MOST));
        if product.is_none() {
            let expected = "a product below 2^63".to_owned();
            return refuse(Code::DimOverflow, shape_at, "shape", shown, expected);
        }
        let elements: u64 = shape.iter().map(dims).product();
        if !elements.is_multiple_of(dtype.elements()) {
            let expected = format!("a multiple of {} elements of {dtype}", dtype.elements());
            return refuse(Code::Subbyte, shape_at, "shape", shown, expected);
        }
        let bytes = (elements / dtype.elements()).checked_mul(dtype.bytes());
        let Some(bytes) = bytes.filter(|bytes| *bytes <= MOST) else {
            let expected = "fewer than 2^63 bytes".to_owned();
            return refuse(Code::SizeOverflow, shape_at, "shape", shown, expected);
        };
        if to < from {
            let expected = "an end after the beginning".to_owned();
            let found = format!("[{from}, {to}]");
            return refuse(Code::OffsetOrder, range_at, "data_offsets", found, expected);
        }
        if to - from != bytes {
            let expected = format!("{bytes} bytes for {shown} of {dtype}");
            let found = format!("{} bytes", to - from);
            return refuse(Code::SizeMismatch, range_at, "data_offsets", found, expected);
        }
        Ok(TensorInfo { name: name.to_owned(), dtype, shape, offset: from, bytes, shard: 0 })
    }
}

fn dtype(reader: &mut Reader<'_>, here: &dyn Fn() -> String) -> Result<Stored, Malformed> {
    let (at, text) = (reader.at(), reader.text());
    let refuse =
        |found: String| text.refuse(Code::Dtype, at, here(), found, Stored::words().join(" "));
    if reader.kind() != Kind::String {
        return Err(refuse("no string".to_owned()));
    }
    let word = reader.string(here)?;
    Stored::of_word(&word).ok_or_else(|| refuse(begin(&word)))
}

fn shape(reader: &mut Reader<'_>, here: &dyn Fn() -> String) -> Result<Vec<usize>, Malformed> {
    reader.array(here)?;
    let mut shape = Vec::new();
    while !reader.end() {
        let (at, text) = (reader.at(), reader.text());
        let pointer = || format!("{}/{}", here(), shape.len());
        let Some(dim) = reader.integer(&pointer)? else {
            let found = "a number above 2^64 - 1";
            return Err(text.refuse(Code::DimOverflow, at, pointer(), found, "below 2^63"));
        };
        if shape.len() == RANK {
            return Err(text.refuse(Code::Rank, at, here(), "more", "at most 8 dimensions"));
        }
        shape.push(usize::try_from(dim).unwrap_or(usize::MAX));
    }
    Ok(shape)
}

fn range(reader: &mut Reader<'_>, here: &dyn Fn() -> String) -> Result<[u64; 2], Malformed> {
    let (start, text) = (reader.at(), reader.text());
    reader.array(here)?;
    let mut range = [0; 2];
    let mut count = 0;
    while !reader.end() {
        let at = reader.at();
        let pointer = || format!("{}/{count}", here());
        let number = reader.integer(&pointer)?;
        let Some(slot) = range.get_mut(count) else {
            return Err(text.refuse(Code::JsonType, at, pointer(), "a third number", "two"));
        };
        *slot = number.filter(|x| *x <= MOST).ok_or_else(|| {
            text.refuse(Code::OffsetRange, at, pointer(), "a number above 2^63", "an offset")
        })?;
        count += 1;
    }
    match count {
        2 => Ok(range),
        _ => Err(text.refuse(Code::JsonType, start, here(), format!("{count} numbers"), "two")),
    }
}

/// Holds the tensors to lie one after the other, from the first byte of the data to the last.
fn tile(
    file: &Mapped,
    entries: &[Entry],
    text: Text<'_>,
    (start, data): (u64, u64),
) -> Result<(), Malformed> {
    if let Some(Entry { info, at }) = entries.iter().find(|entry| entry.info.offset > data) {
        let pointer = format!("{}/data_offsets", below("", &begin(&info.name)));
        let expected = format!("inside {data} bytes of data");
        return Err(text.refuse(Code::OffsetRange, *at, pointer, info.offset, expected));
    }
    let mut order: Vec<u32> = (0..entries.len() as u32).collect();
    order.sort_by_key(|&i| {
        let info = &entries[i as usize].info;
        (info.offset, info.bytes, i)
    });
    let (mut end, mut before) = (0, "the header".to_owned());
    for &i in &order {
        let Entry { info, at } = &entries[i as usize];
        let pointer = format!("{}/data_offsets", below("", &begin(&info.name)));
        let refuse = |code, found: String, expected: String| {
            Err(text.refuse(code, *at, &pointer, found, expected))
        };
        if info.offset < end {
            let found = format!("{} inside {before}", begin(&info.name));
            return refuse(Code::Overlap, found, format!("{end}"));
        }
        if info.offset > end {
            let found = format!("{} {} bytes after {before}", begin(&info.name), info.offset - end);
            return refuse(Code::Gap, found, format!("{end}"));
        }
        // Both were read as below 2^63.
        end = info.offset + info.bytes;
        if end > data {
            let found = format!("{} has {} bytes", begin(&info.name), data - info.offset);
            return refuse(Code::DataShort, found, format!("{} bytes", info.bytes));
        }
        before = begin(&info.name);
    }
    if data > end {
        let (found, expected) = (format!("{} bytes", data - end), "the end of the file");
        let refusal = Malformed::new(Code::Trailing, file.path(), "file", found, expected);
        return Err(refusal.at(start + end));
    }
    Ok(())
}
