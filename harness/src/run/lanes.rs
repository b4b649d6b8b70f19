//! Lanes: one thread with one warm worker each. The lanes of a subject share a queue of trials, so
//! that no lane idles while trials are left.

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

/// A message from a lane to the run.
pub enum News {
    /// A row.
    Row(Box<Row>),
    /// A subject's answer to hello, with the subject's index in the plan.
    Hello(usize, Value),
    /// A subject that could not be started, and why.
    Absent(usize, String),
    /// Findings that belong to no single question, and the trial that they are charged to.
    Incidents(usize, Incidents, Option<String>),
}

/// Trials that one process is asked consecutively.
type Batch<'a> = Vec<&'a Entry>;

type Queue<'a> = Arc<Mutex<VecDeque<Batch<'a>>>>;

/// Starts the lanes of one subject. A worker dies with the thread that started it, so each lane
/// keeps its thread from the first question to the last.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    context: &'scope Context<'scope>,
    subject: usize,
    news: &Sender<News>,
) {
    let batches = batches(context.plan.trials.iter().filter(|t| t.subject == subject));
    let lanes = match context.plan.subjects[subject].how {
        How::Cpu => context.options.jobs.clamp(1, batches.len().max(1)),
        // A card is a single resource, and a foreign subject may demand to run alone.
        How::Cuda(_) | How::Command(_) | How::Harness => 1,
    };
    let queue: Queue<'scope> = Arc::new(Mutex::new(batches));
    for _ in 0..lanes {
        let (news, queue) = (news.clone(), Arc::clone(&queue));
        scope.spawn(move || work(context, subject, &queue, &news));
    }
}

/// Groups adjacent trials of one group into a batch; every other trial is a batch of its own.
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
    // Sending cannot fail: the receiver outlives every lane.
    let tell = |item: News| drop(news.send(item));
    // A lane that panicked has left the queue whole, because taking a batch is a single step.
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let first = take();
    // A subject that the user named must start, even if it is asked nothing.
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
            // Every planned trial has a row, so those of an absent subject are NOT RUN and not
            // missing.
            for entry in batches.flatten() {
                let not_run = Verdict::NotRun { kind, message: message.clone() };
                let row = lane_row(context, entry, not_run);
                tell(News::Row(Box::new((context.known)(row, ""))));
            }
            return;
        }
    };
    // The definitions compute on the host, where preparing ahead would only take their cores away.
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

/// The row of a trial that was not asked.
fn lane_row(context: &Context<'_>, entry: &Entry, verdict: Verdict) -> Row {
    let label = &context.plan.subjects[entry.subject].label;
    unasked(entry.trial.head(), label, &entry.again, verdict)
}

/// The result of preparing a trial: ready to be asked, or the reason why it cannot be judged.
pub(super) type Prepared = Result<Box<dyn Ready>, Withheld>;

/// A result, or the message of a panic.
pub(super) type Guarded<T> = Result<T, String>;

/// Prepares a trial.
pub(super) fn prepared(context: &Context<'_>, entry: &Entry) -> Prepared {
    entry.trial.prepare(&context.goldens)
}

/// Runs judging code so that a panic, which is a fault of the harness, costs one row and not the
/// run.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Guarded<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        // A panic carries a `&str` if its message is a literal, and a `String` if it was formatted.
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("judging it panicked: {}", text.unwrap_or("without a word"))
    })
}

/// The receiver of a lane's questions.
enum To {
    /// A worker process.
    Slot(Box<Slot>),
    /// No subject: the harness judges itself.
    Nobody(Nobody),
}

/// One worker, the state kept for it, and the trial that it was asked last.
pub(super) struct Lane<'a> {
    context: &'a Context<'a>,
    subject: usize,
    to: To,
    kept: Kept,
    tell: &'a dyn Fn(News),
    last: Option<String>,
}

impl<'a> Lane<'a> {
    /// Starts a worker of a subject and asks hello. The harness itself needs no worker.
    ///
    /// # Errors
    /// Why the subject could not be started.
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
                        // A start that was cut short by the end of the run says nothing about the
                        // subject.
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

    /// Asks one trial and sends its row.
    pub fn ask(&mut self, entry: &Entry, ready: impl FnOnce() -> Guarded<Prepared>) {
        let row = self.row(entry, ready);
        (self.tell)(News::Row(Box::new(row)));
        // Unsolicited output found now was written before this trial's questions, so the trial
        // before pays.
        let before = self.last.replace(entry.name.clone());
        if let To::Slot(slot) = &mut self.to {
            let found = slot.incidents();
            if found != Incidents::default() {
                (self.tell)(News::Incidents(self.subject, found, before));
            }
        }
    }

    /// Asks one trial and returns its row.
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
            Judgement::unmeasured(Verdict::Broken { kind: BrokenKind::Harness, message })
        });
        let row = row(head, label, &entry.again, faults, judgement, &caller.finish());
        (self.context.known)(row, &device)
    }

    /// Ends the worker. What it leaves behind is charged to its last trial.
    pub fn finish(self) {
        if let To::Slot(slot) = self.to {
            let found = slot.finish();
            (self.tell)(News::Incidents(self.subject, found, self.last));
        }
    }
}

/// Stands in for a subject where none is asked: checks of the harness judge the harness itself.
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
