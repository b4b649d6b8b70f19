//! Calling a subject: one table says what each event is called, whatever the kind of trial.
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
//! | a tensor or field is missing, or has another count | Fail(shape) |
//! | a tensor or field is of another type | Fail(protocol) |
//! | larger than a frame | NOT RUN(too_big) |
//! | it cannot be started again | NOT RUN(device_lost) |
//! | the run was stopped | NOT RUN(stopped) |
//! | the question could not be written | BROKEN(harness) |

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use goldgate_wire::answer::{Answer, Failed, Refused, Said};
use goldgate_wire::call::{BadField, Load, Loaded, Unload};
use goldgate_wire::{Call, Hello, Tensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::line::{BrokenKind, FailKind, NotRun, Verdict};

/// What came of one call, before anybody knows what it means. An answer is as it came: its bits are
/// those of what was said, not of what could be read.
#[derive(Debug)]
pub enum Exchange {
    /// One of `ok refused unsupported failed`.
    Answered(Said),
    /// The process ended, or closed its stdout.
    Crashed(String),
    /// Past its limit, or silent for three heartbeats.
    TimedOut,
    /// Something that is not the wire.
    Protocol(String),
    /// Neither a frame nor a file takes the question or its answer.
    TooBig(String),
    /// The question could not be written where a file was to carry it.
    Unsent(String),
    /// The subject could not be started again.
    Lost(String),
    /// The run was stopped while the question was open.
    Stopped,
}

/// An exchange with its time and the end of stderr.
#[derive(Debug)]
pub struct Heard {
    /// What came of it.
    pub exchange: Exchange,
    /// From the question to its answer.
    pub time: Duration,
    /// What the subject wrote to stderr meanwhile.
    pub stderr: String,
}

/// Whatever carries questions to a subject.
pub trait Transport {
    /// What the subject said of itself.
    fn hello(&self) -> &Hello;

    /// Puts one question and waits at most `limit`.
    fn exchange(&mut self, question: Value, tensors: Tensors, limit: Duration) -> Heard;

    /// Counts the processes so far: what one process held, the next does not.
    fn process(&self) -> u32;
}

/// The trial is over before its answers are all there; only a [`Caller`] can say so.
#[derive(Debug)]
pub struct Stopped(Verdict);

impl Stopped {
    /// What the row is called.
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

/// What a call came to, where a refusal may be right.
#[derive(Clone, Debug)]
pub enum Reply<A> {
    /// `ok`.
    Ok(A),
    /// The question is malformed.
    Refused(Box<Refused>),
}

/// What a lane keeps between its trials.
#[derive(Debug, Default)]
pub struct Kept {
    /// The process, the question that loaded what it holds, and the answer.
    model: Option<(u32, Load, Loaded)>,
    /// Questions whose answers hold for the whole run, with the `ok` of those that were answered.
    once: BTreeMap<String, Option<(Value, Tensors)>>,
}

/// What a trial's calls came to, all together.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// From each question to its answer, added up.
    pub time: Duration,
    /// The end of stderr of the last call.
    pub stderr: String,
    bits: Option<Sha256>,
}

impl Log {
    /// A hash over every answer's tensors and refusals, in order; none where nothing was answered.
    pub fn bits(&self) -> Option<String> {
        self.bits.as_ref().map(|hash| crate::line::hex(&hash.clone().finalize()))
    }

    /// Times and memory differ from run to run, so of `ok` the tensors alone are hashed.
    fn hash(&mut self, call: &str, Said { key, body, tensors }: &Said) {
        if ["bench", "memory", "unload", "close"].contains(&call) {
            return;
        }
        let hash = self.bits.get_or_insert_default();
        hash.update(format!("{call} {key}\n"));
        if *key == "refused" {
            for field in ["kind", "operand", "code", "field", "offset"] {
                hash.update(format!("{}\n", body[field]));
            }
        }
        for field in ["stop", "stops", "holds"] {
            if !body[field].is_null() {
                hash.update(format!("{field} {}\n", body[field]));
            }
        }
        for (name, tensor) in tensors {
            hash.update(format!("{name} {}\n", tensor.meta));
            hash.update(&tensor.bytes);
        }
    }
}

/// Puts the questions of one trial.
pub struct Caller<'c> {
    to: &'c mut dyn Transport,
    kept: &'c mut Kept,
    scratch: &'c Path,
    /// The longest that a call may take, in place of the cases' own limits.
    capped: Option<Duration>,
    limit: Duration,
    log: Log,
}

