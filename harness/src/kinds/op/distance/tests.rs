//! The judge's arithmetic with literals.

use std::collections::BTreeMap;

use super::*;
use crate::kinds::op::case::Accumulate;

fn tolerance(rule: ToleranceRule) -> Tolerance {
    Tolerance {
        rule,
        accumulate: Accumulate::F32,
        linear_sum: false,
        keeps: BTreeMap::new(),
        because: None,
    }
}

fn result(values: &[f64], slack: f32) -> GoldenResult {
    GoldenResult {
        shape: vec![values.len()],
        numbers: Numbers::Real(values.to_vec()),
        slack: vec![slack; values.len()],
        keeps: BTreeMap::new(),
        absolute: Vec::new(),
        decided: Vec::new(),
        declared: BTreeMap::new(),
        shaky: BTreeMap::new(),
    }
}

fn ruler(dtype: DType, values: &[f64], slack: f32) -> Ruler {
    Ruler::new("y", dtype, &result(values, slack), &tolerance(ToleranceRule::Derived))
}

#[test]
fn rounding_alone_is_load_zero_in_every_type() {
    for dtype in DType::ACTIVATIONS {
        let values = [1.0 / 3.0, -2.7, 1e-6, 0.0, 300.1];
        let r = ruler(dtype, &values, 4.0);
        for (i, &x) in values.iter().enumerate() {
            assert_eq!(r.load(i, dtype.round(x)), 0.0, "{dtype} {x}");
        }
    }
}

#[test]
fn the_limit_is_half_an_ulp_and_the_allowance() {
    let r = ruler(DType::F32, &[1.0], 8.0);
    let edge = DType::F32.half_ulp(1.0) + 8.0 * UNIT;
    assert!(r.load(0, 1.0 + 0.99 * edge) <= 1.0);
    assert!(r.load(0, 1.0 + 1.01 * edge) > 1.0);
    assert!(r.load(0, 1.0 - 1.01 * edge) > 1.0);
    assert_eq!(r.load(0, 1.0 + DType::F32.half_ulp(1.0) + 4.0 * UNIT), 0.5);
}

#[test]
fn without_allowance_the_rounded_golden_alone_passes() {
    let r = ruler(DType::F16, &[0.1], 0.0);
    assert_eq!(r.load(0, DType::F16.round(0.1)), 0.0);
    // The other neighbour is within an ulp, and still another number.
    assert_eq!(r.load(0, DType::F16.round(0.1) + 2.0 * DType::F16.half_ulp(0.1)), f64::INFINITY);
}

#[test]
fn subnormals_keep_their_floor() {
    let r = ruler(DType::F16, &[2f64.powi(-26)], 1e-3);
    assert_eq!(r.load(0, 0.0), 0.0);
    assert!(r.load(0, 2f64.powi(-23)) > 1.0);
}

#[test]
fn infinity_is_the_answer_where_the_golden_rounds_to_it() {
    let r = ruler(DType::F16, &[70_000.0, -70_000.0, 60_000.0], 4.0);
    assert_eq!(r.load(0, f64::INFINITY), 0.0);
    assert_eq!(r.load(1, f64::NEG_INFINITY), 0.0);
    assert_eq!(r.load(0, 65_504.0), f64::INFINITY);
    assert_eq!(r.load(0, f64::NEG_INFINITY), f64::INFINITY);
    assert_eq!(r.load(2, f64::INFINITY), f64::INFINITY);
    assert!(r.nonfinite(2, f64::INFINITY) && !r.nonfinite(0, f64::INFINITY));
}

#[test]
fn nan_is_demanded_where_the_golden_has_it_and_fails_elsewhere() {
    let r = ruler(DType::F32, &[f64::NAN, 1.0], 1e30);
    assert_eq!(r.load(0, f64::NAN), 0.0);
    assert_eq!(r.load(0, 1.0), f64::INFINITY);
    assert_eq!(r.load(1, f64::NAN), f64::INFINITY);
    let d = r.measure(&[f64::NAN, f64::NAN]);
    assert_eq!((d.nonfinite, d.over, d.load), (1, 1, f64::INFINITY));
    assert_eq!(d.worst.expect("one is over").index, [1]);
}

