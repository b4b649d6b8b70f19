//! Keeps workers warm, and replaces those that can no longer be trusted.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use goldgate_wire::answer::{Failed, RawAnswer};
use goldgate_wire::call::Ping;
use goldgate_wire::{Call, Hello, Tensors};
use serde_json::Value;

use crate::line::legible::legible_line;
use crate::line::{Exchange, Heard as Answered, Transport};
use crate::subject::launch::Launch;
use crate::subject::streams::SHOWN;
use crate::subject::worker::{Reply, Worker};

/// A subject that could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Absent {
    /// The reason.
    pub message: String,
    /// Whether it was given up because the run was stopped.
    pub stopped: bool,
}

impl Absent {
    fn because(message: String) -> Absent {
        Absent { message, stopped: false }
    }
}

/// Findings of a slot that belong to no single question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    /// Processes that outlived their worker; each costs the slot's last question its pass.
    pub leaks: Vec<String>,
    /// Processes that were left behind by a question, which has failed for it already.
    pub left: Vec<String>,
    /// Output that answers no question.
    pub strays: Vec<String>,
    /// Workers with a different identity or device than the first worker of this subject.
    pub changed: Vec<String>,
    /// How often a worker was replaced.
    pub replaced: u32,
}

/// A place for one worker at a time.
#[derive(Debug)]
pub struct Slot {
    launch: Launch,
    worker: Option<Worker>,
    hello: Hello,
    incidents: Incidents,
    /// How many processes were started so far.
    started: u32,
}

impl Slot {
    /// Starts a worker and asks hello. The calling thread must outlive the slot.
    ///
    /// # Errors
    /// The subject cannot start or does not answer hello.
    pub fn open(launch: Launch) -> Result<Slot, Absent> {
        let (worker, hello) = start(&launch)?;
        let incidents = Incidents::default();
        Ok(Slot { launch, worker: Some(worker), hello, incidents, started: 1 })
    }

    /// A warm worker: the current one, or a new one if there is none.
    fn ready(&mut self) -> Result<&mut Worker, Absent> {
        match &mut self.worker {
            Some(worker) => Ok(worker),
            empty => {
                let (worker, hello) = start(&self.launch)?;
                self.incidents.replaced += 1;
                self.started += 1;
                // Rows of one subject must describe one subject, so a changed identity makes the
                // run INVALID.
                if hello.identity() != self.hello.identity() {
                    let (was, is) = (self.hello.identity(), hello.identity());
                    self.incidents.changed.push(format!("{was:?} became {is:?}"));
                }
                Ok(empty.insert(worker))
            }
        }
    }

    /// Forwards the events of the current worker to a channel.
    pub fn tell(&mut self, events: Sender<Value>) {
        if let Some(worker) = &mut self.worker {
            worker.tell(events);
        }
    }

    /// Ends the worker, so that the next question goes to a fresh process.
    pub fn renew(&mut self) {
        if let Some(worker) = self.worker.take() {
            let ended = worker.end();
            if let Some(names) = ended.leak {
                let label = &self.launch.spec.label;
                self.incidents
                    .leaks
                    .push(format!("a process of {label} outlived its worker: {names}"));
            }
        }
    }

    /// Takes the findings since the last call.
    pub fn incidents(&mut self) -> Incidents {
        std::mem::take(&mut self.incidents)
    }

    /// Ends the worker and returns its findings.
    pub fn finish(mut self) -> Incidents {
        self.renew();
        self.incidents()
    }

    /// Puts any question except hello. The worker is replaced if it can no longer be trusted.
    ///
    /// # Errors
    /// A worker could not be started.
    pub fn call(
        &mut self,
        question: Value,
        tensors: Tensors,
        limit: Duration,
    ) -> Result<Heard, Absent> {
        // Twice: output before the question may be the fault of the worker that was just replaced.
        for _ in 0..2 {
            let worker = self.ready()?;
            if let Some(Reply::Stale(what) | Reply::Gone(what)) = worker.unasked() {
                self.incidents.strays.push(what);
                self.discard();
                continue;
            }
            let start = Instant::now();
            let mut reply = worker.put(question, tensors, limit);
            let time = start.elapsed();
            // The limit of the question applies: work that shows after its answer is still its
            // work.
            if matches!(reply, Reply::Answer(_)) {
                reply = settle(worker, reply, limit);
            }
            // After the ping, which leaves a moment to end what is to end. Its worker goes too, as
            // it may still count on the process that is killed.
            if matches!(reply, Reply::Answer(_))
                && let Some(names) = worker.leak()
            {
                reply = Reply::Leaked(format!("still there after the answer: {names}"));
            }
            let stderr = worker.stderr();
            let sticky = match &reply {
                // A subject that failed may go on, unless it says that it cannot.
                Reply::Answer(RawAnswer { key: "failed", body, .. }) => Failed::read(body).sticky,
                Reply::Answer(_) | Reply::TooBig(_) | Reply::Unsent(_) => false,
                _ => true,
            };
            if sticky {
                self.discard();
            }
            if let Reply::Leaked(what) = &reply {
                let label = &self.launch.spec.label;
                self.incidents.left.push(format!("{label}: {what}"));
            }
            return Ok(Heard { reply, time, stderr });
        }
        Err(Absent::because("it speaks before it is asked, twice".to_owned()))
    }

