//! The hash that a question expects of a file, compared in its own thread while weights load.

use std::thread;

use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::weights::file::Mapped;
use goldgate_engine::weights::{Checkpoint, Malformed};

use crate::device::{NoAnswer, Trouble};

/// The single file of a checkpoint with the hash that a question expects; none if it expects none.
///
/// # Errors
/// The checkpoint has several files, so it has no single hash.
pub fn expected<'c>(
    sha256: Option<&'c str>,
    checkpoint: &'c Checkpoint,
) -> Result<Option<(&'c Mapped, &'c str)>, Refusal> {
    let Some(sha256) = sha256 else { return Ok(None) };
    match checkpoint.files()[..] {
        // One hash can be the hash of one file only.
        [file] => Ok(Some((file, sha256))),
        ref files => {
            let message = format!("is one hash, the checkpoint has {} files", files.len());
            Err(Refusal::new(RefusalKind::NotSupported, "sha256", message))
        }
    }
}

/// The hash that the thread computed, if there was one.
///
/// # Errors
/// The file has a different hash.
pub fn compared(
    outcome: Option<thread::Result<Result<String, Malformed>>>,
) -> Result<Option<String>, NoAnswer> {
    match outcome {
        None => Ok(None),
        Some(Ok(Ok(sha256))) => Ok(Some(sha256)),
        Some(Ok(Err(malformed))) => Err(NoAnswer::File(Box::new(malformed))),
        // A thread that ended early has compared nothing, so it must not count as agreement.
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
        assert!(expected(None, &one).expect("nothing asked").is_none());
        let hash = "AB".repeat(32);
        let (file, sha256) = expected(Some(&hash), &one).expect("a hash").expect("a file");
        let other = file.held_to(sha256).expect_err("another file");
        assert_eq!((other.code.as_str(), other.field.as_str()), ("HASH", "sha256"));
        let right = file.held_to(&other.found.to_uppercase()).expect("the file");
        assert_eq!(right, other.found);
        assert!(matches!(compared(Some(Ok(Err(other)))), Err(NoAnswer::File(_))));
        assert!(matches!(compared(Some(Ok(Ok(right)))), Ok(Some(_))));
        assert!(matches!(compared(Some(Err(Box::new(())))), Err(NoAnswer::Failed(_))));
        let several = tempfile::tempdir().expect("a folder");
        let two = checkpoint(several.path(), 2);
        let refusal = expected(Some(&hash), &two).expect_err("no single hash");
        assert_eq!(refusal.operand, "sha256");
    }
}