#[test]
fn an_allowance_that_is_nan_lets_only_the_rounded_golden_through() {
    let r = ruler(DType::F32, &[1.0, 2.0], f32::NAN);
    let d = r.measure(&[1.0, 2.1]);
    assert_eq!(d.over, 1);
    assert!(exceeds(d.load, 1.0));
}

#[test]
fn keeps_written_digits_and_numbers_add_up() {
    let mut golden = result(&[2.0], 6.0);
    golden.keeps.insert("w".into(), vec![4096.0]);
    golden.absolute = vec![0.5e-3];
    let mut rule = tolerance(ToleranceRule::Derived);
    rule.keeps.insert("w".into(), DType::F16);
    assert_eq!(Ruler::new("y", DType::F32, &golden, &rule).allow, [UNIT * 8.0 + 0.5e-3]);
    rule.keeps.insert("w".into(), DType::F32);
    assert_eq!(Ruler::new("y", DType::F32, &golden, &rule).allow, [UNIT * 6.0 + 0.5e-3]);
    rule.rule = ToleranceRule::Number { absolute: 0.25, relative: 0.5, ulp: 1.0 };
    let ulp = 2.0 * DType::F32.half_ulp(2.0);
    assert_eq!(Ruler::new("y", DType::F32, &golden, &rule).allow, [0.25 + 1.0 + ulp + 0.5e-3]);
}

#[test]
fn the_exact_rule_sees_the_sign_of_zero() {
    let r = Ruler::new("y", DType::F32, &result(&[-0.0], 9.0), &tolerance(ToleranceRule::Exact));
    assert_eq!(r.load(0, -0.0), 0.0);
    assert_eq!(r.load(0, 0.0), f64::INFINITY);
}

#[test]
fn undecided_elements_are_not_compared() {
    let golden = GoldenResult {
        shape: vec![2, 2],
        numbers: Numbers::Ids(vec![3, 1, 0, 2]),
        slack: Vec::new(),
        keeps: BTreeMap::new(),
        absolute: Vec::new(),
        decided: vec![true, true, false, false],
        declared: BTreeMap::new(),
        shaky: BTreeMap::new(),
    };
    let r = Ruler::new("ids", DType::I32, &golden, &tolerance(ToleranceRule::Derived));
    let d = r.measure(&[3.0, 1.0, 2.0, 0.0]);
    assert_eq!((d.compared, d.over, d.load), (2, 0, 0.0));
    assert_eq!(r.measure(&[3.0, 2.0, 2.0, 0.0]).over, 1);
}

#[test]
fn the_gain_sees_what_no_element_shows() {
    // On the grid of f16, with 0.6 ulp allowed beyond rounding: an ulp too much everywhere.
    let values: Vec<f64> = (0..1023).map(|i| 1.0 + f64::from(i) / 1024.0).collect();
    let r = ruler(DType::F16, &values, 9830.0);
    let rounded = values.clone();
    assert!(r.measure(&rounded).gain.expect("asked").holds());
    let large: Vec<f64> = values.iter().map(|&x| x + 1.0 / 1024.0).collect();
    let d = r.measure(&large);
    assert_eq!(d.over, 0, "no element shows it: {}", d.load);
    assert!(!d.gain.expect("asked").holds());
    assert!(ruler(DType::F16, &values[..60], 9830.0).measure(&rounded[..60]).gain.is_none());
    assert!(ruler(DType::F16, &[1.0; 200], 600.0).measure(&[1.0; 200]).gain.is_none());
}

#[test]
fn the_worst_element_has_neighbours_of_its_own_row() {
    let mut golden = result(&[0.0; 12], 1.0);
    golden.shape = vec![3, 4];
    let r = Ruler::new("y", DType::F32, &golden, &tolerance(ToleranceRule::Derived));
    let mut got = [0.0; 12];
    got[5] = 1.0;
    got[6] = 0.5;
    let d = r.measure(&got);
    let worst = d.worst.expect("two are over");
    assert_eq!((worst.index, worst.first, worst.got), (vec![1, 1], 4, vec![0.0, 1.0, 0.5, 0.0]));
    assert_eq!((worst.over, worst.total), (2, 12));
}

#[test]
fn a_constant_answer_is_recognised() {
    let r = ruler(DType::F32, &[1.0, 2.0, 3.0], 1.0);
    assert!(r.measure(&[2.0; 3]).constant);
    assert!(!r.measure(&[1.0, 2.0, 3.0]).constant);
}
