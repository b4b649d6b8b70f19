//! The tiny trained models, from file to tokens, on the CPU; and on a device, where there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::{self as device, Device, DeviceError};
use goldgate_engine::exec::cpu::CallError;
use goldgate_engine::exec::cuda::Options;
use goldgate_engine::generate::{Request, generate};
use goldgate_engine::model::build::{Capacity, Types};
use goldgate_engine::model::map::Map;
use goldgate_engine::model::{self, Config};
use goldgate_engine::ops::{self, Inputs, Phase, Question};
use goldgate_engine::sample::Sampling;
use goldgate_engine::session::{Model, Place, Session, Settings, Want};
use goldgate_engine::weights::Checkpoint;
use goldgate_engine::{DType, Tensor};
use serde_json::json;

/// A model's file, below the repository's root: cargo runs tests in the package's folder.
fn path(model: &str, form: &str) -> PathBuf {
    let root =
        ["golden/models", "../golden/models"].into_iter().find(|p| PathBuf::from(p).exists());
    let folder = PathBuf::from(root.expect("golden/models is there")).join(model);
    folder.join(if form == "hf" { "hf".to_owned() } else { format!("{form}.gguf") })
}

fn load(place: &mut Place<'_>, model: &str, form: &str, dtype: DType) -> (Model, Config) {
    let checkpoint = Checkpoint::open(&path(model, form)).expect("a good file");
    let (config, _) = Config::of(&checkpoint).expect("a good configuration");
    let map = Map::of(&config, &checkpoint);
    let types = Types { dtype, kv: dtype };
    let capacity = Capacity { context: 128, sequences: 1 };
    let program = model::program(&config, types, capacity, |name| map.meta(name)).expect("fits");
    let settings = Settings {
        dtype,
        context: 128,
        sequences: 1,
        chunk: 64,
        trace: Vec::new(),
        options: Options::default(),
    };
    (Model::load(place, &program, &settings, &map, &mut |_| ()).expect("loads"), config)
}

/// Loads a file on the CPU; `meanwhile` is called as often as progress is told.
fn loaded(file: &Path, meanwhile: &mut dyn FnMut(usize)) -> Result<Model, CallError> {
    let checkpoint = Checkpoint::open(file).expect("a good file");
    let (config, _) = Config::of(&checkpoint).expect("a good configuration");
    let map = Map::of(&config, &checkpoint);
    let dtype = DType::F32;
    let (types, capacity) = (Types { dtype, kv: dtype }, Capacity { context: 16, sequences: 1 });
    let program = model::program(&config, types, capacity, |name| map.meta(name)).expect("fits");
    let settings = Settings {
        dtype,
        context: 16,
        sequences: 1,
        chunk: 16,
        trace: Vec::new(),
        options: Options::default(),
    };
    Model::load(&mut Place::Cpu, &program, &settings, &map, meanwhile)
}

#[test]
fn a_file_that_changes_while_it_is_loaded_gives_no_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, other) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let fresh = || {
        std::fs::copy(path("llama-types", "a"), &file).expect("copied");
        std::fs::copy(path("llama-types", "a"), &other).expect("copied");
        // A clock of coarse steps must not hide what is written next.
        let before = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        let opened = std::fs::OpenOptions::new().write(true).open(&file).expect("opened");
        opened.set_modified(before).expect("an earlier time");
        opened
    };
    let mut opened = fresh();
    loaded(&file, &mut |_| ()).expect("nobody wrote");
    // The same bytes again, in place: nothing but the time tells.
    let bytes = std::fs::read(&file).expect("read");
    let in_place = loaded(&file, &mut |_| {
        opened.seek(SeekFrom::Start(0)).expect("the beginning");
        opened.write_all(&bytes).expect("rewritten");
    });
    let mut opened = fresh();
    let longer = loaded(&file, &mut |_| {
        opened.seek(SeekFrom::End(0)).expect("the end");
        opened.write_all(&[0]).expect("appended");
    });
    fresh();
    let replaced = loaded(&file, &mut |_| {
        if other.exists() {
            std::fs::rename(&other, &file).expect("replaced");
        }
    });
    for (outcome, want) in [(in_place, "modified"), (longer, "length"), (replaced, "inode")] {
        match outcome.map(|_| ()) {
            Err(CallError::Changed { field, file: named, found, expected }) => {
                assert_eq!((field.as_str(), &named), (want, &file));
                assert_ne!(found, expected);
            }
            other => panic!("{want}: {other:?}"),
        }
    }
}

/// What transformers gave (golden/oracle/make_tiny_logits.py): a tensor of its file.
fn golden(model: &str, name: &str) -> (Vec<usize>, Vec<u8>) {
    let file = path(model, "hf").with_file_name("transformers.safetensors");
    let bytes = std::fs::read(file).expect("a golden");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let tensor = tensors.tensor(name).expect("a tensor of that name");
    (tensor.shape().to_vec(), tensor.data().to_vec())
}

