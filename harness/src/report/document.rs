//! The report as a whole: provenance, the plan, and every row exactly once, sorted by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, read_foreign_text};
use goldgate_wire::json;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::gate::Evidences;
use crate::line::{AskedSubject, FaultResult, GeneratedScore, Profile, Row, hex};
use crate::report::against::Against;
use crate::report::provenance::Provenance;
use crate::report::summary::GateSummary;
use crate::report::text::line;

/// The version of the format of report.json that is written.
pub const FORMAT: u8 = 2;

/// The first format, which earlier versions wrote. It does not seal the pages.
pub const WITHOUT_PAGES: u8 = 1;

/// The report of one run: report.json.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of this format, set when the report is sealed.
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
    /// How many faults that nobody chose the cases of the first folder detect, op by op; empty if
    /// none were planted.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub generated: Vec<GeneratedScore>,
    /// Page of the repository → whether it has the required content. A page of a specs folder after
    /// the first has that folder's name before its path: `mine:docs/page.md`.
    #[serde(default)]
    pub documents: BTreeMap<String, bool>,
    /// Rule of judging → the cases that are judged by it, sorted.
    #[serde(default)]
    pub rules: BTreeMap<String, Vec<String>>,
    /// The gates; empty if the report is INVALID.
    #[serde(default)]
    pub gates: Vec<GateSummary>,
    /// The comparison with an earlier record; absent where there was none. It is kept here because
    /// the pages show it, and pages are rendered from this file alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub against: Option<Against>,
    /// Which way of rendering the pages were written by; empty until there are pages.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub renderer: String,
    /// Page of this report → SHA-256 of its text, in which a mark replaces the hash of the report.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub pages: BTreeMap<String, String>,
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
    /// ` (declared: weights D)`, for a verdict on an engine that declares where it rounds.
    pub fn declared(&self, subject: &str) -> String {
        match self.subjects.get(subject).map(|s| s.declared.as_str()) {
            None | Some("") => String::new(),
            Some(declared) => format!(" (declared: {})", line(declared)),
        }
    }

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
        // A report cannot shed its pages by calling itself older than it is.
        let Report { provenance: origin, renderer, pages, .. } = &report;
        let older = report.against.is_none() && renderer.is_empty() && pages.is_empty();
        let older = older && origin.edited.is_empty() && origin.folders.is_empty();
        let older = older && origin.compared_with.is_empty() && report.generated.is_empty();
        match report.format {
            FORMAT => Ok(report),
            WITHOUT_PAGES if older => Ok(report),
            WITHOUT_PAGES => Err(("FORM", "format is 1, but fields are of format 2".to_owned())),
            other => {
                let reads = format!("this program reads {WITHOUT_PAGES} and {FORMAT}");
                Err(("FORM", format!("format is {other}, {reads}")))
            }
        }
    }

    /// The row with that name.
    pub fn row(&self, name: &str) -> Option<&Row> {
        // A comparison looks up every row of one report in another, and reports have some 20,000
        // rows.
        let at = self.rows.binary_search_by(|row| row.name.as_str().cmp(name));
        at.ok().map(|i| &self.rows[i])
    }

    /// Checks that the rows match the plan: a report with lost or repeated rows is INVALID.
    pub fn hold_to_plan(&mut self) {
        // Rows arrive in the order in which trials end, which no two runs share; the plan is
        // sorted.
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
                    // Only the first difference is named: after it the two lists are shifted
                    // against each other.
                    self.invalid.push(format!("rows lost or doubled: planned {plan}, found {row}"));
                    return;
                }
            }
        }
    }

    /// What a run found out apart from its rows, as gates of a specs folder weigh it.
    pub fn evidences(&self, folder: &str) -> Evidences {
        let own = |(path, good): (&String, &bool)| Some((of_folder(path, folder)?, *good));
        Evidences {
            faults: self.faults.iter().filter(|f| f.folder == folder).cloned().collect(),
            documents: self.documents.iter().filter_map(own).collect(),
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
            // The bytes are those of rows.jsonl, so that `sha256sum rows.jsonl` gives the same
            // hash.
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
        // The rows come first, because the hash of the report covers that of its rows.
        self.rows_sha256 = self.hash_rows()?;
        self.sha256 = self.hash()?;
        Ok(())
    }
}

/// A page of the repository as the documents of a report name it: one of a folder after the first
/// has the folder's name before it.
pub fn page_name(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}:{path}") }
}

/// The path of a page that a folder's gates rest on; none if the page is another folder's.
pub fn of_folder(name: &str, folder: &str) -> Option<String> {
    // No path of a page has a colon.
    let (own, path) = name.split_once(':').unwrap_or(("", name));
    (own == folder).then(|| path.to_owned())
}

/// SHA-256 over names, one per line, in the order given.
pub fn hash_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for name in names {
        // Without the line feed, the same text split into other names would have the same hash.
        hash.update(format!("{name}\n"));
    }
    hex(&hash.finalize())
}
