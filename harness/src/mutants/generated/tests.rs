//! Each kind of fault on literals, and what is said of those that survive.

use std::path::Path;
use std::sync::Arc;

use goldgate_engine::ops::{self, Values};
use goldgate_tensor::{DType, Tensor};
use serde_json::{Map, json};

use super::asked::{Answering, Results};
use super::attributes::nudged;
use super::fault::{Axis, Edge, Edit, Lost, Narrow, Nudge};
use super::rules::Scope;
use super::values::{applies, edited, moved, without_subnormal_scales};
use super::*;
use crate::kinds::op::case::GoldenSource;
use crate::kinds::op::golden::{Golden, written};
use crate::kinds::op::question::{OpQuestion, define};
use crate::kinds::{Goldens, Withheld};
use crate::line::{GeneratedScore, NotRun};
use crate::spec::folder::{read_file, vocabulary};

const ROWS: Axis = Axis::FromLast(1);
const COLUMNS: Axis = Axis::FromLast(0);

fn x() -> Tensor {
    Tensor::from_f64(DType::F32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
}

/// The numbers of a tensor after an edit.
fn real(edit: Edit, tensor: &Tensor) -> Vec<f64> {
    if let Some(moved) = moved(edit, tensor) {
        return moved.to_f64();
    }
    let (meta, values) = (&tensor.meta, Values::of(tensor));
    match edited(edit, &values, &meta.shape, meta.dtype, None) {
        Some(Values::Real(x)) => x,
        other => panic!("{edit:?}: {other:?}"),
    }
}

#[test]
fn rounding_keeps_the_digits_of_a_type() {
    let third = 1.0 / 3.0;
    assert_eq!(Narrow::Bf16.round(third), 0.333_984_375);
    assert_eq!(Narrow::Tf32.round(third), 0.333_251_953_125);
    assert_eq!(Narrow::E4m3.round(third), 0.343_75);
    // Halfway between 1 and 1.125: to the even one.
    assert_eq!(Narrow::E4m3.round(1.0625), 1.0);
    assert_eq!((Narrow::E4m3.round(1e6), Narrow::E4m3.round(-1e-4)), (448.0, 0.0));
    assert_eq!(Narrow::E4m3.round(0.003), 2f64.powi(-9) * 2.0);
    assert!(Narrow::Tf32.round(f64::INFINITY).is_infinite());
    let digits = Tensor::from_f64(DType::F32, &[1], &[third]);
    assert_eq!(real(Edit::Round(Narrow::E4m3), &digits), [0.343_75]);
}

#[test]
fn elements_are_scaled_cut_and_exchanged() {
    assert_eq!(real(Edit::Scale(0.5), &x())[5], 3.0);
    let cut = |axis, edge, lost| real(Edit::Cut(axis, edge, lost), &x());
    assert_eq!(cut(COLUMNS, Edge::Last, Lost::Zero), [1.0, 2.0, 0.0, 4.0, 5.0, 0.0]);
    assert_eq!(cut(COLUMNS, Edge::At(1), Lost::First), [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]);
    assert_eq!(cut(ROWS, Edge::Last, Lost::First), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    assert_eq!(cut(Axis::Flat, Edge::At(4), Lost::Zero), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
    assert_eq!(real(Edit::Exchange(ROWS), &x()), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    assert_eq!(real(Edit::Exchange(COLUMNS), &x()), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
}

#[test]
fn an_axis_that_ends_at_the_edge_loses_nothing() {
    assert!(!applies(Edit::Cut(COLUMNS, Edge::At(3), Lost::Zero), &[2, 3]));
    assert!(applies(Edit::Cut(COLUMNS, Edge::At(2), Lost::Zero), &[2, 3]));
    assert!(!applies(Edit::Cut(ROWS, Edge::Last, Lost::First), &[1, 3]));
    // An optional first axis that is not there.
    assert!(!applies(Edit::Exchange(Axis::FromLast(2)), &[2, 3]));
}

#[test]
fn blocks_move_whole_and_lose_their_small_scales() {
    let block = |scale: [u8; 2]| [&scale[..], &[0x99; 16]].concat();
    // 1, and the smallest subnormal number of f16.
    let bytes = [block([0x00, 0x3c]), block([0x01, 0x00])].concat();
    let rows = Tensor::new(DType::Q4_0, &[2, 32], bytes.clone());
    let last = moved(Edit::Cut(ROWS, Edge::Last, Lost::Zero), &rows).expect("whole rows");
    assert_eq!((&last.bytes[..18], &last.bytes[18..]), (&bytes[..18], &[0; 18][..]));
    let one_row = Tensor::new(DType::Q4_0, &[1, 64], bytes);
    let beyond = moved(Edit::Cut(COLUMNS, Edge::At(32), Lost::Zero), &one_row).expect("a block");
    assert_eq!(beyond.to_f64()[32..], [0.0; 32]);
    assert!(moved(Edit::Cut(COLUMNS, Edge::Last, Lost::Zero), &one_row).is_none());
    let flushed = without_subnormal_scales(&rows).to_f64();
    assert_eq!((flushed[0], flushed[32]), (1.0, 0.0));
}

#[test]
fn subnormals_and_the_sign_of_zero_are_lost() {
    let small = Tensor::from_f64(DType::F16, &[3], &[-6e-8, 0.5, -0.0]);
    let flushed = real(Edit::Flush, &small);
    assert_eq!(
        flushed.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        [(-0.0f64).to_bits(), 0.5f64.to_bits(), (-0.0f64).to_bits()]
    );
    assert_eq!(real(Edit::UnsignedZero, &small)[2].to_bits(), 0);
}

#[test]
fn ids_wrap_and_the_last_is_never_given() {
    let ids = Values::Ids(vec![8191, 8192, 9999, -1]);
    let edit = |edit, limit| edited(edit, &ids, &[4], DType::I32, limit).expect("ids");
    assert_eq!(edit(Edit::Wrap(13), None), Values::Ids(vec![8191, 0, 1807, -1]));
    let last = edit(Edit::LastId("v"), Some(10_000));
    assert_eq!(last, Values::Ids(vec![8191, 8192, 9998, -1]));
    assert!(edited(Edit::Scale(2.0), &ids, &[4], DType::I32, None).is_none());
}

#[test]
fn attributes_are_nudged_within_their_range() {
    let given = |text: serde_json::Value| text.as_object().cloned().unwrap_or_default();
    let nudge = |op: &str, attributes: &Map<String, Value>, name, key, nudge| {
        nudged(ops::find(op).expect("an op").signature(), attributes, (name, key), &nudge)
    };
    let p = given(json!({"value": 0.5}));
    let next = nudge("top_p", &p, "value", None, Nudge::Next(true)).expect("a number");
    assert_eq!(next["value"], json!(f64::from(0.5f32.next_up())));
    let all = given(json!({"value": 1.0}));
    assert!(nudge("top_p", &all, "value", None, Nudge::Next(true)).is_none());
    let scaled = nudge("softmax", &Map::new(), "scale", None, Nudge::Times(1.5));
    assert_eq!(scaled.expect("the default")["scale"], json!(1.5));
    let window = given(json!({"window": 7, "ring": true}));
    let wider = nudge("attention_prefill", &window, "window", None, Nudge::Add(1));
    assert_eq!(wider.expect("a window")["window"], json!(8));
    assert!(nudge("attention_prefill", &Map::new(), "window", None, Nudge::Add(1)).is_none());
    let turned = nudge("attention_prefill", &window, "ring", None, Nudge::Turn);
    assert_eq!(turned.expect("a flag")["ring"], json!(false));
    let start = given(json!({"start": 8197}));
    let wrapped = nudge("kv_append", &start, "start", None, Nudge::Wrap(13));
    assert_eq!(wrapped.expect("a start")["start"], json!(5));
    let rope = given(json!({"scaling": {"factor": 8.0, "type": "yarn"}}));
    let factor = nudge("rope", &rope, "scaling", Some("factor"), Nudge::Times(0.5));
    assert_eq!(factor.expect("a factor")["scaling"]["factor"], json!(4.0));
    assert!(nudge("rope", &rope, "scaling", None, Nudge::Remove).expect("removed").is_empty());
}

fn names_of(op: &str, scope: &Scope) -> Vec<String> {
    let signature = ops::find(op).expect("an op").signature();
    faults(signature, scope).into_iter().map(|fault| fault.name).collect()
}

#[test]
fn the_rules_follow_the_signature() {
    let (dtype, weight) = (Some(DType::F16), Some(DType::Q4K));
    let linear = names_of("linear", &Scope { dtype, weight, ..Scope::default() });
    let has = |name: &str| linear.iter().any(|n| n == name);
    for name in [
        "round.x.bf16",
        "round.w.tf32",
        "flush-scales.w",
        "omit.bias",
        "cut.w.in.last",
        "cut.result.y.n.160.zero",
        "cut.result.y.out.128.first",
        "exchange.w.out",
        "scale.result.y.up",
        "stale.result.y",
        "sum.f16",
    ] {
        assert!(has(name), "{name}");
    }
    // Nothing of blocks is subnormal but their scales; a row of x is no term of a sum.
    for name in ["flush.w", "cut.x.n.last", "zero-sign.result.y", "wrap.x.8192"] {
        assert!(!has(name), "{name}");
    }
    let bf16 = Scope { dtype: Some(DType::BF16), ..Scope::default() };
    let rope = names_of("rope", &bf16);
    // A type is not rounded to itself.
    assert!(!rope.iter().any(|n| n == "round.x.bf16") && rope.iter().any(|n| n == "round.x.e4m3"));
    assert!(rope.iter().any(|n| n == "wrap.positions.131072"));
    let mut unique = linear.clone();
    unique.dedup();
    assert_eq!(unique, linear, "a name is one fault");
}

#[test]
fn every_op_has_faults_of_its_operands_and_results() {
    for op in ops::ALL.iter().map(|op| op.signature()) {
        let names = names_of(op.name, &Scope::default());
        let operand = op.operands[0].name;
        assert!(names.iter().any(|n| n.split('.').nth(1) == Some(operand)), "{}", op.name);
        assert!(names.iter().any(|n| n.contains(".result.")), "{}", op.name);
    }
}

const RESIDUAL: &str = "format: 1
op: residual
gate: 1
source: arithmetic
inputs:
  a: { shape: [n, h], fill: { values: [1, 2, 3, 4] } }
  b: { shape: [n, h], fill: { values: [0.5, 0.25, 8, 16] } }
dtypes: [f32]
cases:
  - name: by_hand
    why: four sums that everyone can redo
    sizes: { n: 2, h: 2 }
    expect: { y: [1.5, 2.25, 11, 20] }
";

struct Written;

impl Goldens for Written {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        let none = |message: String| Withheld::NotRun(NotRun::NoGolden, message);
        match &case.expect {
            Expect::Answer { golden: GoldenSource::Written(numbers), .. } => {
                written(case, numbers).map_err(|problem| none(problem.line()))
            }
            _ => Err(none("it is not written".to_owned())),
        }
    }
}

/// Answers by the definitions, without a process.
struct Definitions;

impl Answering for Definitions {
    fn answer(&mut self, _: &Case, question: &OpQuestion) -> Result<Option<Results>, String> {
        define(question).map(Result::ok).ok_or_else(|| "no such op".to_owned())
    }

    fn wrong(&mut self, _: &OpQuestion, _: &str) -> Result<Option<Results>, String> {
        Err("no oracle".to_owned())
    }
}

fn planted(equivalent: &str) -> Vec<Outcome> {
    let (mut specs, mut problems) = (Specs::default(), Vec::new());
    for (file, text) in [("ops/residual.yaml", RESIDUAL), ("mutants/equivalent.yaml", equivalent)] {
        read_file(file, text.as_bytes(), &vocabulary, &mut specs, &mut problems);
    }
    assert!(problems.is_empty(), "{problems:?}");
    let planting = Planting {
        specs: &specs,
        trials: &[],
        goldens: &Written,
        program: Path::new(""),
        scratch: Path::new(""),
        jobs: 1,
        timeout: None,
        stop: Arc::default(),
    };
    let groups = groups(&specs);
    assert_eq!(groups.len(), 1);
    group_outcomes(&planting, &groups[0], &mut Definitions)
}

#[test]
fn a_survivor_is_named_and_the_score_counts_the_others() {
    let outcomes = planted("format: 1\nequivalent: []\n");
    let fate = |name: &str| {
        let name = format!("generated::residual::f32::{name}");
        &outcomes.iter().find(|o| o.name == name).expect("generated").fate
    };
    for name in
        ["scale.a.up", "round.b.e4m3", "exchange.result.y.first", "cut.result.y.last.last.zero"]
    {
        let killed = matches!(fate(name), Fate::Killed { .. });
        // Powers of two are numbers of every type: rounding them changes nothing.
        assert_eq!(killed, name != "round.b.e4m3", "{name}");
    }
    let why = "changes nothing in any of 1 cases".to_owned();
    assert_eq!(fate("cut.result.y.last.64.zero"), &Fate::Survived { why });
    let scores = scores(&outcomes);
    assert_eq!((scores.len(), scores[0].generated), (1, outcomes.len()));
    assert_eq!(scores[0].killed + scores[0].survived, outcomes.len());
    let name = "generated::residual::f32::cut.result.y.last.64.zero";
    assert!(scores[0].survivors.iter().any(|survivor| survivor == name));
}

#[test]
fn a_reviewed_fault_is_out_of_the_score() {
    let entry = "format: 1\nequivalent:\n  - { fault: round.b.*, ops: [residual], reason: why }\n";
    let outcomes = planted(entry);
    let equivalent: Vec<&Outcome> =
        outcomes.iter().filter(|o| matches!(o.fate, Fate::Equivalent { .. })).collect();
    assert_eq!(equivalent.len(), 3);
    assert_eq!(scores(&outcomes)[0].equivalent, 3);
    let other = "format: 1\nequivalent:\n  - { fault: round.b.*, variants: [bf16], reason: why }\n";
    assert_eq!(scores(&planted(other))[0].equivalent, 0);
}

#[test]
fn a_judge_that_notices_everything_scores_a_hundred() {
    let score = |killed, survived| GeneratedScore { killed, survived, ..Default::default() };
    assert_eq!(percent(&[score(3, 0), score(5, 0)]), Some(100.0));
    assert_eq!(percent(&[score(3, 0), score(0, 1)]), Some(75.0));
    assert_eq!(percent(&[score(0, 0)]), None);
}

#[test]
fn what_could_not_be_tried_is_not_run() {
    let (name, fault) = ("linear", fault::Change::Arithmetic("sum.f16"));
    let fault = Fault { name: "sum.f16".to_owned(), change: fault };
    let group = Group { op: name, variant: "f16", faults: vec![fault], cases: Vec::new() };
    let progress = Progress { unable: Some("no numpy".to_owned()), ..Progress::default() };
    let context = Context { asked: 1, too_large: 0, withheld: None };
    let found = outcome(&group, &group.faults[0], None, progress, &context);
    assert_eq!(found.fate, Fate::NotRun { why: "no numpy".to_owned() });
    assert_eq!(found.name, "generated::linear::f16::sum.f16");
}
