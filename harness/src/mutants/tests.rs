//! Edits with literals, and the fates that they lead to.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Tensor};
use serde_json::{Map, json};

use super::*;
use crate::kinds::mutant::{AskEdit, KernelEdit, Roll};
use crate::kinds::op::edit;
use crate::kinds::op::question::OpQuestion;

fn question() -> OpQuestion {
    let x = Tensor::from_f64(DType::F32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = Tensor::from_f64(DType::F32, &[2, 3], &[9.0; 6]);
    let ids = Tensor::from_i32(&[2], &[3, -1]);
    let tensors = [("x", x), ("y", y), ("ids", ids)].map(|(n, t)| (n.to_owned(), t));
    OpQuestion {
        op: "layernorm".into(),
        dtype: DType::F32,
        attributes: Map::from_iter([("eps".to_owned(), json!(1e-5))]),
        tensors: tensors.into(),
        alias: BTreeMap::new(),
    }
}

fn edited(edit: AskEdit) -> OpQuestion {
    edit::apply(&question(), &edit).expect("can be edited")
}

fn x(edit: AskEdit) -> Vec<f64> {
    edited(edit).tensors["x"].to_f64()
}

#[test]
fn operands_are_edited_as_their_names_say() {
    let names = |name: &str| vec![name.to_owned()];
    let none = AskEdit::default;
    let rolled = |roll| AskEdit { roll: [("x".to_owned(), roll)].into(), ..none() };
    assert_eq!(x(rolled(Roll::ByRows)), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    assert_eq!(x(rolled(Roll::Elements(1))), [3.0, 1.0, 2.0, 6.0, 4.0, 5.0]);
    assert_eq!(x(rolled(Roll::Elements(-1))), [2.0, 3.0, 1.0, 5.0, 6.0, 4.0]);
    let transpose = AskEdit { transpose: names("x"), ..none() };
    assert_eq!(x(transpose), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(x(AskEdit { zero: names("x"), ..none() }), [0.0; 6]);
    let last = AskEdit { last_row_only: names("x"), ..none() };
    assert_eq!(x(last), [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    let swap = AskEdit { swap: Some(["x".into(), "y".into()]), ..none() };
    assert_eq!(x(swap), [9.0; 6]);
    let shift = AskEdit { shift: [("ids".to_owned(), 1)].into(), ..none() };
    assert_eq!(edited(shift).tensors["ids"].to_i32(), [4, 0]);
    assert!(!edited(AskEdit { omit: names("y"), ..none() }).tensors.contains_key("y"));
    let attributes =
        AskEdit { attributes: Map::from_iter([("eps".into(), json!(null))]), ..none() };
    assert!(edited(attributes).attributes.is_empty());
}

#[test]
fn an_impossible_edit_is_reported() {
    let apply = |edit: AskEdit| edit::apply(&question(), &edit).expect_err("must not work");
    let none = AskEdit::default;
    assert!(apply(AskEdit { zero: vec!["w".into()], ..none() }).contains("no operand w"));
    assert!(apply(AskEdit { transpose: vec!["ids".into()], ..none() }).contains("no matrix"));
    let shift = AskEdit { shift: [("x".to_owned(), 1)].into(), ..none() };
    assert!(apply(shift).contains("holds no ids"));
}

#[test]
fn another_op_gets_what_it_knows() {
    let edited = edited(AskEdit { op: Some("softmax".into()), ..AskEdit::default() });
    assert_eq!(edited.op, "softmax");
    assert_eq!(edited.tensors.keys().collect::<Vec<_>>(), ["x"]);
    assert!(edited.attributes.is_empty());
}

#[test]
fn a_replaced_line_occurs_exactly_once() {
    let edit = |replace: &str| KernelEdit { file: None, replace: replace.into(), by: "x".into() };
    let text = kernel::edited("layernorm.cu", &edit("no such line")).expect_err("none");
    assert!(text.contains("occurs 0 times"), "{text}");
    assert!(kernel::edited("nothing.cu", &edit("a")).expect_err("none").contains("no page"));
    assert!(kernel::edited("layernorm.cu", &edit("e")).expect_err("many").contains("must once"));
}

#[test]
fn the_first_variant_that_notices_decides() {
    let unasked = fate_of(std::iter::empty(), |_| unreachable!("there is no case"));
    assert!(matches!(unasked, Fate::NotRun { .. }));
}
