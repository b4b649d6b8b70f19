//! The check of tokenizer.json, row by row, and what the library makes of a file that passes.

use std::path::Path;

use serde_json::{Value, json};

use super::check::parts;
use crate::tokenizer::split::Split;
use crate::tokenizer::{Tokenizer, alphabet};
use crate::weights::refusal::{Code, Malformed};

/// A good file: 256 letters, `he`, and two special tokens of which the first begins every text.
fn good() -> Value {
    let mut vocab: serde_json::Map<String, Value> =
        (0..=255).map(|b| (alphabet::letter(b).to_string(), json!(b))).collect();
    vocab.insert("he".to_owned(), json!(256));
    let added = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [added(257, "<s>"), added(258, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": Split::LlamaBpe.pattern()},
                "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": ["h e"]},
    })
}

/// The good file with one value in another place's stead.
fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut file = good();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match file.pointer_mut(parent).expect("a place") {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value,
        other => panic!("{other} has no members"),
    }
    file.to_string().into_bytes()
}

fn refusal(bytes: &[u8]) -> Malformed {
    match parts(bytes, Path::new("tokenizer.json")) {
        Ok(_) => panic!("accepted: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])),
        Err(refusal) => refusal,
    }
}

fn code(bytes: &[u8]) -> Code {
    refusal(bytes).code
}

fn open(file: &Value) -> Tokenizer {
    let folder = std::env::temp_dir().join(format!("goldgate-{}-hf", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(format!("{:x}.json", file.to_string().len()));
    std::fs::write(&path, file.to_string()).expect("a file");
    Tokenizer::of_json(&path).expect("a tokenizer")
}

#[test]
fn a_good_file_encodes_and_decodes() {
    let t = open(&good());
    assert_eq!((t.kind(), t.len(), t.bos()), ("hf-json", 259, Some(257)));
    assert_eq!(t.encode(b"he", true, false), Ok(vec![257, 256]));
    assert_eq!(t.encode(b"<s>e", false, true), Ok(vec![257, 101]));
    assert_eq!(t.encode(b"<s>", false, false), Ok(vec![60, 115, 62]));
    let all: Vec<u8> = (0..=255).rev().collect();
    let ids = t.encode(&all, false, false).expect("ids");
    assert_eq!(t.decode(&ids, true), Ok(all));
}

#[test]
fn a_run_of_white_space_beyond_the_librarys_end_is_cut_like_a_shorter_one() {
    let t = open(&good());
    let text = [vec![b' '; 1_100_000], b"he".to_vec()].concat();
    let ids = t.encode(&text, false, false).expect("ids");
    assert_eq!(ids.len(), 1_100_001);
    assert_eq!(ids[1_100_000], 256);
    assert_eq!(t.decode(&ids, false), Ok(text));
}

#[test]
fn the_grammar_is_held_at_every_cut() {
    for text in ["", "404: Not Found", "<!DOCTYPE html>", "[]", "{\"a\":1e}", "{\"\\ud800x\":1}"] {
        assert_eq!(code(text.as_bytes()), Code::Json, "{text}");
    }
    let hint = |text: &str| refusal(text.as_bytes()).expected;
    assert_eq!(hint("404: Not Found"), "an object: `{`; the page of a server");
    assert!(hint("version https://git-lfs.github.com/spec/v1").ends_with("run `git lfs pull`"));
    let whole = good().to_string().into_bytes();
    for cut in 0..whole.len() {
        let found = code(&whole[..cut]);
        assert_eq!(found, Code::Json, "cut at {cut}");
    }
    assert_eq!(code(&[&whole[..], b" {}"].concat()), Code::JsonTrailing);
    assert_eq!(code("{\"a\":".repeat(5000).as_bytes()), Code::JsonDepth);
}

#[test]
fn a_key_twice_and_an_unknown_field_are_refused_where_they_stand() {
    let text = good().to_string();
    let twice = format!("{},\"model\":null}}", &text[..text.len() - 1]);
    let refused = refusal(twice.as_bytes());
    assert_eq!(refused.code, Code::JsonDup);
    assert_eq!(refused.offset, Some(text.len() as u64));
    let token = text.replacen("\"he\":256", "\"he\":256,\"h\\u0065\":300", 1);
    assert_eq!(code(token.as_bytes()), Code::VocabDup);
    assert_eq!(code(&with("/model/speed", json!(1))), Code::JsonUnknown);
    assert_eq!(code(&with("/version", json!("2.0"))), Code::Version);
    assert_eq!(code(text.replacen("\"version\":\"1.0\",", "", 1).as_bytes()), Code::Version);
}

#[test]
fn ids_are_whole_apart_and_near() {
    for id in [json!(-1), json!(4_294_967_296u64), json!(1.5), json!(u32::MAX), json!("7")] {
        assert_eq!(code(&with("/model/vocab/he", id)), Code::VocabId);
    }
    let refused = refusal(&with("/model/vocab/he", json!(104)));
    assert_eq!(refused.code, Code::VocabIdDup);
    assert_eq!(refused.found, "id 104 for h and for he");
    assert_eq!(code(&with("/model/vocab", json!({}))), Code::VocabEmpty);
    assert_eq!(code(&with("/model/vocab/", json!(300))), Code::VocabToken);
}

#[test]
fn a_hole_in_the_ids_has_no_token() {
    let mut file = good();
    file["model"]["vocab"]["hole"] = json!(300);
    let t = open(&file);
    assert_eq!(t.len(), 301);
    assert!(t.decode(&[299], false).is_err());
}

#[test]
fn merges_make_words_of_words() {
    for line in [json!("h zz"), json!("h h"), json!("h e x"), json!("he"), json!(["h"]), json!(3)] {
        let refused = refusal(&with("/model/merges", json!(["h e", line])));
        assert_eq!(refused.code, Code::Merge);
        let json = refused.json.expect("a place");
        assert_eq!(json.pointer, "/model/merges/1");
    }
    for (name, text) in [("continuing_subword_prefix", "##"), ("end_of_word_suffix", "é")] {
        assert_eq!(code(&with(&format!("/model/{name}"), json!(text))), Code::MergePrefix);
    }
}

#[test]
fn bytes_have_letters_and_nothing_is_random() {
    let mut file = good();
    let vocab = file["model"]["vocab"].as_object_mut().expect("tokens");
    vocab.remove("q");
    let refused = refusal(file.to_string().as_bytes());
    assert_eq!(refused.code, Code::ByteAlphabet);
    assert_eq!(refused.found, "no token for 1 of 256 bytes: 0x71");
    assert_eq!(code(&with("/model/byte_fallback", json!(true))), Code::ByteFallback);
    assert_eq!(code(&with("/model/unk_token", json!("<unk>"))), Code::Unk);
    for dropout in [json!(2.0), json!(1e40), json!(0.1)] {
        assert_eq!(code(&with("/model/dropout", dropout)), Code::Dropout);
    }
    assert!(parts(&with("/model/dropout", json!(0.0)), Path::new("t")).is_ok());
}

#[test]
fn other_models_say_what_is_broken_in_them_first() {
    for model in [json!(null), json!({"type": "WordPiece"}), json!({"vocab": {}}), json!(1)] {
        assert_eq!(code(&with("/model", model)), Code::Model);
    }
    let unigram = |vocab: Value, unk: Value| {
        code(&with("/model", json!({"type": "Unigram", "unk_id": unk, "vocab": vocab})))
    };
    assert_eq!(unigram(json!([]), json!(null)), Code::Unigram);
    assert_eq!(unigram(json!([["a", -1.0]]), json!(1)), Code::Unigram);
    assert_eq!(unigram(json!([["a", null]]), json!(0)), Code::Unigram);
    assert_eq!(unigram(json!([["a", -1.0], ["a", -2.0]]), json!(0)), Code::Unigram);
    assert_eq!(unigram(json!([["", -1.0]]), json!(0)), Code::Unigram);
    assert_eq!(unigram(json!([["a", -1.0]]), json!(0)), Code::Model);
    let huge = with("/model", json!({"type": "Unigram", "vocab": [["a", "S"]]}));
    let huge = String::from_utf8(huge).expect("text").replace("\"S\"", "1e999");
    assert_eq!(code(huge.as_bytes()), Code::Unigram);
}

#[test]
fn normalisers_that_grow_or_break_are_refused_by_kind() {
    let step = |value: Value| code(&with("/normalizer", value));
    let replace = |from: &str, to: &str| {
        let pattern = json!({ "String": from });
        json!({"type": "Replace", "pattern": pattern, "content": to})
    };
    assert_eq!(step(json!({"type": "Precompiled", "precompiled_charsmap": null})), Code::Charsmap);
    assert_eq!(step(replace("", "x")), Code::Pattern);
    let nine = vec![replace("l", "llllllllll"); 9];
    assert_eq!(step(json!({"type": "Sequence", "normalizers": nine})), Code::Expansion);
    assert_eq!(step(json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)})), Code::Expansion);
    assert_eq!(step(json!({"type": "Lowercase"})), Code::Normalizer);
    assert!(parts(&with("/normalizer", json!({"type": "NFC"})), Path::new("t")).is_ok());
}

