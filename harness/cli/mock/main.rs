//! A subject with one switch per fault: `goldgate-mock FAULT TARGET [ARGUMENTS]`. TARGET is an op
//! or a call of the wire. Every question goes to a worker of our own engine on the CPU, and its
//! answer comes back unchanged; on TARGET the mock commits FAULT instead. Further arguments are
//! ignored, so that a script can put the mock in the place of our own program.

mod drawing;
mod misbehaving;
mod rounding;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio, exit};
use std::thread::sleep;
use std::time::Duration;

use goldgate_tensor::Tensor;
use goldgate_wire::attach;
use goldgate_wire::frame::{Frame, encode, read_frame, write_frame};
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, fault, target, ..] = &arguments[..] else {
        eprintln!("usage: goldgate-mock FAULT TARGET");
        exit(2);
    };
    if fault == misbehaving::STAYS {
        misbehaving::stay(target);
    }
    if fault == "absent" {
        eprintln!("the mock does not start");
        exit(9);
    }
    let behind = Behind::start();
    let mut mock =
        Mock { fault: fault.clone(), target: target.clone(), scratch: PathBuf::new(), behind };
    let mut stdin = std::io::stdin().lock();
    while let Ok(Some(mut frame)) = read_frame(&mut stdin, LARGEST) {
        if let Err(error) = attach::join(&mut frame, Some(&mock.scratch), LARGEST, None) {
            eprintln!("{error}");
            exit(4);
        }
        // Its tensors are in the frame now.
        frame.json.as_object_mut().map(|fields| fields.remove("attach"));
        mock.answer(&frame);
    }
    if mock.fault == "late_leak" {
        misbehaving::leave("leak_session");
    }
    mock.behind.end();
}

/// The largest frame between the mock and the worker behind it.
const LARGEST: u64 = 1 << 30;

/// The largest frame of a mock that takes small ones: a question without tensors fits.
const SMALL: u64 = 400;

