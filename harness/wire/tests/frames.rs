//! Recorded conversations: the types of calls write and read the bytes that harness and worker
//! exchanged before there were types. `frames/by_hand.bin` was asked by a script, for what no
//! case on a CPU asks; the others by a run of shipped cases, through `examples/tee.rs`. Paths
//! were shortened, large answers left out.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_tensor::Tensor;
use goldgate_wire::answer::{Answer, Refused};
use goldgate_wire::call::{
    BadField, BadQuestion, BenchCopy, BenchModel, BenchOp, Check, Close, Detokenize, Extend, Fork,
    Generate, Hello, Inspect, Load, Memory, NAMES, Op, Open, Ping, Tokenize, Unload,
};
use goldgate_wire::{Call, Event, Frame, read_frame, write_frame};
use serde_json::{Value, json};

/// The frames of a file, in the order in which they were exchanged.
fn recorded(name: &str) -> Vec<Frame> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(name);
    let bytes = std::fs::read(path).expect("a recorded conversation");
    let mut stream = &bytes[..];
    let next = |stream: &mut &[u8]| read_frame(stream, 1 << 20).expect("a whole frame");
    std::iter::from_fn(|| next(&mut stream)).collect()
}

const FILES: [&str; 7] = [
    "by_hand.bin",
    "files.bin",
    "generation.bin",
    "models.bin",
    "op.bin",
    "sessions.bin",
    "texts.bin",
];

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, frame).expect("a vector takes everything");
    bytes
}

/// The fields of a message with its id first, as the harness sends it.
fn numbered(id: &Value, json: Value) -> Value {
    let mut message = json!({ "id": id });
    for (key, value) in json.as_object().expect("an object") {
        message[key] = value.clone();
    }
    message
}

/// A question read and written again, or why it cannot be read.
fn question<C: Call>(frame: &Frame) -> Result<Frame, BadQuestion> {
    let call = C::read(&frame.json, frame.tensors.clone())?;
    let (json, tensors) = call.question();
    Ok(Frame::with(numbered(&frame.json["id"], json), tensors))
}

/// The value of an `ok` read and written again.
fn answer<C: Call>(body: Value, tensors: BTreeMap<String, Tensor>) -> Frame {
    let read = C::read_answer(body, tensors).expect("an answer that can be read");
    let (body, tensors) = C::write_answer(read);
    Answer::Ok(body, tensors).frame()
}

type Again =
    (fn(&Frame) -> Result<Frame, BadQuestion>, fn(Value, BTreeMap<String, Tensor>) -> Frame);

fn both<C: Call>() -> Again {
    (question::<C>, answer::<C>)
}

/// The type of a question; none for a call that does not exist.
fn typed(json: &Value) -> Option<Again> {
    let call = json["call"].as_str().expect("a question");
    Some(match call {
        Hello::NAME => both::<Hello>(),
        Ping::NAME => both::<Ping>(),
        Memory::NAME => both::<Memory>(),
        Check::NAME => both::<Check>(),
        Inspect::NAME => both::<Inspect>(),
        Op::NAME => both::<Op>(),
        BenchModel::NAME if json["model"].is_u64() => both::<BenchModel>(),
        BenchCopy::NAME if json["copy"].is_u64() => both::<BenchCopy>(),
        BenchOp::NAME => both::<BenchOp>(),
        Load::NAME => both::<Load>(),
        Unload::NAME => both::<Unload>(),
        Open::NAME => both::<Open>(),
        Extend::NAME => both::<Extend>(),
        Fork::NAME => both::<Fork>(),
        Close::NAME => both::<Close>(),
        Generate::NAME => both::<Generate>(),
        Tokenize::NAME => both::<Tokenize>(),
        Detokenize::NAME => both::<Detokenize>(),
        other => {
            assert!(!NAMES.contains(&other), "{other} has no type here");
            return None;
        }
    })
}

/// The recorded worker wrote refused files with their fields in two orders, and a null where
/// there was no offset; today there is one order. What is said must be the same.
fn assert_same_refusal(old: &Value, new: &Value) {
    let mut old = old.clone();
    if old["refused"]["offset"].is_null() {
        old["refused"].as_object_mut().expect("an object").remove("offset");
    }
    assert_eq!(&old, new);
}

