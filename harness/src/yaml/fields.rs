//! Fields that several kinds of file share: format version, gates, types, attributes.

use goldgate_tensor::DType;
use serde_json::{Map, Value};

use crate::yaml::read::Reader;
use crate::yaml::tree::Node;

/// The format version, which is 1.
pub fn version(r: &Reader<'_>, node: &Node, path: &str) -> Option<u8> {
    // Bare, because a quoted "1" is text to every YAML reader.
    match node.bare() {
        Some("1") => Some(1),
        _ => r.fail(node, "SCHEMA_VERSION", path, "1, the one version that this program reads"),
    }
}

/// The number of a gate.
pub fn gate(r: &Reader<'_>, node: &Node, path: &str) -> Option<u8> {
    match node.bare() {
        Some("1") => Some(1),
        Some("2") => Some(2),
        Some("3") => Some(3),
        _ => r.fail(node, "ENUM", path, "one of 1, 2, 3"),
    }
}

/// Attributes as JSON; null removes an attribute.
pub fn attributes(r: &Reader<'_>, node: &Node, path: &str) -> Option<Map<String, Value>> {
    let table = r.table(node, path, Reader::json)?;
    Some(table.into_iter().map(|(key, value)| (key.value, value)).collect())
}

/// Pairs of name and value, for reading a word from a fixed list.
pub fn words<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|&t| (name(t), t)).collect()
}

/// A list of activation types, without repetition.
pub fn dtypes(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<DType>> {
    type_list(r, node, path, &DType::ACTIVATIONS)
}

/// A list of types out of `all`, without repetition.
///
pub fn type_list(r: &Reader<'_>, node: &Node, path: &str, all: &[DType]) -> Option<Vec<DType>> {
    let words = words(all, DType::name);
    let before = r.count();
    let list = r.list(node, path, |r, n, p| Some((n.clone(), r.word(n, p, &words)?)))?;
    // Items that could not be read are left out, so the list may look empty or unique by mistake.
    if r.count() > before {
        return None;
    }
    // Without a type nothing would be asked.
    if list.is_empty() {
        return r.fail(node, "RANGE", path, "one type at least");
    }
    for (i, (n, t)) in list.iter().enumerate() {
        if list[..i].iter().any(|(_, earlier)| earlier == t) {
            r.note(n, "ID_DUP", path, "each type once");
        }
    }
    Some(list.into_iter().map(|(_, t)| t).collect())
}