fn golden_ids(model: &str, name: &str) -> Vec<u32> {
    let (shape, bytes) = golden(model, name);
    Tensor::new(DType::I32, &shape, bytes).to_i32().into_iter().map(|id| id as u32).collect()
}

/// Float32 of transformers against float32 of ours: a few hundred sums of 24 bits.
const AGREE: f64 = 1e-5;

#[test]
fn logits_and_greedy_text_are_those_of_transformers() {
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        let ids = golden_ids(name, "ids");
        for form in ["hf", "f16", "q8_0", "q4_k_m"] {
            let (shape, bytes) = golden(name, if form == "hf" { "f16" } else { form });
            let want = Tensor::new(DType::F32, &shape, bytes).to_f64();
            let (model, _) = load(&mut Place::Cpu, name, form, DType::F32);
            let mut session = Session::open(&mut Place::Cpu, &model).expect("opens");
            let rows = (ids.len() - shape[0]..ids.len()).collect();
            let want_rows = Want { rows, ..Want::default() };
            let output =
                session.extend(&mut Place::Cpu, &model, &ids, &want_rows).expect("extends");
            let got = output.slots["logits"].to_f64();
            let pairs = got.chunks(shape[1]).zip(want.chunks(shape[1]));
            let worst = pairs.map(|(a, b)| relative(a, b)).fold(0.0, f64::max);
            println!("{name} {form}: {worst:.1e}");
            assert!(worst < AGREE, "{name} {form}: {worst:e}");
        }
        let (model, config) = load(&mut Place::Cpu, name, "f16", DType::F32);
        let text = golden_ids(name, "greedy");
        let request = Request {
            ids: &ids,
            max_tokens: text.len(),
            sampling: Sampling::default(),
            stop_ids: &[],
        };
        let mut told = Vec::new();
        let mut take = |id| {
            told.push(id);
            true
        };
        generate(&mut Place::Cpu, &model, config.vocabulary, &request, &mut take)
            .expect("generates");
        assert_eq!(told, text, "{name}");
    }
}

const PROMPT: [u32; 7] = [46, 77, 303, 12, 289, 258, 5];

fn logits(place: &mut Place<'_>, model: &Model, ids: &[u32]) -> Vec<f64> {
    let mut session = Session::open(place, model).expect("opens");
    let want = Want { rows: vec![ids.len() - 1], ..Want::default() };
    let output = session.extend(place, model, ids, &want).expect("extends");
    output.slots["logits"].to_f64()
}

#[test]
fn each_form_of_a_model_says_the_same() {
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        let of = |form| {
            let (model, _) = load(&mut Place::Cpu, name, form, DType::F32);
            logits(&mut Place::Cpu, &model, &PROMPT)
        };
        let (hf, f16) = (of("hf"), of("f16"));
        assert_eq!(hf, f16, "{name}: the same weights, the same bits");
        for quantised in ["q8_0", "q4_k_m"] {
            let other = of(quantised);
            let distance: f64 = hf.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum();
            let size: f64 = hf.iter().map(|a| a.powi(2)).sum();
            let share = (distance / size).sqrt();
            println!("{name} {quantised}: {share:.4}");
            assert!(share > 0.0 && share < 0.3, "{name} {quantised}: {share}");
        }
    }
}

#[test]
fn greedy_text_is_the_most_likely_next_token_each_time() {
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        let (model, config) = load(&mut Place::Cpu, name, "f16", DType::F32);
        let mut ids = PROMPT.to_vec();
        let request =
            Request { ids: &PROMPT, max_tokens: 12, sampling: Sampling::default(), stop_ids: &[] };
        let mut told = Vec::new();
        let mut take = |id| {
            told.push(id);
            true
        };
        let place = &mut Place::Cpu;
        generate(place, &model, config.vocabulary, &request, &mut take).expect("generates");
        for token in &told {
            let row = logits(&mut Place::Cpu, &model, &ids);
            let best = (0..row.len()).fold(0, |b, i| if row[i] > row[b] { i } else { b });
            assert_eq!(*token as usize, best, "{name} after {ids:?}");
            ids.push(*token);
        }
        println!("{name}: {told:?}");
    }
}

