//! What definitions answer in a golden's place, computed once for all trials that it serves: on the
//! common grid one serves every float type, as one golden does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::case::Case;
use crate::golden::Golden;
use crate::golden::ask::own_type;
use crate::run::Plan;
use crate::run::trial::by_definition;

type Defined = Result<Arc<Golden>, String>;

/// Stem, case, and the stored types that the answer depends on.
type Key = (String, String, Vec<String>);

/// Definitions that several trials await.
pub(super) struct Definitions(Mutex<BTreeMap<Key, Shared>>);

struct Shared {
    /// Trials that have not taken it yet.
    awaited: usize,
    defined: Arc<OnceLock<Defined>>,
}

impl Definitions {
    /// Of every trial of the plan that is judged by its definition.
    pub fn of(plan: &Plan) -> Definitions {
        let mut shared: BTreeMap<Key, Shared> = BTreeMap::new();
        for trial in plan.trials.iter().filter(|t| by_definition(&t.case)) {
            let new = || Shared { awaited: 0, defined: Arc::default() };
            shared.entry(key(&trial.case)).or_insert_with(new).awaited += 1;
        }
        Definitions(Mutex::new(shared))
    }

    /// The definition's answer to a case, by `define` where nobody has it yet; it is let go with
    /// the last trial that awaits it.
    ///
    /// # Errors
    /// What `define` says.
    pub fn of_case(&self, case: &Case, define: impl FnOnce() -> Defined) -> Defined {
        let key = key(case);
        let defined = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(shared) = all.get_mut(&key) else { return define() };
            shared.awaited -= 1;
            let defined = Arc::clone(&shared.defined);
            if shared.awaited == 0 {
                all.remove(&key);
            }
            defined
        };
        defined.get_or_init(define).clone()
    }

    /// Whether a case's answer is there already.
    pub fn has(&self, case: &Case) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&key(case)).is_some_and(|shared| shared.defined.get().is_some())
    }
}

fn key(case: &Case) -> Key {
    let own = own_type(case);
    let types = case.ask.operands.iter().map(|input| match input.meta.dtype {
        dtype if dtype.is_float() && !own => format!("{} {:?}", input.name, input.meta.shape),
        _ => format!("{} {}", input.name, input.meta),
    });
    let dtype = own.then(|| case.ask.dtype.name().to_owned());
    (case.stem.clone(), case.name.clone(), types.chain(dtype).collect())
}
