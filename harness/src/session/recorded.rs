//! A run whose rows are written down as they are judged, and whose findings become a report.

use std::path::PathBuf;

use crate::kinds::Goldens;
use crate::line::Row;
use crate::report::writer::Writer;
use crate::report::{Provenance, Report};
use crate::run::{self, Known, Options, Plan};
use crate::session::Failure;

/// What a report says besides the findings of its run. The clock is passed in, so that a report
/// can be repeated byte for byte.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// The folder of the report; none to write none.
    pub folder: Option<PathBuf>,
    /// What is known about specs, goldens and the program before the run.
    pub provenance: Provenance,
    /// Reads the clock at the end of the run (RFC 3339).
    pub clock: fn() -> String,
}

impl Recorder {
    /// Runs a plan and writes its report. Each row goes to `sink` when its trial ends; the last
    /// version of a row holds.
    ///
    /// # Errors
    /// The report cannot be written, or there is no place for the workers' files.
    pub fn run(
        self,
        plan: &Plan,
        options: &Options,
        goldens: &dyn Goldens,
        known: &Known<'_>,
        sink: &mut dyn FnMut(&Row),
    ) -> Result<Report, Failure> {
        let mut report = Report {
            provenance: Provenance { plan_sha256: plan.hash(), ..self.provenance },
            planned: plan.names(),
            ..Report::default()
        };
        let writer = self.folder.as_deref().map(|folder| Writer::begin(folder, &report));
        let mut writer = writer.transpose().map_err(Failure::Report)?;
        let mut unwritten = None;
        let mut record = |row: &Row| {
            // The run goes on, so that the sink still gets its rows; the first error is returned at
            // the end.
            if let Some(Err(error)) = writer.as_mut().map(|writer| writer.row(row)) {
                unwritten.get_or_insert(error);
            }
            sink(row);
        };
        let found = run::run(plan, options, goldens, known, &mut record)?;
        if let Some(error) = unwritten {
            return Err(Failure::Report(error));
        }
        report.rows = found.rows;
        report.provenance.subjects = found.subjects;
        report.absent = found.absent;
        report.invalid = found.invalid;
        report.incidents = found.incidents;
        report.replaced = found.replaced;
        report.incomplete = found.stopped.then(|| "stopped before its end".to_owned());
        report.hold_to_plan();
        // Read after the last row: the report states when judging ended, not when writing did.
        report.provenance.ended = (self.clock)();
        if let Some(writer) = &writer {
            writer.write(&report).map_err(Failure::Report)?;
        }
        Ok(report)
    }
}
