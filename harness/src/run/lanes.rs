//! Lanes: a thread and a warm worker each, taking the trials of their subject from one queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use goldgate_wire::{Hello, Tensors};
use serde_json::Value;

use crate::kinds::{Ready, Withheld};
use crate::line::caller::Kept;
use crate::line::row::{row, unasked};
use crate::line::{
    BrokenKind, Caller, Exchange, Heard, Judgement, NotRun, Row, Transport, Verdict,
};
use crate::run::{Context, Entry, prepare};
use crate::subject::pool::Incidents;
use crate::subject::{How, Slot};

/// What a lane has to say.
pub enum News {
    /// A row.
    Row(Box<Row>),
    /// A subject's answer to hello, by its place in the plan.
    Hello(usize, Value),
    /// A subject that is not there, and why.
    Absent(usize, String),
    /// What belongs to no single question, and the trial that pays for it.
    Incidents(usize, Incidents, Option<String>),
}

/// Trials that one process is asked in a row.
type Batch<'a> = Vec<&'a Entry>;

type Queue<'a> = Arc<Mutex<VecDeque<Batch<'a>>>>;

/// Starts the lanes of one subject. A worker dies with the thread that started it, so each lane
/// keeps its own from the first question to the last.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    context: &'scope Context<'scope>,
    subject: usize,
    news: &Sender<News>,
) {
    let batches = batches(context.plan.trials.iter().filter(|t| t.subject == subject));
    let lanes = match context.plan.subjects[subject].how {
        How::Cpu => context.options.jobs.clamp(1, batches.len().max(1)),
        // One card is one place, and a foreign subject may be alone on it.
        How::Cuda(_) | How::Command(_) | How::Harness => 1,
    };
    let queue: Queue<'scope> = Arc::new(Mutex::new(batches));
    for _ in 0..lanes {
        let (news, queue) = (news.clone(), Arc::clone(&queue));
        scope.spawn(move || work(context, subject, &queue, &news));
    }
}

/// Neighbours of one group go together; every other trial is a batch of its own.
fn batches<'a>(trials: impl Iterator<Item = &'a Entry>) -> VecDeque<Batch<'a>> {
    let mut batches: VecDeque<Batch<'a>> = VecDeque::new();
    for entry in trials {
        let group = &entry.trial.head().group;
        let last = batches.back_mut().filter(|batch| {
            group.is_some() && batch.first().is_some_and(|b| b.trial.head().group == *group)
        });
        match last {
            Some(batch) => batch.push(entry),
            None => batches.push_back(vec![entry]),
        }
    }
    batches
}

fn work(context: &Context<'_>, subject: usize, queue: &Queue<'_>, news: &Sender<News>) {
    // The receiver outlives every lane.
    let tell = |item: News| drop(news.send(item));
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let first = take();
    // A subject that was named must be there, whatever is asked of it.
    let label = &context.plan.subjects[subject].label;
    if first.is_none() && !context.options.named.contains(label) {
        return;
    }
    let batches = first.into_iter().chain(std::iter::from_fn(take));
    let mut lane = match Lane::open(context, subject, &tell) {
        Ok(lane) => lane,
        Err(message) => {
            let stopped = context.stopped();
            let kind = if stopped { NotRun::Stopped } else { NotRun::NoDevice };
            for entry in batches.flatten() {
                let not_run = Verdict::NotRun { kind, message: message.clone() };
                let row = lane_row(context, entry, not_run);
                tell(News::Row(Box::new((context.known)(row, ""))));
            }
            return;
        }
    };
    let lanes_share_the_cores = matches!(context.plan.subjects[subject].how, How::Cpu);
    if lanes_share_the_cores {
        batches
            .flatten()
            .for_each(|entry| lane.ask(entry, || guarded(|| prepared(context, entry))));
    } else {
        let entries: Vec<&Entry> = batches.flatten().collect();
        prepare::each(context, &entries, |entry, ready| lane.ask(entry, || ready));
    }
    lane.finish();
}

/// The row of a trial that nobody was asked.
fn lane_row(context: &Context<'_>, entry: &Entry, verdict: Verdict) -> Row {
    let label = &context.plan.subjects[entry.subject].label;
    unasked(entry.trial.head(), label, &entry.again, verdict)
}

/// What came of preparing a trial: ready to be asked, or why it cannot be judged.
pub(super) type Prepared = Result<Box<dyn Ready>, Withheld>;

/// A result, or what a panic said.
pub(super) type Guarded<T> = Result<T, String>;

