//! The adapters of docs/adapters are subjects in CI: they are run as a reader would run them, each
//! where python3 finds the packages of its engine. So are the fixtures in tests/subjects, which are
//! wrong on purpose.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use goldgate_harness::line::{NotRun, Row, Verdict};
use goldgate_harness::session::{Folders, Request, Session};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// Whether python3 can import all of these. Where it cannot, a line says what is not asked.
fn python_has(packages: &str, what: &str) -> bool {
    let import = format!("import {packages}");
    let has = Command::new("python3").args(["-c", &import]).output();
    let has = has.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("NOT ASKED: {what}: python3 does not find {packages}");
    }
    has
}

/// The rows of a subject, which a command after `python3` starts.
fn rows(label: &str, command: &str, filters: &[&str]) -> Vec<Row> {
    let root = root();
    let request = Request {
        filters: filters.iter().map(|f| (*f).to_owned()).collect(),
        on: vec![format!("{label}=python3 {command}")],
        folders: Folders {
            specs: vec![root.join("specs")],
            golden: vec![root.join("golden")],
            models: None,
        },
        jobs: 1,
        program: env!("CARGO_BIN_EXE_goldgate").into(),
        ..Request::default()
    };
    let session = Session::open(request).expect("specs are in order");
    let outcome = session.run(Arc::new(AtomicBool::new(false)), &mut |_| {}).expect("told");
    outcome.report.rows.into_iter().filter(|row| row.subject == label).collect()
}

fn word(row: &Row) -> &'static str {
    row.verdict.word()
}

/// What an engine is expected to do. All rows that are not named pass or are not offered.
struct Expected {
    label: &'static str,
    script: &'static str,
    filters: &'static [&'static str],
    /// Parts of names of rows that must pass.
    pass: &'static [&'static str],
    /// Parts of names of rows that may fail by this word and no other, and why.
    may_fail: &'static [(&'static str, &'static str, &'static str)],
}

const NO_TEXT: &str = "its decode replaces bytes that are no text by U+FFFD";

const TRANSFORMERS: Expected = Expected {
    label: "transformers",
    script: "transformers_engine.py",
    filters: &[
        "gate2::llama-tiny::*::hf*",
        "gate2::gpt2-awkward::*",
        "gate2::qwen2-tokens::*::hf*",
    ],
    pass: &[
        "llama-tiny::fits::hf",
        "llama-tiny::every_slot::hf-f32",
        "llama-tiny::every_slot::hf-f16",
        "llama-tiny::every_slot::hf-bf16",
        "llama-tiny::held_out_chapter::hf-f32",
        "llama-tiny::once_upon_a_time::hf",
        "llama-tiny::test_prompt::hf",
        "qwen2-tokens::composed::hf.encode",
        "qwen2-tokens::emoji::hf.decode",
        "qwen2-tokens::injected::hf.encode",
    ],
    may_fail: &[
        ("::high_bytes::hf.decode", "bits", NO_TEXT),
        ("::not_utf8::hf.decode", "bits", NO_TEXT),
    ],
};

const LLAMA_CPP: Expected = Expected {
    label: "llamacpp",
    script: "llama_cpp_engine.py",
    filters: &[
        "gate2::gpt2-tiny::*::f16*",
        "gate2::gguf-vocabulary::token_twice*",
        "gate2::qwen2-tiny::fits::f16*",
    ],
    pass: &[
        "gpt2-tiny::fits::f16",
        "gpt2-tiny::context_too_long::f16",
        "gpt2-tiny::once_upon_a_time::f16",
        "gpt2-tiny::stop_across::f16",
        "gpt2-tiny::stop_by_context::f16",
        "gpt2-tiny::stop_inside::f16",
    ],
    may_fail: &[
        ("::token_twice::", "crashed", "llama.cpp aborts on a token that occurs twice"),
        ("qwen2-tiny::fits::f16", "wrong_refusal", "llama.cpp wants heads as wide as hidden/heads"),
    ],
};

