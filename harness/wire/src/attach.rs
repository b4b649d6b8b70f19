//! Attachments: tensors that do not fit into a frame are sent as a file in the scratch folder. The
//! side that reads the file deletes it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use goldgate_tensor::foreign::{Bounds, ForeignError, read_foreign};

use crate::frame::{Frame, FrameError, decode, write_tensors};

/// The key by which a message names its file.
pub const KEY: &str = "attach";

/// What is wrong with an attachment.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The name is not that of a file in the scratch folder.
    #[error("`attach` is {0}, wants a file name without `/`")]
    Name(String),
    /// Hello named no scratch folder.
    #[error("`attach` without a scratch folder in hello")]
    NoScratch,
    /// The message also has tensors of its own.
    #[error("`attach` {0} beside tensors in the frame")]
    Both(String),
    /// The file could not be written or deleted.
    #[error("attachment {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file could not be read, or is none that may be read.
    #[error("attachment {path}: {source}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ForeignError,
    },
    /// The file is not a safetensors buffer.
    #[error("attachment {path}: {source}")]
    Buffer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FrameError,
    },
}

/// Moves a frame's tensors into the file `name` in the scratch folder, and names it in the frame.
///
/// # Errors
/// The folder cannot be written.
pub fn detach(frame: &mut Frame, scratch: &Path, name: &str) -> Result<(), AttachError> {
    let path = scratch.join(name);
    let write = || {
        // The other side could have put a link or a pipe there: neither is written through.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = BufWriter::new(File::create_new(&path)?);
        write_tensors(&mut file, &frame.tensors)?;
        file.flush()
    };
    write().map_err(|source| AttachError::Io { path, source })?;
    // Only after the file is written: an error must not leave a frame without its tensors.
    frame.tensors.clear();
    frame.json[KEY] = name.into();
    Ok(())
}

/// Replaces a frame's tensors by those in the file that it names, if it names one, and deletes the
/// file. The other side wrote it, so it must be a regular file of at most `largest` bytes, no link,
/// and be read by the deadline.
///
/// # Errors
/// The name leads out of the folder, the file may not or cannot be read or is not a buffer, or the
/// frame has tensors.
pub fn join(
    frame: &mut Frame,
    scratch: Option<&Path>,
    largest: u64,
    deadline: Option<Instant>,
) -> Result<(), AttachError> {
    let Some(named) = frame.json.get(KEY) else { return Ok(()) };
    // A name with a slash could make this side read and delete any file.
    let name = named.as_str().filter(|n| !n.is_empty() && !n.contains(['/', '\0']) && *n != "..");
    let name = name.ok_or_else(|| AttachError::Name(named.to_string()))?;
    // Both could hold a tensor of the same name, and nothing says which of them counts.
    if !frame.tensors.is_empty() {
        return Err(AttachError::Both(name.to_owned()));
    }
    let path = scratch.ok_or(AttachError::NoScratch)?.join(name);
    let io = |source| AttachError::Io { path: path.clone(), source };
    let bytes = read_foreign(&path, Bounds::of_subject(largest, deadline));
    // Deleted before anything is made of it, so that what is no attachment does not stay behind.
    let deleted = fs::remove_file(&path);
    let bytes = bytes.map_err(|source| AttachError::Foreign { path: path.clone(), source })?;
    // After an error of reading, which is the cause where both fail.
    deleted.map_err(io)?;
    let (_, tensors) =
        decode(&bytes).map_err(|source| AttachError::Buffer { path: path.clone(), source })?;
    frame.tensors = tensors;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use goldgate_tensor::{DType, Tensor};
    use serde_json::json;

    use super::*;

    const LARGEST: u64 = 1 << 20;

    fn frame() -> Frame {
        let x = Tensor::from_f64(DType::F16, &[2, 1], &[1.0, -2.5]);
        let w = Tensor::new(DType::Q4_0, &[2, 32], vec![7; 2 * 18]);
        let tensors = BTreeMap::from([("x".to_owned(), x), ("w".to_owned(), w)]);
        Frame::with(json!({"id": 3, "call": "op"}), tensors)
    }

    #[test]
    fn tensors_come_back_and_the_file_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sent = frame();
        detach(&mut sent, folder.path(), "question.safetensors").expect("written");
        assert_eq!(
            (sent.tensors.len(), sent.json[KEY].as_str()),
            (0, Some("question.safetensors"))
        );
        join(&mut sent, Some(folder.path()), LARGEST, None).expect("read");
        assert_eq!(sent.tensors, frame().tensors);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_link_in_the_way_is_neither_read_nor_written_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mine, link) = (folder.path().join("mine"), folder.path().join("q"));
        fs::write(&mine, "mine").expect("written");
        std::os::unix::fs::symlink(&mine, &link).expect("a link");
        let mut named = Frame::new(json!({"id": 0, "attach": "q"}));
        let refused = join(&mut named, Some(folder.path()), LARGEST, None).expect_err("refused");
        assert!(refused.to_string().ends_with("q: a link, not a regular file"));
        assert!(!link.is_symlink());
        std::os::unix::fs::symlink(&mine, &link).expect("a link");
        detach(&mut frame(), folder.path(), "q").expect("written");
        assert_eq!(fs::read(&mine).expect("there"), b"mine");
        assert!(!link.is_symlink());
    }

    #[test]
    fn what_is_no_attachment_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("text"), "no buffer").expect("written");
        let refused = |name: serde_json::Value, scratch: Option<&Path>| {
            let mut frame = Frame::new(json!({"id": 0, "attach": name}));
            join(&mut frame, scratch, LARGEST, None).expect_err("refused").to_string()
        };
        let here = Some(folder.path());
        for name in [json!("a/b"), json!("/etc/passwd"), json!(".."), json!(""), json!(7)] {
            assert!(refused(name.clone(), here).contains("wants a file name"), "{name}");
        }
        assert!(refused(json!("absent"), here).contains("absent: No such file"));
        assert!(refused(json!("text"), here).contains("text: no safetensors buffer"));
        // It is gone, so that it cannot be named twice.
        fs::write(folder.path().join("text"), "no buffer").expect("written");
        assert!(refused(json!("text"), None).contains("without a scratch folder"));
        let mut both = frame();
        both.json[KEY] = json!("text");
        let refused = join(&mut both, here, LARGEST, None).expect_err("refused");
        assert!(refused.to_string().contains("beside tensors"));
    }
}
