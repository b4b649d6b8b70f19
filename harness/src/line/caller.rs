//! Calls a subject and gives every outcome its name: one table for all kinds of trial, so that the
//! same event is never judged differently in two of them.
//!
//! | event | row |
//! |---|---|
//! | `ok` | the kind's judge decides |
//! | `refused` | the kind decides where a refusal may be right, else Fail(wrong_refusal) |
//! | `unsupported` | NOT RUN(unsupported); Fail(protocol) where hello promised it |
//! | `failed` | Fail(oom, device, nondeterministic), any other class Fail(internal) |
//! | the process ends | Fail(crashed) |
//! | past its limit, or silent | Fail(timed_out) |
//! | not the wire | Fail(protocol) |
//! | a process is left behind | Fail(leak) |
//! | a tensor or field is missing, or has another count | Fail(shape) |
//! | a tensor or field is of another type | Fail(protocol) |
//! | larger than a frame | NOT RUN(too_big) |
//! | it cannot be started again | NOT RUN(device_lost) |
//! | the run was stopped | NOT RUN(stopped) |
//! | the question could not be written | BROKEN(harness) |

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use goldgate_wire::answer::{Answer, Failed, RawAnswer, Refused};
use goldgate_wire::call::{BadField, Load, Loaded, Unload};
use goldgate_wire::words::Claim;
use goldgate_wire::{Call, Hello, Tensors};
use serde_json::Value;

use crate::line::legible::legible;
use crate::line::log::Log;
use crate::line::{BrokenKind, FailKind, NotRun, Verdict};

/// The outcome of one call, before it is interpreted. An answer is kept exactly as received: its
/// bits are those that the subject sent, not those that could be parsed.
#[derive(Debug)]
pub enum Exchange {
    /// One of `ok refused unsupported failed`.
    Answered(RawAnswer),
    /// The process ended, or closed its stdout.
    Crashed(String),
    /// Past its limit, or silent for three heartbeats.
    TimedOut,
    /// Output that does not follow the wire protocol.
    Protocol(String),
    /// Answered, and a process that was not there before has stayed.
    Leaked(String),
    /// Neither a frame nor a file can carry the question or its answer.
    TooBig(String),
    /// The question could not be written to the file that was to carry it.
    Unsent(String),
    /// The subject could not be started again.
    Lost(String),
    /// The run was stopped while the question was open.
    Stopped,
}

/// An exchange, how long it took, and the tail of stderr.
#[derive(Debug)]
pub struct Heard {
    /// The outcome.
    pub exchange: Exchange,
    /// From the question to its answer.
    pub time: Duration,
    /// What the subject wrote to stderr meanwhile.
    pub stderr: String,
}

/// Carries questions to a subject: a process over the wire, or a stand-in for it in tests.
pub trait Transport {
    /// What the subject reported about itself.
    fn hello(&self) -> &Hello;

    /// Puts one question and waits at most `limit`.
    fn exchange(&mut self, question: Value, tensors: Tensors, limit: Duration) -> Heard;

    /// The number of processes started so far; no state survives from one into the next.
    fn process(&self) -> u32;
}

/// The trial ended before all its answers arrived. Only a [`Caller`] can create one.
#[derive(Debug)]
pub struct Stopped(Verdict);

impl Stopped {
    /// The verdict of the row.
    pub fn verdict(self) -> Verdict {
        self.0
    }
}

impl From<BadField> for Stopped {
    fn from(bad: BadField) -> Stopped {
        match bad {
            BadField::Missing(message) | BadField::Count(message) => fail(FailKind::Shape, message),
            BadField::Mistyped(message) => fail(FailKind::Protocol, message),
        }
    }
}

/// The outcome of a call where a refusal may be the right answer.
#[derive(Clone, Debug)]
pub enum Reply<A> {
    /// `ok`.
    Ok(A),
    /// The subject refused the question as malformed.
    Refused(Box<Refused>),
}

/// State that a lane keeps from one trial to the next.
#[derive(Debug, Default)]
pub struct Kept {
    /// The process that holds the model, the question that loaded it, and its answer.
    model: Option<(u32, Load, Loaded)>,
    /// Questions whose answers hold for the whole run, each with its answer if it was `ok`.
    once: BTreeMap<String, Option<(Value, Tensors)>>,
}

/// Puts the questions of one trial to its subject.
pub struct Caller<'c> {
    to: &'c mut dyn Transport,
    kept: &'c mut Kept,
    scratch: &'c Path,
    /// Replaces the time limit of every case, where given.
    capped: Option<Duration>,
    limit: Duration,
    log: Log,
}

