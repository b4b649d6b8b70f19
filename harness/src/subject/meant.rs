//! The file that somebody means: held to its hash in a thread of its own while it is loaded.

use std::thread;

use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::weights::file::Mapped;
use goldgate_engine::weights::{Checkpoint, Malformed};
use serde_json::Value;

use crate::subject::models::bad;
use crate::subject::serve::{NoAnswer, Trouble};

/// The hash that a question gives, and the file that it is about; none where it gives none.
///
/// # Errors
/// What is no hash; a checkpoint of several files, of which no single hash is known.
pub fn meant<'c>(
    ask: &'c Value,
    checkpoint: &'c Checkpoint,
) -> Result<Option<(&'c Mapped, &'c str)>, NoAnswer> {
    let expected = match &ask["sha256"] {
        Value::Null => return Ok(None),
        Value::String(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            text
        }
        other => return Err(bad(&format!("sha256 is {other}, wants 64 hex digits"))),
    };
    match checkpoint.files()[..] {
        [file] => Ok(Some((file, expected))),
        ref files => {
            let message = format!("is one hash, the checkpoint has {} files", files.len());
            Err(Refusal::new(RefusalKind::NotSupported, "sha256", message).into())
        }
    }
}

/// What the thread came to, where there was one: the hash.
///
/// # Errors
/// A file of another hash.
pub fn held(
    outcome: Option<thread::Result<Result<String, Malformed>>>,
) -> Result<Option<String>, NoAnswer> {
    match outcome {
        None => Ok(None),
        Some(Ok(Ok(sha256))) => Ok(Some(sha256)),
        Some(Ok(Err(malformed))) => Err(NoAnswer::File(Box::new(malformed))),
        Some(Err(_)) => {
            let message = "the thread that hashes the file ended early".to_owned();
            Err(NoAnswer::Failed(Trouble { class: "internal", sticky: false, message }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// A checkpoint of so many files of one element each.
    fn checkpoint(folder: &Path, files: usize) -> Checkpoint {
        let mut map = serde_json::Map::new();
        for i in 0..files {
            let tensor = json!({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]});
            let mut header = json!({format!("t{i}"): tensor}).to_string();
            while !header.len().is_multiple_of(8) {
                header.push(' ');
            }
            let name = format!("model-{i}.safetensors");
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(1f32.to_le_bytes());
            fs::write(folder.join(&name), bytes).expect("written");
            map.insert(format!("t{i}"), name.into());
        }
        let index = json!({"metadata": {"total_size": 4 * files}, "weight_map": map}).to_string();
        fs::write(folder.join("model.safetensors.index.json"), index).expect("written");
        fs::write(folder.join("config.json"), "{}").expect("written");
        Checkpoint::open(folder).expect("a good checkpoint")
    }

    #[test]
    fn one_file_has_one_hash() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = checkpoint(folder.path(), 1);
        assert!(meant(&json!({}), &one).expect("nothing asked").is_none());
        let ask = json!({"sha256": "AB".repeat(32)});
        let (file, sha256) = meant(&ask, &one).expect("a hash").expect("a file");
        let other = file.held_to(sha256).expect_err("another file");
        assert_eq!((other.code.as_str(), other.field.as_str()), ("HASH", "sha256"));
        let right = file.held_to(&other.found.to_uppercase()).expect("the file");
        assert_eq!(right, other.found);
        assert!(matches!(held(Some(Ok(Err(other)))), Err(NoAnswer::File(_))));
        assert!(matches!(held(Some(Ok(Ok(right)))), Ok(Some(_))));
        assert!(matches!(held(Some(Err(Box::new(())))), Err(NoAnswer::Failed(_))));
        for wrong in [json!("12"), json!(12), json!("g".repeat(64))] {
            let ask = json!({"sha256": wrong});
            assert!(matches!(meant(&ask, &one), Err(NoAnswer::Failed(_))), "{ask}");
        }
        let several = tempfile::tempdir().expect("a folder");
        let two = checkpoint(several.path(), 2);
        match meant(&ask, &two) {
            Err(NoAnswer::Refused(r)) => assert_eq!(r.operand, "sha256"),
            other => panic!("{:?}", other.map(|found| found.map(|(_, sha256)| sha256.to_owned()))),
        }
    }
}
