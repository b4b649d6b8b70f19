//! The kind on literals: what is read, what is refused, and what the judge sees.

use goldgate_wire::Special;

use crate::kinds::tokens::case::{Check, TokenCase};
use crate::kinds::tokens::judge::{Answer, judge, perfect, self_check};
use crate::kinds::tokens::spec::{expand, tokenizer_file};
use crate::yaml::read::Reader;
use crate::yaml::tree::{Source, parse};

const FILE: &str = r#"
format: 1
tokenizer: tiny
gate: 2
source: nobody
forms:
  gguf: { path: tokenizers/tiny/vocab.gguf }
  hf: { path: tokenizers/tiny/tokenizer.json }
cases:
  - name: words
    why: two tokens
    vectors:
      - { text: "a é", ids: [7, 300] }
      - { bytes: "ff fe 41", ids: [1, 2, 3] }
      - { text: "", ids: [] }
  - name: added
    why: what the policy adds
    special: add
    checks: [encode]
    vectors:
      - { text: "a", ids: [0, 7] }
"#;

fn read(text: &str) -> Result<Vec<TokenCase>, Vec<&'static str>> {
    let source = Source::new("tokenizers/tiny.yaml", text.as_bytes()).expect("text");
    let node = parse(&source).expect("yaml");
    let reader = Reader::new(&source);
    let file = tokenizer_file(&reader, &node);
    let codes: Vec<&'static str> = reader.finish().iter().map(|p| p.code).collect();
    match (file, codes.is_empty()) {
        (Some(file), true) => Ok(expand(&file, "tokenizers/tiny.yaml")),
        _ => Err(codes),
    }
}

fn right(case: &TokenCase) -> Vec<Answer> {
    case.vectors.iter().map(perfect).collect()
}

#[test]
fn a_case_is_asked_in_every_form() {
    let cases = read(FILE).expect("cases");
    let names: Vec<String> = cases.iter().map(TokenCase::full_name).collect();
    assert_eq!(
        names,
        [
            "gate2::tiny::words::gguf",
            "gate2::tiny::words::hf",
            "gate2::tiny::added::gguf",
            "gate2::tiny::added::hf"
        ]
    );
    assert_eq!(cases[0].vectors[1].bytes, b"\xff\xfeA");
    assert_eq!((cases[0].special, cases[0].checks.len()), (Special::None, 3));
    assert_eq!((cases[2].special, &cases[2].checks[..]), (Special::Add, &[Check::Encode][..]));
}

#[test]
fn what_is_wrong_in_a_file_is_named() {
    let with = |from: &str, to: &str| read(&FILE.replacen(from, to, 1)).expect_err("a problem");
    assert_eq!(with("\"a é\"", "a"), ["TYPE"]);
    assert_eq!(with("ff fe 41", "ff f"), ["TYPE"]);
    assert_eq!(with("{ text: \"a é\", ", "{ "), ["MISSING_FIELD"]);
    assert_eq!(with("checks: [encode]", "checks: [encode, guess]"), ["ENUM"]);
    assert_eq!(with("special: add", "special: both"), ["ENUM"]);
    assert_eq!(with("name: added", "name: words"), ["ID_DUP"]);
    assert_eq!(with("tokenizers/tiny/vocab.gguf", "../vocab.gguf"), ["PATH"]);
    assert_eq!(with("[7, 300]", "[7, -1]"), ["RANGE"]);
    assert_eq!(with("source: nobody", "sauce: nobody"), ["UNKNOWN_FIELD"]);
}

#[test]
fn the_judge_knows_right_from_wrong() {
    for case in read(FILE).expect("cases") {
        assert_eq!(judge(&case, &right(&case)), None);
        let (killed, asked) = self_check(&case).expect("a judge");
        assert!(killed == asked && asked >= 3, "{killed} of {asked}");
    }
}

#[test]
fn the_first_text_that_differs_is_reported_with_a_diff() {
    let case = &read(FILE).expect("cases")[0];
    let mut answers = right(case);
    answers[1].ids = vec![1, 9, 3];
    answers[2].ids = vec![5];
    let found = judge(case, &answers).expect("a difference");
    assert_eq!((found.at, found.of), (1, 2));
    assert_eq!(found.diff, "1 -2 +9 3 … ");
    assert!(judge(case, &answers[..2]).is_some());
}

#[test]
fn a_stream_may_wait_and_may_not_cut() {
    let case = &read(FILE).expect("cases")[0];
    let mut answers = right(case);
    // "a é" is four bytes; its last letter takes two of them.
    for (ends, passes) in [
        (vec![0, 4], true),
        (vec![2, 4], true),
        (vec![2, 2], true),
        (vec![3, 4], false),
        (vec![4, 2], false),
        (vec![4], false),
        (vec![2, 5], false),
        (vec![-1, 4], false),
    ] {
        answers[0].stream.1.clone_from(&ends);
        assert_eq!(judge(case, &answers).is_none(), passes, "{ends:?}");
    }
    // Bytes that are no text are no code point, and may be cut anywhere.
    let mut answers = right(case);
    answers[1].stream.1 = vec![1, 2, 3];
    assert_eq!(judge(case, &answers), None);
}
