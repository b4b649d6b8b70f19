//! The kind *container*: malformed files, made here, that a subject must refuse or open.

pub mod bytes;
pub mod case;
pub mod edit;
pub mod judge;
pub mod spec;

pub use case::ContainerCase;

use std::time::Duration;

use goldgate_wire::Observed;
use goldgate_wire::call::Inspect;

use crate::kinds::container::bytes::Base;
use crate::kinds::container::case::{make, variants, write};
use crate::kinds::container::edit::Edit;
use crate::kinds::container::judge::{InspectReply, judge, observed, self_check};
use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Caller, Head, Judgement, On, Sort, Stopped, Verdict, Whom};

/// The wall time that one file may take before the subject is stopped.
const LIMIT: Duration = Duration::from_secs(10);

/// The kind *container*.
#[derive(Clone, Copy, Debug)]
pub struct Container;

/// How the files of a case are made.
#[derive(Clone, Debug)]
pub struct Files {
    base: Base,
    edits: Vec<Edit>,
}

/// What a subject reported about each file, and the size of the file.
pub type Answers = Vec<(InspectReply, u64)>;

impl Kind for Container {
    type Case = ContainerCase;
    type Question = Files;
    type Golden = ();
    type Got = Answers;

    fn head(&self, case: &ContainerCase) -> Head {
        Head {
            name: case.full_name(),
            kind: "container",
            sort: Sort::Case,
            gate: case.gate,
            stem: case.stem.clone(),
            case: case.name.clone(),
            variant: "file".to_owned(),
            why: case.why.clone(),
            source: case.source.clone(),
            place: Some(case.place.clone()),
            family: case.family(),
            dtype: None,
            golden: None,
            definition: false,
            slow: false,
            // Files are opened without a device, so a card would only repeat the answers of the
            // CPU.
            on: On::Host,
            group: None,
        }
    }

    fn golden(&self, _: &ContainerCase, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, case: &ContainerCase, (): &()) -> Result<(u32, u32), String> {
        self_check(&case.expected).map(|()| (0, 0))
    }

    fn question(&self, case: &ContainerCase, (): &(), _: &dyn Goldens) -> Result<Files, Withheld> {
        Ok(Files { base: case.base.clone(), edits: case.edits.clone() })
    }

    fn ask(&self, files: &Files, to: &mut Caller<'_>) -> Result<Answers, Stopped> {
        to.set_limit(LIMIT);
        to.need::<Inspect>()?;
        let mut answers = Answers::new();
        for index in 0..variants(&files.edits) {
            // A folder per file, so that files of an earlier variant cannot be opened by mistake.
            let folder = tempfile::tempdir_in(to.scratch());
            let folder = folder.map_err(|e| to.broken(format!("no scratch folder: {e}")))?;
            let made = make(&files.base, &files.edits, index).map_err(|why| to.broken(why))?;
            let written = write(&made, folder.path());
            let (path, length) = written.map_err(|e| to.broken(format!("no file: {e}")))?;
            let path = path.to_string_lossy().into_owned();
            answers.push((to.ask(&Inspect { path, ..Inspect::default() })?, length));
        }
        Ok(answers)
    }

    fn judge(&self, case: &ContainerCase, (): &(), got: &Answers, whom: &Whom) -> Judgement {
        let mut judgement = Judgement::unmeasured(Verdict::Pass);
        judgement.compared = got.len() as u64;
        for (index, (answers, length)) in got.iter().enumerate() {
            let (more, seen) = (observed(answers), &mut judgement.observed);
            *seen = Observed {
                // The row reports the worst of all its files.
                largest_request: seen.largest_request.max(more.largest_request),
                peak_bytes: seen.peak_bytes.max(more.peak_bytes),
                ..Observed::default()
            };
            let (verdict, notes) = judge(&case.expected, answers, *length, whom.is_ours());
            judgement.notes.extend(notes);
            if judgement.passed() {
                // The first failure decides the row, but all files are still observed.
                judgement.verdict = verdict;
                if let Verdict::Fail { message, .. } = &mut judgement.verdict
                    && got.len() > 1
                {
                    *message = format!("file {} of {}: {message}", index + 1, got.len());
                }
            }
        }
        // Files of one edit mostly give the same remark.
        judgement.notes.dedup();
        judgement
    }
}
