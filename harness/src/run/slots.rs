//! Slots: a thread and a warm worker each, taking trials of their subject from one queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use crate::run::trial::{self, Trial};
use crate::run::{Context, News};
use crate::subject::pool::Slot;
use crate::subject::{How, Launch, Subject};
use crate::verdict::{BrokenKind, NotRun, Verdict};

type Queue<'a> = Arc<Mutex<VecDeque<&'a Trial>>>;

/// Starts the slots of one subject. A worker dies with the thread that started it, so each thread
/// keeps its own from the first question to the last.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    context: &'scope Context<'scope>,
    subject: usize,
    news: &Sender<News>,
) {
    let trials = context.plan.trials.iter().filter(|t| t.subject == subject);
    let queue: Queue<'scope> = Arc::new(Mutex::new(trials.collect()));
    let waiting = queue.lock().unwrap_or_else(PoisonError::into_inner).len();
    let threads = match context.plan.subjects[subject].how {
        How::Cpu => context.options.jobs.clamp(1, waiting.max(1)),
        How::Cuda(_) | How::Command(_) => 1,
    };
    for _ in 0..threads {
        let (news, queue) = (news.clone(), Arc::clone(&queue));
        scope.spawn(move || work(context, subject, &queue, &news));
    }
}

/// How one subject's workers start.
pub(super) fn launch(context: &Context<'_>, subject: usize) -> Launch {
    let spec = context.plan.subjects[subject].clone();
    let overlay =
        matches!(spec.how, How::Cuda(_)).then(|| context.options.overlay.clone()).flatten();
    let program = context.options.program.clone();
    Launch { overlay, ..Launch::new(program, spec, context.scratch.clone()) }
}

fn work(context: &Context<'_>, subject: usize, queue: &Queue<'_>, news: &Sender<News>) {
    // Whoever listens outlives every slot.
    let tell = |item: News| drop(news.send(item));
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let not_run = |trial: &Trial, kind: NotRun, message: &str| {
        let row = trial::row(trial, Verdict::NotRun { kind, message: message.to_owned() });
        tell(News::Row(Box::new(row), None));
    };
    let Some(mut next) = take() else { return };
    let mut slot = match Slot::open(launch(context, subject)) {
        Ok(slot) => slot,
        Err(absent) => {
            tell(News::Absent(subject, absent.message.clone()));
            let mut left = Some(next);
            while let Some(trial) = left {
                not_run(trial, NotRun::NoDevice, &absent.message);
                left = take();
            }
            return;
        }
    };
    tell(News::Hello(subject, slot.hello().json().clone()));
    let mut last = None;
    loop {
        if context.stopped() {
            not_run(next, NotRun::Stopped, "the run was stopped");
        } else {
            let (row, bits) = guarded(context, next, &mut slot);
            last = Some(next.name.clone());
            tell(News::Row(Box::new(row), bits));
        }
        match take() {
            Some(trial) => next = trial,
            None => break,
        }
    }
    tell(News::Finished(subject, slot.finish(), last));
}

/// A trial whose judging panics is our own fault, and costs one row.
pub(super) fn guarded(
    context: &Context<'_>,
    trial: &Trial,
    slot: &mut Slot,
) -> (crate::report::Row, Option<String>) {
    catch_unwind(AssertUnwindSafe(|| trial::run(context, trial, slot))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = format!("judging it panicked: {}", text.unwrap_or("without a word"));
        (trial::row(trial, Verdict::Broken { kind: BrokenKind::Harness, message }), None)
    })
}
