//! The report as a whole: provenance, the plan, and every row exactly once, sorted by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign_text};
use goldgate_wire::json;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::gate::Evidences;
use crate::line::{AskedSubject, FaultResult, Profile, Row, hex};
use crate::report::provenance::Provenance;
use crate::report::summary::GateSummary;

/// The version of the format of report.json.
pub const FORMAT: u8 = 1;

/// The report of one run: report.json.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of this format: 1 as soon as the report is sealed.
    #[serde(default)]
    pub format: u8,
    /// Where the report comes from.
    pub provenance: Provenance,
    /// Which part of all trials was selected.
    #[serde(default)]
    pub selection: Selection,
    /// The engines that the gates are weighed for, by label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub subjects: BTreeMap<String, AskedSubject>,
    /// The names of all planned trials, sorted.
    pub planned: Vec<String>,
    /// Every row, sorted by name.
    pub rows: Vec<Row>,
    /// Reasons why the report cannot be relied on; empty if there are none.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// Why it is incomplete: the run was stopped, or killed before its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incomplete: Option<String>,
    /// Subject → why it could not be started.
    #[serde(default)]
    pub absent: BTreeMap<String, String>,
    /// Processes that outlived their worker, and unsolicited output.
    #[serde(default)]
    pub incidents: Vec<String>,
    /// How many processes had to be replaced.
    #[serde(default)]
    pub replaced: u32,
    /// Listed mutants that were planted, and whether they were detected.
    #[serde(default)]
    pub faults: Vec<FaultResult>,
    /// Page of the repository → whether it has the required content.
    #[serde(default)]
    pub documents: BTreeMap<String, bool>,
    /// Rule of judging → the cases that are judged by it, sorted.
    #[serde(default)]
    pub rules: BTreeMap<String, Vec<String>>,
    /// The gates; empty if the report is INVALID.
    #[serde(default)]
    pub gates: Vec<GateSummary>,
    /// SHA-256 over the rows in canonical form.
    #[serde(default)]
    pub rows_sha256: String,
    /// SHA-256 over the report in canonical form, with this field empty.
    #[serde(default)]
    pub sha256: String,
}

/// Which part of all trials was asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Filters on names; empty for everything.
    #[serde(default)]
    pub filters: Vec<String>,
    /// The gates that were asked; empty for all of them, as far as a run without `--gate` asks
    /// them.
    #[serde(default)]
    pub gates: Vec<u8>,
    /// What else was left out, in words, such as `slow cases`.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Which part of the plan was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<Shard>,
    /// Whether real model files were present, so that field requirements count.
    #[serde(default)]
    pub models: bool,
    /// The profile that the user named: nothing else was asked of the engines.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<Profile>,
}

/// One part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The number of this part, from 1.
    pub index: u64,
    /// The number of parts.
    pub of: u64,
    /// SHA-256 over the names of the whole plan, one per line, sorted.
    pub plan_sha256: String,
}

/// The words by which a selection records that slow cases were left out.
pub const SLOW: &str = "slow cases";

impl Selection {
    /// Why not everything was asked, in words; none if everything was.
    pub fn partial(&self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.filters.is_empty() {
            parts.push(format!("only {}", self.filters.join(" ")));
        }
        parts.extend(self.left_out.iter().map(|what| format!("without {what}")));
        parts.extend(self.profile.map(|profile| format!("profile {}", profile.word())));
        parts.extend(self.shard.as_ref().map(|s| format!("shard {} of {}", s.index, s.of)));
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// Whether all requirements were asked. Slow cases may be left out: a requirement that rests on
    /// them is incomplete by their absence, and the others are unaffected.
    pub fn asks_all(&self) -> bool {
        self.filters.is_empty() && self.shard.is_none() && self.left_out.iter().all(|w| w == SLOW)
    }
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist or cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is malformed or ambiguous.
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
    /// Reads report.json, given its path or that of its folder.
    ///
    /// # Errors
    /// There is no file, a key is repeated or unknown, or a number is malformed.
    pub fn read(path: &Path) -> Result<Report, ReadError> {
        let path = if path.is_dir() { path.join("report.json") } else { path.to_path_buf() };
        match read_foreign_text(&path, Bounds::of_user(LARGEST_WHOLE)) {
            Ok(text) => Report::parse(&text).map_err(|(code, message)| ReadError::Form {
                code,
                path,
                message,
            }),
            Err(error) => Err(ReadError::Io { path, source: error.into() }),
        }
    }

    /// Parses the text of a report.
    ///
    /// # Errors
    /// Code and message: `JSON_DUP` for a repeated key, else `FORM`.
    pub fn parse(text: &str) -> Result<Report, (&'static str, String)> {
        // Read strictly: of a repeated key the parsers keep different values, so a hash could cover
        // one and a reader see the other.
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

    /// The row with that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        let at = self.rows.binary_search_by(|row| row.name.as_str().cmp(name));
        at.ok().map(|i| &self.rows[i])
    }

    /// Checks that the rows match the plan: a report with lost or repeated rows is INVALID.
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

    /// What a run found out apart from its rows, as gates weigh it.
    pub fn evidences(&self) -> Evidences {
        Evidences {
            faults: self.faults.clone(),
            documents: self.documents.clone(),
            complete: self.selection.asks_all() && self.incomplete.is_none(),
            models: self.selection.models,
            invalid: self.invalid.clone(),
            subjects: self.subjects.clone(),
            profile: self.selection.profile,
        }
    }

    /// SHA-256 over the rows in canonical form: fields in the order of the format, no spaces, one
    /// row per line.
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

    /// SHA-256 over the whole report in canonical form, with its own hash empty.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn hash(&self) -> serde_json::Result<String> {
        let mut open = self.clone();
        open.sha256.clear();
        // A hello arrives with its keys in any order; sorted, it has the same hash after being read
        // back.
        open.provenance.subjects.values_mut().for_each(serde_json::Value::sort_all_objects);
        Ok(hex(&Sha256::digest(serde_json::to_vec(&open)?)))
    }

    /// Fills in both hashes.
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

/// SHA-256 over names, one per line, in the order given.
pub fn hash_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update(format!("{name}\n"));
    }
    hex(&hash.finalize())
}

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
        let lock = lock(folder)?;
        remove_pages(folder)?;
        let rows = folder.join("rows.jsonl");
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

/// Seals and writes report.json, by rename.
///
/// # Errors
/// The file cannot be written.
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
