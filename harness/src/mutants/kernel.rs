//! Mutants of kernels: a worker compiles a changed line from an overlay folder, so that the program
//! itself stays unchanged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use goldgate_engine::cuda::page::HEADERS;
use goldgate_engine::ops;

use crate::kinds::mutant::{KernelEdit, Mutant};
use crate::line::caller::Kept;
use crate::line::{Caller, Fate, Planted, Whom};
use crate::mutants::{Planting, fate_of, listed, outcome_of, trials_of};
use crate::subject::{Launch, Slot, SubjectSpec};

/// Plants the selected `kernel` mutants on a card, with one worker each.
pub fn plant(
    planting: &Planting<'_>,
    card: &SubjectSpec,
    mut selects: impl FnMut(&str, &Mutant) -> bool,
) -> Vec<Planted> {
    let mut planted = Vec::new();
    for (op, mutant) in listed(planting.specs) {
        let Some(edit) = mutant.kernel.as_ref().filter(|_| selects(op, mutant)) else { continue };
        // A mutant that cannot be planted counts as survived: it must not leave the score
        // unnoticed.
        let fate = match (&mutant.equivalent, overlay(planting.scratch, op, mutant, edit)) {
            (Some(reason), _) => Fate::Equivalent { reason: reason.clone() },
            (None, Err(why)) => Fate::Survived { why },
            (None, Ok(_)) if planting.stop.load(Ordering::SeqCst) => {
                Fate::NotRun { why: "the run was stopped".to_owned() }
            }
            (None, Ok(folder)) => plant_on_card(planting, card, (op, mutant), &folder),
        };
        planted.push(outcome_of(op, mutant, &card.label, fate));
    }
    planted
}

/// The text of a kernel page or header, by file name.
fn text(file: &str) -> Option<&'static str> {
    // Headers too, because some faults are in text that several pages include.
    let header = HEADERS.iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
    let page = || {
        let stem = file.strip_suffix(".cu")?;
        ops::ALL.iter().flat_map(|op| op.pages()).find(|p| p.name == stem).map(|p| p.text)
    };
    header.or_else(page)
}

/// The text of a page with the mutant's change. The replaced line must occur exactly once, so that
/// it is certain which line was changed.
///
/// # Errors
/// There is no such page, or the line occurs another number of times.
pub fn edited(file: &str, edit: &KernelEdit) -> Result<String, String> {
    let text = text(file).ok_or_else(|| format!("no page {file}"))?;
    match text.matches(&edit.replace).count() {
        1 => Ok(text.replacen(&edit.replace, &edit.by, 1)),
        n => Err(format!("{file}: {:?} occurs {n} times, must once", edit.replace)),
    }
}

fn overlay(
    scratch: &Path,
    op: &str,
    mutant: &Mutant,
    edit: &KernelEdit,
) -> Result<PathBuf, String> {
    let file = edit.file.clone().unwrap_or_else(|| format!("{op}.cu"));
    let text = edited(&file, edit)?;
    // The op is part of the name, because ids are unique only within the file of an op.
    let folder = scratch.join(format!("{op}-{}", mutant.id.value));
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(&file), text));
    written.map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

fn plant_on_card(
    planting: &Planting<'_>,
    card: &SubjectSpec,
    (op, mutant): (&str, &Mutant),
    folder: &Path,
) -> Fate {
    let (program, scratch) = (planting.program.to_path_buf(), planting.scratch.to_path_buf());
    let launch = Launch {
        overlay: Some(folder.to_path_buf()),
        stop: Some(Arc::clone(&planting.stop)),
        ..Launch::new(program, card.clone(), scratch).capped(planting.timeout)
    };
    // A fresh worker per mutant, because the overlay is an argument of the process.
    let mut slot = match Slot::open(launch) {
        Ok(slot) => slot,
        Err(absent) => return Fate::NotRun { why: absent.message },
    };
    // A fresh process has none of the models that another one loaded.
    let mut kept = Kept::default();
    let fate = fate_of(trials_of(planting.trials, op, mutant), |trial| {
        match trial.plant(planting.goldens, mutant) {
            Ok(ready) => {
                let mut caller =
                    Caller::new(&mut slot, &mut kept, planting.scratch, planting.timeout);
                trial.fate(mutant, &ready.ask(&mut caller, &Whom::Cuda))
            }
            Err(fate) => fate,
        }
    });
    slot.finish();
    fate
}
