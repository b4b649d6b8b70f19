//! Commands on models as a shell sees them: what they print, and how they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use goldgate_engine::tokenizer::chat::Template;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

fn goldgate(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.args(words).current_dir(root()).output().expect("our own program")
}

/// What a command that ends well prints.
fn facts(words: &[&str]) -> Value {
    let output = goldgate(&[words, &["--json"]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The exit code and the line on stderr of a command that does not.
fn refused(words: &[&str]) -> (Option<i32>, String) {
    let output = goldgate(words);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

/// A copy of a folder of the hub, where a file may be changed.
fn copy(model: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let from = root().join("golden/models").join(model).join("hf").join(name);
        fs::copy(from, folder.path().join(name)).expect("copied");
    }
    folder
}

#[test]
fn an_oracle_without_its_packages_says_how_to_install_them() {
    // -S leaves out the folder of installed packages, on a machine that has them too.
    let without = |script: &str| format!("python3 -S golden/oracle/{script}");
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("not run: no python3 here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let golden = folder.path().to_str().expect("a path");
    let (ops, models) = (without("ops.py"), without("models.py"));
    let by = ["--by", &ops, "--models-by", &models, "--golden", golden];
    let (code, line) = refused(&[&["golden", "make", "layernorm::ragged"], &by[..]].concat());
    assert_eq!((code, line.lines().count()), (Some(4), 1), "{line}");
    assert!(line.starts_with("error: the oracle ") && line.contains("no numpy"), "{line}");
    assert!(line.ends_with("-m pip install -r golden/oracle/requirements.txt"), "{line}");
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_without_downloads_says_how_to_get_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().to_str().expect("a path");
    let words = ["fetch", "qwen2.5-0.5b-instruct::q4_k_m", "--into", into];
    let (code, line) = refused(&words);
    assert_eq!((code, line.lines().count()), (Some(4), 1), "{line}");
    assert!(line.contains("--features hub") && line.contains("--models"), "{line}");
}

const TEXT: &str = "golden/models/text/chapter-12.txt";
const QWEN2: &str = "golden/models/qwen2-tiny/hf";

#[test]
fn perplexity_is_that_of_transformers() {
    let words = ["perplexity", "--model", QWEN2, "--file", TEXT, "--tokens", "512"];
    let told = facts(&[&words[..], &["--window", "128"]].concat());
    // transformers 5.17 with torch 2.11 in f32, the same four windows.
    let mean = told["mean_nll"].as_f64().expect("a number");
    assert!((mean - 3.348_854_770).abs() < 1e-5, "{mean}");
    assert_eq!((&told["foretold"], &told["windows"]), (&json!(508), &json!(4)));
    assert_eq!(told["load"]["activations"], "f32");
}

#[test]
fn what_quantisation_costs_is_what_torch_says() {
    let model = "golden/models/gpt2-tiny/q8_0.gguf";
    let words = ["perplexity", "--model", model, "--against", "golden/models/gpt2-tiny/hf"];
    let more = ["--file", TEXT, "--tokens", "200", "--window", "100"];
    let told = facts(&[&words[..], &more].concat());
    // The same weights, unpacked by gguf-py 0.19, in transformers 5.17 with torch 2.11 in f32.
    for (name, want) in [
        ("kl_mean", 1.371_215_6e-4),
        ("kl_p99", 5.945_73e-4),
        ("logprob_change_mean", 1.455_984_1e-2),
        ("logprob_change_p99", 7.545_934e-2),
        ("top1_agreement", 0.984_848_484_8),
    ] {
        let got = told["against"][name].as_f64().expect("a number");
        assert!((got - want).abs() < 1e-4 * want, "{name} {got}, want {want}");
    }
}

#[test]
fn a_tokenizer_is_inspected_by_itself() {
    let told = facts(&["inspect", &format!("{QWEN2}/tokenizer.json")]);
    let tokenizer = json!({"kind": "hf-json", "tokens": 557, "control": 3, "bos": null, "eos": []});
    assert_eq!((&told["format"], &told["tokenizer"]), (&json!("tokenizer.json"), &tokenizer));
    assert_eq!(told["files"][0]["sha256"].as_str().map(str::len), Some(64));
    let (exit, line) = refused(&["inspect", "no/such/tokenizer.json"]);
    assert_eq!((exit, line.starts_with("error[IO] file=no/such/")), (Some(3), true), "{line}");
    let folder = facts(&["inspect", QWEN2]);
    assert_eq!(folder["tokenizer"], tokenizer);
}

#[test]
fn a_model_is_as_far_from_itself_as_nothing() {
    let words = ["perplexity", "--model", QWEN2, "--file", TEXT, "--tokens", "70"];
    let own = facts(&[&words[..], &["--window", "40", "--against", QWEN2]].concat());
    let against = &own["against"];
    for name in ["kl_mean", "kl_p99", "logprob_change_mean", "logprob_change_p99"] {
        assert_eq!(against[name], 0.0, "{name}");
    }
    assert_eq!((&against["top1_agreement"], &own["foretold"]), (&json!(1.0), &json!(68)));
    assert_eq!(against["perplexity"], own["perplexity"]);
}

#[test]
fn perplexity_refuses_what_makes_no_sense() {
    let ask = |more: &[&str]| {
        refused(&[&["perplexity", "--model", QWEN2, "--file", TEXT][..], more].concat())
    };
    let (exit, line) = ask(&["--against", "golden/models/gpt2-tiny/f16.gguf"]);
    assert_eq!(exit, Some(3));
    assert!(line.starts_with("error[VOCAB_DIFF] file=golden/models/gpt2-tiny/f16.gguf"), "{line}");
    assert_eq!(ask(&["--window", "1"]).0, Some(2));
    assert_eq!(ask(&["--window", "513"]).0, Some(2));
    let (exit, line) = ask(&["--tokens", "1"]);
    assert_eq!(exit, Some(3));
    assert!(line.contains(": error[TEXT]: "), "{line}");
    assert_eq!(refused(&["perplexity", "--model", QWEN2, "--file", "no/such"]).0, Some(3));
    assert_eq!(refused(&["perplexity", "--model", "no/such", "--file", TEXT]).0, Some(3));
}

#[test]
fn a_chat_is_laid_out_by_a_published_template_alone() {
    let folder = copy("qwen2-tiny");
    let model = folder.path().to_str().expect("a path");
    let words = |chat: bool, prompt: &'static str| {
        let mut words = vec!["generate", "--model", model, "--max-tokens", "8", "--prompt", prompt];
        words.extend(chat.then_some("--chat"));
        words
    };
    let (exit, line) = refused(&words(true, "Alice"));
    assert_eq!(exit, Some(3));
    assert!(line.contains("error[TEMPLATE_UNSUPPORTED]"), "{line}");

    let settings = folder.path().join("tokenizer_config.json");
    fs::write(&settings, json!({"chat_template": "{{ messages }}"}).to_string()).expect("written");
    let output = goldgate(&[&words(true, "Alice")[..], &["--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &told["code"]), (Some(3), &json!("TEMPLATE_UNSUPPORTED")));

    let template = json!({"chat_template": Template::Qwen2.text()});
    fs::write(&settings, template.to_string()).expect("written");
    let (chat, plain) = (facts(&words(true, "Alice")), facts(&words(false, "Alice")));
    assert_eq!((&chat["chat"], &plain["chat"]), (&json!("qwen2"), &Value::Null));
    assert_ne!(chat["ids"], plain["ids"]);
    // 554, 555 and 556 steer: what the user writes must not become one of them.
    let tokenize = ["tokenize", "--model", model, "--text", "<|im_end|>"];
    let ids = facts(&tokenize)["ids"].to_string();
    assert!(!ids.contains("556"), "{ids}");
}

#[test]
fn the_ramp_of_yarn_is_chosen_where_there_is_one() {
    let out = tempfile::tempdir().expect("a folder");
    let ask = |model: &str, yarn: &[&str]| -> Vec<String> {
        let file = out.path().join("logits.safetensors").display().to_string();
        let words = ["logits", "--model", model, "--ids", "5,6,7,8,9,10,11", "--out", &file];
        [&words[..], yarn].concat().iter().map(|w| (*w).to_owned()).collect()
    };
    let run = |words: Vec<String>| {
        let told = facts(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let file = fs::read(out.path().join("logits.safetensors")).expect("logits");
        (told["load"]["yarn"].clone(), file)
    };
    let plain = ask("golden/models/llama-tiny/hf", &["--yarn", "rounded"]);
    let (exit, line) = refused(&plain.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(
        (exit, line.starts_with("error[NotSupported] field=yarn")),
        (Some(3), true),
        "{line}"
    );

    let folder = copy("llama-tiny");
    let path = folder.path().join("config.json");
    let text = fs::read_to_string(&path).expect("a configuration");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    let theta = config["rope_theta"].as_f64();
    let theta = theta.or(config["rope_parameters"]["rope_theta"].as_f64()).unwrap_or(10_000.0);
    config["rope_parameters"] = json!({"rope_type": "yarn", "rope_theta": theta, "factor": 4.0,
        "original_max_position_embeddings": 64, "beta_fast": 3.0, "beta_slow": 1.0});
    fs::write(&path, config.to_string()).expect("written");
    let model = folder.path().to_str().expect("a path");
    let rounded = run(ask(model, &["--yarn", "rounded"]));
    let reference = run(ask(model, &["--yarn", "reference"]));
    let usual = run(ask(model, &[]));
    assert_eq!((&rounded.0, &reference.0), (&json!("rounded"), &json!("reference")));
    assert_ne!(rounded.1, reference.1);
    assert!(usual == rounded, "the format's default is to round");
}

/// Specs and goldens of a copy, where new files may be begun.
#[test]
fn what_new_writes_passes_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let specs = folder.path().join("specs");
    let copied = Command::new("cp").arg("-r").arg(root().join("specs")).arg(&specs).status();
    assert!(copied.expect("cp").success());
    let (specs, golden) =
        (specs.display().to_string(), root().join("golden").display().to_string());
    let folders = ["--specs", &specs, "--golden", &golden];
    for (kind, name) in [
        ("tokenizer", "mine-tokens"),
        ("vectors", "mine-tokens::greeting"),
        ("vectors", "gpt2-tokens::greeting"),
        ("container", "gguf-mine"),
        ("case", "gguf-mine::another"),
        ("model", "mine-tiny"),
        ("stage", "mine-tiny::every_slot"),
        ("logits", "mine-tiny::long_prompt"),
        ("generation", "mine-tiny::test_prompt"),
        ("perplexity", "mine-tiny::held_out_chapter"),
        ("draws", "mine-tiny::drawn_freely"),
    ] {
        let output = goldgate(&[&["new", kind, name][..], &folders].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{kind} {name}: {told}");
    }
    let output = goldgate(&[&["check", &specs][..], &folders[2..]].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(refused(&[&["new", "vectors", "no-such::x"][..], &folders].concat()).0, Some(4));
    assert_eq!(refused(&[&["new", "tokenizer", "mine-tokens"][..], &folders].concat()).0, Some(2));
}

#[test]
fn a_batch_is_timed_where_the_subject_offers_sequences() {
    let model = "golden/models/gpt2-tiny/q8_0.gguf";
    let words = ["bench", "--model", model, "--prefill", "4", "--decode", "3", "--repeat", "1"];
    let told = facts(&[&words[..], &["--batch", "8", "--on", "cpu"]].concat());
    assert_eq!((&told["batch"], &told["load"]["sequences"]), (&json!(8), &json!(8)));
    let rate = |key: &str| told["decode"][key].as_f64().expect("a rate");
    assert!((rate("tokens_s") / rate("tokens_s_a_sequence") - 8.0).abs() < 1e-9);
    let (code, line) = refused(&[&words[..], &["--batch", "9", "--on", "cpu"]].concat());
    assert!(code == Some(2) && line.contains("1..=8"), "{code:?} {line}");
    let inspect = ["inspect", model, "--context", "64", "--sequences", "9"];
    let (code, line) = refused(&inspect);
    let want = "error[CapacityExceeded] field=sequences found=\"is 9, at most 8 go side by side\"";
    assert_eq!((code, &*line), (Some(3), want));
}
