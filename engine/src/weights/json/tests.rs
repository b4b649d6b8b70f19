//! JSON as model files hold it: what is refused, where, and what the same text means to others.

use std::path::Path;

use serde_json::Value;

use super::{Text, tree};
use crate::weights::refusal::Malformed;

fn read(text: &str) -> Result<Value, Malformed> {
    Text::new(Path::new("a.json"), text.as_bytes(), 8).and_then(tree)
}

fn code(text: &str) -> &'static str {
    match read(text) {
        Ok(value) => panic!("read {value} from {text}"),
        Err(refusal) => refusal.code.as_str(),
    }
}

#[test]
fn what_is_no_json_is_refused_by_its_kind() {
    for text in ["", "{", "[1,]", "[,1]", "{\"a\"}", "{\"a\":}", "{,}", "[1 2]", "\"\\x\"", "nul"] {
        assert_eq!(code(text), "JSON", "{text}");
    }
    for text in ["016", "[1.]", "[-]", "0x10", "1e", "[+1]"] {
        let want = if text == "[+1]" { "JSON" } else { "JSON_TYPE" };
        assert_eq!(code(text), want, "{text}");
    }
    assert_eq!(code("{}x"), "JSON_TRAILING");
    assert_eq!(code("{}\0"), "JSON_TRAILING");
    assert_eq!(code("{\"a\":1,\"\\u0061\":2}"), "JSON_DUP");
    assert_eq!(code("[1e999]"), "RANGE");
    assert_eq!(code(&"[".repeat(5000)), "JSON_DEPTH");
    assert_eq!(code("\"\\ud800\""), "JSON");
    assert_eq!(code("\"\\u+041\""), "JSON");
    assert_eq!(code("\"a\nb\""), "JSON");
}

#[test]
fn a_refusal_knows_byte_line_column_and_pointer() {
    let refusal = read("{\"a\": {\n  \"b/c\": [1, 016]}}").expect_err("an octal number");
    assert_eq!(refusal.offset, Some(8 + 21));
    let place = refusal.json.expect("a place");
    assert_eq!((place.line, place.column), (2, 14));
    let refusal = read("{\"a\": {\n  \"b/c\": 1, \"b/c\": 2}}").expect_err("a key twice");
    assert_eq!(refusal.json.expect("a place").pointer, "/a/b~1c");
}

#[test]
fn a_list_may_not_ask_for_more_memory_than_its_file_allows() {
    assert_eq!(code(&format!("[{}0]", "0,".repeat(20_000))), "COUNT");
    assert!(read(&format!("[{}0]", "0,".repeat(200))).is_ok());
}

#[test]
fn what_is_read_is_what_serde_json_reads() {
    let texts = [
        "null",
        " [ ] ",
        "{}",
        "[[],{},[[]]]",
        r#"{"a":[1,-2,3.5,1e3,"x\n\u00e9\ud83d\ude00\"",true,false,null],"b":{"c":{}}}"#,
        r#"{"k":"\/\\\b\f\r\t","é":"é"}"#,
        "[0.1,123456789012345678901234567890,-0]",
    ];
    for text in texts {
        let theirs: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(read(text).expect("JSON"), theirs, "{text}");
    }
}

#[test]
fn every_cut_and_every_changed_byte_reads_as_serde_json_does() {
    let good = r#"{"a":[1,-2.5e1,"x\u00e9"],"b":{"c":null,"d":true}}"#.as_bytes();
    let theirs = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let ours = |bytes: &[u8]| Text::new(Path::new("a.json"), bytes, 0).and_then(tree).ok();
    for cut in 0..good.len() {
        assert!(ours(&good[..cut]).is_none() && theirs(&good[..cut]).is_none(), "{cut}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.to_vec();
            bytes[at] ^= 1 << bit;
            // A key that stands twice is the one thing that serde_json takes and we refuse.
            if let Some(ours) = ours(&bytes) {
                assert_eq!(Some(ours), theirs(&bytes), "byte {at}, bit {bit}");
            }
        }
    }
}