#[test]
fn only_published_patterns_reach_the_regex_engine() {
    let at = "/pre_tokenizer/pretokenizers/0/pattern";
    assert_eq!(code(&with(at, json!({"Regex": "(a+)+$"}))), Code::RegexUnsafe);
    assert_eq!(code(&with(at, json!({"Regex": r"\s+(?!\S)"}))), Code::RegexUnsafe);
    assert_eq!(code(&with(at, json!({"Regex": "(a"}))), Code::Regex);
    assert_eq!(code(&with(at, json!({"Regex": "a".repeat(1 << 20)}))), Code::Regex);
    assert_eq!(code(&with(at, json!({"String": ""}))), Code::Pattern);
    assert_eq!(code(&with(at, json!({"String": " "}))), Code::Pretok);
    let fixed = json!({"type": "FixedLength", "length": 0});
    assert_eq!(code(&with("/pre_tokenizer", fixed)), Code::Pretok);
    let spaced = json!({"type": "ByteLevel", "add_prefix_space": true});
    assert_eq!(code(&with("/pre_tokenizer", spaced)), Code::Pretok);
    assert_eq!(code(&with("/pre_tokenizer", json!(null))), Code::Pretok);
}

#[test]
fn padding_and_truncation_that_cannot_be_are_refused() {
    let pad = |strategy: Value, id: u32, multiple: Value| {
        json!({"strategy": strategy, "direction": "Right", "pad_to_multiple_of": multiple,
            "pad_id": id, "pad_type_id": 0, "pad_token": "<s>"})
    };
    let fixed = |n: u64| json!({"Fixed": n});
    for value in [
        pad(fixed(200_000_000), 257, json!(null)),
        pad(fixed(u64::MAX), 257, json!(null)),
        pad(json!("BatchLongest"), 999, json!(null)),
        pad(json!("BatchLongest"), 257, json!(0)),
    ] {
        assert_eq!(code(&with("/padding", value)), Code::Padding);
    }
    let fine = pad(fixed(512), 257, json!(8));
    assert!(parts(&with("/padding", fine), Path::new("t")).is_ok());
    let cut = |length: u64, stride: u64| {
        json!({"direction": "Right", "max_length": length, "strategy": "LongestFirst",
            "stride": stride})
    };
    assert_eq!(code(&with("/truncation", cut(0, 0))), Code::Truncation);
    assert_eq!(code(&with("/truncation", cut(4, 4))), Code::Truncation);
    assert!(parts(&with("/truncation", cut(4, 3)), Path::new("t")).is_ok());
}

