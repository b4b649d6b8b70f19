//! Mutants of kernel text: one replaced line, compiled by a worker from an overlay folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use goldgate_engine::cuda::page::HEADERS;
use goldgate_engine::ops;

use crate::case::{Case, Expect};
use crate::execution::Outcome;
use crate::fill::fill;
use crate::golden::Golden;
use crate::judge::{Asked, judge, rulers};
use crate::mutate::{Fate, Planted, cases_of, fate, listed, told};
use crate::run::{Goldens, Withheld};
use crate::spec::Specs;
use crate::spec::mutants::{KernelEdit, Mutant};
use crate::subject::{Launch, OpQuestion, Slot, Subject, SubjectSpec};
use crate::verdict::{FailKind, Verdict};

/// How the workers start.
#[derive(Clone, Debug)]
pub struct Workers {
    /// Our program.
    pub program: PathBuf,
    /// `cuda:N`.
    pub subject: SubjectSpec,
    /// A limit in place of the cases' own.
    pub timeout: Option<Duration>,
    /// A folder for overlays.
    pub scratch: PathBuf,
}

/// Plants the `kernel` mutants that pass, a worker each.
pub fn plant(
    specs: &Specs,
    goldens: &dyn Goldens,
    workers: &Workers,
    mut selects: impl FnMut(&str, &Mutant) -> bool,
) -> Vec<Planted> {
    let mut planted = Vec::new();
    for (op, mutant) in listed(specs) {
        let Some(edit) = mutant.kernel.as_ref().filter(|_| selects(op, mutant)) else { continue };
        let fate = match (&mutant.equivalent, overlay(workers, op, mutant, edit)) {
            (Some(reason), _) => Fate::Equivalent { reason: reason.clone() },
            (None, Err(why)) => Fate::Survived { why },
            (None, Ok(folder)) => one(specs, goldens, workers, (op, mutant), &folder),
        };
        planted.push(told(op, mutant, &workers.subject.label, fate));
    }
    planted
}

/// The text of a page or header by its file name.
fn text(file: &str) -> Option<&'static str> {
    let header = HEADERS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
    let page = || {
        let stem = file.strip_suffix(".cu")?;
        ops::ALL.iter().flat_map(|op| op.pages()).find(|p| p.name == stem).map(|p| p.text)
    };
    header.or_else(page)
}

/// The edited text; the replaced line must occur exactly once.
///
/// # Errors
/// No such page, or another number of occurrences.
pub fn edited(file: &str, edit: &KernelEdit) -> Result<String, String> {
    let text = text(file).ok_or_else(|| format!("no page {file}"))?;
    match text.matches(&edit.replace).count() {
        1 => Ok(text.replacen(&edit.replace, &edit.by, 1)),
        n => Err(format!("{file}: {:?} occurs {n} times, must once", edit.replace)),
    }
}

fn overlay(
    workers: &Workers,
    op: &str,
    mutant: &Mutant,
    edit: &KernelEdit,
) -> Result<PathBuf, String> {
    let file = edit.file.clone().unwrap_or_else(|| format!("{op}.cu"));
    let text = edited(&file, edit)?;
    let folder = workers.scratch.join(format!("{op}-{}", mutant.id.value));
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(&file), text));
    written.map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

fn one(
    specs: &Specs,
    goldens: &dyn Goldens,
    workers: &Workers,
    (op, mutant): (&str, &Mutant),
    folder: &Path,
) -> Fate {
    let launch = Launch {
        overlay: Some(folder.to_path_buf()),
        ..Launch::new(workers.program.clone(), workers.subject.clone(), workers.scratch.clone())
    };
    let mut slot = match Slot::open(launch) {
        Ok(slot) => slot,
        Err(absent) => return Fate::NotRun { why: absent.message },
    };
    let fate = fate(&cases_of(specs, op, mutant), |case| {
        try_on(case, goldens, &mut slot, workers.timeout.unwrap_or(case.timeout))
    });
    slot.finish();
    fate
}

fn try_on(case: &Case, goldens: &dyn Goldens, slot: &mut Slot, limit: Duration) -> Fate {
    let golden = match &case.expect {
        Expect::Refusal { .. } => Ok(Golden::default()),
        Expect::Answer { .. } => goldens.golden(case),
    };
    let golden = match golden {
        Ok(golden) => golden,
        Err(Withheld::NotRun(_, why) | Withheld::Broken(_, why)) => return Fate::NotRun { why },
    };
    let outcome = slot.op(&OpQuestion::of(case, fill), limit).outcome;
    if let Outcome::NotAsked(_, why) = outcome {
        return Fate::NotRun { why };
    }
    let variant = case.variant.clone();
    match judge(&case.expect, &rulers(case, &golden), &outcome, &Asked::Cuda).verdict {
        // Text that does not compile plants nothing.
        Verdict::Fail { kind: FailKind::Internal, message } => {
            Fate::Survived { why: format!("{variant}: {message}") }
        }
        Verdict::Fail { kind, .. } => Fate::Killed { variant, by: kind.word().to_owned() },
        Verdict::Pass => Fate::Survived { why: format!("{variant}: it passes") },
        other => Fate::NotRun { why: format!("{variant}: {other:?}") },
    }
}