/// How long a call may take where the case does not say.
pub const LIMIT: Duration = Duration::from_secs(60);

impl<'c> Caller<'c> {
    /// A caller for one trial. `capped` is in place of every limit that the trial sets.
    pub fn new(
        to: &'c mut dyn Transport,
        kept: &'c mut Kept,
        scratch: &'c Path,
        capped: Option<Duration>,
    ) -> Caller<'c> {
        Caller { to, kept, scratch, capped, limit: capped.unwrap_or(LIMIT), log: Log::default() }
    }

    /// What the subject said of itself.
    pub fn hello(&self) -> &Hello {
        self.to.hello()
    }

    /// A folder for files of questions, which the subject may read.
    pub fn scratch(&self) -> &Path {
        self.scratch
    }

    /// What the calls came to.
    pub fn finish(self) -> Log {
        self.log
    }

    /// The longest that each of the next calls may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = self.capped.unwrap_or(limit);
    }

    /// The longest that the next call may take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Ends the trial where the subject does not offer a call.
    ///
    /// # Errors
    /// NOT RUN(unsupported).
    pub fn need<C: Call>(&self) -> Result<(), Stopped> {
        match self.hello().offers(C::NAME) {
            true => Ok(()),
            false => Err(unsupported(&format!("does not offer {}", C::NAME))),
        }
    }

    /// Puts a question that must be answered.
    ///
    /// # Errors
    /// What the row is called, where it is not.
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

    /// Puts a question that may rightly be refused.
    ///
    /// # Errors
    /// What the row is called, where it is neither answered nor refused.
    pub fn ask<C: Call>(&mut self, call: &C) -> Result<Reply<C::Answer>, Stopped> {
        self.ask_promised(call, false)
    }

    /// Puts a question that may rightly be refused; `promised` says that hello lists everything
    /// that it takes.
    ///
    /// # Errors
    /// What the row is called, where it is neither answered nor refused.
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

    /// Puts the question of the call `name`; an `ok` as it came.
    fn put(
        &mut self,
        name: &str,
        question: Value,
        tensors: Tensors,
        promised: bool,
    ) -> Result<Reply<(Value, Tensors)>, Stopped> {
        let Heard { exchange, time, stderr } = self.to.exchange(question, tensors, self.limit);
        self.log.time += time;
        self.log.stderr = stderr;
        let said = match exchange {
            Exchange::Answered(said) => said,
            silent => return Err(silence(silent, name, self.limit)),
        };
        self.log.hash(name, &said);
        match said.answer().map_err(BadField::Mistyped)? {
            Answer::Ok(body, tensors) => Ok(Reply::Ok((body, tensors))),
            Answer::Refused(refused) => Ok(Reply::Refused(refused)),
            Answer::Unsupported(what) if promised => {
                let message = format!("says that it does not offer {what}, which hello promised");
                Err(fail(FailKind::Protocol, message))
            }
            Answer::Unsupported(what) => Err(unsupported(&format!("does not offer {what}"))),
            Answer::Failed(why) => Err(failed(why)),
        }
    }

    /// Loads what a question asks for, unless this process holds it already; the answer to `load`.
    ///
    /// # Errors
    /// What the row is called, where it does not load.
    pub fn model(&mut self, load: &Load) -> Result<Loaded, Stopped> {
        if let Some((process, held, loaded)) = &self.kept.model
            && *process == self.to.process()
            && held == load
        {
            return Ok(loaded.clone());
        }
        self.drop_model()?;
        let loaded = self.call(load)?;
        self.hold(load, &loaded);
        Ok(loaded)
    }

    /// Says that `load` was answered by `loaded`, so that the model is kept or dropped later.
    pub fn hold(&mut self, load: &Load, loaded: &Loaded) {
        self.kept.model = Some((self.to.process(), load.clone(), loaded.clone()));
    }

    /// Unloads what this process holds.
    ///
    /// # Errors
    /// What the row is called, where `unload` is not answered.
    pub fn drop_model(&mut self) -> Result<(), Stopped> {
        match self.kept.model.take() {
            Some((process, _, loaded)) if process == self.to.process() => {
                self.call(&Unload { model: loaded.model })
            }
            _ => Ok(()),
        }
    }

    /// Forgets what is held: after a failure nobody knows what the process still has.
    pub fn forget_model(&mut self) {
        self.kept.model = None;
    }

    /// A call without tensors whose answer holds for the whole run; nothing where it is refused or
    /// not offered.
    ///
    /// # Errors
    /// What the row is called, where the subject did anything else: a crash here is a crash.
    pub fn once<C: Call>(&mut self, call: &C) -> Result<Option<C::Answer>, Stopped> {
        let (question, tensors) = call.question();
        let key = question.to_string();
        let known = match self.kept.once.get(&key) {
            Some(known) => known.clone(),
            None => {
                let answered = match self.put(C::NAME, question, tensors, false) {
                    Ok(Reply::Ok(answered)) => Some(answered),
                    Ok(Reply::Refused(_))
                    | Err(Stopped(Verdict::NotRun { kind: NotRun::Unsupported, .. })) => None,
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

    /// Ends the trial because the subject does not offer what it takes.
    pub fn unsupported(&self, what: &str) -> Stopped {
        unsupported(what)
    }

    /// Ends the trial because a question was refused that was answered when asked in another way.
    pub fn wrong_refusal(&self, message: String) -> Stopped {
        fail(FailKind::WrongRefusal, message)
    }

    /// Ends the trial by a fault of our own.
    pub fn broken(&self, message: String) -> Stopped {
        Stopped(Verdict::Broken { kind: BrokenKind::Harness, message })
    }
}

/// Anything but an answer.
fn silence(exchange: Exchange, call: &str, limit: Duration) -> Stopped {
    match exchange {
        Exchange::Crashed(how) => fail(FailKind::Crashed, how),
        Exchange::TimedOut => {
            let message =
                format!("no answer to {call} within its limit of {} s", limit.as_secs_f64());
            fail(FailKind::TimedOut, message)
        }
        Exchange::Protocol(what) => fail(FailKind::Protocol, what),
        Exchange::TooBig(message) => not_run(NotRun::TooBig, message),
        Exchange::Lost(message) => not_run(NotRun::DeviceLost, message),
        Exchange::Stopped => not_run(NotRun::Stopped, "the run was stopped".to_owned()),
        Exchange::Unsent(message) => {
            Stopped(Verdict::Broken { kind: BrokenKind::Harness, message })
        }
        Exchange::Answered(_) => fail(FailKind::Protocol, "an answer that is none".to_owned()),
    }
}

fn fail(kind: FailKind, message: String) -> Stopped {
    Stopped(Verdict::Fail { kind, message })
}

fn not_run(kind: NotRun, message: String) -> Stopped {
    Stopped(Verdict::NotRun { kind, message })
}

fn unsupported(what: &str) -> Stopped {
    not_run(NotRun::Unsupported, what.to_owned())
}

/// It tried and could not.
fn failed(Failed { class, message, .. }: Failed) -> Stopped {
    let kind = match class.as_str() {
        "oom" => FailKind::Oom,
        "device" => FailKind::Device,
        "nondeterministic" => FailKind::Nondeterministic,
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
        said: Said,
        asked: u32,
    }

    impl Transport for Says {
        fn hello(&self) -> &Hello {
            &self.hello
        }

        fn exchange(&mut self, _: Value, _: Tensors, _: Duration) -> Heard {
            self.asked += 1;
            let exchange = Exchange::Answered(self.said.clone());
            Heard { exchange, time: Duration::ZERO, stderr: String::new() }
        }

        fn process(&self) -> u32 {
            1
        }
    }

    fn says(key: &'static str, body: Value) -> Says {
        let said = Said { key, body, tensors: Tensors::new() };
        Says { hello: Hello::default(), said, asked: 0 }
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
