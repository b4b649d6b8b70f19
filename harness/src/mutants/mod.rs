//! Mutants: plants each listed fault and judges whether the case that should detect it does.
//!
//! `ask`: a worker on the CPU is asked a different question. `wrong`: the oracle's wrong answer is
//! stored with the golden. `kernel`: a worker compiles one changed line. Only the last needs a
//! device.

pub mod generated;
pub mod kernel;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::kinds::mutant::Mutant;
use crate::kinds::{Goldens, Trial};
use crate::line::caller::Kept;
use crate::line::{Caller, Fate, Planted, Sort, Whom};
use crate::spec::Specs;
use crate::subject::{Launch, Slot, SubjectSpec};

/// All mutants of the specs, each with the op that it belongs to.
pub fn listed(specs: &Specs) -> impl Iterator<Item = (&str, &Mutant)> {
    specs.mutants.iter().flat_map(|f| f.list.iter().map(|m| (f.mutants.value.as_str(), m)))
}

/// The trials of the case that should detect a mutant: all of its variants or forms.
pub fn trials_of<'t>(
    trials: &'t [Arc<dyn Trial>],
    stem: &'t str,
    mutant: &'t Mutant,
) -> impl Iterator<Item = &'t Arc<dyn Trial>> {
    let name = mutant.killed_by.as_ref().map_or("", |k| k.value.as_str());
    trials.iter().filter(move |trial| {
        let head = trial.head();
        head.sort == Sort::Case && head.stem == stem && head.case == name
    })
}

/// How mutants are planted.
pub struct Planting<'p> {
    /// The specs that list the mutants.
    pub specs: &'p Specs,
    /// All trials of the specs.
    pub trials: &'p [Arc<dyn Trial>],
    /// The source of goldens.
    pub goldens: &'p dyn Goldens,
    /// Our own program.
    pub program: &'p Path,
    /// A folder for files of questions and for changed kernels.
    pub scratch: &'p Path,
    /// How many workers run at once.
    pub jobs: usize,
    /// Replaces the time limits of all cases.
    pub timeout: Option<Duration>,
    /// Set from outside to stop.
    pub stop: Arc<AtomicBool>,
}

/// Plants the selected `ask` and `wrong` mutants. Questions go to workers of our engine on the CPU,
/// like any other question; wrong answers of the oracle are only judged.
pub fn plant(
    planting: &Planting<'_>,
    mut selects: impl FnMut(&str, &Mutant) -> bool,
) -> Vec<Planted> {
    let mutants: Vec<(&str, &Mutant)> = listed(planting.specs)
        .filter(|(op, mutant)| mutant.kernel.is_none() && selects(op, mutant))
        .collect();
    // By index, so that the list keeps the order of the specs in whatever order workers finish.
    let fates = Mutex::new(vec![None; mutants.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..planting.jobs.clamp(1, mutants.len().max(1)) {
            scope.spawn(|| {
                let mut worker = OnCpu { planting, slot: None, kept: Kept::default() };
                loop {
                    // Workers take the next mutant as they become free, because mutants differ
                    // widely in cost.
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some((op, mutant)) = mutants.get(at) else { return };
                    let fate = worker.fate(op, mutant);
                    if let Ok(mut fates) = fates.lock() {
                        fates[at] = Some(fate);
                    }
                }
            });
        }
    });
    let fates = fates.into_inner().unwrap_or_default();
    let lost = || Fate::NotRun { why: "nobody planted it".to_owned() };
    let pairs = mutants.into_iter().zip(fates);
    pairs
        .map(|((op, mutant), fate)| outcome_of(op, mutant, "harness", fate.unwrap_or_else(lost)))
        .collect()
}

/// A worker on the CPU, started when the first mutant needs one.
struct OnCpu<'p> {
    planting: &'p Planting<'p>,
    slot: Option<Slot>,
    kept: Kept,
}

impl OnCpu<'_> {
    fn fate(&mut self, stem: &str, mutant: &Mutant) -> Fate {
        if let Some(reason) = &mutant.equivalent {
            return Fate::Equivalent { reason: reason.clone() };
        }
        let (trials, goldens) = (self.planting.trials, self.planting.goldens);
        fate_of(trials_of(trials, stem, mutant), |trial| {
            // Asked before each variant, so that a stopped run ends within one question.
            if self.planting.stop.load(Ordering::SeqCst) {
                return Fate::NotRun { why: "the run was stopped".to_owned() };
            }
            let ready = match trial.plant(goldens, mutant) {
                Ok(ready) => ready,
                Err(fate) => return fate,
            };
            if let Err(why) = self.start() {
                return Fate::NotRun { why };
            }
            let Some(slot) = &mut self.slot else {
                return Fate::NotRun { why: "no worker".to_owned() };
            };
            let mut caller =
                Caller::new(slot, &mut self.kept, self.planting.scratch, self.planting.timeout);
            let judgement = ready.ask(&mut caller, &Whom::Cpu);
            trial.fate(mutant, &judgement)
        })
    }

    fn start(&mut self) -> Result<(), String> {
        if self.slot.is_none() {
            self.slot = Some(cpu(self.planting)?);
        }
        Ok(())
    }
}

/// Starts a worker of our engine on the CPU.
pub(crate) fn cpu(planting: &Planting<'_>) -> Result<Slot, String> {
    let cpu = SubjectSpec::parse("cpu").map_err(|e| e.to_string())?;
    let (program, scratch) = (planting.program.to_path_buf(), planting.scratch.to_path_buf());
    let launch = Launch {
        stop: Some(Arc::clone(&planting.stop)),
        ..Launch::new(program, cpu, scratch).capped(planting.timeout)
    };
    Slot::open(launch).map_err(|absent| absent.message)
}

pub(crate) fn outcome_of(op: &str, mutant: &Mutant, subject: &str, fate: Fate) -> Planted {
    Planted {
        op: op.to_owned(),
        id: mutant.id.value.clone(),
        fault: mutant.fault.clone(),
        subject: subject.to_owned(),
        case: mutant.killed_by.as_ref().map(|k| k.value.clone()).unwrap_or_default(),
        fate,
    }
}

/// The outcome over all variants. The first variant that detects the fault decides; a variant that
/// cannot be judged counts only if none can.
pub(crate) fn fate_of<'t>(
    trials: impl Iterator<Item = &'t Arc<dyn Trial>>,
    mut try_on: impl FnMut(&dyn Trial) -> Fate,
) -> Fate {
    let mut best = Fate::NotRun { why: "its case is not there".to_owned() };
    for trial in trials {
        match try_on(&**trial) {
            killed @ Fate::Killed { .. } => return killed,
            // A variant in which the planted fault went unseen says more than variants that did not
            // run.
            survived @ Fate::Survived { .. } => best = survived,
            other if matches!(best, Fate::NotRun { .. }) => best = other,
            _ => {}
        }
    }
    best
}