/// Prepares a trial.
pub(super) fn prepared(context: &Context<'_>, entry: &Entry) -> Prepared {
    entry.trial.prepare(&context.goldens)
}

/// A trial whose judging panics is our own fault, and costs one row.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Guarded<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("judging it panicked: {}", text.unwrap_or("without a word"))
    })
}

/// Who answers on a lane.
enum To {
    /// A worker process.
    Slot(Box<Slot>),
    /// Nobody: the harness judges itself.
    Nobody(Nobody),
}

/// One worker, what it holds, and what it was asked last.
pub(super) struct Lane<'a> {
    context: &'a Context<'a>,
    subject: usize,
    to: To,
    kept: Kept,
    tell: &'a dyn Fn(News),
    last: Option<String>,
}

impl<'a> Lane<'a> {
    /// Starts a worker of a subject and asks hello; the harness itself needs none.
    ///
    /// # Errors
    /// Why the subject is not there.
    pub fn open(
        context: &'a Context<'a>,
        subject: usize,
        tell: &'a dyn Fn(News),
    ) -> Result<Lane<'a>, String> {
        let to = match context.plan.subjects[subject].how {
            How::Harness => To::Nobody(Nobody::default()),
            How::Cpu | How::Cuda(_) | How::Command(_) => {
                match Slot::open(context.launch(subject)) {
                    Ok(slot) => {
                        tell(News::Hello(subject, slot.hello().json().clone()));
                        To::Slot(Box::new(slot))
                    }
                    Err(absent) => {
                        if !absent.stopped {
                            tell(News::Absent(subject, absent.message.clone()));
                        }
                        return Err(absent.message);
                    }
                }
            }
        };
        Ok(Lane { context, subject, to, kept: Kept::default(), tell, last: None })
    }

    /// Asks one trial and reports its row.
    pub fn ask(&mut self, entry: &Entry, ready: impl FnOnce() -> Guarded<Prepared>) {
        let row = self.row(entry, ready);
        (self.tell)(News::Row(Box::new(row)));
        // A word that nobody asked for was said before this trial's questions.
        let before = self.last.replace(entry.name.clone());
        if let To::Slot(slot) = &mut self.to {
            let found = slot.incidents();
            if found != Incidents::default() {
                (self.tell)(News::Incidents(self.subject, found, before));
            }
        }
    }

    /// The row of one trial.
    pub fn row(&mut self, entry: &Entry, ready: impl FnOnce() -> Guarded<Prepared>) -> Row {
        if self.context.stopped() {
            let message = "the run was stopped".to_owned();
            let verdict = Verdict::NotRun { kind: NotRun::Stopped, message };
            return (self.context.known)(lane_row(self.context, entry, verdict), "");
        }
        let label = &self.context.plan.subjects[self.subject].label;
        let head = entry.trial.head();
        let to: &mut dyn Transport = match &mut self.to {
            To::Slot(slot) => slot.as_mut(),
            To::Nobody(nobody) => nobody,
        };
        let whom = self.context.whom(self.subject, to);
        let device = to.hello().device_name().to_owned();
        let capped = self.context.options.timeout;
        let mut caller = Caller::new(to, &mut self.kept, &self.context.scratch, capped);
        let mut faults = (0, 0);
        let judged = ready().and_then(|ready| match ready {
            Err(withheld) => Ok(entry.trial.withheld(withheld)),
            Ok(ready) => {
                faults = ready.faults();
                guarded(|| ready.ask(&mut caller, &whom))
            }
        });
        let judgement = judged.unwrap_or_else(|message| {
            Judgement::of(Verdict::Broken { kind: BrokenKind::Harness, message })
        });
        let row = row(head, label, &entry.again, faults, judgement, &caller.finish());
        (self.context.known)(row, &device)
    }

    /// Ends the worker; what it left behind is paid for by its last trial.
    pub fn finish(self) {
        if let To::Slot(slot) = self.to {
            let found = slot.finish();
            (self.tell)(News::Incidents(self.subject, found, self.last));
        }
    }
}

/// Nobody answers: checks of the harness ask no subject.
#[derive(Default)]
struct Nobody {
    hello: Hello,
}

impl Transport for Nobody {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    fn exchange(&mut self, _: Value, _: Tensors, _: Duration) -> Heard {
        let exchange = Exchange::Lost("the harness has no subject to ask".to_owned());
        Heard { exchange, time: Duration::ZERO, stderr: String::new() }
    }

    fn process(&self) -> u32 {
        0
    }
}
