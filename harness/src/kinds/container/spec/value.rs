//! Values in files: numbers of every width, hex, lengths, and JSON with arbitrary keys.

use serde_json::{Map, Value};

use crate::yaml::read::Reader;
use crate::yaml::tree::{Kind, Node};

/// The types of GGUF metadata except the array: number and name.
pub(super) const METADATA: &[(u32, &str)] = &[
    (0, "u8"),
    (1, "i8"),
    (2, "u16"),
    (3, "i16"),
    (4, "u32"),
    (5, "i32"),
    (6, "f32"),
    (7, "bool"),
    (8, "string"),
    (10, "u64"),
    (11, "i64"),
    (12, "f64"),
];

/// The bytes of a value of type `id`.
pub(super) fn metadata(r: &Reader<'_>, node: &Node, path: &str, id: u32) -> Option<Vec<u8>> {
    let signed = |bits: u32| whole(r, node, path, -(1i128 << (bits - 1)), 1i128 << (bits - 1));
    let unsigned = |bits: u32| whole(r, node, path, 0, 1i128 << bits);
    Some(match id {
        0 => (unsigned(8)? as u8).to_le_bytes().to_vec(),
        1 => (signed(8)? as i8).to_le_bytes().to_vec(),
        2 => (unsigned(16)? as u16).to_le_bytes().to_vec(),
        3 => (signed(16)? as i16).to_le_bytes().to_vec(),
        4 => (unsigned(32)? as u32).to_le_bytes().to_vec(),
        5 => (signed(32)? as i32).to_le_bytes().to_vec(),
        6 => (real(r, node, path)? as f32).to_le_bytes().to_vec(),
        7 => vec![u8::from(r.flag(node, path)?)],
        8 => text(node.text().unwrap_or_default()),
        10 => (unsigned(64)? as u64).to_le_bytes().to_vec(),
        11 => (signed(64)? as i64).to_le_bytes().to_vec(),
        _ => real(r, node, path)?.to_le_bytes().to_vec(),
    })
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The bytes of an array such as `{ u32: [1, 2] }`: type, count, elements.
pub(super) fn array(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<u8>> {
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a list under its type, as { u32: [1, 2] }");
    };
    let [(key, list)] = entries.as_slice() else {
        return r.fail(node, "TYPE", path, "exactly one list under its type");
    };
    let words: Vec<(&str, u32)> = METADATA.iter().map(|(id, word)| (*word, *id)).collect();
    let id = r.word(key, path, &words)?;
    let items = r.list(list, path, |r, n, p| metadata(r, n, p, id))?;
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.extend((items.len() as u64).to_le_bytes());
    bytes.extend(items.concat());
    Some(bytes)
}

/// A whole number in `[low, high)`, as digits or quoted hex.
fn whole(r: &Reader<'_>, node: &Node, path: &str, low: i128, high: i128) -> Option<i128> {
    let written = node.text().unwrap_or_default();
    let number = match (node.bare(), written.strip_prefix("0x")) {
        // Hex must be quoted, because unquoted it would be a number to other YAML readers.
        (None, Some(hex)) => i128::from_str_radix(hex, 16).ok(),
        (Some(bare), None) => bare.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (low..high).contains(&number) => Some(number),
        Some(_) => r.fail(node, "RANGE", path, &format!("from {low} to {}", high - 1)),
        None => r.fail(node, "TYPE", path, "a whole number in digits, or quoted hex"),
    }
}

/// A number, or one of `nan`, `inf`, `-inf`.
fn real(r: &Reader<'_>, node: &Node, path: &str) -> Option<f64> {
    match node.text() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => r.number(node, path),
    }
}

/// Bytes as quoted hex; spaces are allowed.
pub(super) fn hex(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<u8>> {
    // Spaces let a spec group the bytes as the format does.
    let digits: String = node.text().unwrap_or_default().split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    match pairs.collect::<Option<Vec<u8>>>() {
        // Quoted, because bare `00` would be a number to other YAML readers.
        Some(bytes) if !bytes.is_empty() && node.bare().is_none() => Some(bytes),
        _ => r.fail(node, "TYPE", path, "quoted hex, two digits a byte"),
    }
}

/// One length, or `[from, to]` including both ends; negative lengths count from the end.
pub(super) fn lengths(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<i64>> {
    let length = |r: &Reader<'_>, n: &Node, p: &str| r.int(n, p, -(1 << 24), 1 << 24);
    if !matches!(node.kind, Kind::List(_)) {
        return length(r, node, path).map(|length| vec![length]);
    }
    match r.list(node, path, length)?.as_slice() {
        // Both ends on one side: a range across zero would jump from the start to the end of the
        // file.
        [from, to] if from < to && (*from < 0) == (*to < 0) => Some((*from..=*to).collect()),
        _ => r.fail(node, "RANGE", path, "a length, or two that rise from the same end"),
    }
}

/// Any value as JSON, with arbitrary text as keys.
pub(super) fn json(r: &Reader<'_>, node: &Node, path: &str) -> Option<Value> {
    match &node.kind {
        Kind::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key.text()?.to_owned(), json(r, value, path)?);
            }
            Some(Value::Object(map))
        }
        Kind::List(_) => r.list(node, path, json).map(Value::Array),
        Kind::Scalar { .. } => r.json(node, path),
    }
}