#[test]
fn a_template_names_tokens_that_are_there() {
    let at = "/post_processor/special_tokens";
    let entry =
        |ids: Value, tokens: Value| json!({"<s>": {"id": "<s>", "ids": ids, "tokens": tokens}});
    assert_eq!(code(&with(at, json!({}))), Code::Template);
    assert_eq!(code(&with(at, entry(json!([]), json!([])))), Code::Template);
    assert_eq!(code(&with(at, entry(json!([257]), json!(["<s>", "</s>"])))), Code::Template);
    assert_eq!(code(&with(at, entry(json!([9_999]), json!(["<s>"])))), Code::Template);
    assert_eq!(code(&with(at, entry(json!([258]), json!(["<s>"])))), Code::Template);
}

#[test]
fn added_tokens_have_a_text_and_an_id_of_their_own() {
    let add = |id: u64, content: &str| {
        let at = "/added_tokens/1";
        code(&with(at, json!({"id": id, "content": content, "special": true})))
    };
    assert_eq!(add(258, ""), Code::Added);
    assert_eq!(add(4_000_000_000, "</s>"), Code::Added);
    assert_eq!(add(257, "</s>"), Code::Added);
    assert_eq!(add(104, "</s>"), Code::Added);
    assert_eq!(add(258, "he"), Code::Added);
    let mut composed = good();
    composed["normalizer"] = json!({"type": "NFC"});
    composed["added_tokens"][1] = json!({"id": 258, "content": "\u{e9}", "normalized": true});
    assert_eq!(code(composed.to_string().as_bytes()), Code::Added);
    composed["added_tokens"][1]["content"] = json!("</s>");
    assert!(parts(composed.to_string().as_bytes(), Path::new("t")).is_ok());
}