    fn discard(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill();
        }
    }
}

/// A reply, how long it took, and the tail of stderr.
#[derive(Debug)]
pub struct Heard {
    /// The reply.
    pub reply: Reply,
    /// Time from the question to its answer.
    pub time: Duration,
    /// What the subject wrote to stderr meanwhile.
    pub stderr: String,
}

fn start(launch: &Launch) -> Result<(Worker, Hello), Absent> {
    if let Some(why) = launch.starts.given_up() {
        return Err(Absent::because(why));
    }
    let outcome = started(launch);
    match &outcome {
        Ok(_) => launch.starts.succeeded(),
        Err(absent) if absent.stopped => {}
        Err(absent) => launch.starts.failed(&absent.message),
    }
    outcome
}

fn started(launch: &Launch) -> Result<(Worker, Hello), Absent> {
    let program = launch.program.display();
    let mut worker = Worker::start(launch)
        .map_err(|e| Absent::because(format!("could not start {program}: {e}")))?;
    let reply_to_hello = worker.hello(&launch.scratch, launch.start);
    let stderr = worker.stderr();
    // The last line usually names the cause, where the exit status alone does not.
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let stopped = matches!(reply_to_hello, Err(Reply::Stopped));
    let why = match reply_to_hello {
        Ok(hello) => {
            let spec = &launch.spec;
            let hello = spec.claims.as_ref().map_or(hello.clone(), |own| hello.with_claims(own));
            let declared = spec.arithmetic.as_ref();
            return Ok((worker, declared.map_or(hello.clone(), |own| hello.with_arithmetic(own))));
        }
        Err(Reply::Answer(RawAnswer { key, body, .. })) => match body["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("hello was answered by {key}: {body}"),
        },
        Err(Reply::Crashed(how)) if last.is_empty() => how,
        Err(Reply::Crashed(how)) => format!("{how}: {last}"),
        Err(Reply::TimedOut) => format!("said no hello within {} s", launch.start.as_secs_f64()),
        Err(Reply::Stopped) => "the run was stopped".to_owned(),
        Err(
            Reply::Protocol(what)
            | Reply::Stale(what)
            | Reply::Gone(what)
            | Reply::Leaked(what)
            | Reply::TooBig(what)
            | Reply::Unsent(what),
        ) => what,
    };
    worker.kill();
    // On one line: it is printed among lines of ours.
    Err(Absent { message: legible_line(&why, SHOWN), stopped })
}

/// Sends a ping after an answer. A second answer, unsolicited output or a late death shows now, and
/// belongs to the question that was just answered.
fn settle(worker: &mut Worker, reply: Reply, limit: Duration) -> Reply {
    let (ping, none) = Ping.question();
    match worker.ask(ping, none, limit) {
        Reply::Answer(_) => reply,
        Reply::Crashed(how) | Reply::Gone(how) => {
            Reply::Crashed(format!("after its answer: {how}"))
        }
        Reply::TimedOut => Reply::TimedOut,
        Reply::Stopped => Reply::Stopped,
        Reply::Protocol(what)
        | Reply::Stale(what)
        | Reply::Leaked(what)
        | Reply::TooBig(what)
        | Reply::Unsent(what) => Reply::Protocol(format!("after its answer: {what}")),
    }
}

impl Transport for Slot {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    fn process(&self) -> u32 {
        self.started
    }

    fn exchange(&mut self, question: Value, tensors: Tensors, limit: Duration) -> Answered {
        let Heard { reply, time, stderr } = match self.call(question, tensors, limit) {
            Ok(heard) => heard,
            Err(absent) => {
                let exchange = match absent.stopped {
                    true => Exchange::Stopped,
                    false => Exchange::Lost(absent.message),
                };
                return Answered { exchange, time: Duration::ZERO, stderr: String::new() };
            }
        };
        let exchange = match reply {
            Reply::Answer(reply_to_hello) => Exchange::Answered(reply_to_hello),
            Reply::Crashed(how) | Reply::Gone(how) => Exchange::Crashed(how),
            Reply::TimedOut => Exchange::TimedOut,
            Reply::Protocol(what) | Reply::Stale(what) => Exchange::Protocol(what),
            Reply::Leaked(what) => Exchange::Leaked(what),
            Reply::TooBig(what) => Exchange::TooBig(what),
            Reply::Unsent(what) => Exchange::Unsent(what),
            Reply::Stopped => Exchange::Stopped,
        };
        Answered { exchange, time, stderr }
    }
}
