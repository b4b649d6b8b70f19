//! Sessions and vocabularies by handles: what docs/wire.md says of their edges.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_engine::{DType, RefusalKind, Tensor};
use goldgate_wire::Call;
use goldgate_wire::call::{Detokenize, Tokenize, Vocabulary};
use goldgate_worker::{Cpu, Device, NoAnswer};
use serde_json::{Value, json};

const MODEL: &str = "../../golden/models/llama-tiny/q8_0.gguf";

fn path() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL).display().to_string()
}

/// A worker with a model of 40 positions, in chunks of two tokens, and its handle.
fn loaded() -> (Cpu, u64) {
    let mut cpu = Cpu::default();
    let ask = json!({"call": "load", "path": path(), "context": 40, "chunk": 2});
    let facts = cpu.model(&ask, &BTreeMap::new(), &mut |_| ()).expect("loads").fields;
    (cpu, facts["model"].as_u64().expect("a handle"))
}

/// A session of these tokens.
fn opened(cpu: &mut Cpu, model: u64, ids: &[i32]) -> u64 {
    let ask = json!({"call": "open", "model": model});
    let facts = cpu.model(&ask, &BTreeMap::new(), &mut |_| ()).expect("opens").fields;
    let session = facts["session"].as_u64().expect("a handle");
    extend(cpu, session, ids, &json!({})).expect("extends");
    session
}

type Extended = (u64, BTreeMap<String, Tensor>);

/// The length of the session and the tensors of an answer.
fn extend(cpu: &mut Cpu, session: u64, ids: &[i32], want: &Value) -> Result<Extended, NoAnswer> {
    let ask = json!({"call": "extend", "session": session, "want": want});
    let ids = Tensor::from_i32(&[ids.len()], ids);
    let answer = cpu.model(&ask, &BTreeMap::from([("ids".to_owned(), ids)]), &mut |_| ())?;
    Ok((answer.fields["length"].as_u64().expect("a length"), answer.results))
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, NoAnswer>) -> (RefusalKind, String) {
    match answer {
        Err(NoAnswer::Refused(refusal)) => (refusal.kind, refusal.operand.clone()),
        other => panic!("it is no refusal: {other:?}"),
    }
}

#[test]
fn a_call_that_a_session_refuses_leaves_it_as_it_was() {
    let (mut cpu, model) = loaded();
    let session = opened(&mut cpu, model, &[5, 77, 303]);
    let last = json!({"logits": "last"});
    let beyond = json!({"logits": "all", "rows": [0, 2]});
    let refused: [(&[i32], &Value, RefusalKind, &str); 5] = [
        (&[], &last, RefusalKind::EmptyAxis, "ids"),
        (&[], &json!({}), RefusalKind::EmptyAxis, "ids"),
        (&[9; 38], &last, RefusalKind::CapacityExceeded, "ids"),
        (&[9, 9], &beyond, RefusalKind::IdOutOfRange, "rows"),
        // In the second chunk, when the first could have been appended.
        (&[9, 9, 9, 1 << 20], &last, RefusalKind::IdOutOfRange, "ids"),
    ];
    for (ids, want, kind, operand) in refused {
        let found = refusal(extend(&mut cpu, session, ids, want));
        assert_eq!(found, (kind, operand.to_owned()), "{ids:?} {want}");
    }
    let (length, results) = extend(&mut cpu, session, &[9], &last).expect("extends");
    assert_eq!(length, 4);
    let other = opened(&mut cpu, model, &[5, 77, 303]);
    let (_, same) = extend(&mut cpu, other, &[9], &last).expect("extends");
    assert_eq!(results["logits"], same["logits"]);
}

#[test]
fn a_fork_keeps_at_most_what_is_there() {
    let (mut cpu, model) = loaded();
    let session = opened(&mut cpu, model, &[5, 77, 303]);
    let fork = |cpu: &mut Cpu, keep: u64| {
        let ask = json!({"call": "fork", "session": session, "keep": keep});
        cpu.model(&ask, &BTreeMap::new(), &mut |_| ()).map(|answer| answer.fields)
    };
    for keep in [0, 2, 3] {
        let new = fork(&mut cpu, keep).expect("forks")["session"].as_u64().expect("a handle");
        let (length, _) = extend(&mut cpu, new, &[9], &json!({})).expect("extends");
        assert_eq!(length, keep + 1);
    }
    let found = refusal(fork(&mut cpu, 4));
    assert_eq!(found, (RefusalKind::PositionOutOfRange, "keep".to_owned()));
    assert_eq!(extend(&mut cpu, session, &[9], &json!({})).expect("extends").0, 4);
}

#[test]
fn no_rows_are_no_logits() {
    let (mut cpu, model) = loaded();
    let session = opened(&mut cpu, model, &[5]);
    for logits in ["none", "all", "compact"] {
        let want = json!({"logits": logits, "rows": []});
        let (_, results) = extend(&mut cpu, session, &[9, 12, 46], &want).expect("extends");
        assert!(results.is_empty(), "{logits}: {results:?}");
    }
    let want = json!({"logits": "all", "rows": [1]});
    let (_, results) = extend(&mut cpu, session, &[9, 12, 46], &want).expect("extends");
    assert_eq!((results["logits"].meta.dtype, results["logits"].meta.shape[0]), (DType::F32, 1));
}

#[test]
fn a_vocabulary_is_that_of_a_file_or_of_a_loaded_model() {
    let (mut cpu, model) = loaded();
    let text = "Once upon a time".as_bytes().to_vec();
    let forms = [Vocabulary::Path(path()), Vocabulary::Model(model)];
    let ids = forms.map(|vocabulary| {
        let (add_special, parse_special) = (false, false);
        let ask = Tokenize { vocabulary, add_special, parse_special, text: text.clone() };
        cpu.tokenize(&ask).expect("ids").ids
    });
    assert_eq!(ids[0], ids[1]);
    let ids = ids[0].clone();
    let forms = [Vocabulary::Path(path()), Vocabulary::Model(model)];
    for vocabulary in forms {
        let ask = Detokenize { vocabulary, skip_special: false, stream: true, ids: ids.clone() };
        let answer = cpu.detokenize(&ask).expect("a text");
        assert_eq!(answer.text, text);
        assert_eq!(answer.ends.map(|ends| ends.len()), Some(ids.len()));
    }
    // By the wire's own words, as any harness may ask.
    let ask = json!({"call": "detokenize", "model": model});
    let tensors = BTreeMap::from([("ids".to_owned(), Tensor::from_i32(&[ids.len()], &ids))]);
    let ask = Detokenize::read(&ask, tensors).expect("a question");
    assert_eq!(cpu.detokenize(&ask).expect("a text").text, text);
    cpu.model(&json!({"call": "unload", "model": model}), &BTreeMap::new(), &mut |_| ())
        .expect("unloads");
    let NoAnswer::Failed(trouble) = cpu.detokenize(&ask).expect_err("no model") else {
        panic!("an unknown handle is no question of a model")
    };
    assert_eq!((trouble.class, trouble.sticky), ("bad_request", false));
}
