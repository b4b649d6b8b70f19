//! The report as a whole: provenance, what was planned, every row once, sorted by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::Row;
use crate::report::provenance::Provenance;

/// One run's report: report.json.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Where it comes from.
    pub provenance: Provenance,
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
}

impl Report {
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
}

/// A report folder in the making. A run that is killed leaves a report.json that says INCOMPLETE
/// and the rows up to then; the last line of a name in rows.jsonl is the one that holds.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    rows: File,
}

impl Writer {
    /// Begins a report in `folder`, over whatever report was there.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn begin(folder: &Path, planned: &Report) -> io::Result<Writer> {
        std::fs::create_dir_all(folder)?;
        let rows = File::create(folder.join("rows.jsonl"))?;
        let writer = Writer { folder: folder.to_path_buf(), rows };
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

    /// Writes the whole report by rename.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, report: &Report) -> io::Result<()> {
        let half = self.folder.join("report.json.part");
        let mut text = serde_json::to_vec_pretty(report)?;
        text.push(b'\n');
        std::fs::write(&half, text)?;
        std::fs::rename(half, self.folder.join("report.json"))
    }
}
