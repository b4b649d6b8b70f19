//! Answers by definition that stand in for goldens, computed once for all trials that share them:
//! on the common grid one answer serves every float type, as one golden does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::kinds::model::case::ModelCase;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::op::case::Case;
use crate::kinds::op::definition_key;
use crate::kinds::op::golden::Golden;
use crate::kinds::{Defined, Goldens, Withheld};
use crate::run::Plan;

/// The goldens of a run, and the definitions that several trials of a plan share.
pub(super) struct Shared<'a> {
    goldens: &'a dyn Goldens,
    definitions: Mutex<BTreeMap<String, Definition>>,
}

struct Definition {
    /// How many trials have not taken it yet.
    users: usize,
    defined: Arc<OnceLock<Defined>>,
}

impl<'a> Shared<'a> {
    /// The goldens for the trials of a plan.
    pub fn new(plan: &Plan, goldens: &'a dyn Goldens) -> Shared<'a> {
        let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
        // Users are counted beforehand, so that a definition can be freed after its last one.
        for key in plan.trials.iter().filter_map(|entry| entry.trial.shares()) {
            let new = || Definition { users: 0, defined: Arc::default() };
            definitions.entry(key).or_insert_with(new).users += 1;
        }
        Shared { goldens, definitions: Mutex::new(definitions) }
    }
}

impl Goldens for Shared<'_> {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        self.goldens.golden(case)
    }

    /// Answers by definition. The shared answer is freed with the last trial that uses it.
    fn defined(&self, case: &Case, define: &dyn Fn() -> Defined) -> Defined {
        let key = definition_key(case);
        let defined = {
            // The map is locked only to find the entry: computing under the lock would serialise
            // all trials.
            let mut all = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
            // A trial outside the plan, such as the self check on the wire, shares nothing.
            let Some(shared) = all.get_mut(&key) else { return define() };
            shared.users -= 1;
            let defined = Arc::clone(&shared.defined);
            if shared.users == 0 {
                all.remove(&key);
            }
            defined
        };
        defined.get_or_init(define).clone()
    }

    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        self.goldens.model(case)
    }

    fn models(&self) -> &[PathBuf] {
        self.goldens.models()
    }

    fn folder(&self) -> &Path {
        self.goldens.folder()
    }
}