/// The time limit of a call where the case sets none.
pub const LIMIT: Duration = Duration::from_secs(60);

impl<'c> Caller<'c> {
    /// Creates the caller of one trial. `capped`, where given, replaces every limit that the trial
    /// sets.
    pub fn new(
        to: &'c mut dyn Transport,
        kept: &'c mut Kept,
        scratch: &'c Path,
        capped: Option<Duration>,
    ) -> Caller<'c> {
        Caller { to, kept, scratch, capped, limit: capped.unwrap_or(LIMIT), log: Log::default() }
    }

    /// What the subject reported about itself.
    pub fn hello(&self) -> &Hello {
        self.to.hello()
    }

    /// A folder for files that belong to questions; the subject may read them.
    pub fn scratch(&self) -> &Path {
        self.scratch
    }

    /// Ends the trial's calls and returns their log.
    pub fn finish(self) -> Log {
        self.log
    }

    /// Sets the time limit of each of the next calls.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = self.capped.unwrap_or(limit);
    }

    /// The time limit of the next call.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Ends the trial if the subject does not offer a call.
    ///
    /// # Errors
    /// NOT RUN(unsupported).
    pub fn need<C: Call>(&self) -> Result<(), Stopped> {
        match self.hello().offers(C::NAME) {
            true => Ok(()),
            false => Err(unsupported(&format!("does not offer {}", C::NAME))),
        }
    }

    /// Ends the trial if the subject does not claim a kind of determinism, which then cannot be
    /// held against it.
    ///
    /// # Errors
    /// NOT RUN(unsupported).
    pub fn need_claim(&self, claim: Claim) -> Result<(), Stopped> {
        match self.hello().claims(claim) {
            true => Ok(()),
            false => Err(unsupported(&format!("does not claim the same bits by {}", claim.name()))),
        }
    }

    /// Puts a question that must be answered: a refusal fails the trial.
    ///
    /// # Errors
    /// The verdict of the row, if it is not answered.
    pub fn call<C: Call>(&mut self, call: &C) -> Result<C::Answer, Stopped> {
        match self.ask(call)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Refused(refused) => {
                let (word, field, message) = (refused.word(), refused.field(), &refused.message);
                let message = format!("{} was refused: {word} {field}: {message}", C::NAME);
                Err(fail(FailKind::WrongRefusal, message))
            }
        }
    }

    /// Puts a question that the subject may rightly refuse.
    ///
    /// # Errors
    /// The verdict of the row, if it is neither answered nor refused.
    pub fn ask<C: Call>(&mut self, call: &C) -> Result<Reply<C::Answer>, Stopped> {
        self.ask_promised(call, false)
    }

    /// Puts a question that the subject may rightly refuse. `promised` means that hello claims
    /// support for everything that the question needs, so `unsupported` breaks a promise.
    ///
    /// # Errors
    /// The verdict of the row, if it is neither answered nor refused.
    pub fn ask_promised<C: Call>(
        &mut self,
        call: &C,
        promised: bool,
    ) -> Result<Reply<C::Answer>, Stopped> {
        let (question, tensors) = call.question();
        Ok(match self.put(C::NAME, question, tensors, promised)? {
            Reply::Ok((body, tensors)) => Reply::Ok(C::read_answer(body, tensors)?),
            Reply::Refused(refused) => Reply::Refused(refused),
        })
    }

    /// Puts the question of the call `name` and returns an `ok` unparsed.
    fn put(
        &mut self,
        name: &str,
        question: Value,
        tensors: Tensors,
        promised: bool,
    ) -> Result<Reply<(Value, Tensors)>, Stopped> {
        let Heard { exchange, time, stderr } = self.to.exchange(question, tensors, self.limit);
        self.log.time += time;
        // Of the last call only: if the trial ends here, this is the call that failed.
        self.log.stderr = stderr;
        let answer = match exchange {
            Exchange::Answered(answer) => answer,
            silent => return Err(silence(silent, name, self.limit)),
        };
        // Hashed before parsing, so that an answer that cannot be read has bits to compare as well.
        self.log.hash(name, &answer);
        match answer.answer().map_err(BadField::Mistyped)? {
            Answer::Ok(body, tensors) => Ok(Reply::Ok((body, tensors))),
            Answer::Refused(refused) => Ok(Reply::Refused(refused)),
            // Otherwise a subject could choose the questions that it is judged by.
            Answer::Unsupported(what) if promised => {
                let message = format!("says that it does not offer {what}, which hello promised");
                Err(fail(FailKind::Protocol, message))
            }
            Answer::Unsupported(what) => Err(unsupported(&format!("does not offer {what}"))),
            Answer::Failed(why) => Err(failed(why)),
        }
    }

    /// Loads a model unless this process already holds it, and returns the answer to `load`.
    ///
    /// # Errors
    /// The verdict of the row, if it does not load.
    pub fn model(&mut self, load: &Load) -> Result<Loaded, Stopped> {
        // A load may take minutes, so its answer is reused within one process.
        if let Some((process, held, loaded)) = &self.kept.model
            && *process == self.to.process()
            && held == load
        {
            return Ok(loaded.clone());
        }
        // Unloaded first, so that two models never share the device's memory.
        self.drop_model()?;
        let loaded = self.call(load)?;
        self.hold(load, &loaded);
        Ok(loaded)
    }

    /// Records the answer to `load`, so that the model can be reused or unloaded later.
    pub fn hold(&mut self, load: &Load, loaded: &Loaded) {
        self.kept.model = Some((self.to.process(), load.clone(), loaded.clone()));
    }

    /// Unloads the model that this process holds, if any.
    ///
    /// # Errors
    /// The verdict of the row, if `unload` is not answered.
    pub fn drop_model(&mut self) -> Result<(), Stopped> {
        match self.kept.model.take() {
            Some((process, _, loaded)) if process == self.to.process() => {
                self.call(&Unload { model: loaded.model })
            }
            // A process that has ended took its model with it, and a new one has other handles.
            _ => Ok(()),
        }
    }

    /// Forgets the held model: after a failure it is unknown what the process still holds.
    pub fn forget_model(&mut self) {
        self.kept.model = None;
    }

    /// Puts a question whose answer holds for the whole run, at most once. Returns nothing if it is
    /// refused or not offered.
    ///
    /// # Errors
    /// The verdict of the row for any other outcome: a crash here is a crash.
    pub fn once<C: Call>(&mut self, call: &C) -> Result<Option<C::Answer>, Stopped> {
        let (question, tensors) = call.question();
        // The whole question is the key, because another option may give another answer.
        let key = question.to_string();
        let known = match self.kept.once.get(&key) {
            Some(known) => known.clone(),
            None => {
                // An absent answer is cached as well, so that it is asked for only once.
                let answered = match self.put(C::NAME, question, tensors, false) {
                    Ok(Reply::Ok(answered)) => Some(answered),
                    Ok(Reply::Refused(_))
                    | Err(Stopped(Verdict::NotRun { kind: NotRun::Unsupported, .. })) => None,
                    // Not cached: each trial that needs this answer must show the failure itself.
                    Err(stopped) => return Err(stopped),
                };
                self.kept.once.insert(key, answered.clone());
                answered
            }
        };
        let read = |(body, tensors)| C::read_answer(body, tensors);
        Ok(known.map(read).transpose()?)
    }

    /// Ends the trial because it does not fit the subject's device.
    pub fn too_big(&self, message: String) -> Stopped {
        not_run(NotRun::TooBig, message)
    }

    /// Ends the trial because the subject does not offer what it needs.
    pub fn unsupported(&self, what: &str) -> Stopped {
        unsupported(what)
    }

    /// Ends the trial because the subject refused a question that it answered in another form.
    pub fn wrong_refusal(&self, message: String) -> Stopped {
        fail(FailKind::WrongRefusal, message)
    }

    /// Ends the trial because of a fault of the harness.
    pub fn broken(&self, message: String) -> Stopped {
        Stopped(Verdict::Broken { kind: BrokenKind::Harness, message })
    }
}