/// Each token of a seeded text by hand: the logits of the text so far, and the draw of its number.
#[test]
fn a_seeded_text_is_one_draw_after_the_other() {
    let sample = ops::find("sample").expect("an op");
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        let (model, config) = load(&mut Place::Cpu, name, "f16", DType::F32);
        let seed = (1 << 40) + 3;
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        let request = Request { ids: &PROMPT, max_tokens: 8, sampling, stop_ids: &[] };
        let mut told = Vec::new();
        let mut take = |id| {
            told.push(id);
            true
        };
        let place = &mut Place::Cpu;
        generate(place, &model, config.vocabulary, &request, &mut take).expect("generates");
        let mut ids = PROMPT.to_vec();
        for (index, token) in told.iter().enumerate() {
            let row = logits(&mut Place::Cpu, &model, &ids);
            let row = Tensor::from_f64(DType::F32, &[row.len()], &row);
            let attributes = json!({"seed": seed, "index": index});
            let attributes = attributes.as_object().cloned().unwrap_or_default();
            let metas = BTreeMap::from([("logits".to_owned(), row.meta.clone())]);
            let question = Question::new(sample, DType::F32, &attributes, &metas).expect("good");
            let drawn = ops::answer(sample, &question, &Inputs::of([("logits", &row)]));
            assert_eq!(drawn.expect("a draw")[0].to_i32()[0] as u32, *token, "{name} {index}");
            ids.push(*token);
        }
    }
}

fn device() -> Option<Device> {
    let prefixes = ["/usr/local", "/usr"].map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cache = home.map(|h| h.join(".cache/goldgate"));
    let settings =
        device::Settings { search: usual_folders(&prefixes), cache, ..Default::default() };
    match Device::open(&settings, 0) {
        Ok(device) => Some(device),
        Err(e @ (DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {
            println!("nothing ran: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// rms of the difference over the standard deviation of the right logits.
fn relative(got: &[f64], want: &[f64]) -> f64 {
    let n = want.len() as f64;
    let mean = want.iter().sum::<f64>() / n;
    let variance = want.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let error = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / n;
    (error / variance).sqrt()
}

/// A prompt of 90 tokens, in calls of at most `size`; the logits of every row.
fn every_row(place: &mut Place<'_>, model: &Model, size: usize, phase: Phase) -> Vec<f64> {
    let ids: Vec<u32> = (0..90u32).map(|i| (i * i * 31 + 7 * i + 11) % 400).collect();
    let mut session = Session::open(place, model).expect("opens");
    let mut all = Vec::new();
    for ids in ids.chunks(size) {
        let want = Want { rows: (0..ids.len()).collect(), phase: Some(phase), ..Want::default() };
        let output = session.extend(place, model, ids, &want).expect("extends");
        all.extend(output.slots["logits"].to_f64());
    }
    all
}

#[test]
fn on_a_device_logits_agree_and_chunks_change_no_bit() {
    let Some(mut device) = device() else { return };
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        for form in ["hf", "f16", "q8_0", "q4_k_m"] {
            let (right, config) = load(&mut Place::Cpu, name, form, DType::F32);
            let want = every_row(&mut Place::Cpu, &right, 90, Phase::Prefill);
            for (dtype, limit) in [(DType::F32, 1e-4), (DType::F16, 1e-2), (DType::BF16, 1e-1)] {
                let place = &mut Place::Cuda(&mut device);
                let (model, _) = load(place, name, form, dtype);
                let whole = every_row(place, &model, 90, Phase::Prefill);
                let distances = |got: &[f64]| -> f64 {
                    let rows = got.chunks(config.vocabulary).zip(want.chunks(config.vocabulary));
                    rows.map(|(a, b)| relative(a, b)).fold(0.0, f64::max)
                };
                for size in [1, 7, 64] {
                    let other = every_row(place, &model, size, Phase::Prefill);
                    assert!(whole == other, "{name} {form} {dtype} in chunks of {size}");
                }
                let decoded = every_row(place, &model, 1, Phase::Decode);
                let (a, b) = (distances(&whole), distances(&decoded));
                println!("{name} {form} {dtype}: prefill {a:.1e}, decode {b:.1e}");
                assert!(a < limit && b < limit, "{name} {form} {dtype}: {a:e} {b:e}");
            }
        }
    }
}

#[test]
fn on_a_device_a_hundred_runs_give_one_text() {
    let Some(mut device) = device() else { return };
    for name in ["gpt2-tiny", "llama-tiny", "qwen2-tiny"] {
        let place = &mut Place::Cuda(&mut device);
        let (model, config) = load(place, name, "q4_k_m", DType::F16);
        let seeded = Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.01,
            repetition_penalty: 1.1,
            seed: 42,
        };
        for sampling in [Sampling::default(), seeded] {
            let mut texts = BTreeSet::new();
            for _ in 0..100 {
                let request = Request { ids: &PROMPT, max_tokens: 40, sampling, stop_ids: &[] };
                let mut told = Vec::new();
                let mut take = |id| {
                    told.push(id);
                    true
                };
                generate(place, &model, config.vocabulary, &request, &mut take).expect("generates");
                assert_eq!(told.len(), 40);
                texts.insert(told);
            }
            println!("{name}: {:?}", texts.first().expect("a text"));
            assert_eq!(texts.len(), 1, "{name}");
        }
    }
}
