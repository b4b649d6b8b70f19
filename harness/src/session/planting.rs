//! What a run plants beside its trials: listed mutants, and faults that nobody chose.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::kinds::{Goldens, Trial};
use crate::line::{GeneratedScore, Planted};
use crate::mutants::{self, Planting, generated};
use crate::session::{Failure, Session};
use crate::subject::How;

impl Session {
    /// Plants the mutants of every selected stem of one folder.
    pub(super) fn mutants(
        &self,
        at: usize,
        models: &[PathBuf],
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<Planted>, Failure> {
        let heads = self.plan.trials.iter().map(|entry| entry.trial.head());
        let own = heads.filter(|head| self.suites.home(&head.name) == at);
        let stems: BTreeSet<&str> = own.map(|head| head.stem.as_str()).collect();
        let scratch = tempfile::tempdir()?;
        let trials = self.suites.trials_of(at);
        let goldens = self.suites.goldens(at, models);
        let planting = self.planting(at, &trials, &goldens, stop, scratch.path());
        let selected = |stem: &str| stems.contains(stem);
        let mut planted = mutants::plant(&planting, |stem, _| selected(stem));
        // Mutants of kernels need a card, so they are planted only on request and where one is
        // asked.
        let card = self.plan.subjects.iter().find(|s| matches!(s.how, How::Cuda(_)));
        if let (true, Some(card)) = (self.request.kernel_mutants, card) {
            planted.extend(mutants::kernel::plant(&planting, card, |stem, _| selected(stem)));
        }
        Ok(planted)
    }

    /// Plants the generated faults of every selected op in the cases of the first folder.
    pub(super) fn generated(
        &self,
        models: &[PathBuf],
        stop: &Arc<AtomicBool>,
    ) -> Result<Vec<GeneratedScore>, Failure> {
        let stems: BTreeSet<&str> =
            self.plan.trials.iter().map(|entry| entry.trial.head().stem.as_str()).collect();
        let scratch = tempfile::tempdir()?;
        let (trials, goldens) = (self.suites.trials_of(0), self.suites.goldens(0, models));
        let planting = self.planting(0, &trials, &goldens, stop, scratch.path());
        // By the op, which is the second part of the name of a fault.
        let selected = |name: &str| name.split("::").nth(1).is_some_and(|op| stems.contains(op));
        Ok(generated::scores(&generated::plant(&planting, selected)))
    }

    fn planting<'p>(
        &'p self,
        at: usize,
        trials: &'p [Arc<dyn Trial>],
        goldens: &'p dyn Goldens,
        stop: &Arc<AtomicBool>,
        scratch: &'p Path,
    ) -> Planting<'p> {
        Planting {
            specs: &self.suites.0[at].specs,
            trials,
            goldens,
            program: &self.request.program,
            scratch,
            jobs: self.request.jobs.max(1),
            timeout: self.request.timeout,
            stop: Arc::clone(stop),
        }
    }
}
