//! Writes report folders: files by rename, and a report in the making, row by row.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::line::Row;
use crate::report::Report;
use crate::report::attestation;
use crate::report::pages::is_page;

/// Writes a file by temporary file and rename, so that a reader sees either the old file or the new
/// one. A link at that place is replaced, never followed.
///
/// # Errors
/// The folder cannot be written, or the disk is full; the old file stays unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut half = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
    half.write_all(bytes)?;
    // Without it a crash of the machine may leave the new name with no content.
    half.as_file().sync_all()?;
    readable(half.path())?;
    half.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Makes the file readable for others: temporary files are private, reports are not.
#[cfg(unix)]
fn readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A report folder in the making. A run that is killed leaves a report.json that says INCOMPLETE
/// and the rows up to then; of the lines with one name in rows.jsonl the last one holds.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    rows: File,
    /// Held while the report is written; the operating system releases it when the process ends.
    _lock: File,
}

impl Writer {
    /// Begins a report in `folder`, replacing any report there.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn begin(folder: &Path, planned: &Report) -> io::Result<Writer> {
        std::fs::create_dir_all(folder)?;
        // Before anything is removed: a second run must not delete the pages of one that still
        // writes.
        let lock = lock(folder)?;
        remove_pages(folder)?;
        let rows = folder.join("rows.jsonl");
        // Created by rename and then opened, so that a link of this name is not written through.
        replace(&rows, b"")?;
        let rows = File::options().append(true).open(rows)?;
        let writer = Writer { folder: folder.to_path_buf(), rows, _lock: lock };
        // Written first, so that a run that is killed cannot leave a report that looks complete.
        let incomplete = Some("the run did not come to its end".to_owned());
        writer.write(&Report { incomplete, ..planned.clone() })?;
        Ok(writer)
    }

    /// Appends one row; it has reached the operating system when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        // Part of the same write, so that a kill between two writes cannot leave a row without its
        // end.
        line.push(b'\n');
        self.rows.write_all(&line)?;
        self.rows.flush()
    }

    /// Seals and writes the whole report, by rename.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, report: &Report) -> io::Result<()> {
        write(&self.folder, report)
    }
}

/// Locks a folder, because two runs that write to it would lose each other's rows. The lock is on
/// the folder itself, so that no lock file is left behind.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{}: another run is writing there", folder.display()),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the pages of the previous run, which say nothing about this one.
pub(super) fn remove_pages(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A signature that stayed would be found next to a report that it was not made for.
        if is_page(&name) || attestation::FILES.contains(&name.as_str()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Seals and writes report.json without pages, by rename.
fn write(folder: &Path, report: &Report) -> io::Result<()> {
    let mut sealed = report.clone();
    sealed.seal()?;
    let mut text = serde_json::to_vec_pretty(&sealed)?;
    text.push(b'\n');
    replace(&folder.join("report.json"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::pages;

    #[test]
    fn a_run_that_begins_removes_the_pages_before_it_and_refuses_a_second() {
        let folder = tempfile::tempdir().expect("a folder");
        let page = folder.path().join("gate-1.md");
        std::fs::write(&page, "MET").expect("written");
        let first = Writer::begin(folder.path(), &Report::default()).expect("begun");
        assert!(!page.exists());
        let second = Writer::begin(folder.path(), &Report::default()).expect_err("refused");
        assert!(second.to_string().contains("another run is writing there"), "{second}");
        // A run that is killed now leaves a report that says so, and rows that nothing seals.
        let killed = Report::read(folder.path()).expect("read");
        let checked = pages::verify(folder.path(), &killed, pages::Required::All, true);
        let checked = checked.expect("verified");
        assert!(killed.incomplete.is_some() && checked.findings.is_empty(), "{checked:?}");
        drop(first);
        Writer::begin(folder.path(), &Report::default()).expect("begun again");
    }
}