/// Asks an engine, and compares each row with what is expected of it.
fn holds(expected: &Expected) {
    let script = root().join("docs/adapters").join(expected.script);
    let rows = rows(expected.label, &format!("'{}'", script.display()), expected.filters);
    let mut wrong = Vec::new();
    for row in &rows {
        let known = expected.may_fail.iter().find(|(part, ..)| row.name.contains(part));
        let fair = match &row.verdict {
            Verdict::Pass => true,
            Verdict::NotRun { kind, .. } => {
                // What is not offered is no fault, and never a pass.
                matches!(kind, NotRun::Unsupported | NotRun::Inconclusive)
            }
            _ => known.is_some_and(|(_, how, _)| *how == word(row)),
        };
        if !fair {
            let page = row.page.clone().unwrap_or_default();
            wrong.push(format!("{}: {:?}\n{page}", row.name, row.verdict));
        } else if let (Some((_, how, why)), false) = (known, row.verdict == Verdict::Pass) {
            eprintln!("{}: {how}, as known: {why}", row.name);
        }
    }
    for part in expected.pass {
        let passes = |row: &&Row| row.name.contains(&format!("{part}::")) && word(row) == "pass";
        if !rows.iter().any(|row| passes(&row)) {
            wrong.push(format!("{part} is expected to pass and does not"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_python_subject_answers_layernorm_and_nothing_else() {
    if !python_has("numpy", "my_engine.py") {
        return;
    }
    let script = root().join("docs/adapters/my_engine.py");
    let filters = ["layernorm::", "gate1::rope::ragged"];
    let (mut passed, mut unsupported) = (0, 0);
    for row in rows("mine", &format!("'{}'", script.display()), &filters) {
        match &row.verdict {
            Verdict::Pass => passed += 1,
            Verdict::NotRun { kind: NotRun::Unsupported | NotRun::NoGolden, .. } => {
                unsupported += 1
            }
            other => panic!("{}: {other:?}\n{}", row.name, row.page.clone().unwrap_or_default()),
        }
    }
    assert!(passed >= 20 && unsupported >= 5, "{passed} passed, {unsupported} unsupported");
}

#[test]
fn the_module_of_the_adapters_keeps_to_the_wire() {
    if !python_has("numpy", "goldwire.py") {
        return;
    }
    let script = root().join("harness/cli/tests/subjects/conversation.py");
    let output = Command::new("python3").arg(script).output().expect("python3 was there before");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn transformers_answers_for_folders_of_the_hub() {
    if python_has("numpy, torch, transformers", "transformers_engine.py") {
        holds(&TRANSFORMERS);
    }
}

#[test]
fn llama_cpp_answers_for_gguf_files() {
    if python_has("numpy, cyllama", "llama_cpp_engine.py") {
        holds(&LLAMA_CPP);
    }
}

/// The words of a fixture's rows, for a command that puts it before our own worker.
fn words_of(fixture: &str, filters: &[&str]) -> Vec<(String, &'static str)> {
    let script = root().join("harness/cli/tests/subjects").join(fixture);
    let worker = env!("CARGO_BIN_EXE_goldgate");
    let command = format!("'{}' '{worker}' worker --on cpu", script.display());
    let rows = rows("wrong", &command, filters);
    assert!(!rows.is_empty(), "{fixture}: no rows");
    rows.iter().map(|row| (row.name.clone(), word(row))).collect()
}

#[test]
fn subjects_that_are_wrong_on_purpose_are_judged() {
    if !python_has("numpy", "the fixtures in tests/subjects") {
        return;
    }
    let op = ["layernorm::ragged", "layernorm::rows_of_other_scale", "layernorm::empty_row"];
    let refuser = words_of("refuser.py", &op);
    assert!(refuser.iter().any(|(_, word)| *word == "wrong_refusal"), "{refuser:?}");
    assert!(
        refuser.iter().all(|(name, word)| *word != "pass" || name.contains("empty")),
        "{refuser:?}"
    );
    let lazy = words_of("lazy.py", &["layernorm::ragged"]);
    assert!(lazy.iter().all(|(_, word)| *word == "protocol"), "{lazy:?}");
    let others = words_of("other_kinds.py", &op);
    assert!(others.iter().all(|(_, word)| *word == "pass"), "{others:?}");
    let flaky = words_of("flaky.py", &op);
    assert!(flaky.iter().any(|(_, word)| ["flaky", "load"].contains(word)), "{flaky:?}");
    // What these do is seen by other rules than a single row's: here they have to speak the wire.
    let drawn = ["llama-tiny::seeded_top_k"];
    let speak = [
        words_of("second_wrong.py", &["layernorm::ragged"]),
        words_of("liar.py", &drawn),
        words_of("completions.py", &drawn),
    ];
    let off_the_wire = ["protocol", "crashed", "timed_out", "internal", "device_lost"];
    for (name, word) in speak.iter().flatten() {
        assert!(!off_the_wire.contains(word), "{name}: {word}");
    }
}
