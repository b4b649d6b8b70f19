//! Verdicts with literals, and the failure page as a reader sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Map;

use super::*;
use crate::kinds::Kind;
use crate::kinds::op::Op;
use crate::kinds::op::case::{Accumulate, GoldenSource, Tolerance, ToleranceRule};
use crate::kinds::op::page::{expected, worst};
use crate::line::page::page;
use crate::line::{Family, Judgement, Place};

fn case(expect: Expect) -> Case {
    Case {
        gate: 1,
        stem: "thirds".into(),
        name: "ragged".into(),
        variant: "f32".into(),
        why: "a width that no block divides".into(),
        source: "arithmetic".into(),
        place: Place { file: "ops/thirds.yaml".into(), line: 12, column: 5 },
        ask: OpAsk {
            op: "thirds".into(),
            dtype: DType::F32,
            attributes: Map::new(),
            operands: Vec::new(),
            alias: BTreeMap::new(),
        },
        expect,
        family: Family::Rough,
        repeat: 1,
        same_bits: None,
        timeout: Duration::from_secs(30),
        memory_mib: 0,
        slow: false,
        part: Default::default(),
        control: None,
        constant_golden: None,
    }
}

fn answer() -> Expect {
    Expect::Answer {
        golden: GoldenSource::File("ops/thirds/ragged.safetensors".into()),
        tolerance: Tolerance {
            rule: ToleranceRule::Derived,
            accumulate: Accumulate::F32,
            linear_sum: false,
            keeps: BTreeMap::from([("w".to_owned(), DType::F16)]),
            because: None,
        },
    }
}

fn refusal() -> Expect {
    Expect::Refusal { kind: RefusalKind::EmptyAxis, operand: "x".into() }
}

fn golden() -> Golden {
    let numbers = (1..=12).map(|i| f64::from(i) / 3.0).collect();
    let result = GoldenResult {
        shape: vec![2, 6],
        numbers: Numbers::Real(numbers),
        slack: vec![16.0; 12],
        keeps: BTreeMap::new(),
        absolute: Vec::new(),
        decided: Vec::new(),
        declared: BTreeMap::new(),
        shaky: BTreeMap::new(),
    };
    Golden { results: BTreeMap::from([("y".to_owned(), result)]), ..Golden::default() }
}

fn answered(values: &[f64], observed: Observed) -> Outcome {
    let y = Tensor::from_f64(DType::F32, &[2, 6], values);
    Outcome::Answered { results: BTreeMap::from([("y".to_owned(), y)]), observed }
}

fn honest() -> Vec<f64> {
    (1..=12).map(|i| f64::from(i) / 3.0).collect()
}

fn whole() -> Observed {
    Observed {
        guards: Some("intact".into()),
        inputs: Some("unchanged".into()),
        poison: Some("overwritten".into()),
        route: Some(vec!["thirds_f32".into()]),
        ..Observed::default()
    }
}

fn judged(outcome: &Outcome, whom: &Whom) -> Compared {
    judge(&answer(), &rulers(&case(answer()), &golden()), outcome, whom)
}

