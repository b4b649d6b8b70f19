//! Malformed goldens: each with its code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, Tensor};

use crate::kinds::op::case::Case;
use crate::kinds::op::golden::{self, Numbers, family, is_pending, written};
use crate::kinds::op::oracle::{Asked, question};
use crate::line::Family;
use crate::spec::folder::read_file;
use crate::spec::{Specs, vocabulary};
use crate::store::{Label, Store, Witness};

const SPEC: &str = r"format: 1
op: layernorm
gate: 1
source: a paper
inputs:
  x: { shape: [n, h], fill: { integers: [-4, 4] } }
  gamma: { shape: [h], fill: { constant: 1 } }
  beta: { shape: [h], fill: { constant: 0 } }
attributes: { eps: 1.0e-5 }
dtypes: [f32]
cases:
  - name: one
    why: a reason
    sizes: { n: 2, h: 3 }
  - name: by_hand
    why: a reason
    sizes: { n: 1, h: 2 }
    expect: { y: [-0.99, 0.99] }
";

/// The goldens that a case asks for.
fn asked(case: &Case) -> BTreeSet<&str> {
    crate::kinds::op::oracle::path(case).into_iter().collect()
}

fn cases() -> Vec<Case> {
    let (mut specs, mut problems) = (Specs::default(), Vec::new());
    read_file("ops/layernorm.yaml", SPEC.as_bytes(), &vocabulary, &mut specs, &mut problems);
    assert_eq!(problems, []);
    specs.ops.remove(0).cases
}

fn label(asked: &Asked) -> Label {
    Label {
        case: "ops/layernorm/one".into(),
        question: asked.hash.clone(),
        inputs: asked.inputs.clone(),
        witnesses: vec![Witness {
            name: "formula".into(),
            version: "1".into(),
            script: String::new(),
            date: "2026-11-20".into(),
        }],
        exact: false,
    }
}

fn tensors(y: &[f64]) -> BTreeMap<String, Tensor> {
    BTreeMap::from([
        ("y".to_owned(), Tensor::from_f64(DType::F64, &[2, 3], y)),
        ("y.slack".to_owned(), Tensor::from_f64(DType::F32, &[2, 3], &[1.0; 6])),
    ])
}

const Y: [f64; 6] = [1.0, -1.0, 0.5, 0.25, 2.0, -2.0];
const PATH: &str = "ops/layernorm/one.safetensors";

struct Bench {
    folder: tempfile::TempDir,
    case: Case,
    asked: Asked,
}

impl Bench {
    fn new() -> Bench {
        let case = cases().remove(0);
        let asked = question(&case, &[]);
        Bench { folder: tempfile::tempdir().expect("a folder"), case, asked }
    }

    fn write(&self, label: &Label, tensors: &BTreeMap<String, Tensor>) {
        let mut store = Store::open(self.folder.path()).expect("open");
        store.write(PATH, label, tensors).expect("written");
        store.manifest.write(self.folder.path()).expect("written");
    }

    fn code(&self) -> &'static str {
        let store = Store::open(self.folder.path()).expect("open");
        match golden::of_case(&store, &self.case, &self.asked) {
            Ok(_) => "",
            Err(problem) => problem.code,
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join(PATH)
    }
}

#[test]
fn a_good_golden_comes_back() {
    let bench = Bench::new();
    bench.write(&label(&bench.asked), &tensors(&Y));
    let store = Store::open(bench.folder.path()).expect("open");
    let golden = golden::of_case(&store, &bench.case, &bench.asked).expect("good");
    assert_eq!(golden.results["y"].numbers, Numbers::Real(Y.into()));
    assert_eq!(golden.results["y"].slack, [1.0; 6]);
    assert_eq!(bench.case.family, Family::Exact);
    assert_eq!(family(&bench.case, &golden), Family::Rough, "the oracle did not say exact");
    assert_eq!(store.check_files(&asked(&bench.case)), []);
    assert!(!is_pending(&store, &bench.case));
}

/// GO-01, GO-02, GO-03: the bytes are those of the manifest.
#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bench = Bench::new();
    assert_eq!(bench.code(), "GOLDEN_MISSING");
    bench.write(&label(&bench.asked), &tensors(&Y));
    let good = fs::read(bench.file()).expect("there");
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(bench.file(), &bytes).expect("written");
        assert_eq!(bench.code(), "GOLDEN_HASH", "byte {at}");
    }
    fs::write(bench.file(), &good[..good.len() - 1]).expect("written");
    assert_eq!(bench.code(), "GOLDEN_SIZE");
    fs::write(bench.file(), [&good[..], b"x"].concat()).expect("written");
    assert_eq!(bench.code(), "GOLDEN_SIZE");
    fs::remove_file(bench.file()).expect("removed");
    assert_eq!(bench.code(), "GOLDEN_MISSING");
    let store = Store::open(bench.folder.path()).expect("open");
    let codes = |p: Vec<crate::yaml::Problem>| p.iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(codes(store.check_files(&asked(&bench.case))), ["MANIFEST_STALE"]);
    fs::write(bench.file(), &good).expect("written");
    assert_eq!(codes(store.check_files(&BTreeSet::new())), ["UNCLAIMED"]);
    fs::remove_file(bench.folder.path().join("MANIFEST.json")).expect("removed");
    let store = Store::open(bench.folder.path()).expect("open");
    assert_eq!(codes(store.check_files(&asked(&bench.case))), ["MANIFEST_MISSING"]);
}

