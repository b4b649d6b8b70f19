//! Frames: a length, followed by one safetensors buffer whose metadata contains the JSON.
//!
//! `u64 little-endian N`, then N bytes. Raw block tensors are sent as U8 `[rows, bytes_per_row]`
//! with the metadata `<tensor>.type` and `<tensor>.shape`; all others under their own type. Golden
//! files are the same buffers, so reading and writing them is public here.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use goldgate_tensor::dtype::DType;
use goldgate_tensor::shape::Meta;
use goldgate_tensor::tensor::Tensor;
use serde_json::{Map, Value, json};

use crate::json;

/// The metadata key that contains the JSON of a message.
pub const KEY: &str = "goldgate";

/// The longest JSON of a message, in bytes.
pub const MAX_JSON: usize = 1 << 20;

/// The longest header of a buffer in bytes: enough for the JSON with escapes, and many tensors.
const MAX_HEADER: usize = 16 << 20;

/// The tensors of a message, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The JSON object of the message.
    pub json: Value,
    /// Its tensors, by name.
    pub tensors: Tensors,
}

impl Frame {
    /// A message without tensors.
    pub fn new(json: Value) -> Frame {
        Frame { json, tensors: BTreeMap::new() }
    }

    /// A message with tensors.
    pub fn with(json: Value, tensors: Tensors) -> Frame {
        Frame { json, tensors }
    }

    /// The length N in bytes: header and tensors.
    pub fn length(&self) -> u64 {
        // Known before anything is written, because half a frame cannot be taken back.
        let metadata = BTreeMap::from([(KEY.to_owned(), self.json.to_string())]);
        length(&header(&metadata, &self.tensors), &self.tensors)
    }
}

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream itself failed.
    #[error("could not move a frame: {0}")]
    Io(#[from] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended after {have} of {want} bytes of a frame")]
    Cut {
        /// The bytes received.
        have: u64,
        /// The bytes that the frame should have.
        want: u64,
    },
    /// The length exceeds the limit, usually because text was written to the wire.
    #[error("a frame of {length} bytes is beyond the limit of {max}; its length reads {first:?}")]
    TooLong {
        /// The length that was read.
        length: u64,
        /// The limit.
        max: u64,
        /// The eight bytes of the length as text.
        first: String,
    },
    /// The buffer is not a safetensors buffer.
    #[error("no safetensors buffer: {field}: found {found}, expected {expected}")]
    Buffer {
        /// The part of the buffer.
        field: String,
        /// What was found.
        found: String,
        /// What is required.
        expected: String,
    },
    /// The message has no JSON under its key, or not an object.
    #[error("metadata key `goldgate`: {0}")]
    Json(String),
}