fn kind(judgement: &Compared) -> &'static str {
    match &judgement.verdict {
        Verdict::Fail { kind, .. } => kind.word(),
        Verdict::NotRun { kind, .. } => kind.word(),
        Verdict::Pass => "pass",
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_rounded_golden_passes_and_counts_its_elements() {
    let j = judged(&answered(&honest(), whole()), &Whom::Cuda);
    let d = j.distance.expect("measured");
    assert_eq!((j.verdict, d.load, d.compared), (Verdict::Pass, 0.0, 12));
    assert_eq!(j.notes, Vec::<String>::new());
}

#[test]
fn the_first_rule_that_fails_is_named() {
    let cuda = |values: &[f64], o: Observed| kind(&judged(&answered(values, o), &Whom::Cuda));
    let mut far = honest();
    far[3] = 2.0;
    assert_eq!(cuda(&far, whole()), "load");
    let poison = Observed { poison: Some("left y 1 first 3".into()), ..whole() };
    let guards = Observed { guards: Some("broken y +4 bytes".into()), ..whole() };
    let inputs = Observed { inputs: Some("changed x".into()), ..whole() };
    assert_eq!(cuda(&far, poison.clone()), "poison");
    assert_eq!(cuda(&far, Observed { poison: poison.poison, ..guards.clone() }), "poison");
    assert_eq!(cuda(&far, guards), "guard");
    assert_eq!(cuda(&honest(), inputs), "input_changed");
    assert_eq!(cuda(&honest(), Observed { route: Some(Vec::new()), ..whole() }), "route");
    assert_eq!(cuda(&honest(), Observed::default()), "route");
    far[5] = f64::NAN;
    assert_eq!(cuda(&far, Observed { route: None, ..whole() }), "nonfinite");
}

#[test]
fn a_foreign_subject_need_not_observe_but_the_row_says_so() {
    let j = judged(&answered(&honest(), Observed::default()), &Whom::foreign(true));
    assert_eq!(kind(&j), "pass");
    assert_eq!(j.notes, ["not observed: guards, inputs, poison, route"]);
    let empty = Observed { route: Some(Vec::new()), ..whole() };
    assert_eq!(kind(&judged(&answered(&honest(), empty), &Whom::foreign(true))), "route");
}

#[test]
fn another_set_type_or_shape_of_results_is_shape() {
    let table = [
        (
            "y",
            Tensor::from_f64(DType::F32, &[6, 2], &honest()),
            "y: got f32 [6, 2], want f32 [2, 6]",
        ),
        (
            "y",
            Tensor::from_f64(DType::F16, &[2, 6], &honest()),
            "y: got f16 [2, 6], want f32 [2, 6]",
        ),
        ("z", Tensor::from_f64(DType::F32, &[2, 6], &honest()), "results: got z, want y"),
    ];
    for (name, tensor, said) in table {
        let results = BTreeMap::from([(name.to_owned(), tensor)]);
        let outcome = Outcome::Answered { results, observed: whole() };
        let want = Verdict::Fail { kind: FailKind::Shape, message: said.to_owned() };
        assert_eq!(judged(&outcome, &Whom::Cpu).verdict, want);
    }
    let none = Outcome::Answered { results: BTreeMap::new(), observed: whole() };
    assert_eq!(kind(&judged(&none, &Whom::Cpu)), "shape");
}

#[test]
fn refusals_are_judged_by_kind_and_operand() {
    let said = |kind: &str, operand: &str, whom: &Whom| {
        let outcome = Outcome::Refused {
            kind: kind.into(),
            operand: operand.into(),
            message: "axis 1 of [3, 0] is empty".into(),
        };
        judge(&refusal(), &[], &outcome, whom)
    };
    assert_eq!(kind(&said("EmptyAxis", "x", &Whom::Cpu)), "pass");
    assert_eq!(kind(&said("ShapeMismatch", "x", &Whom::Cpu)), "wrong_refusal");
    assert_eq!(kind(&said("EmptyAxis", "gamma", &Whom::Cpu)), "wrong_refusal");
    let foreign = said("BadShape", "x", &Whom::foreign(false));
    assert_eq!((kind(&foreign), &foreign.notes[0][..]), ("pass", "refused as BadShape"));
    let j = judge(&refusal(), &[], &answered(&honest(), whole()), &Whom::Cpu);
    assert_eq!(kind(&j), "not_refused");
    let fair =
        Outcome::Refused { kind: "EmptyAxis".into(), operand: "x".into(), message: "".into() };
    assert_eq!(kind(&judged(&fair, &Whom::Cpu)), "wrong_refusal");
}

#[test]
fn nothing_compared_is_inconclusive_not_a_pass() {
    let mut golden = golden();
    golden.results.get_mut("y").expect("there").decided = vec![false; 12];
    let rulers = rulers(&case(answer()), &golden);
    let j = judge(&answer(), &rulers, &answered(&honest(), whole()), &Whom::Cpu);
    assert_eq!(kind(&j), "inconclusive");
}

/// The page as the run writes it.
fn paged(case: &Case, j: Compared, golden: Option<&Golden>, label: &str, stderr: &str) -> String {
    let mut judgement = Judgement::unmeasured(j.verdict);
    judgement.detail = j.distance.as_ref().map(worst).unwrap_or_default();
    judgement.detail.extend(expected(case, golden));
    let again = format!("goldgate run {}", case.trial(label));
    let head = Op.head(case);
    page(&head, &case.trial(label), &judgement, &again, stderr).expect("a page")
}

#[test]
fn the_page_of_a_load() {
    let mut far = honest();
    far[3] = 4.0 / 3.0 + 1e-5;
    far[4] = 5.0 / 3.0 - 3e-6;
    let j = judged(&answered(&far, whole()), &Whom::Cuda);
    let text = paged(&case(answer()), j, Some(&golden()), "cuda", "warning: cold cache\n");
    assert_eq!(text, include_str!("page_load.txt"), "\n{text}");
}

#[test]
fn the_page_of_a_refusal_that_did_not_come() {
    let j = judge(&refusal(), &[], &answered(&honest(), whole()), &Whom::Cpu);
    let text = paged(&case(refusal()), j, None, "cpu", "");
    assert_eq!(text, include_str!("page_not_refused.txt"), "\n{text}");
}