#[test]
fn many_added_tokens_take_no_time() {
    let many = |last: u32| {
        let mut file = good();
        let each = |id: u32| json!({"id": id, "content": format!("<{}>", id.min(last))});
        let list = (257..30_257).map(each);
        file["added_tokens"] =
            [json!({"id": 30_257, "content": "<s>"})].into_iter().chain(list).collect();
        file["post_processor"] = json!(null);
        file.to_string().into_bytes()
    };
    let parts = parts(&many(u32::MAX), Path::new("t")).expect("a good file");
    assert_eq!(parts.marks.len(), 30_001);
    let refused = refusal(&many(30_255));
    assert_eq!((refused.code, refused.field.as_str()), (Code::Added, "added_tokens.30000"));
}

#[test]
fn a_decoder_gives_the_bytes() {
    let strip = json!({"type": "Strip", "content": " ", "start": 9_999_999_999u64, "stop": 0});
    assert_eq!(code(&with("/decoder", strip)), Code::Decoder);
    assert_eq!(code(&with("/decoder", json!(null))), Code::Decoder);
}

#[test]
fn a_file_beyond_the_cap_is_not_read() {
    let folder = std::env::temp_dir().join(format!("goldgate-{}-cap", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("tokenizer.json");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(200 << 20).expect("a hole");
    assert_eq!(Tokenizer::of_json(&path).expect_err("too large").code, Code::Size);
    assert_eq!(Tokenizer::of_json(&folder).expect_err("a folder").code, Code::NotRegular);
    std::fs::write(&path, good().to_string()).expect("a file");
    let settings = folder.join("tokenizer_config.json");
    std::fs::write(&settings, "{\"bos_token\": \"</s>\", \"add_bos_token\": true}")
        .expect("a file");
    assert_eq!(Tokenizer::of_json(&path).expect_err("no such").code, Code::BosPolicy);
    let fine = json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
        "add_bos_token": true, "chat_template": "{{ messages }}"});
    std::fs::write(&settings, fine.to_string()).expect("a file");
    let t = Tokenizer::of_json(&path).expect("a tokenizer");
    assert_eq!((t.eos(), t.chat_template()), (&[258][..], Some("{{ messages }}")));
    std::fs::remove_dir_all(&folder).expect("cleaned");
}

/// Whatever one turned bit makes of a file, it is refused or it works: nothing that passes the
/// check may panic in the library.
#[test]
fn a_turned_bit_is_refused_or_harmless() {
    let whole = good().to_string().into_bytes();
    let (mut refused, mut harmless) = (0, 0);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let Ok(mut parts) = parts(&bytes, Path::new("tokenizer.json")) else {
            refused += 1;
            continue;
        };
        harmless += 1;
        let inner = super::library(&mut parts, Path::new("tokenizer.json")).expect("it loads");
        let library = super::Library { inner, split: parts.split, nfc: parts.nfc };
        let mut ids = Vec::new();
        library.text("he said: 12345 \u{e9}\n", &mut ids).expect("ids");
        assert!(!ids.is_empty(), "bit {} of byte {at}", at % 8);
    }
    assert!(refused > 1000 && harmless > 10, "{refused} refused, {harmless} harmless");
}
