//! The report as a whole: provenance, what was planned, every row once, sorted by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use goldgate_wire::json;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::gate::Evidences;
use crate::line::{FaultResult, Row, hex};
use crate::report::provenance::Provenance;
use crate::report::summary::GateSummary;

/// The version of report.json.
pub const FORMAT: u8 = 1;

/// One run's report: report.json.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of this format: 1 once it is sealed.
    #[serde(default)]
    pub format: u8,
    /// Where it comes from.
    pub provenance: Provenance,
    /// What was selected of everything that there is.
    #[serde(default)]
    pub selection: Selection,
    /// Every planned trial, sorted.
    pub planned: Vec<String>,
    /// Every row, sorted by name.
    pub rows: Vec<Row>,
    /// Why nobody may rely on it; empty where nothing stands against it.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// Why it is not whole: a run that was stopped, or killed before its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incomplete: Option<String>,
    /// Subject → why it was not there.
    #[serde(default)]
    pub absent: BTreeMap<String, String>,
    /// Processes that outlived their worker, words that nobody asked for.
    #[serde(default)]
    pub incidents: Vec<String>,
    /// Processes that had to be replaced.
    #[serde(default)]
    pub replaced: u32,
    /// Listed mutants that were planted, and whether they were noticed.
    #[serde(default)]
    pub faults: Vec<FaultResult>,
    /// Page of the repository → whether it holds what is asked of it.
    #[serde(default)]
    pub documents: BTreeMap<String, bool>,
    /// Rule of judging → the cases under it, sorted.
    #[serde(default)]
    pub rules: BTreeMap<String, Vec<String>>,
    /// The gates; none in a report that is INVALID.
    #[serde(default)]
    pub gates: Vec<GateSummary>,
    /// SHA-256 over the canonical rows.
    #[serde(default)]
    pub rows_sha256: String,
    /// SHA-256 over the canonical report, this field left empty.
    #[serde(default)]
    pub sha256: String,
}

/// What of everything was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Filters on names; none: everything.
    #[serde(default)]
    pub filters: Vec<String>,
    /// The gates that were asked; none: all, as far as a run without `--gate` goes.
    #[serde(default)]
    pub gates: Vec<u8>,
    /// What else was left out, in words: `slow cases`.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Which part of the plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<Shard>,
    /// Whether real model files were there, so that field requirements count.
    #[serde(default)]
    pub models: bool,
}

/// One part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// From 1.
    pub index: u64,
    /// Of how many.
    pub of: u64,
    /// SHA-256 over the names of the whole plan, a line each, sorted.
    pub plan_sha256: String,
}

/// How a selection says that slow cases were left out.
pub const SLOW: &str = "slow cases";

impl Selection {
    /// In words why not everything was asked; none where everything was.
    pub fn partial(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.filters.is_empty() {
            parts.push(format!("only {}", self.filters.join(" ")));
        }
        parts.extend(self.left_out.iter().map(|what| format!("without {what}")));
        parts.extend(self.shard.as_ref().map(|s| format!("shard {} of {}", s.index, s.of)));
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether every requirement was asked, if not by slow cases: one that rests on those is
    /// incomplete by their absence, and no other.
    pub fn asks_all(&self) -> bool {
        self.filters.is_empty() && self.shard.is_none() && self.left_out.iter().all(|w| w == SLOW)
    }
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file, or one that cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It means nothing, or two things.
    #[error("error[{code}] file={} {message}", .path.display())]
    Form {
        /// `JSON_DUP` or `FORM`.
        code: &'static str,
        /// The file.
        path: PathBuf,
        /// In words.
        message: String,
    },
}

impl Report {
    /// Reads report.json; a folder stands for the report.json in it.
    ///
    /// # Errors
    /// No file; a key twice, an unknown key, a number that is none.
    pub fn read(path: &Path) -> Result<Report, ReadError> {
        let path = if path.is_dir() { path.join("report.json") } else { path.to_path_buf() };
        match std::fs::read_to_string(&path) {
            Ok(text) => Report::parse(&text).map_err(|(code, message)| ReadError::Form {
                code,
                path,
                message,
            }),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Reads the text of a report.
    ///
    /// # Errors
    /// Code and message: `JSON_DUP` for a key that stands twice, else `FORM`.
    pub fn parse(text: &str) -> Result<Report, (&'static str, String)> {
        let value = json::read(text).map_err(|e| {
            let message = e.to_string();
            (if message.contains("stands twice") { "JSON_DUP" } else { "FORM" }, message)
        })?;
        let report: Report = serde_json::from_value(value).map_err(|e| ("FORM", e.to_string()))?;
        match report.format {
            FORMAT => Ok(report),
            other => Err(("FORM", format!("format is {other}, this program reads {FORMAT}"))),
        }
    }

    /// The row of that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        let at = self.rows.binary_search_by(|row| row.name.as_str().cmp(name));
        at.ok().map(|i| &self.rows[i])
    }

    /// Rows lost or doubled are no report.
    pub fn hold_to_plan(&mut self) {
        self.rows.sort_by(|a, b| a.name.cmp(&b.name));
        let mut planned = self.planned.iter();
        let mut rows = self.rows.iter();
        loop {
            match (planned.next(), rows.next()) {
                (None, None) => return,
                (Some(plan), Some(row)) if *plan == row.name => {}
                (plan, row) => {
                    let none = || "nothing".to_owned();
                    let plan = plan.map_or_else(none, Clone::clone);
                    let row = row.map_or_else(none, |r| r.name.clone());
                    self.invalid.push(format!("rows lost or doubled: planned {plan}, found {row}"));
                    return;
                }
            }
        }
    }

    /// What a run found out beside its rows, as gates are weighed by it.
    pub fn evidences(&self) -> Evidences {
        Evidences {
            faults: self.faults.clone(),
            documents: self.documents.clone(),
            complete: self.selection.asks_all() && self.incomplete.is_none(),
            models: self.selection.models,
            invalid: self.invalid.clone(),
        }
    }

    /// SHA-256 over the rows in their canonical form: fields in the order of the format, no
    /// spaces, a line each.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn hash_rows(&self) -> serde_json::Result<String> {
        let mut hash = Sha256::new();
        for row in &self.rows {
            hash.update(serde_json::to_vec(row)?);
            hash.update(b"\n");
        }
        Ok(hex(&hash.finalize()))
    }

