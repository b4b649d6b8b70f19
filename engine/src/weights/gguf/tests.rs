//! GGUF files built byte by byte: what opens, and that nothing else does.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::{Gguf, Value};
use crate::weights::{Code, Malformed, TensorInfo};

/// A GGUF file as it grows: records first, then data.
#[derive(Default)]
pub(crate) struct Builder {
    metadata: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Builder {
    /// A metadata record of type `id` with `value` as raw bytes.
    pub(crate) fn raw(mut self, key: &str, id: u32, value: &[u8]) -> Builder {
        let mut record = text(key);
        record.extend(id.to_le_bytes());
        record.extend(value);
        self.metadata.push(record);
        self
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Builder {
        self.raw(key, 8, &text(value))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Builder {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Builder {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// A tensor of type `id`; `dims` as in the file, fastest first.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], id: u32, data: &[u8]) -> Builder {
        let mut record = text(name);
        record.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| record.extend(d.to_le_bytes()));
        record.extend(id.to_le_bytes());
        record.extend((self.data.len() as u64).to_le_bytes());
        self.records.push(record);
        self.data.extend(data);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    /// A tensor of f32 zeros, row-major.
    pub(crate) fn zeros(self, name: &str, shape: &[usize]) -> Builder {
        let dims: Vec<u64> = shape.iter().rev().map(|&d| d as u64).collect();
        let count: usize = shape.iter().product();
        self.tensor(name, &dims, 0, &vec![0; 4 * count])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.records.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        self.metadata.iter().chain(&self.records).for_each(|record| bytes.extend(record));
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A small file with every kind of value.
fn sample() -> Builder {
    let strings = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("a"), &text("é")].concat();
    let ids = [&4u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[7, 0, 0, 0, 8, 0, 0, 0]].concat();
    Builder::default()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.eps", 1e-5)
        .raw("a.bool", 7, &[1])
        .raw("a.list", 9, &strings)
        .raw("a.ids", 9, &ids)
        .tensor("w", &[4, 3], 0, &[1; 48])
        .tensor("q", &[32], 2, &[2; 18])
}

/// A file in memory alone, which is gone when it is dropped, and its path until then.
pub(crate) fn in_memory(bytes: &[u8]) -> (std::fs::File, PathBuf) {
    let memory = rustix::fs::memfd_create("a", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes).expect("written");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    (file, path)
}

/// Opens bytes as a file, and walks everything that an open file offers.
fn open(bytes: &[u8]) -> Result<Gguf, Malformed> {
    let (_kept, path) = in_memory(bytes);
    let file = Gguf::open(&path)?;
    for entry in file.metadata().entries() {
        let _ = (entry.value.to_string(), entry.value.as_f64(), entry.value.as_u64());
        if let Value::Array(array) = &entry.value {
            let (strings, integers) = (array.strings().map(Iterator::count), array.integers());
            let walked = strings.or(integers.map(|x| x.len())).or(array.reals().map(|x| x.len()));
            let walked = walked.or(array.booleans().map(|x| x.len()));
            // Numbers above 2^63 - 1 are no integers of ours.
            assert!(walked.is_none_or(|n| n == array.len()));
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.bytes(tensor).len() as u64, tensor.bytes, "{}", tensor.name);
        assert_eq!(file.tensor(&tensor.name).map(|t| t.offset), Some(tensor.offset));
    }
    Ok(file)
}

fn refusal(bytes: &[u8]) -> Malformed {
    open(bytes).map(|_| ()).expect_err("a refusal")
}

#[test]
fn a_good_file_gives_back_what_was_written() {
    let file = open(&sample().bytes()).expect("a good file");
    assert_eq!(file.metadata().get("general.architecture").and_then(Value::as_str), Some("llama"));
    assert_eq!(file.metadata().get("llama.block_count").and_then(Value::as_u64), Some(2));
    let list = file.metadata().get("a.list").and_then(Value::as_array).expect("a list");
    assert_eq!(list.strings().expect("strings").collect::<Vec<_>>(), ["a", "é"]);
    let ids = file.metadata().get("a.ids").and_then(Value::as_array).expect("a list");
    assert_eq!(ids.integers(), Some(vec![7, 8]));
    let TensorInfo { shape, bytes, .. } = file.tensor("w").expect("w");
    assert_eq!((shape.as_slice(), *bytes), (&[3, 4][..], 48));
    assert_eq!(file.bytes(file.tensor("q").expect("q")), [2; 18]);
    assert!(file.tensor("x").is_none() && file.warnings().list().is_empty());
}

#[test]
fn every_cut_is_refused() {
    let good = sample().bytes();
    // The padding after the last tensor may be missing.
    let data = good.len() - (32 - 18);
    for cut in 0..data {
        assert!(open(&good[..cut]).is_err(), "cut at {cut}");
    }
    assert!(open(&good[..data]).is_ok());
}

#[test]
fn every_flipped_bit_is_refused_or_opens_whole() {
    let good = sample().bytes();
    let mut opened = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            opened += u32::from(open(&bytes).is_ok());
        }
    }
    // Names, values and data may be others; the file is mostly structure and padding otherwise.
    assert!(opened > 0);
}

#[test]
fn every_field_at_its_extremes_is_refused_or_opens_whole() {
    let good = sample().bytes();
    let words = [0, 1, 2, 0x7f, 0x80, 0xff, 1 << 31, 1 << 32, 1 << 40, 1 << 61, 1 << 63, u64::MAX];
    for at in 0..good.len() - 8 {
        for word in words.into_iter().flat_map(|w| [w, w.wrapping_sub(1), w.wrapping_add(1)]) {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            let _ = open(&bytes);
        }
    }
}

#[test]
fn counts_are_held_to_the_memory_that_a_file_may_ask_for() {
    // Records of no data: more entries than twice the file's length would hold.
    let mut builder = Builder::default();
    for i in 0..3000 {
        builder = builder.tensor(&format!("{i:x}"), &[0], 0, &[]);
    }
    let refusal = refusal(&builder.bytes());
    assert_eq!((refusal.code, refusal.offset), (Code::Count, Some(8)));
}

#[test]
fn a_terabyte_of_hole_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sparse.gguf");
    let mut file = std::fs::File::create(&path).expect("created");
    file.write_all(&sample().bytes()).expect("written");
    file.set_len(1 << 40).expect("a hole");
    let refusal = Gguf::open(&path).expect_err("a refusal");
    assert_eq!(refusal.code, Code::Trailing);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, mode, 0).expect("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
    let link = |to: PathBuf, name: &str| std::os::unix::fs::symlink(to, at(name)).expect("a link");
    link(at("loop"), "loop");
    link(at("nowhere"), "dangling");
    link(PathBuf::from("/dev/zero"), "zero");
    let cases = [
        (folder.path().to_path_buf(), Code::NotRegular),
        (at("pipe"), Code::NotRegular),
        (at("socket"), Code::NotRegular),
        (at("zero"), Code::NotRegular),
        (at("loop"), Code::NotRegular),
        (at("dangling"), Code::Io),
        (at("absent"), Code::Io),
    ];
    for (path, code) in cases {
        let refusal = Gguf::open(&path).expect_err("a refusal");
        assert_eq!(refusal.code, code, "{}", path.display());
    }
}

#[test]
fn a_file_that_changes_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, sample().bytes()).expect("written");
    let file = Gguf::open(&path).expect("a good file");
    let hash = file.file().sha256();
    file.file().unchanged().expect("nobody wrote");
    let mut other = sample().bytes();
    let last = other.len() - 20;
    other[last] ^= 1;
    let mut rewritten = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
    rewritten.write_all(&other).expect("rewritten");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    rewritten.set_modified(later).expect("a later time");
    let refusal = file.file().unchanged().expect_err("a refusal");
    assert_eq!((refusal.code, refusal.field.as_str()), (Code::Hash, "modified"));
    assert_ne!(file.file().sha256(), hash);
    let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let refusal = file.file().held_to(&hash).expect_err("a refusal");
    assert_eq!((refusal.code, refusal.field.as_str()), (Code::Hash, "sha256"));
    let again = Gguf::open(&path).expect("a good file");
    assert_eq!(again.file().held_to(&refusal.found).expect("that hash"), refusal.found);
    // Longer; another file of the same name; none at all.
    rewritten.write_all(&[0]).expect("longer");
    assert_eq!(again.file().unchanged().expect_err("a refusal").field, "length");
    let (copy, beside) = (std::fs::read(&path).expect("read"), folder.path().join("b.gguf"));
    std::fs::write(&beside, copy).expect("written");
    std::fs::rename(&beside, &path).expect("replaced");
    assert_eq!(again.file().unchanged().expect_err("a refusal").field, "inode");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(again.file().unchanged().expect_err("a refusal").code, Code::Io);
}
