//! One worker process: its pipes are drained by threads and its time is measured by a monotonic
//! clock, so that the harness never hangs on a subject.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use goldgate_tensor::foreign::ForeignError;
use goldgate_wire::answer::RawAnswer;
use goldgate_wire::frame::{Frame, FrameError, too_big};
use goldgate_wire::hello::{FIRST_FRAME, MAX_FRAME};
use goldgate_wire::{Call, Hello, Tensors, attach, call};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::line::legible::{legible, legible_lines};
use crate::subject::ended::describe;
use crate::subject::launch::Launch;
use crate::subject::processes::{MARK, Processes, mark, names};
use crate::subject::streams::{Heard, SHOWN, drain, listen, named, speak};

/// How long a process may take to end after EOF, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// How often an exit is checked for while no output arrives.
const LOOK: Duration = Duration::from_millis(20);

/// How long a line of stderr may be.
const LINE: usize = 1 << 10;

/// The time limit of hello, if nothing shortens it.
pub const HELLO_LIMIT: Duration = Duration::from_secs(60);

/// The outcome of one question, before it is judged.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer(RawAnswer),
    /// The process ended, or closed its stdout.
    Crashed(String),
    /// Past its limit, or silent for three heartbeats.
    TimedOut,
    /// Output that does not follow the wire protocol.
    Protocol(String),
    /// The subject wrote before it was asked, so the question was not sent.
    Stale(String),
    /// The subject had ended before it was asked, so the question was not sent.
    Gone(String),
    /// The question does not fit into a frame and the subject takes no attachments, so it was not
    /// sent.
    TooBig(String),
    /// The attachment could not be written, so the question was not sent.
    Unsent(String),
    /// Answered, and these processes were left behind.
    Leaked(String),
    /// The run was stopped while the question was open.
    Stopped,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether it ended by itself, with status 0.
    pub clean: bool,
    /// The processes of the subject that outlived it.
    pub leak: Option<String>,
}

/// A running subject.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    group: Pid,
    processes: Processes,
    writer: Option<Sender<Frame>>,
    heard: Receiver<Heard>,
    max_frame: Sender<u64>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Disconnects when stderr has ended.
    drained: Receiver<()>,
    heartbeat: Option<Duration>,
    /// The largest frame that both sides accept.
    room: u64,
    /// The folder for tensors that do not fit into a frame, if the subject takes attachments.
    attach: Option<PathBuf>,
    next_id: u64,
    /// The receiver of its events.
    events: Option<Sender<Value>>,
    /// Set from outside when the run is stopped.
    stop: Option<Arc<AtomicBool>>,
}

