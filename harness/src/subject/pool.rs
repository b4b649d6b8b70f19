//! Workers that are kept warm, and replaced when they can no longer be trusted.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::execution::{Execution, Observed, Outcome};
use crate::subject::hello::Hello;
use crate::subject::launch::Launch;
use crate::subject::worker::{Reply, Worker, too_big};
use crate::subject::{OpQuestion, Subject};
use crate::verdict::NotRun;

/// A subject that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Absent {
    /// Why.
    pub message: String,
}

/// What a slot found out that belongs to no single question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incidents {
    /// Processes that outlived their worker; each costs the slot's last question its pass.
    pub leaks: Vec<String>,
    /// Words that nobody had asked for.
    pub strays: Vec<String>,
    /// Another identity or device than the first worker of this subject named.
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
}

impl Slot {
    /// Starts a worker and asks hello. The calling thread must outlive the slot.
    ///
    /// # Errors
    /// A subject that cannot start or that says no hello.
    pub fn open(launch: Launch) -> Result<Slot, Absent> {
        let (worker, hello) = start(&launch)?;
        Ok(Slot { launch, worker: Some(worker), hello, incidents: Incidents::default() })
    }

    /// A warm worker: the one that is there, or a new one.
    fn ready(&mut self) -> Result<&mut Worker, Absent> {
        match &mut self.worker {
            Some(worker) => Ok(worker),
            empty => {
                let (worker, hello) = start(&self.launch)?;
                self.incidents.replaced += 1;
                if hello.identity() != self.hello.identity() {
                    let (was, is) = (self.hello.identity(), hello.identity());
                    self.incidents.changed.push(format!("{was:?} became {is:?}"));
                }
                Ok(empty.insert(worker))
            }
        }
    }

    /// Sends the events of the worker that is there to a channel.
    pub fn tell(&mut self, events: Sender<Value>) {
        if let Some(worker) = &mut self.worker {
            worker.tell(events);
        }
    }

    /// Ends the worker, so that the next question meets a fresh process.
    pub fn renew(&mut self) {
        if let Some(worker) = self.worker.take() {
            let ended = worker.end();
            if ended.leak {
                let label = &self.launch.spec.label;
                self.incidents.leaks.push(format!("a process of {label} outlived its worker"));
            }
        }
    }

    /// Ends the worker and says what was found out.
    pub fn finish(mut self) -> Incidents {
        self.renew();
        std::mem::take(&mut self.incidents)
    }

    /// Any call but hello: its reply, the worker replaced where it can no longer be trusted.
    ///
    /// # Errors
    /// A worker that could not be started.
    pub fn call(
        &mut self,
        question: &Value,
        tensors: &Tensors,
        limit: Duration,
    ) -> Result<Heard, Absent> {
        for _ in 0..2 {
            let worker = self.ready()?;
            let start = Instant::now();
            let mut reply = worker.ask(question.clone(), tensors.clone(), limit);
            let time = start.elapsed();
            if let Reply::Stale(what) | Reply::Gone(what) = reply {
                self.incidents.strays.push(what);
                self.discard();
                continue;
            }
            if matches!(reply, Reply::Answer { .. }) {
                reply = settle(worker, reply, limit);
            }
            let stderr = worker.stderr();
            let sticky = match &reply {
                Reply::Answer { key: "failed", body, .. } => body["sticky"].as_bool() == Some(true),
                Reply::Answer { .. } | Reply::TooBig(_) | Reply::Unsent(_) => false,
                _ => true,
            };
            if sticky {
                self.discard();
            }
            return Ok(Heard { reply, time, stderr });
        }
        Err(Absent { message: "it speaks before it is asked, twice".to_owned() })
    }

    fn discard(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            worker.kill();
        }
    }
}

/// Operands by name.
pub type Tensors = BTreeMap<String, goldgate_engine::Tensor>;

/// A reply with its time and the end of stderr.
#[derive(Debug)]
pub struct Heard {
    /// The reply.
    pub reply: Reply,
    /// From the question to its answer.
    pub time: Duration,
    /// What it wrote to stderr meanwhile.
    pub stderr: String,
}

