//! Prepares trials ahead of the single worker of a subject, so that an expensive device does not
//! wait for the host: several threads, bounded memory, and the order of asking kept.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::lanes::{Guarded, Prepared, guarded, prepared};
use crate::run::{Context, Entry};

/// The most trials that may be ready ahead of the one being asked.
const AHEAD: usize = 64;

/// How often a waiting thread checks whether the run was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The memory budget where the system does not report how much is free.
const BYTES: u64 = 2 << 30;

/// Prepares `trials` on as many threads as the run has jobs, and hands each to `ask` in order. Once
/// the run is stopped, the remaining trials arrive unprepared.
pub(super) fn each(
    context: &Context<'_>,
    trials: &[&Entry],
    mut ask: impl FnMut(&Entry, Guarded<Prepared>),
) {
    let ahead = Ahead {
        context,
        trials,
        // Half: the other half is left to the worker and to what judging needs.
        most: available().map_or(BYTES, |bytes| bytes / 2),
        state: Mutex::default(),
        moved: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..context.options.jobs.clamp(1, trials.len().max(1)) {
            scope.spawn(|| while ahead.prepare_one() {});
        }
        for (at, trial) in trials.iter().enumerate() {
            let (ready, bytes) = ahead.take(at);
            ask(trial, ready);
            ahead.asked(bytes);
        }
    });
}

struct Ahead<'a> {
    context: &'a Context<'a>,
    trials: &'a [&'a Entry],
    /// Budget in bytes for what is held ahead. A single trial may exceed it, or it would never run.
    most: u64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Index of the next trial to prepare.
    next: usize,
    /// How many trials were asked.
    asked: usize,
    /// Bytes of all trials in preparation, ready or being asked.
    bytes: u64,
    ready: BTreeMap<usize, (Guarded<Prepared>, u64)>,
}

impl Ahead<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.moved.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Prepares the next trial. Returns false if none is left or the run was stopped.
    fn prepare_one(&self) -> bool {
        let mut state = self.lock();
        let (at, bytes) = loop {
            let Some(trial) = self.trials.get(state.next).filter(|_| !self.context.stopped())
            else {
                return false;
            };
            let bytes = trial.trial.cost();
            // With nothing held any trial may start, so that one larger than the budget does not
            // block forever.
            let room = state.bytes == 0 || state.bytes.saturating_add(bytes) <= self.most;
            if room && state.next < state.asked + AHEAD {
                break (state.next, bytes);
            }
            state = self.wait(state);
        };
        state.next += 1;
        state.bytes += bytes;
        drop(state);
        let ready = guarded(|| prepared(self.context, self.trials[at]));
        let held = match &ready {
            Ok(Ok(ready)) => ready.held(),
            _ => 0,
        };
        let mut state = self.lock();
        // The estimate made room for the work; from now on only what the trial keeps counts.
        state.bytes = state.bytes - bytes + held;
        state.ready.insert(at, (ready, held));
        self.moved.notify_all();
        true
    }

    fn take(&self, at: usize) -> (Guarded<Prepared>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(found) = state.ready.remove(&at) {
                return found;
            }
            if self.context.stopped() {
                return (Err("the run was stopped".to_owned()), 0);
            }
            state = self.wait(state);
        }
    }

    fn asked(&self, bytes: u64) {
        let mut state = self.lock();
        state.asked += 1;
        state.bytes -= bytes;
        self.moved.notify_all();
    }
}

/// Bytes of memory that the system can hand out, where it reports them.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|k| k << 10)
}
