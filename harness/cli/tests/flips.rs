//! A tokenizer.json cut at every byte and with every bit turned: refused, or opened, never a panic,
//! and within the budget of memory.
//!
//! One test, since the counts of the allocator are those of the whole process.

use std::path::Path;

use goldgate_engine::tokenizer::alphabet;
use goldgate_engine::tokenizer::facts::Facts;
use goldgate_engine::tokenizer::split::Split;
use goldgate_engine::weights::Malformed;
use goldgate_engine::weights::refusal::budget;
use goldgate_tensor::Code;
use goldgate_worker::allocator::Counting;
use serde_json::{Map, Value, json};

#[global_allocator]
static COUNTING: Counting = Counting;

/// 256 letters, one merge, a token that begins every text.
fn good() -> Vec<u8> {
    let mut vocab: Map<String, Value> =
        (0..=255).map(|b| (alphabet::letter(b).to_string(), json!(b))).collect();
    vocab.insert("he".to_owned(), json!(256));
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 257, "content": "<s>", "special": true}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": Split::Qwen2.pattern()},
                "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["h e"]},
    })
    .to_string()
    .into_bytes()
}

/// Checks bytes as a file, and holds what that asked for to the budget.
fn check(path: &Path, bytes: &[u8], what: &dyn Fn() -> String) -> Result<Facts, Malformed> {
    std::fs::write(path, bytes).expect("written");
    Counting::begin();
    let checked = Facts::of_json(path);
    let asked = Counting::end().expect("it counts");
    let most = budget(bytes.len() as u64);
    assert!(asked.largest_request <= most, "{}: {asked:?}, at most {most}", what());
    checked
}

#[test]
fn every_cut_and_every_turned_bit_is_refused_or_opened_within_the_budget() {
    // Thirty thousand files: in memory where there is such a place.
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    let path = folder.path().join("tokenizer.json");
    let mut bytes = good();
    let whole = check(&path, &bytes, &|| "whole".to_owned()).expect("a good file");
    assert_eq!((whole.len(), whole.bos()), (258, Some(257)));
    for cut in 0..bytes.len() {
        let refused = check(&path, &bytes[..cut], &|| format!("cut at {cut}"));
        assert_eq!(refused.map(|f| f.len()).map_err(|m| m.code), Err(Code::Json), "cut at {cut}");
    }
    let (mut refused, mut opened) = (0, 0);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            match check(&path, &bytes, &|| format!("bit {bit} of byte {at}")) {
                Ok(_) => opened += 1,
                Err(malformed) => {
                    refused += 1;
                    assert!(malformed.offset.is_some(), "bit {bit} of byte {at}: {malformed}");
                }
            }
            bytes[at] ^= 1 << bit;
        }
    }
    // A letter of a word may be another letter of it; most bits break the grammar or a rule.
    assert!(refused > 20 * opened && opened > 10, "{refused} refused, {opened} opened");
}
