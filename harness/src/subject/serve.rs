//! The other side of the wire: the loop of `goldgate worker`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use goldgate_engine::cuda::Card;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::{DType, Tensor, session::Place};
use serde_json::{Map, Value, json};

use crate::execution::Observed;
use crate::subject::allocator::Counting;
use crate::subject::hello::{FIRST_FRAME, MAX_FRAME, SEQUENCES};
use crate::subject::inspect::{Inspected, refusal};
use crate::subject::models::{self, Models, Tell};
use crate::subject::text::Shelf;
use crate::subject::{OpQuestion, layers, perfect};
use crate::wire::attach::{self, AttachError};
use crate::wire::frame::{Frame, FrameError, read_frame, write_frame};

/// What answers behind a worker's wire.
pub trait Device {
    /// The `ok` of hello.
    ///
    /// # Errors
    /// Why there is nothing here to ask: class and message.
    fn hello(&self) -> Result<Value, Trouble>;

    /// Answers one question.
    ///
    /// # Errors
    /// Why there is no answer.
    fn op(&mut self, question: &OpQuestion) -> Result<Answer, NoAnswer>;

    /// Times one question.
    ///
    /// # Errors
    /// Why there is no answer.
    fn bench(&mut self, _question: &OpQuestion, _settings: &Bench) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Unsupported("bench".to_owned()))
    }

    /// A check of the subject as a whole (`layer::…`, `fault::…`, `streams::…`); what does not
    /// hold, in words.
    ///
    /// # Errors
    /// A check that is not offered.
    fn check(&mut self, stem: &str, case: &str) -> Result<Option<String>, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("check {stem}::{case}")))
    }

    /// `tokenize` and `detokenize`.
    ///
    /// # Errors
    /// Why there is no answer.
    fn text(&mut self, ask: &Value, _: &BTreeMap<String, Tensor>) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("call {}", ask["call"])))
    }

    /// One of [`models::CALLS`]; what comes before the answer goes to `tell`.
    ///
    /// # Errors
    /// Why there is no answer.
    fn model(
        &mut self,
        ask: &Value,
        _: &BTreeMap<String, Tensor>,
        _tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        Err(NoAnswer::Unsupported(format!("call {}", ask["call"])))
    }

    /// The `ok` of memory, if it can tell.
    fn memory(&self) -> Option<Value> {
        None
    }

    /// The card whose figures foretell what `load` takes; without one of its own, the H200's.
    fn card(&self) -> Card {
        Card::h200()
    }
}

/// Results by name, what was observed, and further fields of `ok`.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Results by name.
    pub results: BTreeMap<String, Tensor>,
    /// What was observed.
    pub observed: Observed,
    /// Further fields of `ok`.
    pub fields: Map<String, Value>,
}

/// It tried and could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `oom device io cancelled bad_request internal nondeterministic`.
    pub class: &'static str,
    /// Whether every later question in this process would fail too.
    pub sticky: bool,
    /// In words.
    pub message: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The question is malformed.
    Refused(Refusal),
    /// A file is.
    File(Box<goldgate_engine::weights::Malformed>),
    /// A fair question that is not offered.
    Unsupported(String),
    /// It tried and could not.
    Failed(Trouble),
}

impl From<Refusal> for NoAnswer {
    fn from(refusal: Refusal) -> NoAnswer {
        NoAnswer::Refused(refusal)
    }
}

/// How a bench is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bench {
    /// Runs that are not counted.
    pub warmup: u32,
    /// Runs that are.
    pub iterations: u32,
    /// Whether the level-2 cache is flushed in between.
    pub flush_l2: bool,
    /// Bytes to copy and read in place of an op: the card's own limits.
    pub copy: Option<u64>,
}

/// Answers questions until the stream ends.
///
/// # Errors
/// A stream that fails, or something on it that is not the wire.
pub fn serve(
    mut input: impl Read,
    mut output: impl Write,
    device: &mut dyn Device,
) -> Result<(), FrameError> {
    let mut link = Link { scratch: None, room: FIRST_FRAME };
    while let Some(mut frame) = read_frame(&mut input, MAX_FRAME)? {
        let id = frame.json["id"].clone();
        if frame.json["call"] == "hello" {
            link.learn(&frame.json);
        }
        let (mut reply, last) = match attach::join(&mut frame, link.scratch.as_deref()) {
            Ok(()) => {
                let mut lost = None;
                let mut tell = |mut event: Value| {
                    event["id"] = id.clone();
                    if let Err(error) = write_frame(&mut output, &Frame::new(event)) {
                        lost = Some(error);
                    }
                };
                let answer = answer(&frame, device, &mut tell);
                if let Some(error) = lost {
                    return Err(error);
                }
                answer
            }
            Err(error) => (failed(&broken(&error)), false),
        };
        reply.json["id"] = id.clone();
        if let Err(error) = link.fit(&mut reply) {
            reply = failed(&broken(&error));
            reply.json["id"] = id;
        }
        write_frame(&mut output, &reply)?;
        if last {
            break;
        }
    }
    Ok(())
}