/// The worker that answers what the mock passes on.
struct Behind {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Behind {
    /// Starts our own program, which is built next to the mock.
    fn start() -> Behind {
        let program = std::env::current_exe().map(|path| path.with_file_name("goldgate"));
        let mut command = Command::new(program.unwrap_or_default());
        command.args(["worker", "--on", "cpu"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: it is no child of the mock's that could be taken for a leak.
        let started = command.process_group(0).spawn();
        let taken = started.ok().and_then(|mut child| {
            let pipes = (child.stdin.take(), child.stdout.take());
            let (Some(questions), Some(answers)) = pipes else { return None };
            Some(Behind { child, questions, answers })
        });
        taken.unwrap_or_else(|| {
            eprintln!("no worker behind the mock");
            exit(4);
        })
    }

    /// Passes a question on and returns its answer, without the events before it.
    fn ask(&mut self, frame: &Frame) -> Frame {
        let sent = write_frame(&mut self.questions, frame);
        loop {
            match read_frame(&mut self.answers, LARGEST) {
                Ok(Some(answer)) if sent.is_ok() => {
                    if !answer.json["event"].is_string() {
                        return answer;
                    }
                }
                _ => {
                    eprintln!("the worker behind the mock has ended");
                    exit(4);
                }
            }
        }
    }

    /// Closes its stdin and waits, so that nothing outlives the mock.
    fn end(self) {
        let Behind { mut child, questions, answers } = self;
        drop((questions, answers));
        let _ = child.wait();
    }
}

struct Mock {
    fault: String,
    target: String,
    scratch: PathBuf,
    behind: Behind,
}

fn raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // A harness that no longer listens has made up its mind.
    let _ = stdout.write_all(bytes);
    let _ = stdout.flush();
}

fn say(json: Value, tensors: BTreeMap<String, Tensor>) {
    let _ = write_frame(&mut std::io::stdout().lock(), &Frame::with(json, tensors));
}

/// A frame whose JSON is this text, valid or not.
fn say_text(text: &str) {
    let notes = BTreeMap::from([("goldgate".to_owned(), text.to_owned())]);
    let bytes = encode(&notes, &BTreeMap::new());
    raw(&[&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat());
}

impl Mock {
    fn answer(&mut self, frame: &Frame) {
        let call = frame.json["call"].as_str().unwrap_or_default();
        // What a card can do at best is measured by `bench` too, and is no bench.
        let is_target = call == self.target && frame.json["copy"].is_null()
            || call == "op" && frame.json["op"] == *self.target;
        match call {
            "hello" => {
                self.scratch = frame.json["scratch"].as_str().unwrap_or_default().into();
                if self.fault == "hangs_after_crash" && self.was_here() {
                    sleep(Duration::from_secs(600));
                }
                let mut answer = self.behind.ask(frame);
                self.hello(&mut answer.json["ok"]);
                say(answer.json, answer.tensors);
                if self.fault == "deaf" {
                    sleep(Duration::from_secs(600));
                }
            }
            "op" if rounding::is_one(&self.fault) => {
                let tensors = rounding::rounded(&self.fault, &frame.tensors);
                let answer = self.behind.ask(&Frame::with(frame.json.clone(), tensors));
                say(answer.json, rounding::scaled(&self.fault, answer.tensors));
            }
            _ if is_target => self.commit(frame),
            "op" if self.fault == "attach" => self.attach(frame),
            _ => self.pass_on(frame),
        }
    }

    fn pass_on(&mut self, frame: &Frame) {
        // The worker is on the CPU, where nothing is timed.
        if frame.json["call"] == "bench" {
            let us = Tensor::from_f64(goldgate_tensor::DType::F32, &[5], &[3.0; 5]);
            let ok = json!({"bytes": 1e6, "flops": 1e6, "copy_gb_s": 1e3, "read_gb_s": 1e3});
            let tensors = BTreeMap::from([("us".to_owned(), us)]);
            return say(json!({"id": frame.json["id"], "ok": ok}), tensors);
        }
        let answer = self.behind.ask(frame);
        say(answer.json, answer.tensors);
    }

    /// What the worker says of itself, under the mock's name and with the features of its fault.
    fn hello(&self, hello: &mut Value) {
        hello["subject"] = json!({"name": "mock", "version": "1"});
        if matches!(self.fault.as_str(), "slow" | "no_heartbeat") {
            hello["heartbeat_s"] = json!(0.2);
        }
        if matches!(self.fault.as_str(), "attach" | "small_frames") {
            hello["max_frame"] = json!(SMALL);
        }
        if self.fault == "endless_heartbeat" {
            hello["heartbeat_s"] = json!(1e300);
        }
        if self.fault == "evil_hello" {
            hello["subject"]["version"] = json!(misbehaving::EVIL);
        }
        if drawing::is_one(&self.fault) {
            drawing::disown(&self.fault, hello);
        }
        hello["attach"] = json!(self.fault.starts_with("attach"));
        if self.fault == "changed" && self.was_here() {
            hello["subject"]["version"] = json!("2");
        }
        if let Some(calls) = hello["calls"].as_array_mut() {
            calls.push("bench".into());
        }
    }

    /// Whether this is not the first time that something asks in this scratch folder.
    fn was_here(&self) -> bool {
        let mark: &Path = &self.scratch.join("mock-was-here");
        let was = mark.exists();
        // Where it cannot be written, the fault shows nothing and its test fails.
        let _ = std::fs::write(mark, "");
        was
    }

    fn commit(&mut self, frame: &Frame) {
        let id = frame.json["id"].as_u64().unwrap_or(0);
        let ok = |id: u64| json!({"id": id, "ok": {}});
        match self.fault.as_str() {
            "slow" => {
                for _ in 0..12 {
                    sleep(Duration::from_millis(100));
                    say(json!({"id": id, "event": "alive"}), BTreeMap::new());
                }
                self.pass_on(frame);
            }
            "silent" | "no_heartbeat" => sleep(Duration::from_secs(600)),
            "garbage" => raw(&[0xff; 400]),
            "text" => raw(b"Loading checkpoint shards: 100%\n"),
            "half" => {
                raw(&[100, 0, 0, 0, 0, 0, 0, 0, b'{']);
                exit(0);
            }
            "too_long" => raw(&(1u64 << 40).to_le_bytes()),
            "wrong_id" => say(ok(id + 7), BTreeMap::new()),
            "out_of_order" => {
                say(ok(id + 1), BTreeMap::new());
                self.pass_on(frame);
            }
            "two_answers" => {
                self.pass_on(frame);
                say(ok(id), BTreeMap::new());
            }
            "unasked" => {
                self.pass_on(frame);
                say(json!({"id": 999, "ok": {}}), BTreeMap::new());
            }
            "duplicate_key" | "nan_in_json" | "two_words" => self.two_meanings(id),
            "missing" => say(ok(id), BTreeMap::new()),
            "own_draws" | "own_draws_only" => self.pass_on(&drawing::reseed(frame)),
            "one_token" | "one_token_only" => self.changed(frame, drawing::flatten),
            "wrong_shape" => self.changed(frame, turned),
            "off" => self.changed(frame, doubled),
            "refuses" => {
                let what = json!({"kind": "NotSupported", "operand": "x", "message": "no"});
                say(json!({"id": id, "refused": what}), BTreeMap::new());
            }
            "unsupported" => say(json!({"id": id, "unsupported": {"what": "op"}}), BTreeMap::new()),
            "sticky" | "oom" | "device" | "internal" | "nondeterministic" => self.fail(id),
            "changed" => {
                eprintln!("the mock comes back as somebody else");
                exit(7);
            }
            "exit_0" => exit(0),
            "exit_101" => panicked(),
            "late_crash" => {
                self.pass_on(frame);
                exit(3);
            }
            "flaky" if self.was_here() => self.pass_on(frame),
            "flaky" => say(json!({"id": id, "failed": {"class": "internal"}}), BTreeMap::new()),
            "attach" => self.attach(frame),
            "attach_path" => say(attached(id, "../answer.safetensors"), BTreeMap::new()),
            "attach_absent" => say(attached(id, "absent.safetensors"), BTreeMap::new()),
            "unoffered" => say(attached(id, "answer.safetensors"), BTreeMap::new()),
            _ => self.misbehave(frame, id),
        }
    }

    /// Faults that no honest subject could have.
    fn misbehave(&mut self, frame: &Frame, id: u64) {
        match self.fault.as_str() {
            "hangs_after_crash" => exit(7),
            "evil_stderr" => {
                eprintln!("{}", misbehaving::EVIL);
                exit(101);
            }
            "evil_tensor" => self.changed(frame, |(_, t)| (misbehaving::EVIL.to_owned(), t)),
            "stderr_flood" => {
                (0..1 << 16).for_each(|_| eprintln!("{}", "e".repeat(1 << 10)));
                self.pass_on(frame);
            }
            "huge_message" => say_text(&"m".repeat(100 << 20)),
            "surrogate" => {
                say_text(&format!(r#"{{"id":{id},"failed":{{"class":"\ud800"}}}}"#));
            }
            "chatters" => {
                self.pass_on(frame);
                loop {
                    say(json!({"id": id + 1, "event": "alive"}), BTreeMap::new());
                }
            }
            "no_stdout" => misbehaving::close_stdout(),
            fault => {
                if let Some(signal) = fault.strip_prefix("signal_") {
                    kill_myself(signal);
                } else if misbehaving::attach(fault, &self.scratch) {
                    say(attached(id, misbehaving::NAME), BTreeMap::new());
                } else if let Some(message) = misbehaving::words(fault, id) {
                    say(message, BTreeMap::new());
                } else {
                    misbehaving::leave(fault);
                    self.pass_on(frame);
                }
            }
        }
    }

    /// JSON that means two things, or nothing.
    fn two_meanings(&self, id: u64) {
        match self.fault.as_str() {
            "duplicate_key" => say_text(&format!(r#"{{"id":{id},"id":{id},"ok":{{}}}}"#)),
            "nan_in_json" => say_text(&format!(r#"{{"id":{id},"ok":{{"x":NaN}}}}"#)),
            _ => say(json!({"id": id, "ok": {}, "refused": {}}), BTreeMap::new()),
        }
    }

    /// The right answer with each of its tensors changed.
    fn changed(&mut self, frame: &Frame, change: fn((String, Tensor)) -> (String, Tensor)) {
        let answer = self.behind.ask(frame);
        say(answer.json, answer.tensors.into_iter().map(change).collect());
    }

    fn fail(&self, id: u64) {
        let failed = match self.fault.as_str() {
            "oom" => json!({"class": "oom", "sticky": false, "message": "no 4 GiB left"}),
            "sticky" => {
                json!({"class": "device", "sticky": true, "message": "illegal address (700)"})
            }
            class => json!({"class": class, "sticky": false, "message": "at the mock's own wish"}),
        };
        say(json!({"id": id, "failed": failed}), BTreeMap::new());
    }

    /// Answers by file, as small frames demand.
    fn attach(&mut self, frame: &Frame) {
        let mut reply = self.behind.ask(frame);
        if attach::detach(&mut reply, &self.scratch, "answer.safetensors").is_err() {
            exit(4);
        }
        say(reply.json, reply.tensors);
    }
}

fn panicked() -> ! {
    eprintln!("thread 'main' panicked at the mock's own wish");
    exit(101);
}

fn attached(id: u64, name: &str) -> Value {
    json!({"id": id, "ok": {}, "attach": name})
}

fn turned((name, mut tensor): (String, Tensor)) -> (String, Tensor) {
    tensor.meta.shape.push(1);
    (name, tensor)
}

/// Other numbers of the same type and shape; bytes and ids are moved by one.
fn doubled((name, tensor): (String, Tensor)) -> (String, Tensor) {
    let (meta, shape) = (tensor.meta.dtype, tensor.meta.shape.clone());
    if meta == goldgate_tensor::DType::I32 {
        let ids: Vec<i32> = tensor.to_i32().into_iter().map(|id| id ^ 1).collect();
        return (name, Tensor::from_i32(&shape, &ids));
    }
    if meta == goldgate_tensor::DType::U8 {
        let bytes = tensor.bytes.iter().map(|b| b ^ 1).collect();
        return (name, Tensor { meta: tensor.meta, bytes });
    }
    let values: Vec<f64> = tensor.to_f64().into_iter().map(|x| 2.0 * x + 1.0).collect();
    (name, Tensor::from_f64(meta, &shape, &values))
}

fn kill_myself(signal: &str) {
    let me = std::process::id().to_string();
    // The runtime's own handler takes the first fault signal and restores the system's.
    for _ in 0..2 {
        let _ = Command::new("kill").args([&format!("-{signal}"), &me]).status();
    }
    // Whatever does not kill waits here for its supervisor.
    let mut rest = Vec::new();
    let _ = std::io::stdin().lock().read_to_end(&mut rest);
}
