//! The subject's side of the wire: the loop of `goldgate worker`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use goldgate_engine::cuda::Card;
use serde_json::{Value, json};

use crate::allocator::Counting;
use crate::device::{Device, NoAnswer, Tell, Trouble, refused, typed};
use crate::inspect::Inspected;
use crate::models;
use goldgate_engine::foreign::LARGEST_WHOLE;
use goldgate_wire::answer::{Answer as Reply, Refused};
use goldgate_wire::attach::{self, AttachError};
use goldgate_wire::call::{
    BenchCopy, BenchOp, Check, Detokenize, Hello, Inspect, Inspected as Facts, Memory, Op, Ping,
    Tokenize,
};
use goldgate_wire::frame::{Frame, FrameError, read_frame, write_frame};
use goldgate_wire::hello::{FIRST_FRAME, MAX_FRAME};
use goldgate_wire::{Call, Event, Observed};

/// Answers questions until the stream ends.
///
/// # Errors
/// The stream fails, or does not follow the wire protocol.
pub fn serve(
    mut input: impl Read,
    mut output: impl Write,
    device: &mut dyn Device,
) -> Result<(), FrameError> {
    // Before hello an answer is limited to the size of a first frame.
    let mut link = Link { scratch: None, room: FIRST_FRAME };
    while let Some(mut frame) = read_frame(&mut input, MAX_FRAME)? {
        let id = frame.json["id"].clone();
        if frame.json["call"] == Hello::NAME {
            // Before the question is read: its tensors may be in the scratch folder that it names.
            link.learn(&frame.json);
        }
        let (reply, last) =
            match attach::join(&mut frame, link.scratch.as_deref(), LARGEST_WHOLE, None) {
                Ok(()) => {
                    let mut lost = None;
                    // A device cannot stop its work for an event that was not sent, so the error is
                    // kept until it ends.
                    let mut tell = |event: Event| {
                        if let Err(error) = write_frame(&mut output, &numbered(event.json(), &id)) {
                            lost = Some(error);
                        }
                    };
                    let answer = answer(frame, device, &mut tell);
                    if let Some(error) = lost {
                        return Err(error);
                    }
                    answer
                }
                Err(error) => (broken(&error).into(), false),
            };
        let mut message = reply.frame();
        message.json["id"] = id.clone();
        // An answer that cannot be sent becomes a failure of its question, so that none stays open.
        if let Err(error) = link.fit(&mut message) {
            message = Reply::from(broken(&error)).frame();
            message.json["id"] = id;
        }
        write_frame(&mut output, &message)?;
        // After a failed hello no question can follow.
        if last {
            break;
        }
    }
    Ok(())
}

/// A message without tensors, with its id.
fn numbered(mut json: Value, id: &Value) -> Frame {
    json["id"] = id.clone();
    Frame::new(json)
}

/// What hello stated about the way back to the harness.
struct Link {
    scratch: Option<PathBuf>,
    room: u64,
}

impl Link {
    fn learn(&mut self, question: &Value) {
        // A malformed hello is answered as such; until then the way back is unknown.
        let hello = Hello::read(question, Default::default()).unwrap_or_default();
        self.scratch = hello.scratch.map(PathBuf::from);
        self.room = hello.max_frame.unwrap_or(MAX_FRAME).min(MAX_FRAME);
    }

    /// Moves the tensors of a reply that does not fit into a frame into the scratch folder.
    fn fit(&self, reply: &mut Frame) -> Result<(), AttachError> {
        // JSON alone is short, so it is sent as it is.
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
        AttachError::Io { .. } | AttachError::Foreign { .. } => "io",
        _ => "bad_request",
    };
    Trouble { class, sticky: false, message: error.to_string() }
}

