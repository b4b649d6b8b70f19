//! The kind *container*: malformed files, made here, that a subject must refuse or open.

pub mod bytes;
pub mod case;
pub mod control;
pub mod edit;
pub mod judge;
pub mod spec;

pub use case::ContainerCase;

use std::time::Duration;

use goldgate_wire::Observed;
use goldgate_wire::answer::Refused;
use goldgate_wire::call::Inspect;

use crate::kinds::container::bytes::Base;
use crate::kinds::container::case::{FileExpectation, make, variants, write};
use crate::kinds::container::control::{Control, places};
use crate::kinds::container::edit::Edit;
use crate::kinds::container::judge::{InspectReply, judge, observed, self_check};
use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Caller, Head, Judgement, NotRun, On, Reply, Sort, Stopped, Verdict, Whom};

/// The wall time that one file may take before the subject is stopped.
const LIMIT: Duration = Duration::from_secs(10);

/// The kind *container*.
#[derive(Clone, Copy, Debug)]
pub struct Container;

/// How the files of a case are made.
#[derive(Clone, Debug)]
pub struct Files {
    base: Base,
    control: Base,
    edits: Vec<Edit>,
    /// The case's name, where refusals are expected: controls are put between its files.
    controlled: Option<String>,
}

/// What a subject reported about the files of a case.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// About each file, and the size of the file.
    pub files: Vec<(InspectReply, u64)>,
    /// About each control that was put.
    pub controls: Vec<(Control, InspectReply)>,
}

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
        self_check(&case.expected)?;
        // A refused control must take the worth from every refusal.
        let refused = Reply::Refused(Box::<Refused>::default());
        match uncontrolled(&[(Control::Base, refused)]) {
            Some(_) => Ok((0, 0)),
            None => Err("refusals count although a good file is refused".to_owned()),
        }
    }

    fn question(&self, case: &ContainerCase, (): &(), _: &dyn Goldens) -> Result<Files, Withheld> {
        // A file that opens is evidence by itself; a refusal needs controls that open.
        let refused = matches!(case.expected, FileExpectation::Refused { .. });
        let controlled = refused.then(|| case.full_name());
        let control = case.control.as_ref().unwrap_or(&case.base).clone();
        Ok(Files { base: case.base.clone(), control, edits: case.edits.clone(), controlled })
    }

    fn ask(&self, files: &Files, to: &mut Caller<'_>) -> Result<Answers, Stopped> {
        to.set_limit(LIMIT);
        to.need::<Inspect>()?;
        let mut answers = Answers::default();
        let count = variants(&files.edits);
        let controls: Vec<(usize, Control)> = match &files.controlled {
            Some(name) => places(name, count).into_iter().zip(Control::ALL).collect(),
            None => Vec::new(),
        };
        // The folder of a run has another name each time.
        let key = to.scratch().to_string_lossy().into_owned();
        for index in 0..=count {
            for (_, control) in controls.iter().filter(|(place, _)| *place == index) {
                let made = control.make(&files.control, &key).map_err(|why| to.broken(why))?;
                answers.controls.push((*control, inspected(&made, to)?.0));
            }
            if index < count {
                let made = make(&files.base, &files.edits, index).map_err(|why| to.broken(why))?;
                answers.files.push(inspected(&made, to)?);
            }
        }
        Ok(answers)
    }

    fn judge(&self, case: &ContainerCase, (): &(), got: &Answers, whom: &Whom) -> Judgement {
        let mut judgement = Judgement::unmeasured(Verdict::Pass);
        judgement.compared = got.files.len() as u64;
        for (index, (answers, length)) in got.files.iter().enumerate() {
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
                    && got.files.len() > 1
                {
                    *message = format!("file {} of {}: {message}", index + 1, got.files.len());
                }
            }
        }
        if judgement.passed()
            && let Some(message) = uncontrolled(&got.controls)
        {
            judgement.verdict = Verdict::NotRun { kind: NotRun::NoControl, message };
        }
        // Files of one edit mostly give the same remark.
        judgement.notes.dedup();
        judgement
    }
}

/// Writes files into a folder of their own, and asks about them.
fn inspected(made: &bytes::Files, to: &mut Caller<'_>) -> Result<(InspectReply, u64), Stopped> {
    // A folder per file, so that files of an earlier variant cannot be opened by mistake.
    let folder = tempfile::tempdir_in(to.scratch());
    let folder = folder.map_err(|e| to.broken(format!("no scratch folder: {e}")))?;
    let written = write(made, folder.path());
    let (path, length) = written.map_err(|e| to.broken(format!("no file: {e}")))?;
    let path = path.to_string_lossy().into_owned();
    Ok((to.ask(&Inspect { path, ..Inspect::default() })?, length))
}

/// Why refusals count for nothing: a file that must open was refused too.
fn uncontrolled(controls: &[(Control, InspectReply)]) -> Option<String> {
    let refused = controls.iter().find_map(|(control, reply)| match reply {
        Reply::Refused(refused) => Some((control, refused)),
        Reply::Ok(_) => None,
    });
    refused.map(|(control, refused)| {
        let (name, word, message) = (control.name(), refused.word(), &refused.message);
        format!("{name} is refused too: {word}: {message}")
    })
}