/// What hello said of the way back.
struct Link {
    scratch: Option<PathBuf>,
    room: u64,
}

impl Link {
    fn learn(&mut self, hello: &Value) {
        let scratch = hello["scratch"].as_str().filter(|s| !s.is_empty());
        self.scratch = scratch.map(PathBuf::from);
        self.room = hello["max_frame"].as_u64().unwrap_or(MAX_FRAME).min(MAX_FRAME);
    }

    /// Puts the tensors of a reply that no frame holds into the scratch folder.
    fn fit(&self, reply: &mut Frame) -> Result<(), AttachError> {
        // JSON alone is short, and goes as it is.
        if reply.tensors.is_empty() || reply.length() <= self.room {
            return Ok(());
        }
        let name = format!("answer-{}-{}.safetensors", std::process::id(), reply.json["id"]);
        let scratch = self.scratch.as_deref().ok_or(AttachError::NoScratch)?;
        attach::detach(reply, scratch, &name)
    }
}

fn broken(error: &AttachError) -> Trouble {
    let class = match error {
        AttachError::Io { .. } => "io",
        _ => "bad_request",
    };
    Trouble { class, sticky: false, message: error.to_string() }
}

/// The reply without its id, and whether it is the last one.
fn answer(frame: &Frame, device: &mut dyn Device, tell: Tell<'_>) -> (Frame, bool) {
    let ask = &frame.json;
    match ask["call"].as_str() {
        Some("hello") => {
            let speaks = ask["wire"].as_array().is_some_and(|v| v.iter().any(|v| v == 1));
            if !speaks {
                let message = format!("speaks wire 1, was asked for {}", ask["wire"]);
                return (failed(&Trouble { class: "bad_request", sticky: true, message }), true);
            }
            match device.hello() {
                Ok(ok) => (Frame::new(json!({ "ok": ok })), false),
                Err(trouble) => (failed(&trouble), true),
            }
        }
        Some("ping") => (Frame::new(json!({"ok": {}})), false),
        Some("memory") => match device.memory() {
            Some(ok) => (Frame::new(json!({ "ok": ok })), false),
            None => (unsupported("memory"), false),
        },
        Some("op") => (said(question(frame).and_then(|q| device.op(&q))), false),
        Some("bench") if ask["model"].is_u64() => {
            (said(device.model(ask, &frame.tensors, tell)), false)
        }
        Some("bench") => (said(bench(frame, device)), false),
        Some("check") => (checked(ask, device), false),
        Some("inspect") => (inspected(ask, &device.card()), false),
        Some("tokenize" | "detokenize") => (said(device.text(ask, &frame.tensors)), false),
        Some(call) if models::CALLS.contains(&call) => {
            (said(device.model(ask, &frame.tensors, tell)), false)
        }
        Some(call) => (unsupported(&format!("call {call}")), false),
        None => {
            let message = "a question without a call".to_owned();
            (failed(&Trouble { class: "bad_request", sticky: false, message }), false)
        }
    }
}

/// A model file, without a device: what it took to read is counted.
fn inspected(ask: &Value, card: &Card) -> Frame {
    let Some(path) = ask["path"].as_str() else {
        let message = "inspect without a path".to_owned();
        return failed(&Trouble { class: "bad_request", sticky: false, message });
    };
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = clock();
    Counting::begin();
    let opened = Inspected::open(Path::new(path));
    let asked = Counting::end();
    let after = clock();
    let us = (after.tv_sec - before.tv_sec) * 1_000_000 + (after.tv_nsec - before.tv_nsec) / 1000;
    let observed = Observed {
        largest_request: asked.map(|a| a.largest_request),
        peak_bytes: asked.map(|a| a.peak_bytes),
        cpu_us: u64::try_from(us).ok(),
        ..Observed::default()
    };
    let (key, mut said) = match &opened {
        Ok(whole) => {
            let mut facts = whole.facts();
            if !ask["context"].is_null() {
                match whole.need(card, ask) {
                    Ok(need) => facts["need"] = need,
                    Err(no_answer) => return self::said(Err(no_answer)),
                }
            }
            ("ok", facts)
        }
        Err(malformed) => ("refused", refusal(malformed)),
    };
    said["observed"] = json!(observed);
    Frame::new(json!({ key: said }))
}