/// The reply, and whether it is the last one.
fn answer(frame: Frame, device: &mut dyn Device, tell: Tell<'_>) -> (Reply, bool) {
    let Frame { json: ask, tensors } = frame;
    let Some(call) = ask["call"].as_str() else {
        return (NoAnswer::bad_request("a question without a call").into(), false);
    };
    let answer = match call {
        Hello::NAME => return greeted(&ask, device),
        Inspect::NAME => return (inspected(&ask, &device.card()), false),
        Ping::NAME => typed(&ask, tensors, |Ping| Ok(())),
        Memory::NAME => typed(&ask, tensors, |Memory| {
            device.memory().ok_or_else(|| NoAnswer::Unsupported(Memory::NAME.to_owned()))
        }),
        Op::NAME => typed(&ask, tensors, |op: &Op| device.op(op)),
        // The fields decide which of the three forms of `bench` is meant.
        BenchOp::NAME if ask["model"].is_u64() => device.model(&ask, &tensors, tell),
        BenchOp::NAME if ask["copy"].is_u64() => {
            typed(&ask, tensors, |card: &BenchCopy| device.limits(card))
        }
        BenchOp::NAME => typed(&ask, tensors, |op: &BenchOp| device.bench(op)),
        Check::NAME => typed(&ask, tensors, |check: &Check| device.check(check)),
        Tokenize::NAME => typed(&ask, tensors, |text: &Tokenize| device.tokenize(text)),
        Detokenize::NAME => typed(&ask, tensors, |ids: &Detokenize| device.detokenize(ids)),
        call if models::CALLS.contains(&call) => device.model(&ask, &tensors, tell),
        call => Err(NoAnswer::Unsupported(format!("call {call}"))),
    };
    (answer.map_or_else(Reply::from, Reply::from), false)
}

/// The reply to hello. A failed hello is the last reply.
fn greeted(ask: &Value, device: &dyn Device) -> (Reply, bool) {
    // The last reply: docs/wire.md demands that a subject exits if no version is spoken by both.
    let refuse =
        |message: String| (Trouble { class: "bad_request", sticky: true, message }.into(), true);
    match Hello::read(ask, Default::default()) {
        Err(bad) => refuse(bad.to_string()),
        Ok(hello) if !hello.wire.contains(&1) => {
            refuse(format!("speaks wire 1, was asked for {}", json!(hello.wire)))
        }
        Ok(_) => match device.hello() {
            Ok(ok) => (Reply::Ok(ok, Default::default()), false),
            Err(trouble) => (trouble.into(), true),
        },
    }
}

/// Inspects a model file without a device, and measures what reading it takes.
fn inspected(ask: &Value, card: &Card) -> Reply {
    let Inspect { path, options } = match Inspect::read(ask, Default::default()) {
        Ok(inspect) => inspect,
        Err(bad) => return NoAnswer::from(bad).into(),
    };
    // Processor time of this thread, because other programs would lengthen the time on a clock.
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = clock();
    // Only opening is counted: the facts below hash whole files, for which the limits are not
    // meant.
    Counting::begin();
    let opened = Inspected::open(Path::new(&path));
    let asked = Counting::end();
    let after = clock();
    let us = (after.tv_sec - before.tv_sec) * 1_000_000 + (after.tv_nsec - before.tv_nsec) / 1000;
    let observed = Observed {
        largest_request: asked.map(|a| a.largest_request),
        peak_bytes: asked.map(|a| a.peak_bytes),
        cpu_us: u64::try_from(us).ok(),
        ..Observed::default()
    };
    let whole = match opened {
        Ok(whole) => whole,
        Err(malformed) => {
            let refused = Refused { observed: Some(observed), ..refused(&malformed) };
            return Reply::Refused(Box::new(refused));
        }
    };
    let need = match options.context.map(|_| whole.need(card, &options)).transpose() {
        Ok(need) => need,
        Err(why) => return why.into(),
    };
    let facts = whole.facts().as_object().cloned().unwrap_or_default();
    let (ok, tensors) = Inspect::write_answer(Facts { facts, need, observed });
    Reply::Ok(ok, tensors)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use goldgate_engine::{DType, Tensor};
    use serde_json::json;

    use super::*;
    use crate::cpu::Cpu;

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
        attach::join(&mut answer, Some(scratch.path()), LARGEST_WHOLE, None).expect("read");
        let ones = Tensor::from_f64(DType::F32, &[8, 16], &[1.0; 128]);
        assert_eq!(answer.tensors["y"], ones);
        let failed = &heard().json["failed"];
        assert_eq!((&failed["class"], &failed["sticky"]), (&json!("io"), &json!(false)));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    }
}
