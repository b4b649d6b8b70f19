//! A place in a mapped file that never goes past its end.

use std::path::Path;

use crate::weights::refusal::{Code, Malformed};

/// Reads little-endian fields from front to back. Every length is held against the bytes left.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { path, bytes, at: 0 }
    }

    /// The next byte's offset.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes after this place.
    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A refusal of `field`, which begins at `offset`.
    pub(super) fn refuse(
        &self,
        code: Code,
        offset: u64,
        field: impl Into<String>,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Malformed {
        Malformed::new(code, self.path, field, found, expected).at(offset)
    }

    /// The next `count` bytes; `TRUNCATED` if there are fewer.
    pub(super) fn take(
        &mut self,
        count: u64,
        field: impl FnOnce() -> String,
    ) -> Result<&'a [u8], Malformed> {
        let taken = usize::try_from(count).ok().and_then(|count| {
            let end = self.at.checked_add(count)?;
            Some((self.bytes.get(self.at..end)?, end))
        });
        let Some((taken, end)) = taken else {
            let found = format!("{} bytes left", self.left());
            let expected = format!("{count} bytes");
            return Err(self.refuse(Code::Truncated, self.at(), field(), found, expected));
        };
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(super) fn array<const N: usize>(
        &mut self,
        field: impl FnOnce() -> String,
    ) -> Result<[u8; N], Malformed> {
        let taken = self.take(N as u64, field)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(super) fn u32(&mut self, field: impl FnOnce() -> String) -> Result<u32, Malformed> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: impl FnOnce() -> String) -> Result<u64, Malformed> {
        self.array(field).map(u64::from_le_bytes)
    }
}