/// The verdict for every exchange other than an answer.
fn silence(exchange: Exchange, call: &str, limit: Duration) -> Stopped {
    match exchange {
        Exchange::Crashed(how) => fail(FailKind::Crashed, how),
        Exchange::TimedOut => {
            let message =
                format!("no answer to {call} within its limit of {} s", limit.as_secs_f64());
            fail(FailKind::TimedOut, message)
        }
        Exchange::Protocol(what) => fail(FailKind::Protocol, what),
        Exchange::Leaked(what) => fail(FailKind::Leak, what),
        Exchange::TooBig(message) => not_run(NotRun::TooBig, message),
        Exchange::Lost(message) => not_run(NotRun::DeviceLost, message),
        Exchange::Stopped => not_run(NotRun::Stopped, "the run was stopped".to_owned()),
        // The harness writes that file, so a full disk is no failure of the subject.
        Exchange::Unsent(message) => {
            Stopped(Verdict::Broken { kind: BrokenKind::Harness, message })
        }
        // Judged by the caller; listed so that the compiler demands a verdict for every new
        // outcome.
        Exchange::Answered(_) => fail(FailKind::Protocol, "an answer that is none".to_owned()),
    }
}

fn fail(kind: FailKind, message: String) -> Stopped {
    // A message may quote a field of the answer, and that may be as long as an answer.
    Stopped(Verdict::Fail { kind, message: legible(&message, 8 << 10) })
}

