//! A model file as bytes: opened without waiting, only if it is a regular file, and mapped.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use goldgate_tensor::foreign::{ForeignError, Links, open_foreign};
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::refusal::{Code, Malformed};

/// A regular file, mapped for reading.
///
/// The bytes may change while they are read (another process writes), and reading may end the
/// process (another process cuts the file): nothing here is undefined by it, because the bytes are
/// only ever copied out as integers, and text is checked each time it is read. That a file did not
/// change is known by [`Mapped::unchanged`] after the last byte was read, and that it is the file
/// that somebody means by [`Mapped::held_to`].
#[derive(Debug)]
pub struct Mapped {
    path: Box<Path>,
    map: Option<Mmap>,
    identity: Identity,
}

/// What tells a file from another, and from itself once somebody wrote to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Bytes.
    length: u64,
    /// Nanoseconds since 1970.
    modified: i128,
}

impl Identity {
    fn of(stat: &std::fs::Metadata) -> Identity {
        let modified = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
        Identity { device: stat.dev(), inode: stat.ino(), length: stat.len(), modified }
    }

    /// The first field that differs: its name, what it was, what it is.
    fn differs(self, now: Identity) -> Option<(&'static str, i128, i128)> {
        let fields = [
            ("device", self.device.into(), now.device.into()),
            ("inode", self.inode.into(), now.inode.into()),
            ("length", self.length.into(), now.length.into()),
            ("modified", self.modified, now.modified),
        ];
        fields.into_iter().find(|(_, was, is)| was != is)
    }
}

impl Mapped {
    /// Opens and maps `path`, following links.
    ///
    /// # Errors
    /// `NOT_REGULAR` for a folder, a pipe, a socket or a device, without waiting for any of them;
    /// `IO` with the system's number for what cannot be opened.
    pub fn open(path: &Path) -> Result<Mapped, Malformed> {
        let io = |e: io::Error| refused(path, &e);
        let file = open_foreign(path, Links::Followed).map_err(|e| foreign(path, e))?;
        let stat = file.metadata().map_err(io)?;
        // An empty map is no map.
        let map = if stat.len() == 0 { None } else { Some(map(&file).map_err(io)?) };
        Ok(Mapped { path: path.into(), map, identity: Identity::of(&stat) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of all bytes, read once from front to back.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self[..]).into()
    }

    /// Holds all bytes to a hash, in hex of either case; gives it back in lower case.
    ///
    /// # Errors
    /// `HASH`, with both.
    pub fn held_to(&self, sha256: &str) -> Result<String, Malformed> {
        let found: String = self.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
        match found.eq_ignore_ascii_case(sha256) {
            true => Ok(found),
            false => Err(Malformed::new(Code::Hash, &self.path, "sha256", found, sha256)),
        }
    }

    /// Holds what lies at the path to what was opened there: the same file, of the same length, not
    /// written to in between.
    ///
    /// # Errors
    /// `HASH` with the field that differs; `IO` where nothing lies there any more.
    pub fn unchanged(&self) -> Result<(), Malformed> {
        let stat = std::fs::metadata(&self.path).map_err(|e| refused(&self.path, &e))?;
        match self.identity.differs(Identity::of(&stat)) {
            None => Ok(()),
            Some((field, was, is)) => {
                let expected = format!("{was}, as it was when it was opened");
                Err(Malformed::new(Code::Hash, &self.path, field, is, expected))
            }
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[expect(unsafe_code, reason = "a map of a file has no safe constructor; see `Mapped`")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private to `Mapped`, read-only, and handed out as bytes alone. A file that
    // changes underneath gives other bytes, or SIGBUS when it is cut, which ends a worker process.
    unsafe { Mmap::map(file) }
}

/// The refusal of a file that could not be opened or read.
pub(crate) fn foreign(path: &Path, error: ForeignError) -> Malformed {
    match error {
        ForeignError::NotRegular(found) => {
            Malformed::new(Code::NotRegular, path, "path", found, "a regular file")
        }
        ForeignError::TooLarge { length, largest } => {
            let (found, expected) = (format!("{length} bytes"), format!("at most {largest} bytes"));
            Malformed::new(Code::Size, path, "-", found, expected)
        }
        other => refused(path, &other.into()),
    }
}

fn refused(path: &Path, error: &io::Error) -> Malformed {
    Malformed::new(Code::Io, path, "path", error, "a file that can be read")
}