#[test]
fn calls_write_and_read_what_was_recorded() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for file in FILES {
        let mut asked = None;
        for frame in recorded(file) {
            let id = frame.json["id"].clone();
            if let Some(call) = frame.json["call"].as_str() {
                *seen.entry(call.to_owned()).or_default() += 1;
                asked = typed(&frame.json);
                if let Some((question, _)) = asked {
                    let again = question(&frame).expect("a question that can be read");
                    assert_eq!(again.json.to_string(), frame.json.to_string(), "{file}");
                    assert_eq!(bytes(&again), bytes(&frame), "{file} {}", frame.json);
                }
                continue;
            }
            let mut again = match Event::read(&frame.json) {
                Some(event) => Frame::new(event.json()),
                None => {
                    let number = id.as_u64().expect("an id");
                    let read = Answer::read(number, frame.clone()).expect("an answer");
                    match read.expect("no event") {
                        Answer::Ok(body, tensors) => {
                            let (_, answer) = asked.expect("a question before its answer");
                            answer(body, tensors)
                        }
                        other => other.frame(),
                    }
                }
            };
            again.json["id"] = id;
            if frame.json["refused"]["code"].is_string() {
                assert_same_refusal(&frame.json, &again.json);
                continue;
            }
            assert_eq!(again.json.to_string(), frame.json.to_string(), "{file}");
            assert_eq!(bytes(&again), bytes(&frame), "{file} {}", frame.json);
        }
    }
    let unseen: Vec<&str> = NAMES.into_iter().filter(|name| !seen.contains_key(*name)).collect();
    assert!(unseen.is_empty(), "no conversation has {unseen:?}");
}

#[test]
fn a_question_that_cannot_be_read_names_its_field() {
    let read = |json: Value| match typed(&json) {
        Some((question, _)) => question(&Frame::new(json)).expect_err("no question").to_string(),
        None => panic!("{json} is no call"),
    };
    for (json, message) in [
        (json!({"call": "open"}), "model is missing, wants a number"),
        (json!({"call": "open", "model": -1}), "model is -1, wants a whole number"),
        (
            json!({"call": "load", "path": "m", "kv": "q8_0"}),
            "kv is \"q8_0\", wants f32, f16 or bf16",
        ),
        (
            json!({"call": "load", "path": "m", "chunk": 0}),
            "chunk is 0, wants a whole number above 0",
        ),
        (
            json!({"call": "load", "path": "m", "sha256": "12"}),
            "sha256 is \"12\", wants 64 hex digits",
        ),
        (
            json!({"call": "extend", "session": 1, "want": {"logits": "some"}}),
            "logits is \"some\", wants none, last, all or compact",
        ),
        (json!({"call": "extend", "session": 1}), "OperandMissing: ids: is missing"),
        (
            json!({"call": "op", "op": "gelu", "dtype": "f8"}),
            "TypeUnsupported: dtype: f8 is no stored type",
        ),
    ] {
        assert_eq!(read(json), message);
    }
}

#[test]
fn an_answer_that_cannot_be_read_names_its_field() {
    let none = BTreeMap::new;
    let missing = |message: &str| BadField::Missing(message.to_owned());
    let mistyped = |message: &str| BadField::Mistyped(message.to_owned());
    let open = |body: Value| Open::read_answer(body, none()).expect_err("no session");
    assert_eq!(open(json!({"session": "s"})), mistyped("session is \"s\", wants a whole number"));
    assert_eq!(open(json!({})), missing("session is missing, wants a number"));
    assert_eq!(open(json!({"session": null})), missing("session is missing, wants a number"));
    let check = |body: Value| Check::read_answer(body, none());
    assert_eq!(check(json!({})), Err(missing("holds is missing, wants true or false")));
    let ids = |tensors| Tokenize::read_answer(json!({}), tensors);
    assert_eq!(ids(none()), Err(missing("no ids in the answer")));
    let scalar = BTreeMap::from([("ids".to_owned(), Tensor::from_i32(&[], &[1]))]);
    assert_eq!(ids(scalar), Err(mistyped("ids is i32 [], wants i32 [n]")));
    let wrong = json!({"refused": {"kind": "K", "observed": {"cpu_us": "soon"}}});
    assert!(Refused::read(&wrong["refused"]).is_err());
}