impl Worker {
    /// Starts a process and its threads. The calling thread must outlive the worker: on Linux the
    /// worker asks to die with the thread that started it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(launch: &Launch) -> std::io::Result<Worker> {
        let mut command = Command::new(&launch.program);
        // A group of its own and a mark, so that children of the subject can be found and killed
        // with it.
        let mark = mark();
        command.args(launch.words()).env("GOLDGATE_WIRE", "1").env(MARK, &mark).process_group(0);
        command.envs(&launch.spec.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(std::io::Error::other("a pipe is not there"));
        };
        let group = Pid::from_child(&child);
        // Bounded: what a subject writes while nobody asks waits in its pipe, not in our memory.
        let (heard_to, heard) = mpsc::sync_channel(4);
        let (max_frame, agreed) = mpsc::channel();
        thread::spawn(move || listen(stdout, &agreed, &heard_to));
        let (writer, questions) = mpsc::channel::<Frame>();
        thread::spawn(move || speak(stdin, &questions));
        let tail = Arc::new(Mutex::new(Vec::new()));
        let tail_in = Arc::clone(&tail);
        let (draining, drained) = mpsc::channel();
        thread::spawn(move || {
            drain(stderr, &tail_in);
            drop(draining);
        });
        Ok(Worker {
            processes: Processes::new(child.id(), &mark),
            child,
            group,
            writer: Some(writer),
            heard,
            max_frame,
            stderr: tail,
            drained,
            heartbeat: None,
            room: FIRST_FRAME,
            attach: None,
            next_id: 0,
            events: None,
            stop: launch.stop.clone(),
        })
    }

    /// Asks hello, which is always the first question.
    ///
    /// # Errors
    /// The reply, if it is not a hello.
    pub fn hello(&mut self, scratch: &Path, limit: Duration) -> Result<Hello, Reply> {
        let ask = call::Hello {
            wire: vec![1],
            harness: concat!("goldgate ", env!("CARGO_PKG_VERSION")).to_owned(),
            scratch: Some(scratch.display().to_string()),
            max_frame: Some(MAX_FRAME),
        };
        let (question, none) = ask.question();
        match self.ask(question, none, limit) {
            Reply::Answer(RawAnswer { key: "ok", body, tensors }) => {
                let hello = call::Hello::read_answer(body, tensors);
                let hello = hello.map_err(|bad| Reply::Protocol(bad.to_string()))?;
                // If the listener is gone, it has already reported why.
                let _ = self.max_frame.send(hello.max_frame());
                // The contract calls a subject dead after three heartbeats of silence.
                // One beyond all clocks is none.
                self.heartbeat =
                    hello.heartbeat().and_then(|h| Duration::try_from_secs_f64(3.0 * h).ok());
                self.room = hello.max_frame();
                self.attach = hello.attaches().then(|| scratch.to_path_buf());
                // Helpers that are there by now are a part of the subject and end with it.
                self.processes.are_left();
                Ok(hello)
            }
            other => Err(other),
        }
    }

    /// Asks one question and waits for its answer, the end of the process, or the time limit.
    pub fn ask(&mut self, question: Value, tensors: Tensors, limit: Duration) -> Reply {
        match self.unasked() {
            Some(reply) => reply,
            None => self.put(question, tensors, limit),
        }
    }

    /// Output from before the question: [`Reply::Stale`], or [`Reply::Gone`] if the process has
    /// ended.
    pub fn unasked(&mut self) -> Option<Reply> {
        let heard = self.heard.try_recv().ok()?;
        Some(Reply::Stale(match heard {
            Heard::Frame(frame) => {
                legible(&format!("spoke without being asked: {}", frame.json), SHOWN)
            }
            Heard::End => return Some(Reply::Gone(self.how_it_ended())),
            Heard::Bad(error) => self.shown(&error),
            Heard::More(_) => "went on after something that is not the wire".to_owned(),
        }))
    }

    /// Puts one question to a worker without pending output.
    pub fn put(&mut self, mut question: Value, tensors: Tensors, limit: Duration) -> Reply {
        let id = self.next_id;
        self.next_id += 1;
        if id > 0 {
            // The tail belongs to one question; what was written during startup belongs to hello.
            self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let mut ask = json!({"id": id});
        if let (Some(ask), Some(rest)) = (ask.as_object_mut(), question.as_object_mut()) {
            ask.append(rest);
        }
        let mut frame = Frame::with(ask, tensors);
        let attached = match self.fit(&mut frame, id) {
            Ok(attached) => attached,
            Err(reply) => {
                // The question was never sent, so its id is still free: ids count up without gaps.
                self.next_id = id;
                return reply;
            }
        };
        if let Some(writer) = &self.writer {
            // A worker that no longer reads shows by its silence or its end.
            let _ = writer.send(frame);
        }
        let reply = self.wait(id, limit);
        if let Some(path) = attached {
            // The reader has deleted the file, unless it never came to read it.
            let _ = std::fs::remove_file(path);
        }
        reply
    }

    /// Makes a question fit into a frame. Returns the file that holds its tensors, if they do not
    /// fit.
    fn fit(&self, frame: &mut Frame, id: u64) -> Result<Option<PathBuf>, Reply> {
        let length = frame.length();
        if length <= self.room || frame.tensors.is_empty() {
            return Ok(None);
        }
        let Some(scratch) = &self.attach else {
            return Err(Reply::TooBig(too_big("the question", length, self.room)));
        };
        let name = format!("question-{}-{id}.safetensors", self.child.id());
        attach::detach(frame, scratch, &name).map_err(|e| Reply::Unsent(e.to_string()))?;
        Ok(Some(scratch.join(name)))
    }

    fn wait(&mut self, id: u64, limit: Duration) -> Reply {
        let deadline = Instant::now() + limit;
        let mut alive = Instant::now();
        let mut exited_at = None;
        loop {
            let now = Instant::now();
            let silent = self.heartbeat.is_some_and(|most| now.duration_since(alive) >= most);
            if now >= deadline || silent {
                return Reply::TimedOut;
            }
            if self.is_stopped() {
                return Reply::Stopped;
            }
            match self.heard.recv_timeout(LOOK.min(deadline - now)) {
                Ok(Heard::Frame(frame)) => {
                    self.pass_on(&frame);
                    let frame = match self.joined(frame, deadline) {
                        Ok(frame) => frame,
                        Err(reply) => return reply,
                    };
                    match RawAnswer::read(id, frame) {
                        Ok(None) => alive = Instant::now(),
                        Ok(Some(answer)) => return Reply::Answer(answer),
                        Err(what) => return Reply::Protocol(legible(&what, SHOWN)),
                    }
                }
                Ok(Heard::Bad(FrameError::Cut { have, want })) => {
                    let how = self.how_it_ended();
                    return Reply::Crashed(format!(
                        "{how}, after {have} of {want} bytes of a frame"
                    ));
                }
                Ok(Heard::Bad(error)) => return Reply::Protocol(self.shown(&error)),
                Ok(Heard::More(_)) => {}
                Ok(Heard::End) | Err(RecvTimeoutError::Disconnected) => {
                    return Reply::Crashed(self.how_it_ended());
                }
                Err(RecvTimeoutError::Timeout) => {
                    // A child left behind may keep stdout open after the worker itself has ended.
                    let ended = matches!(self.child.try_wait(), Ok(Some(_)));
                    match exited_at {
                        None if ended => exited_at = Some(Instant::now()),
                        // A moment of grace, because the last frame may still be in the pipe.
                        Some(at) if Instant::now().duration_since(at) > 10 * LOOK => {
                            return Reply::Crashed(self.how_it_ended());
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// A message with its tensors, whether they came in the frame or by file.
    fn joined(&self, mut frame: Frame, deadline: Instant) -> Result<Frame, Reply> {
        if frame.json.get(attach::KEY).is_none() {
            return Ok(frame);
        }
        let Some(scratch) = self.attach.clone() else {
            let what = "an attachment from a subject whose hello says no `attach`";
            return Err(Reply::Protocol(what.to_owned()));
        };
        let (to, joined) = mpsc::channel();
        // In a thread of its own, because a file system may stop answering and the clock may not.
        thread::spawn(move || {
            let outcome = attach::join(&mut frame, Some(&scratch), MAX_FRAME, Some(deadline));
            frame.tensors = named(std::mem::take(&mut frame.tensors));
            // Nobody waits any longer if it comes too late.
            let _ = to.send(outcome.map(|()| frame));
        });
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match joined.recv_timeout(LOOK.min(left)) {
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(attach::AttachError::Foreign {
                    source: ForeignError::Late { .. }, ..
                })) => {
                    return Err(Reply::TimedOut);
                }
                Ok(Err(error)) => {
                    return Err(Reply::Protocol(legible(&error.to_string(), SHOWN)));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let what = "the thread that reads an attachment ended early";
                    return Err(Reply::Unsent(what.to_owned()));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Reply::TimedOut),
                Err(RecvTimeoutError::Timeout) if self.is_stopped() => return Err(Reply::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::SeqCst))
    }

    /// Forwards the events of later questions to a channel as well.
    pub fn tell(&mut self, events: Sender<Value>) {
        self.events = Some(events);
    }

    fn pass_on(&self, frame: &Frame) {
        if let (Some(events), true) = (&self.events, frame.json["event"].is_string()) {
            // The receiver may have lost interest.
            let _ = events.send(frame.json.clone());
        }
    }

    /// Describes a malformed frame, with the bytes that followed it.
    fn shown(&self, error: &FrameError) -> String {
        let mut text = legible(&error.to_string(), SHOWN);
        // Text read as a length is beyond every limit, so the length itself shows what was printed.
        if let (FrameError::TooLong { length, .. }, Ok(Heard::More(more))) =
            (error, self.heard.recv_timeout(10 * LOOK))
        {
            let bytes = [&length.to_le_bytes()[..], &more].concat();
            let first = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
            text = format!("not a frame, but {first:?}");
        }
        text
    }

    /// Waits briefly for the exit that an ended stream announces, and describes it.
    fn how_it_ended(&mut self) -> String {
        match self.exit_within(GRACE) {
            Some(status) => {
                // The last lines may still be on their way, but a child left behind may hold the
                // pipe.
                let _ = self.drained.recv_timeout(10 * LOOK);
                describe(status)
            }
            None => "closed its stdout".to_owned(),
        }
    }

    fn exit_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }

    /// The tail of what the subject wrote to stderr since the last question, made legible.
    pub fn stderr(&self) -> String {
        let tail = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        legible_lines(&String::from_utf8_lossy(&tail), LINE)
    }

    /// The processes that were not there when the subject was asked and are there after its answer.
    pub fn leak(&mut self) -> Option<String> {
        let new = self.processes.new_ones();
        (!new.is_empty()).then(|| names(&new))
    }

    /// Closes stdin and waits; then sends SIGTERM, then SIGKILL, to all its processes.
    pub fn end(mut self) -> Ended {
        self.writer = None;
        let status = self.exit_within(GRACE);
        let clean = status.is_some_and(|s| s.success());
        let leak = (status.is_some() && self.processes.stay()).then(|| self.processes.names());
        if status.is_none() || leak.is_some() {
            self.kill();
        }
        Ended { clean, leak }
    }

    /// Sends SIGTERM, and after 2 s SIGKILL, to all processes of the subject.
    pub fn kill(&mut self) {
        self.writer = None;
        self.processes.are_left();
        self.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if ended && !self.processes.are_left() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.processes.are_left();
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        // A process that is already gone cannot be signalled, and need not be.
        let _ = kill_process_group(self.group, signal);
        self.processes.signal(signal);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.processes.are_left();
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
