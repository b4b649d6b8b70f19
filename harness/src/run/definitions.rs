//! What definitions answer in a golden's place, computed once for all trials that it serves: on the
//! common grid one serves every float type, as one golden does.

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

/// Goldens, and the definitions that several trials of a plan share.
pub(super) struct Shared<'a> {
    goldens: &'a dyn Goldens,
    definitions: Mutex<BTreeMap<String, Definition>>,
}

struct Definition {
    /// Trials that have not taken it yet.
    users: usize,
    defined: Arc<OnceLock<Defined>>,
}

impl<'a> Shared<'a> {
    /// Goldens for the trials of a plan.
    pub fn new(plan: &Plan, goldens: &'a dyn Goldens) -> Shared<'a> {
        let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
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

    /// It is let go with the last trial that uses it.
    fn defined(&self, case: &Case, define: &dyn Fn() -> Defined) -> Defined {
        let key = definition_key(case);
        let defined = {
            let mut all = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
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
