//! The table of malformed specs: each with its code, and some with their words.

use goldgate_engine::ops::signature::{Attribute, Class, Operand, ResultSlot, Rule, Signature};
use goldgate_tensor::DType;

use crate::fill::{Fill, Grid};
use crate::kinds::op::case::{Expect, GoldenSource};
use crate::line::Family;
use crate::spec::folder::{Specs, read_file};
use crate::yaml::Problem;

const fn operand(name: &'static str, class: Class, shape: &'static [&'static str]) -> Operand {
    Operand { name, class, shape, optional: false }
}

static LAYERNORM: Signature = Signature {
    name: "layernorm",
    source: "a paper",
    operands: &[
        operand("x", Class::R, &["n", "h"]),
        operand("gamma", Class::P, &["h"]),
        operand("beta", Class::P, &["h"]),
    ],
    attributes: &[Attribute {
        name: "eps",
        rule: Rule::Real { low: 0.0, closed: false, high: 1.0, default: None },
    }],
    results: &[ResultSlot { name: "y", class: Class::To, shape: &["=x"], shares: Some("x") }],
    rounds_inside: false,
};

static LINEAR: Signature = Signature {
    name: "linear",
    source: "a book",
    operands: &[
        operand("x", Class::DOrF32, &["n", "in"]),
        operand("w", Class::W, &["out", "in"]),
        Operand { name: "bias", class: Class::P, shape: &["out"], optional: true },
    ],
    attributes: &[],
    results: &[ResultSlot { name: "y", class: Class::To, shape: &["n", "out"], shares: None }],
    rounds_inside: false,
};

pub(crate) fn signature(name: &str) -> Option<&'static Signature> {
    [&LAYERNORM, &LINEAR].into_iter().find(|s| s.name == name)
}

pub(crate) fn read(stem: &str, text: &[u8]) -> (Specs, Vec<Problem>) {
    let (mut specs, mut problems) = (Specs::default(), Vec::new());
    let file = format!("ops/{stem}.yaml");
    read_file(&file, text, &signature, &mut specs, &mut problems);
    (specs, problems)
}

pub(crate) fn problems_of(stem: &str, text: &str) -> Vec<Problem> {
    read(stem, text.as_bytes()).1
}

const GOOD: &str = r"format: 1
op: layernorm
gate: 1
source: a paper
inputs:
  x: { shape: [n, h], fill: { normal: [0, 1] } }
  gamma: { shape: [h], fill: { uniform: [0.5, 1.5] } }
  beta: { shape: [h], fill: { uniform: [-0.5, 0.5] } }
attributes: { eps: 1.0e-5 }
dtypes: [f32, f16]
cases:
  - name: one
    why: a reason
    sizes: { n: 3, h: 4 }
";

fn code(text: &str) -> &'static str {
    let problems = problems_of("layernorm", text);
    problems.first().map_or("", |p| p.code)
}

/// The good file with one piece of text replaced.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn case(extra: &str) -> String {
    format!("{GOOD}    {extra}\n")
}

#[test]
fn the_good_file_is_good_with_bom_and_crlf_too() {
    assert_eq!(problems_of("layernorm", GOOD), []);
    let bom = format!("\u{feff}{GOOD}");
    assert_eq!(problems_of("layernorm", &bom), []);
    assert_eq!(problems_of("layernorm", &GOOD.replace('\n', "\r\n")), []);
}