    /// SHA-256 over the whole report in its canonical form, its own hash left empty.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn hash(&self) -> serde_json::Result<String> {
        let mut open = self.clone();
        open.sha256.clear();
        open.provenance.subjects.values_mut().for_each(serde_json::Value::sort_all_objects);
        Ok(hex(&Sha256::digest(serde_json::to_vec(&open)?)))
    }

    /// Puts both hashes in.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn seal(&mut self) -> serde_json::Result<()> {
        self.format = FORMAT;
        self.rows_sha256 = self.hash_rows()?;
        self.sha256 = self.hash()?;
        Ok(())
    }
}

/// SHA-256 over names, a line each, in the order given.
pub fn hash_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update(format!("{name}\n"));
    }
    hex(&hash.finalize())
}

/// Writes a file by temporary file and rename: whoever reads sees the old one or the new one, and
/// a link that stands there is replaced, never followed.
///
/// # Errors
/// A folder that cannot be written, a full disk; the old file is left as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut half = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
    half.write_all(bytes)?;
    half.as_file().sync_all()?;
    readable(half.path())?;
    half.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Temporary files are private; reports are not.
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
/// and the rows up to then; the last line of a name in rows.jsonl is the one that holds.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    rows: File,
    /// Held while the report is written; the system lets it go with the process.
    _lock: File,
}

impl Writer {
    /// Begins a report in `folder`, over whatever report was there.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn begin(folder: &Path, planned: &Report) -> io::Result<Writer> {
        std::fs::create_dir_all(folder)?;
        let lock = lock(folder)?;
        remove_pages(folder)?;
        let rows = folder.join("rows.jsonl");
        replace(&rows, b"")?;
        let rows = File::options().append(true).open(rows)?;
        let writer = Writer { folder: folder.to_path_buf(), rows, _lock: lock };
        let incomplete = Some("the run did not come to its end".to_owned());
        writer.write(&Report { incomplete, ..planned.clone() })?;
        Ok(writer)
    }

    /// Adds one row; it is on its way to the disk before this returns.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        let mut line = serde_json::to_vec(row)?;
        line.push(b'\n');
        self.rows.write_all(&line)?;
        self.rows.flush()
    }

    /// Writes the whole report, sealed, by rename.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, report: &Report) -> io::Result<()> {
        write(&self.folder, report)
    }
}

/// One run writes a folder at a time: two would lose each other's reports. The folder itself is
/// what is locked, so that no file is left behind.
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

/// Pages of the run before say nothing of this one.
fn remove_pages(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let gate = name.starts_with("gate-") && name.ends_with(".md");
        if gate || ["report.html", "junit.xml"].contains(&&*name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes report.json, sealed, by rename.
///
/// # Errors
/// A file that cannot be written.
pub fn write(folder: &Path, report: &Report) -> io::Result<()> {
    let mut sealed = report.clone();
    sealed.seal()?;
    let mut text = serde_json::to_vec_pretty(&sealed)?;
    text.push(b'\n');
    replace(&folder.join("report.json"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_begins_removes_the_pages_before_it_and_refuses_a_second() {
        let folder = tempfile::tempdir().expect("a folder");
        let page = folder.path().join("gate-1.md");
        std::fs::write(&page, "MET").expect("written");
        let first = Writer::begin(folder.path(), &Report::default()).expect("begun");
        assert!(!page.exists());
        let second = Writer::begin(folder.path(), &Report::default()).expect_err("refused");
        assert!(second.to_string().contains("another run is writing there"), "{second}");
        drop(first);
        Writer::begin(folder.path(), &Report::default()).expect("begun again");
    }
}