fn start(launch: &Launch) -> Result<(Worker, Hello), Absent> {
    let program = launch.program.display();
    let mut worker = Worker::start(launch)
        .map_err(|e| Absent { message: format!("could not start {program}: {e}") })?;
    let said = worker.hello(&launch.scratch);
    let stderr = worker.stderr();
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let why = match said {
        Ok(hello) => return Ok((worker, hello)),
        Err(Reply::Answer { key, body, .. }) => match body["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("hello was answered by {key}: {body}"),
        },
        Err(Reply::Crashed(how)) if last.is_empty() => how,
        Err(Reply::Crashed(how)) => format!("{how}: {last}"),
        Err(Reply::TimedOut) => "said no hello within 60 s".to_owned(),
        Err(
            Reply::Protocol(what)
            | Reply::Stale(what)
            | Reply::Gone(what)
            | Reply::TooBig(what)
            | Reply::Unsent(what),
        ) => what,
    };
    worker.kill();
    Err(Absent { message: why })
}

/// After an answer a ping must come back: a second answer, a stray word or a late death is heard
/// now and belongs to the question that was just answered.
fn settle(worker: &mut Worker, reply: Reply, limit: Duration) -> Reply {
    match worker.ask(json!({"call": "ping"}), Tensors::new(), limit) {
        Reply::Answer { .. } => reply,
        Reply::Crashed(how) | Reply::Gone(how) => {
            Reply::Crashed(format!("after its answer: {how}"))
        }
        Reply::TimedOut => Reply::TimedOut,
        Reply::Protocol(what) | Reply::Stale(what) | Reply::TooBig(what) | Reply::Unsent(what) => {
            Reply::Protocol(format!("after its answer: {what}"))
        }
    }
}

impl Subject for Slot {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    fn op(&mut self, question: &OpQuestion, limit: Duration) -> Execution {
        if let Some(what) = self.hello.lacks(question) {
            return not_asked(NotRun::Unsupported, format!("does not offer {what}"));
        }
        let (room, answer) = (self.hello.max_frame(), question.answer_bytes());
        if answer > room && !self.hello.attaches() {
            return not_asked(NotRun::TooBig, too_big("the answer", answer, room));
        }
        match self.call(&question.json(limit), &question.tensors, limit) {
            Ok(Heard { reply, time, stderr }) => {
                let promised = self.hello.promises(question);
                Execution { outcome: outcome(reply, promised), time, stderr }
            }
            Err(absent) => not_asked(NotRun::DeviceLost, absent.message),
        }
    }
}

fn not_asked(kind: NotRun, message: String) -> Execution {
    let outcome = Outcome::NotAsked(kind, message);
    Execution { outcome, time: Duration::ZERO, stderr: String::new() }
}

/// What a reply to an op question is for the judge.
fn outcome(reply: Reply, promised: bool) -> Outcome {
    let (key, body, results) = match reply {
        Reply::Answer { key, body, tensors } => (key, body, tensors),
        Reply::Crashed(how) | Reply::Gone(how) => return Outcome::Crashed { how },
        Reply::TimedOut => return Outcome::TimedOut,
        Reply::Protocol(what) | Reply::Stale(what) => return Outcome::Protocol { what },
        Reply::TooBig(what) => return Outcome::NotAsked(NotRun::TooBig, what),
        Reply::Unsent(message) => return Outcome::Failed { class: "io".to_owned(), message },
    };
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match key {
        "ok" => match body.get("observed").map_or_else(Observed::none, Observed::read) {
            Ok(observed) => Outcome::Answered { results, observed },
            Err(what) => Outcome::Protocol { what },
        },
        "refused" => Outcome::Refused {
            kind: text("kind"),
            operand: text("operand"),
            message: text("message"),
        },
        "unsupported" => Outcome::Unsupported { what: text("what"), promised },
        _ => Outcome::Failed { class: text("class"), message: text("message") },
    }
}

impl Observed {
    fn none() -> Result<Observed, String> {
        Ok(Observed::default())
    }

    fn read(value: &Value) -> Result<Observed, String> {
        serde_json::from_value(value.clone()).map_err(|e| format!("observed: {e}"))
    }
}