/// YM-01 to YM-09, YM-30 to YM-32: what the text itself can get wrong.
#[test]
fn malformed_text() {
    let deep = |n: usize| format!("a: {}{}", "[".repeat(n), "]".repeat(n));
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    let table: Vec<(String, &str)> = vec![
        (String::new(), "SPEC_EMPTY"),
        ("# only a comment\n".into(), "SPEC_EMPTY"),
        ("---\n".into(), "SPEC_EMPTY"),
        (laughs.into(), "YAML_ALIAS"),
        (format!("a: &a [{}]\nb: [*a]\n", "x, ".repeat(250)), "YAML_ALIAS"),
        (format!("a: &a \"{}\"\nb: [*a]\n", "x".repeat(1 << 16)), "YAML_ALIAS"),
        ("a: &a [*a]\n".into(), "YAML_ALIAS"),
        ("a: *b\nb: &b 1\n".into(), "YAML_ALIAS"),
        ("a: {<<: {b: 1}}\n".into(), "YAML_ALIAS"),
        (deep(200), "YAML_DEPTH"),
        (deep(100_000), "YAML_DEPTH"),
        (format!("a: {}\n", "x".repeat(1 << 20)), "SIZE"),
        ("format: 1\nformat: 1\n".into(), "YAML_DUP"),
        ("a: {b: 1, c: 2, b: 3}\n".into(), "YAML_DUP"),
        (format!("{GOOD}---\na: 1\n"), "YAML_MULTIDOC"),
        ("a: !!python/object/apply [x]\n".into(), "YAML_TAG"),
        ("a: !include /etc/passwd\n".into(), "YAML_TAG"),
        ("a:\n\t- b\n".into(), "YAML_CHAR"),
        ("a: \"x\0y\"\n".into(), "YAML_CHAR"),
        ("a: [1, 2\n".into(), "YAML_SYNTAX"),
        ("%YAML 1.1\n---\na: 1\n".into(), "YAML_SYNTAX"),
    ];
    for (text, want) in table {
        let head: String = text.chars().take(40).collect();
        assert_eq!(code(&text), want, "{head:?}");
    }
    for bytes in [&b"a: \xe9\n"[..], b"\xff\xfea\0:\0"] {
        let (_, problems) = read("layernorm", bytes);
        assert_eq!(problems[0].code, "YAML_CHAR");
        assert!(problems[0].found.contains("at offset"), "{}", problems[0].found);
    }
}

#[test]
fn a_key_twice_names_both_lines() {
    let problem = &problems_of("layernorm", "a: 1\nb: 2\na: 3\n")[0];
    assert_eq!(problem.place.line, 3);
    assert_eq!(problem.also.as_ref().map(|p| p.line), Some(1));
    assert!(problem.line().ends_with("first at ops/layernorm.yaml:1:1"), "{}", problem.line());
}

/// YM-10 to YM-22, YM-33 to YM-39: what the values can get wrong.
fn malformed() -> Vec<(String, &'static str)> {
    vec![
        (case("tolerence: { rule: derived }"), "UNKNOWN_FIELD"),
        (case("tolerance: { rule: number, relative: .nan, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: number, relative: .inf, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: number, relative: -1, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: number, relative: 0, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: number, relative: 1e30, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: number, because: a, evidence: b }"), "RANGE"),
        (case("tolerance: { rule: derived, ulp: 1 }"), "RANGE"),
        (case("tolerance: { rule: number, ulp: 1 }"), "MISSING_FIELD"),
        (case("tolerance: { rule: derived, sum: linear }"), "MISSING_FIELD"),
        (case("tolerance: { rule: number, relative: \"1e-3\", because: a, evidence: b }"), "TYPE"),
        (case("slow: yes"), "TYPE"),
        (case("slow: TRUE"), "TYPE"),
        (with("name: one", "name: no"), "TYPE"),
        (with("name: one", "name: ~"), "TYPE"),
        (with("n: 3", "n: 0x3"), "SHAPE"),
        (with("n: 3", "n: 1_0"), "SHAPE"),
        (with("n: 3", "n: -1"), "SHAPE"),
        (with("n: 3", "n: 1.5"), "SHAPE"),
        (with("n: 3", "n: 0"), "SHAPE"),
        (with("n: 3", "n: 18446744073709551616"), "SHAPE"),
        (with("n: 3", "n: 2147483647"), "SHAPE"),
        (with("[n, h]", "[1, 1, 1, 1, 1, 1, 1, 1, h]"), "SHAPE"),
        (with("[n, h]", "[-1, h]"), "SHAPE"),
        (with("gate: 1", "gate: 99999999999999999999999999"), "ENUM"),
        (with("gate: 1", "gate: 7"), "ENUM"),
        (with("[f32, f16]", "[f32, f8]"), "ENUM"),
        (with("[f32, f16]", "[f32, f32]"), "ID_DUP"),
        (with("op: layernorm", "op: layernorn"), "ENUM"),
        (format!("{GOOD}  - name: one\n    why: again\n    sizes: {{ n: 1, h: 2 }}\n"), "ID_DUP"),
        (with("name: one", "name: a/b"), "ID_FORM"),
        (with("name: one", "name: .."), "ID_FORM"),
        (with("name: one", "name: \"a\\nb\""), "ID_FORM"),
        (with("name: one", &format!("name: {}", "a".repeat(300))), "ID_FORM"),
        (with("name: one", "name: One"), "ID_FORM"),
        (with("name: one", "name: o\u{202e}ne"), "ID_FORM"),
        (with("name: one", "name: o\u{200b}ne"), "ID_FORM"),
        (case("timeout_s: 0"), "RANGE"),
        (case("timeout_s: -1"), "RANGE"),
        (case("timeout_s: 1000000000"), "RANGE"),
        (case("repeat: 1000000000"), "COST"),
        (with("n: 3, h: 4", "n: 1000000, h: 2000"), "COST"),
        (case("refuses: { kind: TooSalty, operand: x }"), "ENUM"),
        (case("refuses: { kind: EmptyAxis }"), "MISSING_FIELD"),
        (with("format: 1", "format: 2"), "SCHEMA_VERSION"),
        (with("format: 1\n", ""), "MISSING_FIELD"),
        (with("    why: a reason\n", ""), "MISSING_FIELD"),
        (with("cases:\n", "skip: true\ncases:\n"), "UNKNOWN_FIELD"),
        (case("skip: true"), "UNKNOWN_FIELD"),
        (case("seed: 7"), "UNKNOWN_FIELD"),
        (case("fill: { x: { values: [1, 2] } }"), "SHAPE"),
        (case("fill: { x: { normal: [0, -1] } }"), "RANGE"),
        (case("fill: { x: { uniform: [2, 1] } }"), "RANGE"),
        (case("fill: { x: { gauss: [0, 1] } }"), "ENUM"),
        (case("fill: { x: { ids: [0, 1] } }"), "TYPE"),
        (case("fill: { x: { blocks: every_code } }"), "TYPE"),
        (case("fill: { z: { constant: 1 } }"), "ENUM"),
        (case("omit: [x]"), "MISSING_FIELD"),
        (case("expect: { z: [1] }"), "ENUM"),
        (case("expect: { y: [] }"), "RANGE"),
        (case("alias: { y: w }"), "ENUM"),
        (case("same_bits: { axis: q, chunks: [1] }"), "ENUM"),
        (with("n: 3, h: 4", "n: 3"), "MISSING_FIELD"),
        (with("n: 3, h: 4", "n: 3, h: 4, q: 5"), "ENUM"),
    ]
}

