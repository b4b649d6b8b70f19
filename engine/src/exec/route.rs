//! Which kernel entries ran: every list is known since it was lowered, so noting it costs a look.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Names of entries by the call that enqueued them.
#[derive(Debug)]
pub(super) struct Ran<K>(Mutex<HashMap<K, Vec<String>>>);

impl<K> Default for Ran<K> {
    fn default() -> Ran<K> {
        Ran(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Ran<K> {
    /// Notes a call; its entries are asked for once.
    pub(super) fn note(&self, call: K, entries: impl FnOnce() -> Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_insert_with(entries);
    }

    /// Every entry noted since the last time, each once, by name.
    pub(super) fn take(&self) -> Vec<String> {
        let ran = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        ran.into_values().flatten().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_is_told_once() {
        let ran = Ran::default();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        ran.note(1, || names(&["rope_f16", "embed_f16", "rope_f16"]));
        ran.note(1, || panic!("a known call is not looked at again"));
        ran.note(7, || names(&["argmax_f32", "embed_f16"]));
        assert_eq!(ran.take(), ["argmax_f32", "embed_f16", "rope_f16"]);
        assert_eq!(ran.take(), [""; 0]);
    }
}
