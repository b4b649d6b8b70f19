//! Edits of a question: what an `ask` mutant asks in place of its case.

use std::collections::BTreeMap;

use goldgate_engine::ops;
use goldgate_tensor::{DType, Tensor};
use serde_json::Value;

use crate::kinds::mutant::{AskEdit, Roll};
use crate::kinds::op::question::OpQuestion;

/// The edited question.
///
/// # Errors
/// The question has no such operand, or it cannot be edited that way.
pub fn apply(question: &OpQuestion, edit: &AskEdit) -> Result<OpQuestion, String> {
    let mut asked = question.clone();
    for (name, value) in &edit.attributes {
        match value {
            Value::Null => drop(asked.attributes.remove(name)),
            value => drop(asked.attributes.insert(name.clone(), value.clone())),
        }
    }
    if let Some([a, b]) = &edit.swap {
        let [first, second] = [find(&mut asked, a)?.clone(), find(&mut asked, b)?.clone()];
        asked.tensors.insert(a.clone(), second);
        asked.tensors.insert(b.clone(), first);
    }
    for name in &edit.transpose {
        let tensor = find(&mut asked, name)?;
        *tensor = transposed(tensor).ok_or_else(|| format!("{name} is no matrix of elements"))?;
    }
    for (name, roll) in &edit.roll {
        rolled(find(&mut asked, name)?, *roll);
    }
    for name in &edit.zero {
        find(&mut asked, name)?.bytes.fill(0);
    }
    for name in &edit.last_row_only {
        let tensor = find(&mut asked, name)?;
        let width = row_bytes(tensor);
        let last = tensor.bytes[tensor.bytes.len() - width..].to_vec();
        tensor.bytes = last.repeat(tensor.bytes.len() / width.max(1));
    }
    for (name, dtype) in &edit.round {
        let tensor = find(&mut asked, name)?;
        let values: Vec<f64> = tensor.to_f64().into_iter().map(|x| dtype.round(x)).collect();
        // Raw blocks and ids have no rounding.
        if !tensor.meta.dtype.is_float() {
            return Err(format!("{name} is {}, which is not rounded", tensor.meta.dtype));
        }
        *tensor = Tensor::from_f64(tensor.meta.dtype, &tensor.meta.shape, &values);
    }
    for (name, by) in &edit.shift {
        let tensor = find(&mut asked, name)?;
        if tensor.meta.dtype != DType::I32 {
            return Err(format!("{name} holds no ids"));
        }
        // In 64 bits, because an id beyond the range is what some faults are about.
        let add = |id: i32| i64::from(id).saturating_add(*by) as i32;
        let ids: Vec<i32> = tensor.to_i32().into_iter().map(add).collect();
        *tensor = Tensor::from_i32(&tensor.meta.shape, &ids);
    }
    for name in &edit.omit {
        find(&mut asked, name)?;
        // It was looked up first, because leaving out an operand that is not there would plant
        // nothing.
        asked.tensors.remove(name);
    }
    if let Some(op) = &edit.op {
        op.clone_into(&mut asked.op);
        // Operands that the other op does not know would be refused before it computes anything.
        fit(&mut asked);
    }
    Ok(asked)
}

/// Reduces a question to the operands and attributes that another op knows.
fn fit(question: &mut OpQuestion) {
    let Some(op) = ops::find(&question.op) else { return };
    let signature = op.signature();
    question.tensors.retain(|name, _| signature.operand(name).is_some());
    let known = |name: &String| signature.attributes.iter().any(|a| a.name == name);
    question.attributes.retain(|name, _| known(name));
}

/// Renames the results of another op to those of the op in whose place it answers, in order.
pub fn renamed(
    mut results: BTreeMap<String, Tensor>,
    from: &str,
    to: &str,
) -> BTreeMap<String, Tensor> {
    let (Some(from), Some(to)) = (ops::find(from), ops::find(to)) else { return results };
    let pairs = from.signature().results.iter().zip(to.signature().results);
    pairs.filter_map(|(a, b)| Some((b.name.to_owned(), results.remove(a.name)?))).collect()
}

fn find<'q>(question: &'q mut OpQuestion, name: &str) -> Result<&'q mut Tensor, String> {
    question.tensors.get_mut(name).ok_or_else(|| format!("the case has no operand {name}"))
}

/// The bytes of one entry of the first axis.
fn row_bytes(tensor: &Tensor) -> usize {
    tensor.bytes.len() / tensor.meta.shape.first().copied().unwrap_or(1).max(1)
}

/// The bytes along the last axis.
fn line_bytes(tensor: &Tensor) -> usize {
    let lines: usize = match &tensor.meta.shape[..] {
        [] => 1,
        [lines @ .., _] => lines.iter().product(),
    };
    tensor.bytes.len() / lines.max(1)
}

/// The memory of the transpose of the last two axes, under the same shape.
fn transposed(tensor: &Tensor) -> Option<Tensor> {
    let [.., rows, columns] = tensor.meta.shape[..] else { return None };
    // A block packs many elements of one row, so its bytes cannot be moved element by element.
    if tensor.meta.dtype.is_block() {
        return None;
    }
    let size = tensor.meta.dtype.bytes();
    let mut bytes = Vec::with_capacity(tensor.bytes.len());
    for matrix in tensor.bytes.chunks((rows * columns * size).max(1)) {
        for column in 0..columns {
            for row in 0..rows {
                let at = (row * columns + column) * size;
                bytes.extend_from_slice(&matrix[at..at + size]);
            }
        }
    }
    Some(Tensor { meta: tensor.meta.clone(), bytes })
}

fn rolled(tensor: &mut Tensor, roll: Roll) {
    match roll {
        Roll::ByRows => {
            let by = row_bytes(tensor);
            tensor.bytes.rotate_right(by);
        }
        Roll::Elements(by) => {
            let (unit, line) = (tensor.meta.dtype.bytes(), line_bytes(tensor).max(1));
            for row in tensor.bytes.chunks_mut(line) {
                let elements = (row.len() / unit).max(1) as i64;
                // A rotation takes neither negative steps nor more than the length; the remainder
                // covers both.
                row.rotate_right(by.rem_euclid(elements) as usize * unit);
            }
        }
    }
}
