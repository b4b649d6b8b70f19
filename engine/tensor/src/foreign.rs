//! Files that come from somebody else: model files, reports, attachments of a subject, and what a
//! user names on a command line. Opening a pipe waits for its other end, reading a device never
//! ends, and a sparse file of terabytes costs nothing to make. So each of them is opened here: it
//! must be a regular file, and it is read up to a size and up to a time.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Bytes of a text that people write or that a program writes for people: specs, kernels, pages.
pub const LARGEST_TEXT: u64 = 64 << 20;

/// Bytes of a file that is read as a whole and is no text: goldens, operands, reports.
pub const LARGEST_WHOLE: u64 = 4 << 30;

/// Whether the last part of a path may be a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It may: the user chose the path, and model folders (the cache of the hub) consist of links.
    /// What it leads to must be a regular file.
    Followed,
    /// It may not: the writer of the file has no business outside of the folder that it was given.
    Refused,
}

/// What a file may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whether it may be a link.
    pub links: Links,
    /// Its size in bytes.
    pub largest: u64,
    /// When the last byte must have been read. A file system that stops answering is beyond this:
    /// where a clock must not stop, read in a thread of its own.
    pub deadline: Option<Instant>,
}

impl Bounds {
    /// A file that the user named: links are followed, and there is no deadline.
    pub const fn of_user(largest: u64) -> Bounds {
        Bounds { links: Links::Followed, largest, deadline: None }
    }

    /// A file that a process under test wrote: no links.
    pub const fn of_subject(largest: u64, deadline: Option<Instant>) -> Bounds {
        Bounds { links: Links::Refused, largest, deadline }
    }
}

/// Why a file of somebody else was not opened or not read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else than a regular file.
    #[error("{0}, not a regular file")]
    NotRegular(&'static str),
    /// It is larger than allowed.
    #[error("{length} bytes, more than the {largest} allowed")]
    TooLarge {
        /// Its size, or how much of it was read before it was given up.
        length: u64,
        /// The bound.
        largest: u64,
    },
    /// The deadline passed.
    #[error("not read in time: {read} bytes at the deadline")]
    Late {
        /// How much had been read.
        read: u64,
    },
    /// It is no text.
    #[error("not UTF-8: {0}")]
    NotText(std::str::Utf8Error),
}

