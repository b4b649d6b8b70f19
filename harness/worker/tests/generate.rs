//! `generate` of several prompts: each text is the one that its prompt has alone.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_engine::{RefusalKind, Tensor};
use goldgate_wire::Event;
use goldgate_worker::{Cpu, Device, NoAnswer};
use serde_json::json;

fn i32s(list: &[i32]) -> Tensor {
    Tensor::from_i32(&[list.len()], list)
}

fn loaded(sequences: u64) -> (Cpu, u64) {
    let model = "../../golden/models/llama-tiny/q8_0.gguf";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(model).display().to_string();
    let load = json!({"call": "load", "path": path, "context": 40, "sequences": sequences});
    let mut cpu = Cpu::default();
    let facts = cpu.model(&load, &BTreeMap::new(), &mut |_| ()).expect("loads").fields;
    assert_eq!(facts["sequences"], sequences);
    let handle = facts["model"].as_u64().expect("a handle");
    (cpu, handle)
}

const PROMPTS: [&[i32]; 3] = [&[5, 77, 303], &[9], &[46, 12, 289, 258, 5, 8]];

fn all() -> BTreeMap<String, Tensor> {
    let lengths: Vec<i32> = PROMPTS.iter().map(|p| p.len() as i32).collect();
    BTreeMap::from([
        ("ids".to_owned(), i32s(&PROMPTS.concat())),
        ("lengths".to_owned(), i32s(&lengths)),
    ])
}

#[test]
fn each_sequence_is_told_as_it_is_alone() {
    let (mut cpu, model) = loaded(3);
    for sampling in [
        json!({}),
        json!({"temperature": 0.9}),
        json!({"temperature": 0.9,
        "seeds": [7, 7, 1u64 << 40]}),
    ] {
        let mut ask = json!({"call": "generate", "model": model, "max_tokens": 9, "seed": 3});
        for (key, value) in sampling.as_object().expect("an object") {
            ask[key] = value.clone();
        }
        let mut events = Vec::new();
        let answer = cpu.model(&ask, &all(), &mut |e| events.push(e)).expect("generates");
        assert_eq!(answer.results["lengths"].to_i32(), [9, 9, 9]);
        assert_eq!(answer.fields["stops"], json!(["length", "length", "length"]));
        let ids = answer.results["ids"].to_i32();
        for (i, prompt) in PROMPTS.iter().enumerate() {
            let seeds = &ask["seeds"][i];
            let mut own = ask.clone();
            own["seed"] = seeds.as_u64().unwrap_or(3 + i as u64).into();
            let ids_alone = BTreeMap::from([("ids".to_owned(), i32s(prompt))]);
            let alone = cpu.model(&own, &ids_alone, &mut |_| ()).expect("generates");
            let alone = alone.results["ids"].to_i32();
            assert_eq!(ids[9 * i..9 * (i + 1)], alone[..], "sequence {i} {sampling}");
            let reported = events.iter().filter_map(|event| match event {
                Event::Token { sequence, token, .. } if *sequence == Some(i as u64) => {
                    Some(*token as i32)
                }
                _ => None,
            });
            assert_eq!(reported.collect::<Vec<_>>(), alone);
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let (mut cpu, model) = loaded(3);
    let ask = json!({"call": "generate", "model": model});
    let mut refused = |lengths: &[i32]| {
        let mut operands = all();
        operands.insert("lengths".to_owned(), i32s(lengths));
        match cpu.model(&ask, &operands, &mut |_| ()) {
            Err(NoAnswer::Refused(refusal)) => (refusal.kind, refusal.message),
            other => panic!("{other:?}"),
        }
    };
    let (capacity, shape) = (RefusalKind::CapacityExceeded, RefusalKind::ShapeMismatch);
    for (lengths, kind, message) in [
        (&[3, 1, 5, 1][..], capacity, "4 prompts, the model was loaded for 3"),
        (&[], capacity, "0 prompts, the model was loaded for 3"),
        (&[3, 0, 7], capacity, "0 tokens, wants 1 to 40"),
        (&[3, 41], capacity, "41 tokens, wants 1 to 40"),
        (&[3, 1, 5], shape, "are 9 tokens, but there are 10 ids"),
    ] {
        assert_eq!(refused(lengths), (kind, message.to_owned()));
    }
    let seeds = json!({"call": "generate", "model": model, "seeds": [1, 2]});
    let Err(NoAnswer::Failed(trouble)) = cpu.model(&seeds, &all(), &mut |_| ()) else {
        panic!("two seeds for three prompts")
    };
    assert_eq!(trouble.class, "bad_request");
}
