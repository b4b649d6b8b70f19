//! Files are read back by what reads published ones.

use std::collections::BTreeMap;

use goldgate_engine::model::{Rope, tensors};
use goldgate_engine::tokenizer::Tokenizer;
use goldgate_engine::weights::{Checkpoint, scan};

use super::*;

/// How many tensors a file has of each type.
fn types(name: &str, mix: &str) -> BTreeMap<DType, usize> {
    let model = Model::find(name).expect("a model");
    let synth = Synth::new(model, model.config(), mix.parse().expect("a mix"), 0);
    let mut counts = BTreeMap::new();
    synth.tensors().iter().for_each(|t| *counts.entry(t.dtype).or_insert(0) += 1);
    counts
}

/// The counts of published files, as llama.cpp prints them when it opens one.
#[test]
fn types_are_those_of_published_files() {
    let qwen = types("qwen2.5-0.5b", "q4_k_m");
    let want = [(DType::F32, 121), (DType::Q5_0, 132), (DType::Q8_0, 13), (DType::Q4K, 12)];
    assert_eq!(qwen, BTreeMap::from_iter(want.into_iter().chain([(DType::Q6K, 12)])));
    let llama = types("llama-3.1-8b", "q4_k_m");
    let want = [(DType::F32, 66), (DType::Q4K, 193), (DType::Q6K, 33)];
    assert_eq!(llama, BTreeMap::from_iter(want));
    assert_eq!(types("llama-3.2-1b", "q8_0")[&DType::Q8_0], 113);
    assert_eq!(types("gpt2-124m", "f16")[&DType::F16], 49);
}

/// Bytes of weights that the published files have, in MB.
#[test]
fn sizes_are_those_of_published_models() {
    for (name, mix, low, high) in [
        ("gpt2-124m", "f16", 245, 255),
        ("gpt2-1.5b", "f16", 3105, 3130),
        ("llama-3.2-1b", "bf16", 2470, 2475),
        ("llama-3.1-8b", "q4_k_m", 4905, 4925),
        ("qwen2.5-0.5b", "f16", 985, 992),
        ("qwen2.5-7b", "q8_0", 8080, 8110),
    ] {
        let model = Model::find(name).expect("a model");
        let synth = Synth::new(model, model.config(), mix.parse().expect("a mix"), 0);
        let mb = synth.bytes() / 1_000_000;
        assert!((low..=high).contains(&mb), "{name} {mix}: {mb} MB");
    }
}

#[test]
fn a_file_opens_whole_and_is_the_same_for_the_same_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, mix) in [("gpt2-124m", "q4_0"), ("qwen2.5-0.5b", "q4_k_m"), ("llama-3.2-1b", "q4_0")]
    {
        let model = Model::find(name).expect("a model");
        let config = Config { layers: 1, context: 512, ..model.config() };
        let synth = Synth::new(model, config.clone(), mix.parse().expect("a mix"), 3);
        let mut bytes = Vec::new();
        let mut told = 0;
        synth.write(&mut bytes, &mut |done| told = done).expect("written");
        assert_eq!(told, synth.bytes());
        let path = folder.path().join(format!("{name}.gguf"));
        std::fs::write(&path, &bytes).expect("written");
        let checkpoint = Checkpoint::open(&path).expect("a good file");
        let (read, warnings) = Config::of(&checkpoint).expect("a configuration");
        // A GGUF file has divisors in place of the scaling itself, and eps as f32.
        let rope = config.rope.map(|rope| Rope { scaling: None, ..rope });
        assert_eq!(read, Config { norm_eps: read.norm_eps, rope, ..config.clone() });
        assert!((read.norm_eps / config.norm_eps - 1.0).abs() < 1e-6);
        assert!(warnings.list().is_empty(), "{:?}", warnings.list());
        let extra = tensors::check(&read, &checkpoint).expect("its tensors");
        assert!(extra.list().is_empty() && checkpoint.warnings().list().is_empty());
        scan::all(&checkpoint).expect("finite weights");
        let tokenizer = Tokenizer::open(&path).expect("a vocabulary");
        let text = "Once upon a time, 3.14 über ☃\n".as_bytes();
        let ids = tokenizer.encode(text, false, false).expect("text");
        let mut stream = tokenizer.stream();
        let mut back: Vec<u8> =
            ids.iter().flat_map(|id| stream.push(*id).expect("a token")).collect();
        back.extend(stream.finish());
        assert_eq!(back, text);
        assert!(ids.len() < text.len(), "pairs are merged");
    }
    let model = Model::find("gpt2-124m").expect("a model");
    let config = Config { layers: 1, vocabulary: 50_257, ..model.config() };
    let header = |seed| Synth::new(model, config.clone(), Mix::Q4KM, seed).header();
    assert_eq!(header(1), header(1));
}
