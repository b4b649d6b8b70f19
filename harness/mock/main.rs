//! A subject with one switch a fault: `goldgate-mock FAULT OP`. It answers every op by its
//! definition, except OP, on which it commits FAULT.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::Duration;

use goldgate::subject::serve::Device;
use goldgate::subject::{OpQuestion, serve};
use goldgate::wire::attach;
use goldgate::wire::frame::{Frame, encode, read_frame, write_frame};
use goldgate_engine::Tensor;
use serde_json::{Value, json};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, fault, op] = &arguments[..] else {
        eprintln!("usage: goldgate-mock FAULT OP");
        exit(2);
    };
    let mut mock = Mock { fault: fault.clone(), op: op.clone(), scratch: PathBuf::new() };
    let mut stdin = std::io::stdin().lock();
    while let Ok(Some(mut frame)) = read_frame(&mut stdin, 1 << 30) {
        if let Err(error) = attach::join(&mut frame, Some(&mock.scratch)) {
            eprintln!("{error}");
            exit(4);
        }
        mock.answer(&frame);
    }
}

/// The largest frame of a mock that takes small ones: a question without tensors fits.
const SMALL: u64 = 400;

struct Mock {
    fault: String,
    op: String,
    scratch: PathBuf,
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
        let id = &frame.json["id"];
        match frame.json["call"].as_str() {
            Some("hello") => {
                self.scratch = frame.json["scratch"].as_str().unwrap_or_default().into();
                say(json!({"id": id, "ok": self.hello()}), BTreeMap::new());
            }
            Some("op") if frame.json["op"] == self.op.as_str() => self.commit(frame),
            Some("op") if self.fault == "attach" => self.attach(frame),
            Some("op") => say(json!({"id": id, "ok": {}}), results(frame)),
            _ => say(json!({"id": id, "ok": {}}), BTreeMap::new()),
        }
    }

    fn hello(&self) -> Value {
        let mut hello = serve::Cpu::default().hello().unwrap_or_default();
        hello["subject"] = json!({"name": "mock", "version": "1"});
        if matches!(self.fault.as_str(), "slow" | "no_heartbeat") {
            hello["heartbeat_s"] = json!(0.2);
        }
        if matches!(self.fault.as_str(), "attach" | "small_frames") {
            hello["max_frame"] = json!(SMALL);
        }
        hello["attach"] = json!(self.fault.starts_with("attach"));
        hello
    }

    fn commit(&self, frame: &Frame) {
        let id = frame.json["id"].as_u64().unwrap_or(0);
        let ok = |id: u64| json!({"id": id, "ok": {}});
        match self.fault.as_str() {
            "slow" => {
                for _ in 0..12 {
                    sleep(Duration::from_millis(100));
                    say(json!({"id": id, "event": "alive"}), BTreeMap::new());
                }
                say(ok(id), results(frame));
            }
            "silent" | "no_heartbeat" => sleep(Duration::from_secs(600)),
            "garbage" => raw(&[0xff; 400]),
            "text" => raw(b"Loading checkpoint shards: 100%\n"),
            "half" => {
                raw(&[100, 0, 0, 0, 0, 0, 0, 0, b'{']);
                exit(0);
            }
            "too_long" => raw(&(1u64 << 40).to_le_bytes()),
            "wrong_id" => say(ok(id + 7), results(frame)),
            "out_of_order" => {
                say(ok(id + 1), BTreeMap::new());
                say(ok(id), results(frame));
            }
            "two_answers" => {
                say(ok(id), results(frame));
                say(ok(id), results(frame));
            }
            "unasked" => {
                say(ok(id), results(frame));
                say(json!({"id": 999, "ok": {}}), BTreeMap::new());
            }
            "duplicate_key" => say_text(&format!(r#"{{"id":{id},"id":{id},"ok":{{}}}}"#)),
            "nan_in_json" => say_text(&format!(r#"{{"id":{id},"ok":{{"x":NaN}}}}"#)),
            "two_words" => say(json!({"id": id, "ok": {}, "refused": {}}), results(frame)),
            "missing" => say(ok(id), BTreeMap::new()),
            "wrong_shape" => say(ok(id), results(frame).into_iter().map(turned).collect()),
            "off" => say(ok(id), results(frame).into_iter().map(doubled).collect()),
            "unsupported" => say(json!({"id": id, "unsupported": {"what": "op"}}), BTreeMap::new()),
            "sticky" | "oom" => self.fail(id),
            "exit_0" => exit(0),
            "exit_101" => {
                eprintln!("thread 'main' panicked at the mock's own wish");
                exit(101);
            }
            "late_crash" => {
                say(ok(id), results(frame));
                exit(3);
            }
            "leak" => {
                leave_child();
                say(ok(id), results(frame));
            }
            "flaky" => say(ok(id), self.flaky(frame)),
            "attach" => self.attach(frame),
            "attach_path" => say(attached(id, "../answer.safetensors"), BTreeMap::new()),
            "attach_absent" => say(attached(id, "absent.safetensors"), BTreeMap::new()),
            "unoffered" => say(attached(id, "answer.safetensors"), BTreeMap::new()),
            other => match other.strip_prefix("signal_") {
                Some(signal) => kill_myself(signal),
                None => say(ok(id), results(frame)),
            },
        }
    }

    fn fail(&self, id: u64) {
        let failed = match self.fault.as_str() {
            "oom" => json!({"class": "oom", "sticky": false, "message": "no 4 GiB left"}),
            _ => json!({"class": "device", "sticky": true, "message": "illegal address (700)"}),
        };
        say(json!({"id": id, "failed": failed}), BTreeMap::new());
    }

    /// Answers by file, as small frames demand.
    fn attach(&self, frame: &Frame) {
        let mut reply = Frame::with(json!({"id": frame.json["id"], "ok": {}}), results(frame));
        if attach::detach(&mut reply, &self.scratch, "answer.safetensors").is_err() {
            exit(4);
        }
        say(reply.json, reply.tensors);
    }

    /// Wrong the first time in this scratch folder, right afterwards.
    fn flaky(&self, frame: &Frame) -> BTreeMap<String, Tensor> {
        let mark: &Path = &self.scratch.join("flaky");
        if mark.exists() {
            return results(frame);
        }
        let _ = std::fs::write(mark, "");
        results(frame).into_iter().map(doubled).collect()
    }
}

fn attached(id: u64, name: &str) -> Value {
    json!({"id": id, "ok": {}, "attach": name})
}

fn results(frame: &Frame) -> BTreeMap<String, Tensor> {
    let ask = &frame.json;
    let text = |key: &str| ask[key].as_str().unwrap_or_default();
    let question = OpQuestion {
        op: text("op").to_owned(),
        dtype: text("dtype").parse().unwrap_or(goldgate_engine::DType::F32),
        attributes: ask["attr"].as_object().cloned().unwrap_or_default(),
        tensors: frame.tensors.clone(),
        alias: BTreeMap::new(),
    };
    serve::Cpu::default().op(&question).map(|a| a.results).unwrap_or_default()
}

fn turned((name, mut tensor): (String, Tensor)) -> (String, Tensor) {
    tensor.meta.shape.push(1);
    (name, tensor)
}

fn doubled((name, tensor): (String, Tensor)) -> (String, Tensor) {
    let values: Vec<f64> = tensor.to_f64().into_iter().map(|x| 2.0 * x + 1.0).collect();
    (name, Tensor::from_f64(tensor.meta.dtype, &tensor.meta.shape, &values))
}

fn leave_child() {
    let pipes = || Stdio::null();
    let child =
        Command::new("sleep").arg("30").stdin(pipes()).stdout(pipes()).stderr(pipes()).spawn();
    // The child is left behind on purpose.
    std::mem::forget(child);
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