#[test]
fn malformed_meaning() {
    for (text, want) in malformed() {
        let problems = problems_of("layernorm", &text);
        let said: Vec<String> = problems.iter().map(Problem::line).collect();
        let added: Vec<&str> = text.lines().filter(|l| !GOOD.contains(*l)).collect();
        assert_eq!(problems.first().map_or("", |p| p.code), want, "{added:?}: {said:#?}");
        assert!(problems[0].place.line > 0, "a place: {said:#?}");
    }
}

#[test]
fn an_unknown_field_is_shown_with_what_was_meant() {
    let problem = &problems_of("layernorm", &case("tolerence: { rule: derived }"))[0];
    assert_eq!(
        problem.line(),
        "ops/layernorm.yaml:15:5: error[UNKNOWN_FIELD]: cases[0].tolerence: found tolerence, \
         expected another key; did you mean tolerance?"
    );
    assert_eq!(
        problem.snippet,
        "14 |     sizes: { n: 3, h: 4 }\n15 |     tolerence: { rule: derived }\n   |     ^"
    );
}

#[test]
fn every_error_of_meaning_is_listed_in_order() {
    let text = case("slow: yes\n    repet: 2").replace("gate: 1", "gate: 9");
    let codes: Vec<_> = problems_of("layernorm", &text).iter().map(|p| p.code).collect();
    assert_eq!(codes, ["ENUM", "TYPE", "UNKNOWN_FIELD"]);
}

/// YM-12 read with the format's own rule: what is not written is derived. YM-41: never expanded.
#[test]
fn defaults_and_literal_text() {
    let (specs, problems) = read("layernorm", case("source: ${HOME} $(id)").as_bytes());
    assert_eq!(problems, []);
    let case = &specs.ops[0].cases[1];
    assert_eq!(case.source, "${HOME} $(id)");
    assert_eq!(case.full_name(), "gate1::layernorm::one::f16");
    let Expect::Answer { golden, tolerance } = &case.expect else { panic!("an answer") };
    assert_eq!(*golden, GoldenSource::File("ops/layernorm/one.safetensors".into()));
    assert_eq!(tolerance.rule, crate::kinds::op::case::ToleranceRule::Derived);
    assert_eq!(case.family, Family::Rough);
    assert_eq!(case.ask.attributes["eps"], f64::from(1.0e-5f32));
    assert_eq!(case.ask.operands[0].meta.dtype, DType::F16);
    assert_eq!(case.ask.operands[1].meta.dtype, DType::F32);
}