fn checked(ask: &Value, device: &mut dyn Device) -> Frame {
    let word = |key: &str| ask[key].as_str().unwrap_or_default();
    match device.check(word("stem"), word("case")) {
        Ok(None) => Frame::new(json!({"ok": {"holds": true}})),
        Ok(Some(why)) => Frame::new(json!({"ok": {"holds": false, "why": why}})),
        Err(no_answer) => said(Err(no_answer)),
    }
}

fn bench(frame: &Frame, device: &mut dyn Device) -> Result<Answer, NoAnswer> {
    let number = |key: &str, default: u64| frame.json[key].as_u64().unwrap_or(default);
    let settings = Bench {
        warmup: u32::try_from(number("warmup", 3)).unwrap_or(u32::MAX),
        iterations: u32::try_from(number("iterations", 20)).unwrap_or(u32::MAX),
        flush_l2: frame.json["flush_l2"].as_bool().unwrap_or(true),
        copy: frame.json["copy"].as_u64(),
    };
    let question = match settings.copy {
        Some(_) => OpQuestion::none(),
        None => question(frame)?,
    };
    device.bench(&question, &settings)
}

fn question(frame: &Frame) -> Result<OpQuestion, NoAnswer> {
    let ask = &frame.json;
    let bad = |message: String| {
        NoAnswer::Failed(Trouble { class: "bad_request", sticky: false, message })
    };
    let text = |key: &str| {
        ask[key].as_str().ok_or_else(|| bad(format!("{key} is {}, wants a word", ask[key])))
    };
    let dtype = text("dtype")?;
    let dtype: DType = dtype.parse().map_err(|_| {
        Refusal::new(RefusalKind::TypeUnsupported, "dtype", format!("{dtype} is no stored type"))
    })?;
    let attributes = match &ask["attr"] {
        Value::Null => Map::new(),
        Value::Object(map) => map.clone(),
        other => return Err(bad(format!("attr is {other}, wants an object"))),
    };
    let alias = match &ask["alias"] {
        Value::Null => BTreeMap::new(),
        other => serde_json::from_value(other.clone()).map_err(|e| bad(format!("alias: {e}")))?,
    };
    let op = text("op")?.to_owned();
    Ok(OpQuestion { op, dtype, attributes, tensors: frame.tensors.clone(), alias })
}

fn said(answer: Result<Answer, NoAnswer>) -> Frame {
    match answer {
        Ok(Answer { results, observed, fields: mut ok }) => {
            if observed != Observed::default() {
                ok.insert("observed".to_owned(), json!(observed));
            }
            Frame::with(json!({ "ok": ok }), results)
        }
        Err(NoAnswer::Refused(r)) => Frame::new(json!({"refused": {
            "kind": r.kind.name(), "operand": r.operand, "message": r.message }})),
        Err(NoAnswer::File(m)) => Frame::new(json!({"refused": {
            "kind": RefusalKind::Malformed.name(), "operand": m.field, "message": m.to_string(),
            "code": m.code.to_string(), "file": m.file.display().to_string(), "offset": m.offset,
            "field": m.field, "found": m.found, "expected": m.expected }})),
        Err(NoAnswer::Unsupported(what)) => unsupported(&what),
        Err(NoAnswer::Failed(trouble)) => failed(&trouble),
    }
}

fn unsupported(what: &str) -> Frame {
    Frame::new(json!({"unsupported": {"what": what}}))
}

fn failed(trouble: &Trouble) -> Frame {
    let Trouble { class, sticky, message } = trouble;
    Frame::new(json!({"failed": {"class": class, "sticky": sticky, "message": message}}))
}

