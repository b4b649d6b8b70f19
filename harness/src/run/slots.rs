//! Slots: a thread and a warm worker each, taking trials of their subject from one queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use crate::report::Row;
use crate::run::trial::{self, Prepared, Trial, prepare};
use crate::run::{Context, News, ahead};
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
    let Some(first) = take() else { return };
    let slot = match Slot::open(launch(context, subject)) {
        Ok(slot) => slot,
        Err(absent) => {
            tell(News::Absent(subject, absent.message.clone()));
            for trial in std::iter::once(first).chain(std::iter::from_fn(take)) {
                tell(not_run(trial, NotRun::NoDevice, &absent.message));
            }
            return;
        }
    };
    tell(News::Hello(subject, slot.hello().json().clone()));
    let mut asker = Asker { context, slot, tell: &tell, last: None };
    let trials = std::iter::once(first).chain(std::iter::from_fn(take));
    match context.plan.subjects[subject].how {
        // All cores are at work already.
        How::Cpu => trials.for_each(|trial| asker.ask(trial, guarded(|| prepare(context, trial)))),
        How::Cuda(_) | How::Command(_) => {
            let trials: Vec<&Trial> = trials.collect();
            ahead::each(context, &trials, |trial, prepared| asker.ask(trial, prepared));
        }
    }
    tell(News::Finished(subject, asker.slot.finish(), asker.last));
}

fn not_run(trial: &Trial, kind: NotRun, message: &str) -> News {
    let row = trial::row(trial, Verdict::NotRun { kind, message: message.to_owned() });
    News::Row(Box::new(row), None)
}

/// One worker, and what it was asked last.
struct Asker<'a> {
    context: &'a Context<'a>,
    slot: Slot,
    tell: &'a dyn Fn(News),
    last: Option<String>,
}

impl Asker<'_> {
    fn ask(&mut self, trial: &Trial, ready: Guarded<Ready>) {
        if self.context.stopped() {
            (self.tell)(not_run(trial, NotRun::Stopped, "the run was stopped"));
            return;
        }
        let (row, bits) = judged(self.context, trial, ready, &mut self.slot);
        self.last = Some(trial.name.clone());
        (self.tell)(News::Row(Box::new(row), bits));
    }
}

/// What came of preparing a trial: the question, or its row already.
pub(super) type Ready = Result<Prepared, Box<Row>>;

/// A result, or what a panic said.
pub(super) type Guarded<T> = Result<T, String>;

/// A trial whose judging panics is our own fault, and costs one row.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Guarded<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("judging it panicked: {}", text.unwrap_or("without a word"))
    })
}

/// Asks a trial that is ready; its row, and a hash of the answer's bits.
pub(super) fn judged(
    context: &Context<'_>,
    trial: &Trial,
    ready: Guarded<Ready>,
    slot: &mut Slot,
) -> (Row, Option<String>) {
    let asked = ready.and_then(|ready| match ready {
        Ok(prepared) => guarded(|| trial::ask(context, trial, &prepared, slot)),
        Err(row) => Ok((*row, None)),
    });
    asked.unwrap_or_else(|message| {
        (trial::row(trial, Verdict::Broken { kind: BrokenKind::Harness, message }), None)
    })
}
