//! Trials of a subject with one worker are prepared ahead of it, by several threads, in bounded
//! memory, and asked in their order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::lanes::{Guarded, Prepared, guarded, prepared};
use crate::run::{Context, Entry};

/// Trials that may be ready before they are asked.
const AHEAD: usize = 64;

/// How often a stopped run is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Memory for what is ahead where the system does not say how much it has.
const BYTES: u64 = 2 << 30;

/// Prepares `trials` by as many threads as the run has jobs, and hands each to `ask` in order. Once
/// the run is stopped, the rest comes unprepared.
pub(super) fn each(
    context: &Context<'_>,
    trials: &[&Entry],
    mut ask: impl FnMut(&Entry, Guarded<Prepared>),
) {
    let ahead = Ahead {
        context,
        trials,
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
    /// Bytes that may be held ahead; one trial is, whatever its size.
    most: u64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// The next to be prepared.
    next: usize,
    /// How many were asked.
    asked: usize,
    /// What is in preparation, ready or being asked, in bytes.
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

    /// Prepares the next trial; false where none is left, or the run was stopped.
    fn prepare_one(&self) -> bool {
        let mut state = self.lock();
        let (at, bytes) = loop {
            let Some(trial) = self.trials.get(state.next).filter(|_| !self.context.stopped())
            else {
                return false;
            };
            let bytes = trial.trial.cost();
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

/// Bytes of memory that the system can give, where it says so.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|k| k << 10)
}