/// GO-07 to GO-11, GO-14, GO-15, GO-17: what the bytes say, even under a right hash.
#[test]
fn a_golden_that_says_something_else_is_refused() {
    let bench = Bench::new();
    let good = label(&bench.asked);
    let y = |values: [f64; 6]| tensors(&values);
    let with = |name: &str, tensor: Tensor| {
        let mut t = tensors(&Y);
        t.insert(name.to_owned(), tensor);
        t
    };
    let without = |name: &str| {
        let mut t = tensors(&Y);
        t.remove(name);
        t
    };
    let itself = Witness { name: "goldgate-engine".into(), ..good.witnesses[0].clone() };
    let other_input = [("x".to_owned(), "00".repeat(32))].into();
    let mut bad_y = Y;
    bad_y[4] = f64::NAN;
    let small = Tensor::from_f64(DType::F64, &[3, 2], &Y);
    let f32s = Tensor::from_f64(DType::F32, &[2, 3], &Y);
    let negative = Tensor::from_f64(DType::F32, &[2, 3], &[-1.0; 6]);
    let table = [
        (Label { witnesses: vec![], ..good.clone() }, y(Y), "PROVENANCE"),
        (Label { witnesses: vec![itself], ..good.clone() }, y(Y), "PROVENANCE_SELF"),
        (Label { case: "ops/layernorm/two".into(), ..good.clone() }, y(Y), "GOLDEN_CASE"),
        (Label { inputs: other_input, ..good.clone() }, y(Y), "INPUTS_HASH"),
        (Label { question: "00".repeat(32), ..good.clone() }, y(Y), "GOLDEN_QUESTION"),
        (good.clone(), y(bad_y), "GOLDEN_NONFINITE"),
        (good.clone(), y([0.0; 6]), "GOLDEN_WEAK"),
        (good.clone(), y([3.5; 6]), "GOLDEN_WEAK"),
        (good.clone(), with("y", small), "GOLDEN_SHAPE"),
        (good.clone(), with("y", f32s.clone()), "GOLDEN_PRECISION"),
        (good.clone(), with("y.slack", negative), "GOLDEN_NONFINITE"),
        (good.clone(), without("y.slack"), "GOLDEN_FORM"),
        (good.clone(), with("y.other", f32s.clone()), "GOLDEN_FORM"),
        (good.clone(), with("z.slack", f32s), "GOLDEN_FORM"),
        (good, without("y"), "GOLDEN_FORM"),
    ];
    for (label, tensors, want) in table {
        bench.write(&label, &tensors);
        assert_eq!(bench.code(), want);
    }
}

/// YM-13: the slack of every element is 1, so 2^-24 is what may be allowed by hand.
#[test]
fn a_tolerance_by_hand_is_not_looser_than_the_derived_one() {
    let mut bench = Bench::new();
    bench.write(&label(&bench.asked), &tensors(&Y));
    for (absolute, want) in [(5.9e-8, ""), (6.0e-8, "TOL_CEILING"), (1.0, "TOL_CEILING")] {
        let crate::kinds::op::case::Expect::Answer { tolerance, .. } = &mut bench.case.expect
        else {
            panic!("an answer")
        };
        tolerance.rule =
            crate::kinds::op::case::ToleranceRule::Number { absolute, relative: 0.0, ulp: 0.0 };
        assert_eq!(bench.code(), want, "{absolute}");
    }
}

#[test]
fn written_numbers_carry_half_a_unit_of_their_last_digit() {
    let case = cases().remove(1);
    let crate::kinds::op::case::Expect::Answer {
        golden: crate::kinds::op::case::GoldenSource::Written(w),
        ..
    } = &case.expect
    else {
        panic!("written")
    };
    let golden = written(&case, w).expect("good");
    assert_eq!(golden.results["y"].shape, [1, 2]);
    assert_eq!(golden.results["y"].absolute, [0.005, 0.005]);
    let mut short = case.clone();
    short.ask.operands[0].meta = Meta::new(DType::F32, &[2, 2]);
    assert_eq!(written(&short, w).expect_err("two numbers for four").code, "GOLDEN_SHAPE");
}

#[test]
fn one_question_has_one_hash_whatever_the_type() {
    let mut case = cases().remove(0);
    let hash = question(&case, &[]).hash;
    case.ask.dtype = DType::F16;
    case.ask.operands[0].meta.dtype = DType::F16;
    assert_eq!(question(&case, &[]).hash, hash);
    assert_ne!(question(&case, &["no_eps".into()]).hash, hash);
    case.ask.attributes["eps"] = 1.0.into();
    assert_ne!(question(&case, &[]).hash, hash);
}
