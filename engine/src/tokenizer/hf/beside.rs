//! The files beside tokenizer.json: what begins a text, what ends a generation, the chat template.

use std::path::Path;

use goldgate_tensor::foreign::{Bounds, read_foreign};

use super::check::Parts;
use super::refuse::Text;
use crate::json::Node;
use crate::tokenizer::Kind;
use crate::weights::file::foreign;
use crate::weights::refusal::{Code, Malformed};

/// Bytes that a file of settings may have.
const LARGEST_SETTINGS: u64 = 4 << 20;

/// Reads a file of at most this many bytes; its size is looked at before anything is read.
pub fn read(path: &Path, largest: u64) -> Result<Vec<u8>, Malformed> {
    read_foreign(path, Bounds::of_user(largest)).map_err(|e| foreign(path, e))
}

fn beside(path: &Path, name: &str) -> Result<Option<(std::path::PathBuf, Vec<u8>)>, Malformed> {
    let path = path.with_file_name(name);
    // Whatever else has this name is refused: settings that nobody can read are not none.
    match path.exists() {
        true => read(&path, LARGEST_SETTINGS).map(|bytes| Some((path, bytes))),
        false => Ok(None),
    }
}

/// Completes the policy from the files beside `path`; gives the chat template.
pub fn settle(path: &Path, parts: &mut Parts) -> Result<Option<String>, Malformed> {
    let mut template = None;
    if let Some((file, bytes)) = beside(path, "tokenizer_config.json")? {
        let text = Text::read(&bytes, &file)?;
        let root = text.json.root();
        template = root.get("chat_template").and_then(|n| n.string()).map(|t| t.into_owned());
        if let Some(bos) = token(&text, root, "bos_token", parts)? {
            parts.policy.bos = Some(bos);
        }
        if let Some(eos) = token(&text, root, "eos_token", parts)? {
            parts.policy.eos.push(eos);
        }
        if let Some(wanted) = root.get("add_bos_token").filter(|n| !n.is_null()) {
            let adds = parts.policy.before.first().is_some_and(|b| Some(*b) == parts.policy.bos);
            if text.flag(Some(wanted), false)? && !adds {
                let expected = "false: the post_processor of tokenizer.json adds no beginning";
                return text.no(Code::BosPolicy, wanted, expected);
            }
        }
    }
    if let Some((file, bytes)) = beside(path, "generation_config.json")? {
        let text = Text::read(&bytes, &file)?;
        if let Some(node) = text.json.root().get("eos_token_id").filter(|n| !n.is_null()) {
            let single = (!node.is_array()).then_some(node);
            for node in single.into_iter().chain(node.items()) {
                let id = node.whole().and_then(|n| u32::try_from(n).ok());
                let Some(id) = id.filter(|id| known(parts, *id)) else {
                    return text.no(Code::VocabId, node, "an id of the vocabulary");
                };
                if !parts.policy.eos.contains(&id) {
                    parts.policy.eos.push(id);
                }
            }
        }
    }
    let template = match beside(path, "chat_template.jinja")? {
        Some((_, bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        None => template,
    };
    if parts.policy.eos.is_empty() {
        parts.policy.eos.extend(parts.policy.after.last());
    }
    Ok(template)
}

fn known(parts: &Parts, id: u32) -> bool {
    parts.kinds.get(id as usize).is_some_and(|kind| *kind != Kind::Absent)
}

/// The id of a token that is written as text, or as an object with its `content`.
fn token<'a>(
    text: &Text<'a>,
    root: Node<'a>,
    name: &str,
    parts: &Parts,
) -> Result<Option<u32>, Malformed> {
    let Some(node) = root.get(name).filter(|n| !n.is_null()) else { return Ok(None) };
    let written = text.string(node.get("content").unwrap_or(node))?;
    let id = parts
        .texts
        .iter()
        .zip(0u32..)
        .find(|(t, id)| *t == written.as_bytes() && known(parts, *id));
    match id {
        Some((_, id)) => Ok(Some(id)),
        None => text.no(Code::Unk, node, "a token of tokenizer.json"),
    }
}
