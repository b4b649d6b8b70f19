//! The reader on literals.

use super::*;

fn broken(text: &str) -> (Break, usize) {
    let fault = Json::read(text.as_bytes()).expect_err("a refusal");
    (fault.what, fault.at)
}

#[test]
fn values_are_walked_in_place() {
    let text = r#" {"a": [1, -2.5e1, "x\n\u00e9\ud83d\ude00\/"], "b": {}, "c~/": [true, null]} "#;
    let json = Json::read(text.as_bytes()).expect("JSON");
    let root = json.root();
    let a: Vec<Node<'_>> = root.get("a").expect("a").items().collect();
    assert_eq!((a[0].whole(), a[1].whole(), a[1].number()), (Some(1), None, Some(-25.0)));
    assert_eq!(a[2].string().as_deref(), Some("x\né😀/"));
    assert_eq!(root.get("b").map(|n| n.fields().count()), Some(0));
    let last = root.get("c~/").and_then(|n| n.items().last()).expect("null");
    assert!(last.is_null());
    assert_eq!(json.pointer(last.at), "/c~0~1/1");
    assert_eq!(json.pointer(0), "");
}

#[test]
fn what_means_two_things_is_refused() {
    assert_eq!(broken(r#"{"a":1,"b":2,"\u0061":3}"#), (Break::Twice, 13));
    let inside = Json::read(br#"{"a":{"b":{}},"c~":[{"d":1,"d":2}]}"#).expect_err("twice");
    assert_eq!((inside.what, inside.path.as_str()), (Break::Twice, "/c~0"));
    assert_eq!(broken("1 2"), (Break::Trailing, 2));
    assert_eq!(broken(&"[".repeat(70)), (Break::Depth, 65));
    assert_eq!(broken("01"), (Break::Trailing, 1));
    for text in ["", "1.", "-", "1e", "tru", "NaN", "[1,]", "{\"a\"}", "\"\u{1}\"", "'a'"] {
        assert_eq!(broken(text).0, Break::Syntax, "{text}");
    }
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\u12g4""#, r#""\x""#] {
        assert_eq!(broken(text).0, Break::Syntax, "{text}");
    }
    assert_eq!(Json::read(b"\"\xff\"").map_err(|e| e.at).err(), Some(1));
}

#[test]
fn a_place_is_told_in_lines_and_bytes() {
    assert_eq!(line_and_column("a\né{".as_bytes(), 4), (2, 3));
    assert_eq!(line_and_column(b"", 0), (1, 1));
}