impl From<ForeignError> for io::Error {
    fn from(error: ForeignError) -> io::Error {
        let kind = match error {
            ForeignError::Io(error) => return error,
            ForeignError::NotRegular(_) => io::ErrorKind::InvalidInput,
            ForeignError::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            ForeignError::Late { .. } => io::ErrorKind::TimedOut,
            ForeignError::NotText(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// Opens a regular file for reading, without waiting for anybody.
///
/// It is opened first and looked at afterwards: a look before could be at another file.
///
/// # Errors
/// The system refuses, or it is a folder, pipe, socket, device, or a link where none may be.
pub fn open_foreign(path: &Path, links: Links) -> Result<File, ForeignError> {
    // NONBLOCK: the open of a pipe would wait for a writer. NOCTTY: that of a terminal would make
    // it ours. CLOEXEC is set by the standard library.
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if links == Links::Refused {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) if links == Links::Refused => ForeignError::NotRegular("a link"),
        Some(Errno::LOOP) => ForeignError::NotRegular("a circle of links"),
        Some(Errno::NXIO) => ForeignError::NotRegular("a socket or a device"),
        _ => ForeignError::Io(e),
    })?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(ForeignError::NotRegular(name_of(kind))) }
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Reads a regular file whole.
///
/// # Errors
/// Those of [`open_foreign`]; it is larger than allowed, which is known before a byte is read
/// unless the file grows meanwhile; the deadline passes.
pub fn read_foreign(path: &Path, bounds: Bounds) -> Result<Vec<u8>, ForeignError> {
    let mut file = open_foreign(path, bounds.links)?;
    let (length, largest) = (file.metadata()?.len(), bounds.largest);
    if length > largest {
        return Err(ForeignError::TooLarge { length, largest });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    loop {
        // In pieces, so that a file which grows as fast as it is read meets the deadline.
        let piece = (&mut file).take(1 << 20).read_to_end(&mut bytes)?;
        let read = bytes.len() as u64;
        if read > largest {
            return Err(ForeignError::TooLarge { length: read, largest });
        }
        if piece == 0 {
            return Ok(bytes);
        }
        if bounds.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(ForeignError::Late { read });
        }
    }
}

/// Reads a regular file whole, as text.
///
/// # Errors
/// Those of [`read_foreign`], and bytes that are no UTF-8.
pub fn read_foreign_text(path: &Path, bounds: Bounds) -> Result<String, ForeignError> {
    let bytes = read_foreign(path, bounds)?;
    String::from_utf8(bytes).map_err(|e| ForeignError::NotText(e.utf8_error()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A folder with one of each kind of file, removed when dropped.
    struct Zoo(PathBuf, #[expect(dead_code, reason = "keeps the socket")] UnixListener);

    impl Zoo {
        fn new(name: &str) -> Zoo {
            let folder =
                std::env::temp_dir().join(format!("goldgate-{}-{name}", std::process::id()));
            std::fs::create_dir_all(folder.join("folder")).expect("a folder");
            let at = |name: &str| folder.join(name);
            std::fs::write(at("file"), "text").expect("written");
            let fifo = mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0);
            fifo.expect("a pipe");
            for (link, to) in [
                ("to_file", at("file")),
                ("to_pipe", at("pipe")),
                ("to_zero", "/dev/zero".into()),
                ("to_itself", at("to_itself")),
                ("to_nothing", at("nothing")),
            ] {
                symlink(to, at(link)).expect("a link");
            }
            let socket = UnixListener::bind(at("socket")).expect("a socket");
            let sparse = File::create(at("sparse")).expect("a file");
            sparse.set_len(3 << 30).expect("a sparse file");
            Zoo(folder, socket)
        }

        fn read(&self, name: &str, bounds: Bounds) -> String {
            let start = Instant::now();
            let outcome = read_foreign_text(&self.0.join(name), bounds);
            assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
            outcome.unwrap_or_else(|error| error.to_string())
        }
    }

    impl Drop for Zoo {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let zoo = Zoo::new("kinds");
        let user = Bounds::of_user(1 << 30);
        let subject = Bounds::of_subject(1 << 30, None);
        let both = [
            ("file", "text"),
            ("folder", "a folder, not a regular file"),
            ("pipe", "a pipe, not a regular file"),
            ("socket", "a socket or a device, not a regular file"),
            ("sparse", "3221225472 bytes, more than the 1073741824 allowed"),
            ("nothing", "No such file or directory (os error 2)"),
        ];
        for (name, says) in both {
            assert_eq!((&*zoo.read(name, user), &*zoo.read(name, subject)), (says, says), "{name}");
        }
        let links = [
            ("to_file", "text"),
            ("to_pipe", "a pipe, not a regular file"),
            ("to_zero", "a device, not a regular file"),
            ("to_itself", "a circle of links, not a regular file"),
            ("to_nothing", "No such file or directory (os error 2)"),
        ];
        for (name, says) in links {
            assert_eq!(zoo.read(name, user), says, "{name}");
            assert_eq!(zoo.read(name, subject), "a link, not a regular file", "{name}");
        }
    }

    #[test]
    fn size_and_time_are_bounded_while_it_is_read() {
        let zoo = Zoo::new("bounds");
        assert_eq!(zoo.read("file", Bounds::of_user(4)), "text");
        assert_eq!(zoo.read("file", Bounds::of_user(3)), "4 bytes, more than the 3 allowed");
        let now = Some(Instant::now());
        let late = zoo.read("sparse", Bounds { deadline: now, ..Bounds::of_user(4 << 30) });
        assert_eq!(late, "not read in time: 1048576 bytes at the deadline");
        std::fs::write(zoo.0.join("bytes"), [0xff]).expect("written");
        assert!(zoo.read("bytes", Bounds::of_user(9)).starts_with("not UTF-8: "));
    }
}