#[test]
fn a_file_is_read_by_its_folder_and_unclaimed_ones_are_named() {
    for (file, want) in [
        ("models/x.yaml", "UNKNOWN_FIELD"),
        ("containers/x.yaml", "UNKNOWN_FIELD"),
        ("op/x.yaml", "UNCLAIMED"),
        ("ops/x.yml", "UNCLAIMED"),
        ("notes.txt", "UNCLAIMED"),
    ] {
        let (mut specs, mut problems) = (Specs::default(), Vec::new());
        read_file(file, b"a: 1\n", &signature, &mut specs, &mut problems);
        assert_eq!(problems[0].code, want, "{file}");
    }
}

const LINEAR_SPEC: &str = r"format: 1
op: linear
gate: 1
source: a book
inputs:
  x: { shape: [n, in], fill: { integers: [-4, 4] } }
  w: { shape: [out, in], fill: { integers: [-4, 4] } }
  bias: { shape: [out], fill: { constant: 0.5 } }
dtypes: [f32, bf16]
weights: [f32, bf16]
keeps: { w: D }
cases:
  - name: plain
    why: a reason
    sizes: { n: 7, in: 64, out: 5 }
    same_bits: { axis: n, chunks: [1, 3], moved: true }
  - name: blocks
    why: a reason
    gate: 2
    sizes: { n: 1, in: 64, out: 3 }
    omit: [bias]
    dtypes: [bf16]
    weights: [q8_0]
    fill: { w: { blocks: { scale: [0.5, 1] } }, x: { normal: [0, 1] } }
  - name: sharp
    why: a reason
    sizes: { n: 1, in: 64, out: 3 }
    grid: full
    weights: [bf16]
  - name: empty
    why: a reason
    sizes: { n: 1, in: 0, out: 3 }
    weights: [f32]
    dtypes: [f32]
    refuses: { kind: EmptyAxis, operand: x }
";

#[test]
fn a_case_expands_over_dtypes_and_weights_only() {
    let (specs, problems) = read("linear", LINEAR_SPEC.as_bytes());
    assert_eq!(problems, []);
    let cases = &specs.ops[0].cases;
    let names: Vec<_> = cases.iter().map(|c| c.full_name()).collect();
    assert_eq!(
        names,
        [
            "gate1::linear::plain::f32-f32",
            "gate1::linear::plain::f32-bf16",
            "gate1::linear::plain::bf16-f32",
            "gate1::linear::plain::bf16-bf16",
            "gate2::linear::blocks::bf16-q8_0",
            "gate1::linear::sharp::f32-bf16",
            "gate1::linear::sharp::bf16-bf16",
            "gate1::linear::empty::f32-f32",
        ]
    );
    let golden = |i: usize| match &cases[i].expect {
        Expect::Answer { golden: GoldenSource::File(path), .. } => path.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(golden(3), "ops/linear/plain.safetensors");
    assert_eq!(golden(4), "ops/linear/blocks.q8_0.safetensors");
    assert_eq!(golden(6), "ops/linear/sharp.bf16-bf16.safetensors");
    assert_eq!(cases[0].family, Family::Exact);
    assert_eq!(cases[4].family, Family::Rough);
    assert_eq!(cases[7].family, Family::Refused);
    assert_eq!(cases[4].ask.operands.len(), 2);
    assert_eq!(cases[4].ask.operands[1].fill, Fill::Blocks(0.5, 1.0));
    assert_eq!(cases[5].ask.operands[0].grid, Grid::Full);
    let same = cases[0].same_bits.as_ref().expect("same_bits");
    assert_eq!((&same.cut[..], &same.results[..]), (&["x".into()][..], &["y".into()][..]));
    let Expect::Answer { tolerance, .. } = &cases[1].expect else { panic!("an answer") };
    assert_eq!(tolerance.keeps["w"], DType::F32);
}

/// YM-40 and YM-42: one bad file among good ones; every error of every file; links are refused.
#[test]
fn a_folder_lists_every_error_of_every_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let ops = folder.path().join("ops");
    std::fs::create_dir(&ops).expect("a folder");
    std::fs::write(ops.join("layernorm.yaml"), GOOD).expect("written");
    std::fs::write(ops.join("linear.yaml"), "format: 1\nop: linear\n").expect("written");
    std::os::unix::fs::symlink(&ops, ops.join("loop")).expect("a link");
    let (specs, problems) = super::folder::read_folder(folder.path(), &signature);
    assert_eq!(specs.ops.len(), 1);
    let codes: Vec<_> = problems.iter().map(|p| p.code).collect();
    assert_eq!(codes[0], "PATH");
    assert_eq!(codes[1..], ["MISSING_FIELD"; 4]);
}