/// The fields of hello that every worker of ours has.
pub fn hello_of_ours(device: &Value, calls: &[&str], observes: &[&str]) -> Value {
    json!({
        "wire": 1,
        "subject": {
            "name": "goldgate-engine",
            "version": env!("CARGO_PKG_VERSION"),
            "build": crate::report::provenance::build(),
        },
        "device": device,
        "calls": calls,
        "ops": perfect::offers(),
        "max_frame": MAX_FRAME,
        "attach": true,
        "formats": ["gguf", "safetensors", "tokenizer.json"],
        "architectures": ["gpt2", "llama", "qwen2"],
        "trace_mode": ["as_run", "unfused", "local"],
        (SEQUENCES): goldgate_engine::batch::MOST,
        "claims": ["run", "process", "batch", "chunk"],
        "observes": observes,
    })
}

/// What the CPU answers.
const CALLS: &[&str] = &["check", "detokenize", "inspect", "memory", "op", "tokenize"];

/// The definitions of our engine.
#[derive(Debug, Default)]
pub struct Cpu {
    shelf: Shelf,
    models: Models,
}

impl Device for Cpu {
    fn hello(&self) -> Result<Value, Trouble> {
        let calls = [CALLS, models::CALLS].concat();
        Ok(hello_of_ours(&json!({"kind": "cpu"}), &calls, &["memory"]))
    }

    fn op(&mut self, question: &OpQuestion) -> Result<Answer, NoAnswer> {
        match perfect::define(question) {
            None => Err(NoAnswer::Unsupported(format!("op {}", question.op))),
            Some(answer) => Ok(Answer { results: answer?, ..Answer::default() }),
        }
    }

    fn check(&mut self, stem: &str, case: &str) -> Result<Option<String>, NoAnswer> {
        match stem {
            "fault" => Ok(layers::faults(self, case).err()),
            "layer" => Ok(layers::on_cpu(case).err()),
            _ => Err(NoAnswer::Unsupported(format!("check {stem}::{case}"))),
        }
    }

    fn text(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Answer, NoAnswer> {
        self.shelf.answer(ask, tensors)
    }

    fn model(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        self.models.answer(&mut Place::Cpu, ask, tensors, tell)
    }

    fn memory(&self) -> Option<Value> {
        Some(json!({ "host_rss": resident()? }))
    }
}

/// Bytes of memory that this process holds, where the system says so.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|k| k << 10)
}

/// A card that is not there: hello says why.
#[derive(Clone, Debug)]
pub struct NoDevice(pub String);

impl Device for NoDevice {
    fn hello(&self) -> Result<Value, Trouble> {
        Err(Trouble { class: "device", sticky: true, message: self.0.clone() })
    }

    fn op(&mut self, _question: &OpQuestion) -> Result<Answer, NoAnswer> {
        self.hello().map(|_| Answer::default()).map_err(NoAnswer::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question by file, to a worker whose answers fit into no frame either.
    #[test]
    fn large_tensors_travel_by_file_both_ways() {
        let scratch = tempfile::tempdir().expect("a folder");
        let hello = json!({"id": 0, "call": "hello", "wire": [1], "max_frame": 200,
                           "scratch": scratch.path().display().to_string()});
        let half = Tensor::from_f64(DType::F32, &[8, 16], &[0.5; 128]);
        let tensors = BTreeMap::from([("a".to_owned(), half.clone()), ("b".to_owned(), half)]);
        let ask = json!({"id": 1, "call": "op", "op": "residual", "dtype": "f32", "attr": {}});
        let mut question = Frame::with(ask, tensors);
        attach::detach(&mut question, scratch.path(), "q.safetensors").expect("written");
        let absent = Frame::new(json!({"id": 2, "call": "op", "attach": "q.safetensors"}));
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for frame in [&Frame::new(hello), &question, &absent] {
            write_frame(&mut input, frame).expect("written");
        }
        serve(&input[..], &mut output, &mut Cpu::default()).expect("served");

        let mut output = &output[..];
        let mut heard = || read_frame(&mut output, MAX_FRAME).expect("whole").expect("an answer");
        assert_eq!(heard().json["ok"]["attach"], true);
        let mut answer = heard();
        assert!(answer.json["ok"].is_object() && answer.tensors.is_empty(), "{}", answer.json);
        attach::join(&mut answer, Some(scratch.path())).expect("read");
        let ones = Tensor::from_f64(DType::F32, &[8, 16], &[1.0; 128]);
        assert_eq!(answer.tensors["y"], ones);
        let failed = &heard().json["failed"];
        assert_eq!((&failed["class"], &failed["sticky"]), (&json!("io"), &json!(false)));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    }
}