fn not_run(kind: NotRun, message: String) -> Stopped {
    Stopped(Verdict::NotRun { kind, message })
}

fn unsupported(what: &str) -> Stopped {
    not_run(NotRun::Unsupported, what.to_owned())
}

/// The verdict for a subject that tried and could not answer.
fn failed(Failed { class, message, .. }: Failed) -> Stopped {
    let kind = match class.as_str() {
        "oom" => FailKind::Oom,
        "device" => FailKind::Device,
        "nondeterministic" => FailKind::Nondeterministic,
        // Unknown classes count as internal errors of the subject.
        _ => FailKind::Internal,
    };
    fail(kind, format!("{class}: {message}"))
}

#[cfg(test)]
mod tests {
    use goldgate_wire::call::{BenchCopy, Check, Open};
    use serde_json::json;

    use super::*;

    /// Gives the same answer to every question, and counts them.
    struct Says {
        hello: Hello,
        answer: RawAnswer,
        asked: u32,
    }

    impl Transport for Says {
        fn hello(&self) -> &Hello {
            &self.hello
        }

        fn exchange(&mut self, _: Value, _: Tensors, _: Duration) -> Heard {
            self.asked += 1;
            let exchange = Exchange::Answered(self.answer.clone());
            Heard { exchange, time: Duration::ZERO, stderr: String::new() }
        }

        fn process(&self) -> u32 {
            1
        }
    }

    fn says(key: &'static str, body: Value) -> Says {
        let answer = RawAnswer { key, body, tensors: Tensors::new() };
        Says { hello: Hello::default(), answer, asked: 0 }
    }

    #[test]
    fn what_is_missing_is_shape_and_what_is_mistyped_is_protocol() {
        for (key, body, want) in [
            ("ok", json!({}), FailKind::Shape),
            ("ok", json!({"session": null}), FailKind::Shape),
            ("ok", json!({"session": "s"}), FailKind::Protocol),
            ("refused", json!({"kind": "K", "observed": 3}), FailKind::Protocol),
            ("refused", json!({"kind": "K"}), FailKind::WrongRefusal),
            ("failed", json!({"class": "oom"}), FailKind::Oom),
        ] {
            let (mut to, mut kept) = (says(key, body.clone()), Kept::default());
            let mut caller = Caller::new(&mut to, &mut kept, Path::new(""), None);
            let stopped = caller.call(&Open { model: 1 }).expect_err("no session");
            let verdict = stopped.verdict();
            assert!(
                matches!(verdict, Verdict::Fail { kind, .. } if kind == want),
                "{body}: {verdict:?}"
            );
        }
        let (mut to, mut kept) = (says("ok", json!({"holds": true, "more": 1})), Kept::default());
        let mut caller = Caller::new(&mut to, &mut kept, Path::new(""), None);
        let check = Check { stem: String::new(), case: String::new() };
        assert_eq!(caller.call(&check).expect("it holds").fails, None);
    }

    #[test]
    fn what_holds_for_the_run_is_asked_once() {
        for (key, body, want) in [
            ("ok", json!({"read_gb_s": 2.0}), Some(Some(2.0))),
            ("unsupported", json!({"what": "bench"}), None),
            ("refused", json!({"kind": "K"}), None),
        ] {
            let (mut to, mut kept) = (says(key, body), Kept::default());
            for _ in 0..2 {
                let mut caller = Caller::new(&mut to, &mut kept, Path::new(""), None);
                let limits = caller.once(&BenchCopy { bytes: 8 }).expect("asked");
                assert_eq!(limits.map(|limits| limits.read_gb_s), want);
            }
            assert_eq!(to.asked, 1, "{key}");
        }
    }
}