fn bad(field: &str, found: impl ToString, expected: impl ToString) -> FrameError {
    FrameError::Buffer {
        field: field.to_owned(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

/// Reads one frame; `None` if the stream ends before it begins.
///
/// # Errors
/// The stream fails or ends inside a frame, the length exceeds `max`, or the buffer or its JSON is
/// malformed.
pub fn read_frame(stream: &mut impl Read, max: u64) -> Result<Option<Frame>, FrameError> {
    let mut head = Vec::with_capacity(8);
    // Not `read_exact`, which reports an end between two frames like one inside of a frame.
    stream.by_ref().take(8).read_to_end(&mut head)?;
    let Ok(head) = <[u8; 8]>::try_from(head.as_slice()) else {
        // Between two frames the other side may rightly hang up.
        let have = head.len() as u64;
        return if have == 0 { Ok(None) } else { Err(FrameError::Cut { have, want: 8 }) };
    };
    let length = u64::from_le_bytes(head);
    // Checked before anything is allocated.
    if length > max {
        // Shown as text, because the usual cause is a print to stdout.
        let first = head.iter().map(|&b| if b.is_ascii_graphic() { b as char } else { '.' });
        return Err(FrameError::TooLong { length, max, first: first.collect() });
    }
    // The buffer grows with the bytes that arrive: a length alone must not cost memory.
    let mut bytes = Vec::with_capacity(length.min(1 << 20) as usize);
    stream.by_ref().take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(FrameError::Cut { have: bytes.len() as u64, want: length });
    }
    let (mut metadata, tensors) = decode(&bytes)?;
    let text = metadata.remove(KEY).ok_or_else(|| FrameError::Json("is not there".into()))?;
    // What is large belongs into tensors, so long JSON is a mistake or an attack.
    if text.len() > MAX_JSON {
        return Err(FrameError::Json(format!("has {} bytes, at most {MAX_JSON}", text.len())));
    }
    let json = json::read(&text).map_err(|e| FrameError::Json(e.to_string()))?;
    if !json.is_object() {
        return Err(FrameError::Json(format!("is {json}, wants an object")));
    }
    Ok(Some(Frame { json, tensors }))
}

/// Writes one frame and flushes the stream.
///
/// # Errors
/// The stream fails, or the JSON exceeds [`MAX_JSON`].
pub fn write_frame(stream: &mut impl Write, frame: &Frame) -> Result<(), FrameError> {
    let text = frame.json.to_string();
    // Refused here, because the other side would take it for a fault of this one.
    if text.len() > MAX_JSON {
        return Err(FrameError::Json(format!("has {} bytes, at most {MAX_JSON}", text.len())));
    }
    let metadata = BTreeMap::from([(KEY.to_owned(), text)]);
    let header = header(&metadata, &frame.tensors);
    stream.write_all(&length(&header, &frame.tensors).to_le_bytes())?;
    write_buffer(stream, &header, &frame.tensors)?;
    // The other side does nothing before the frame is whole.
    stream.flush()?;
    Ok(())
}

/// A safetensors buffer: tensors in the order of their names, without gaps, and the header padded
/// with spaces to a multiple of 8.
pub fn encode(metadata: &BTreeMap<String, String>, tensors: &Tensors) -> Vec<u8> {
    let mut bytes = header(metadata, tensors);
    for tensor in tensors.values() {
        bytes.extend_from_slice(&tensor.bytes);
    }
    bytes
}

/// Writes the buffer tensor by tensor, so that a large one is not held in memory twice.
///
/// # Errors
/// The stream fails.
pub fn write_tensors(stream: &mut impl Write, tensors: &Tensors) -> io::Result<()> {
    write_buffer(stream, &header(&BTreeMap::new(), tensors), tensors)
}

fn write_buffer(stream: &mut impl Write, header: &[u8], tensors: &Tensors) -> io::Result<()> {
    stream.write_all(header)?;
    // One after the other, so that gigabytes of tensors are not copied into one buffer first.
    tensors.values().try_for_each(|tensor| stream.write_all(&tensor.bytes))
}

/// The length in bytes of the buffer that begins with this header.
fn length(header: &[u8], tensors: &Tensors) -> u64 {
    header.len() as u64 + tensors.values().map(|t| t.bytes.len() as u64).sum::<u64>()
}

/// Everything before the tensors: the length of the header, and the header itself.
fn header(metadata: &BTreeMap<String, String>, tensors: &Tensors) -> Vec<u8> {
    let mut notes: Map<String, Value> =
        metadata.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
    let mut entries = Map::new();
    let mut end = 0;
    for (name, tensor) in tensors {
        // Without gaps, because readers of safetensors reject bytes that belong to no tensor.
        let begin = end;
        end += tensor.bytes.len();
        let (word, shape) = stored(&tensor.meta);
        // safetensors has no block types, so the real type and shape travel in the metadata.
        if tensor.meta.dtype.is_block() {
            notes.insert(format!("{name}.type"), tensor.meta.dtype.name().into());
            notes.insert(format!("{name}.shape"), json!(tensor.meta.shape).to_string().into());
        }
        entries.insert(
            name.clone(),
            json!({"dtype": word, "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    let mut header = Map::new();
    header.insert("__metadata__".into(), Value::Object(notes));
    header.append(&mut entries);
    let mut header = Value::Object(header).to_string().into_bytes();
    // Padded so that the tensors start aligned.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes
}

/// The type name and the shape under which a tensor is stored.
fn stored(meta: &Meta) -> (&'static str, Vec<usize>) {
    let word = match meta.dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I32 => "I32",
        // Bytes are what every reader of safetensors knows, and it knows no block types.
        _ => "U8",
    };
    if !meta.dtype.is_block() {
        return (word, meta.shape.clone());
    }
    // As rows of bytes, so that any reader of safetensors can take them.
    let (last, rows) = meta.shape.split_last().map_or((1, &[][..]), |(l, r)| (*l, r));
    (word, vec![rows.iter().product(), last / meta.dtype.elements() * meta.dtype.bytes()])
}

/// The message for a question or answer that does not fit: its size, and what a frame can carry.
pub fn too_big(what: &str, length: u64, room: u64) -> String {
    format!("{what} has {length} bytes, a frame takes {room}, and the subject no attachments")
}

/// The metadata and tensors of a buffer.
pub type Buffer = (BTreeMap<String, String>, Tensors);

/// Reads a safetensors buffer. Block tensors get back their type and logical shape.
///
/// # Errors
/// Anything malformed: the header, a repeated key, a type, a shape, offsets with gaps or overlaps.
pub fn decode(bytes: &[u8]) -> Result<Buffer, FrameError> {
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| {
        bad("header length", format!("{} bytes", bytes.len()), "8 bytes at least")
    })?;
    // A length that this machine cannot address is beyond every limit.
    let length = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
    // Checked before parsing, so that a wrong length cannot cost memory.
    if length > rest.len() || length > MAX_HEADER {
        return Err(bad("header length", length, format!("at most {}", rest.len())));
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|e| bad("header", e, "UTF-8"))?;
    // Our own reader, because a repeated key must be an error here.
    let header = json::read(header).map_err(|e| bad("header", e, "a JSON object"))?;
    let Value::Object(mut header) = header else {
        return Err(bad("header", "something else", "a JSON object"));
    };
    let metadata = read_metadata(header.remove("__metadata__"))?;
    let mut entries = Vec::with_capacity(header.len());
    for (name, entry) in &header {
        let (begin, end) = offsets(name, entry)?;
        entries.push((begin, end, name, entry));
    }
    // In this order gaps and overlaps show as a tensor that does not begin where the last one
    // ended.
    entries.sort_by_key(|&(begin, end, ..)| (begin, end));
    let mut at = 0;
    let mut tensors = BTreeMap::new();
    for (begin, end, name, entry) in entries {
        if begin != at || end < begin || end > data.len() {
            let found = format!("[{begin}, {end}]");
            return Err(bad(name, found, format!("to begin at {at}, within {}", data.len())));
        }
        at = end;
        tensors.insert(name.clone(), tensor(name, entry, &data[begin..end], &metadata)?);
    }
    // Bytes of no tensor would travel unseen.
    if at != data.len() {
        return Err(bad("data", format!("{} bytes", data.len()), format!("{at} bytes")));
    }
    Ok((metadata, tensors))
}

fn read_metadata(value: Option<Value>) -> Result<BTreeMap<String, String>, FrameError> {
    // Golden files are read here as well, and only a message needs its key in the metadata.
    let Some(value) = value else { return Ok(BTreeMap::new()) };
    let Value::Object(map) = value else {
        return Err(bad("__metadata__", value, "an object of strings"));
    };
    map.into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            other => Err(bad(&format!("__metadata__.{key}"), other, "a string")),
        })
        .collect()
}

fn offsets(name: &str, entry: &Value) -> Result<(usize, usize), FrameError> {
    let field = format!("{name}.data_offsets");
    match numbers(&entry["data_offsets"]).as_deref() {
        Some(&[begin, end]) => Ok((begin, end)),
        _ => Err(bad(&field, &entry["data_offsets"], "[begin, end]")),
    }
}

fn numbers(value: &Value) -> Option<Vec<usize>> {
    value.as_array()?.iter().map(|x| usize::try_from(x.as_u64()?).ok()).collect()
}

fn tensor(
    name: &str,
    entry: &Value,
    data: &[u8],
    metadata: &BTreeMap<String, String>,
) -> Result<Tensor, FrameError> {
    let dtype = match entry["dtype"].as_str() {
        Some("F64") => DType::F64,
        Some("F32") => DType::F32,
        Some("F16") => DType::F16,
        Some("BF16") => DType::BF16,
        Some("I32") => DType::I32,
        Some("U8") => DType::U8,
        _ => {
            let field = format!("{name}.dtype");
            return Err(bad(&field, &entry["dtype"], "F64, F32, F16, BF16, I32 or U8"));
        }
    };
    let shape = numbers(&entry["shape"])
        .ok_or_else(|| bad(&format!("{name}.shape"), &entry["shape"], "a list of sizes"))?;
    let mut meta = Meta { dtype, shape };
    // A shape must not promise other bytes than there are, or elements would be read beyond them.
    if meta.bytes() != Some(data.len()) {
        return Err(bad(name, format!("{} bytes", data.len()), format!("those of {meta}")));
    }
    // Only types with blocks are restored; a metadata entry cannot relabel other tensors.
    let block = metadata.get(&format!("{name}.type")).and_then(|t| t.parse().ok());
    if let (DType::U8, Some(block)) = (dtype, block.filter(|t: &DType| t.is_block())) {
        let field = format!("{name}.shape");
        let text = metadata.get(&field).ok_or_else(|| bad(&field, "nothing", "logical shape"))?;
        let shape = json::read(text).ok().as_ref().and_then(numbers);
        let shape = shape.ok_or_else(|| bad(&field, text, "a list of sizes"))?;
        // The metadata promises a shape of its own, so that is compared with the bytes as well.
        meta = Meta { dtype: block, shape };
        if meta.bytes() != Some(data.len()) {
            return Err(bad(name, format!("{} bytes", data.len()), format!("those of {meta}")));
        }
    }
    Ok(Tensor { meta, bytes: data.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let tensors = BTreeMap::from([
            ("x".to_owned(), Tensor::from_f64(DType::F16, &[2, 1], &[1.0, -2.5])),
            ("ids".to_owned(), Tensor::from_i32(&[3], &[1, -1, 7])),
            ("w".to_owned(), Tensor::new(DType::Q4_0, &[2, 3, 32], vec![7; 6 * 18])),
            ("none".to_owned(), Tensor::new(DType::F32, &[0, 4], Vec::new())),
        ]);
        Frame::with(json!({"id": 3, "call": "op", "attr": {"eps": 1e-5}}), tensors)
    }

    fn written(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, frame).expect("a vector takes everything");
        bytes
    }

    /// A frame around a buffer with that header and data.
    fn around(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (8 + header.len() as u64 + data.len() as u64).to_le_bytes().to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        read_frame(&mut &bytes[..], 1 << 20).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_frame_comes_back_as_it_went() {
        let bytes = written(&frame());
        let twice = [bytes.clone(), bytes].concat();
        let mut stream = &twice[..];
        for _ in 0..2 {
            assert_eq!(read_frame(&mut stream, 1 << 20).expect("whole"), Some(frame()));
        }
        assert_eq!(read_frame(&mut stream, 1 << 20).expect("the end"), None);
    }

    #[test]
    fn blocks_travel_as_bytes_with_their_logical_shape() {
        let bytes = written(&frame());
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(r#""w":{"dtype":"U8","shape":[6,18]"#), "{text}");
        assert!(text.contains(r#""w.shape":"[2,3,32]""#), "{text}");
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = written(&frame());
        for cut in 1..bytes.len() {
            assert!(refusal(&bytes[..cut]).contains("the stream ended after"), "{cut}");
        }
    }

    #[test]
    fn text_on_the_wire_is_noticed_at_its_first_bytes() {
        assert!(refusal(b"Loading model\n").contains(r#"reads "Loading.""#));
    }

    #[test]
    fn malformed_buffers_are_refused_by_field() {
        let ok = r#"{"__metadata__":{"goldgate":"{}"}}"#;
        assert!(read_frame(&mut &around(ok, b"")[..], 99).expect("fine").is_some());
        let entry = |text: &str| format!(r#"{{"__metadata__":{{"goldgate":"{{}}"}},"x":{text}}}"#);
        let table = [
            (around(ok, b"x"), "data: found 1 bytes"),
            (around("[]", b""), "header"),
            (around(r#"{"__metadata__":{"goldgate":1}}"#, b""), "__metadata__.goldgate"),
            (around("{}", b""), "is not there"),
            (around(r#"{"__metadata__":{"goldgate":"[]"}}"#, b""), "wants an object"),
            (around(r#"{"__metadata__":{"goldgate":"{\"a\":1,\"a\":2}"}}"#, b""), "twice"),
            (around(r#"{"__metadata__":{"goldgate":"{\"a\":NaN}"}}"#, b""), "expected value"),
            (around(&entry(r#"{"dtype":"F8","shape":[],"data_offsets":[0,1]}"#), b"x"), "x.dtype"),
            (
                around(&entry(r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#), b"x"),
                "x.shape",
            ),
            (around(&entry(r#"{"dtype":"U8","shape":[2],"data_offsets":[0,1]}"#), b"x"), "1 bytes"),
            (around(&entry(r#"{"dtype":"U8","shape":[1],"data_offsets":[1,2]}"#), b"xy"), "begin"),
            (around(&entry(r#"{"dtype":"U8","shape":[1],"data_offsets":[0]}"#), b"x"), "offsets"),
        ];
        for (bytes, part) in table {
            let said = refusal(&bytes);
            assert!(said.contains(part), "{said}: {part}");
        }
    }
}
