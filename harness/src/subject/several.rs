//! `generate` of several prompts side by side, by our worker.

use std::collections::BTreeMap;
use std::time::Instant;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use goldgate_engine::error::{Refusal, RefusalKind};
use goldgate_engine::generate::{Several, generate_several};
use goldgate_engine::session::Place;
use serde_json::{Value, json};

use crate::subject::handed::Handed;
use crate::subject::models::{
    Loaded, Tell, bad, fields, ids, no_answer, sampling, stop_ids, stop_name,
};
use crate::subject::serve::{Answer, NoAnswer};
use crate::subject::want::words;

/// The prompts that `ids` holds one after the other, as the tensor `lengths` says.
fn prompts<'a>(
    ids: &'a [u32],
    lengths: &Tensor,
    context: usize,
    most: usize,
) -> Result<Vec<&'a [u32]>, NoAnswer> {
    let refuse = |kind, operand: &str, message: String| {
        Err(NoAnswer::from(Refusal::new(kind, operand, message)))
    };
    if lengths.meta.dtype != DType::I32 || lengths.meta.shape.len() != 1 {
        let message = format!("is {}, wants i32 [b]", lengths.meta);
        return refuse(RefusalKind::DtypeMismatch, "lengths", message);
    }
    let lengths = lengths.to_i32();
    if lengths.is_empty() || lengths.len() > most {
        let message = format!("{} prompts, the model was loaded for {most}", lengths.len());
        return refuse(RefusalKind::CapacityExceeded, "lengths", message);
    }
    let fits = |n: &&i32| **n >= 1 && **n as usize <= context;
    if let Some(wrong) = lengths.iter().find(|n| !fits(n)) {
        let message = format!("{wrong} tokens, wants 1 to {context}");
        return refuse(RefusalKind::CapacityExceeded, "lengths", message);
    }
    let sum: usize = lengths.iter().map(|n| *n as usize).sum();
    if sum != ids.len() {
        let message = format!("are {sum} tokens, but there are {} ids", ids.len());
        return refuse(RefusalKind::ShapeMismatch, "lengths", message);
    }
    let mut rest = ids;
    Ok(lengths
        .iter()
        .map(|n| {
            let (prompt, after) = rest.split_at(*n as usize);
            rest = after;
            prompt
        })
        .collect())
}

/// `seeds`, a number a prompt; without it `seed`, counting up.
fn seeds(ask: &Value, count: usize) -> Result<Vec<u64>, NoAnswer> {
    let first = ask["seed"].as_u64().unwrap_or(0);
    let Some(list) = ask["seeds"].as_array() else {
        return match &ask["seeds"] {
            Value::Null => Ok((0..count as u64).map(|i| first + i).collect()),
            other => Err(bad(&format!("seeds is {other}, wants a list"))),
        };
    };
    let seeds: Vec<u64> = list.iter().filter_map(Value::as_u64).collect();
    if list.len() != count || seeds.len() != count {
        return Err(bad(&format!("seeds wants {count} numbers, one a prompt")));
    }
    Ok(seeds)
}

/// Answers `generate` where `lengths` says that there are several prompts.
///
/// # Errors
/// Why there is no answer.
pub fn answer(
    place: &mut Place<'_>,
    loaded: &Loaded,
    ask: &Value,
    operands: &BTreeMap<String, Tensor>,
    tell: Tell<'_>,
) -> Result<Answer, NoAnswer> {
    let (model, ids) = (&loaded.model, ids(operands)?);
    let settings = model.settings();
    let prompts = prompts(&ids, &operands["lengths"], settings.context, settings.sequences)?;
    let seeds = seeds(ask, prompts.len())?;
    let stops = words(&ask["stop"]);
    if stops.iter().any(String::is_empty) {
        return Err(bad("stop has an empty text"));
    }
    if !stops.is_empty() && loaded.tokenizer.is_none() {
        return Err(NoAnswer::Unsupported("stop texts without a vocabulary".to_owned()));
    }
    let request = Several {
        prompts: &prompts,
        max_tokens: ask["max_tokens"].as_u64().unwrap_or(128) as usize,
        sampling: sampling(ask)?,
        seeds: &seeds,
        stop_ids: &stop_ids(ask)?,
    };
    let each = prompts.iter().map(|_| Handed::new(loaded.tokenizer.as_ref(), &stops));
    let mut handed: Vec<Handed<'_>> = each.collect();
    loaded.model.route();
    let begin = Instant::now();
    let mut first = None;
    let mut take = |sequence: usize, id: u32| {
        let ms = begin.elapsed().as_secs_f64() * 1e3;
        first.get_or_insert(ms);
        let handed = &mut handed[sequence];
        tell(json!({"event": "token", "sequence": sequence, "index": handed.count(),
                    "token": id, "ms": ms}));
        handed.push(id)
    };
    let ends = generate_several(place, model, loaded.config.vocabulary, &request, &mut take)
        .map_err(no_answer)?;
    let mut answer = fields(json!({
        "stops": ends.into_iter().map(stop_name).collect::<Vec<_>>(),
        "first_token_ms": first,
        "total_ms": begin.elapsed().as_secs_f64() * 1e3,
    }));
    answer.observed.route = loaded.model.route();
    let ids: Vec<Vec<i32>> = handed.into_iter().map(|handed| handed.finish().0).collect();
    let lengths = ids.iter().map(|ids| ids.len() as i32).collect();
    for (name, list) in [("ids", ids.concat()), ("lengths", lengths)] {
        answer.results.insert(name.to_owned(), Tensor::from_i32(&[list.len()], &list));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::subject::serve::{Cpu, Device};

    fn i32s(list: &[i32]) -> Tensor {
        Tensor::from_i32(&[list.len()], list)
    }

    fn loaded(sequences: u64) -> (Cpu, u64) {
        let model = "../golden/models/llama-tiny/q8_0.gguf";
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
                let told = events.iter().filter(|e| e["sequence"] == i);
                let told: Vec<i32> =
                    told.filter_map(|e| e["token"].as_i64()).map(|id| id as i32).collect();
                assert_eq!(told, alone);
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
}
