//! The op vocabulary: each op is a signature, a definition, launches and a cost.

pub mod advance;
pub mod argmax;
pub mod attention;
pub mod attention_decode;
pub mod attention_prefill;
pub mod attributes;
pub mod declared;
pub mod dequantize;
mod elementwise;
pub mod embedding;
pub mod ffn_gelu;
pub mod ffn_swiglu;
pub mod gelu;
pub mod kv_append;
pub mod layernorm;
pub mod layernorm_residual;
pub mod linear;
pub mod min_p;
pub mod moe_ffn;
pub mod moe_router;
mod norm;
pub mod positional;
pub mod positional_extract;
pub mod repetition_penalty;
pub mod residual;
pub mod rmsnorm;
pub mod rmsnorm_residual;
pub mod rope;
pub mod rows;
pub mod sample;
mod sampling;
pub mod signature;
pub mod slack;
pub mod softmax;
pub mod swiglu;
pub mod swiglu_clamped;
pub mod temperature;
pub mod top_k;
pub mod top_p;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::cuda::page::Variant;
use crate::cuda::{Card, Lowered, Page};
use crate::dtype::DType;
use crate::error::Refusal;
use crate::shape::Dims;
use crate::tensor::Tensor;

pub use attributes::Attributes;
pub use declared::Declared;
pub use signature::{Attribute, Class, Operand, Question, ResultSlot, Rule, Signature};
pub use slack::{Slack, Sums};

/// One op of the vocabulary.
pub trait Op: Sync {
    /// Names, classes and shapes of operands, attributes and results.
    fn signature(&self) -> &'static Signature;

    /// What must hold beyond the signature: divisibility, ranges that depend on shapes.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check(&self, _question: &Question) -> Result<(), Refusal> {
        Ok(())
    }

    /// The formula, in `f64`, plain loops; results in the order of the signature, unrounded
    /// (the caller rounds each once to its stored type) unless the rule itself says rounded.
    ///
    /// # Errors
    /// What only the data show: ids or positions out of range, a NaN where a choice is made.
    fn define(&self, question: &Question, inputs: &Inputs) -> Result<Vec<Values>, Refusal>;

    /// The launches that answer a checked question on `card`; slots are operands, results,
    /// workspace, constants and `fault`, by name. The grid may depend on the card, a row's
    /// reduction tree only on the question's widths.
    fn lower(&self, question: &Question, card: &Card) -> Lowered;

    /// Every page that [`Op::lower`] may name.
    fn pages(&self) -> &'static [&'static Page];

    /// The error that a legal kernel may make, by the op's formula, a [`Slack`] a result; `values`
    /// are what [`Op::define`] gave. Ops that only copy, or round once, allow nothing.
    fn slack(&self, asked: &Asked, values: &[Values]) -> Vec<Slack> {
        let _ = asked;
        values.iter().map(|v| Slack::of(vec![0.0; v.len()])).collect()
    }

    /// What declared roundings add to each result, by place; ops without such places have no terms.
    /// `x` are the places of what enters a product that are wanted: in large feed-forward blocks
    /// they take much longer than all else.
    fn declared(&self, asked: &Asked, values: &[Values], x: &[&str]) -> Vec<Declared> {
        let _ = (asked, x);
        values.iter().map(|v| Declared::of(v.len())).collect()
    }

    /// Whether each element of the results is the same for every legal kernel, one list for all
    /// results; none for ops whose results always are, or differ by no more than their slack.
    fn decided(&self, asked: &Asked) -> Option<Vec<bool>> {
        let _ = asked;
        None
    }

    /// The fewest bytes and operations that any kernel needs.
    fn cost(&self, question: &Question) -> Cost;
}

/// A question with its operands, for [`Op::slack`].
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The checked question.
    pub question: &'a Question,
    /// The operands, widened.
    pub inputs: &'a Inputs,
    /// The operands as they are stored.
    pub tensors: &'a BTreeMap<String, Tensor>,
    /// How a legal engine sums.
    pub sums: Sums,
}

/// Which kernels answer: the phase chooses, not the number of rows, so that a row's bits do not
/// depend on how a prompt is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Prompt tokens, any number of them up to the chunk.
    Prefill,
    /// Generated tokens, one a sequence.
    Decode,
}

/// Bytes that must move and operations that must be done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written, each operand and result once.
    pub bytes: f64,
    /// Arithmetic operations; a multiply-add counts two.
    pub operations: f64,
}

/// The elements of an operand or a result, widened.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers, exact or unrounded.
    Real(Vec<f64>),
    /// Ids, positions, bit sets.
    Ids(Vec<i32>),
}

/// The operands of one question, widened, by name.
#[derive(Clone, Debug, Default)]
pub struct Inputs(BTreeMap<String, Arc<Values>>);

impl Inputs {
    /// Widens tensors.
    pub fn of<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Inputs {
        let widen = |(name, t): (&str, &Tensor)| (name.to_owned(), Arc::new(Values::of(t)));
        Inputs(tensors.into_iter().map(widen).collect())
    }

    /// Adds or replaces an operand.
    pub fn set(&mut self, name: &str, values: Values) {
        self.share(name, Arc::new(values));
    }

    /// Adds or replaces an operand that others hold too.
    pub fn share(&mut self, name: &str, values: Arc<Values>) {
        self.0.insert(name.to_owned(), values);
    }

    /// Whether an optional operand is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The numbers of an operand.
    ///
    /// # Panics
    /// If it is not there or holds ids: the signature was checked before.
    pub fn real(&self, name: &str) -> &[f64] {
        self.find_real(name).unwrap_or_else(|| panic!("no operand {name}"))
    }

    /// The numbers of an optional operand.
    pub fn find_real(&self, name: &str) -> Option<&[f64]> {
        match self.0.get(name).map(|v| &**v) {
            Some(Values::Real(x)) => Some(x),
            _ => None,
        }
    }

    /// The ids of an operand.
    ///
    /// # Panics
    /// If it is not there or holds numbers: the signature was checked before.
    pub fn ids(&self, name: &str) -> &[i32] {
        self.find_ids(name).unwrap_or_else(|| panic!("no operand {name}"))
    }

    /// The ids of an optional operand.
    pub fn find_ids(&self, name: &str) -> Option<&[i32]> {
        match self.0.get(name).map(|v| &**v) {
            Some(Values::Ids(x)) => Some(x),
            _ => None,
        }
    }
}

/// Every op, alphabetical.
pub const ALL: &[&dyn Op] = &[
    &advance::Advance,
    &argmax::Argmax,
    &attention_decode::AttentionDecode,
    &attention_prefill::AttentionPrefill,
    &dequantize::Dequantize,
    &embedding::Embedding,
    &ffn_gelu::FfnGelu,
    &ffn_swiglu::FfnSwiglu,
    &gelu::Gelu,
    &kv_append::KvAppend,
    &layernorm::Layernorm,
    &layernorm_residual::LayernormResidual,
    &linear::Linear,
    &min_p::MinP,
    &moe_ffn::MoeFfn,
    &moe_router::MoeRouter,
    &positional::Positional,
    &positional_extract::PositionalExtract,
    &repetition_penalty::RepetitionPenalty,
    &residual::Residual,
    &rmsnorm::Rmsnorm,
    &rmsnorm_residual::RmsnormResidual,
    &rope::Rope,
    &rows::Rows,
    &sample::Sample,
    &softmax::Softmax,
    &swiglu::Swiglu,
    &swiglu_clamped::SwigluClamped,
    &temperature::Temperature,
    &top_k::TopK,
    &top_p::TopP,
];

/// The op of that name.
pub fn find(name: &str) -> Option<&'static dyn Op> {
    ALL.iter().copied().find(|op| op.signature().name == name)
}

/// Every page of every op with every set of defines, each once.
pub fn pages() -> Vec<(&'static Page, Variant)> {
    let mut pages: Vec<(&'static Page, Variant)> = Vec::new();
    for page in ALL.iter().flat_map(|op| op.pages().iter().copied()) {
        if pages.iter().any(|(p, _)| p.name == page.name) {
            continue;
        }
        match page.variants {
            [] => pages.push((page, Variant(&[]))),
            variants => pages.extend(variants.iter().map(|v| (page, *v))),
        }
    }
    pages
}

/// Answers a checked question by the op's definition: results rounded once to their types.
///
/// # Errors
/// What [`Op::define`] refuses.
pub fn answer(op: &dyn Op, question: &Question, inputs: &Inputs) -> Result<Vec<Tensor>, Refusal> {
    let values = op.define(question, inputs)?;
    let results = question.results();
    assert_eq!(values.len(), results.len(), "results of {}", op.signature().name);
    Ok(values
        .iter()
        .zip(&results)
        .map(|(values, (_, meta))| match values {
            Values::Real(x) => Tensor::from_f64(meta.dtype, &meta.shape, x),
            Values::Ids(x) => Tensor::from_i32(&meta.shape, x),
        })
        .collect())
}

/// Checks a question and answers it by the op's definition: results by name.
///
/// # Errors
/// What [`Question::new`] and [`Op::define`] refuse.
pub fn evaluate(
    op: &dyn Op,
    dtype: DType,
    attributes: &Map<String, Value>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, Refusal> {
    let question = Question::of_tensors(op, dtype, attributes, tensors)?;
    let inputs = Inputs::of(tensors.iter().map(|(name, t)| (name.as_str(), t)));
    let results = answer(op, &question, &inputs)?;
    let names = question.signature.results.iter().map(|r| r.name.to_owned());
    Ok(names.zip(results).collect())
}

/// Bytes of every operand and result of `question`, each once.
pub fn traffic(question: &Question) -> f64 {
    let operands = question.operands().filter_map(|(_, meta)| meta.bytes());
    let results = question.results();
    let results = results.iter().filter_map(|(_, meta)| meta.bytes());
    operands.chain(results).map(|b| b as f64).sum()
}

/// The number of a symbol, for definitions that read like the paper.
pub fn dims<const N: usize>(dims: &Dims, symbols: [&str; N]) -> [usize; N] {
    symbols.map(|s| dims.get(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::page::HEADERS;

    /// Argument structs are held together by the compiler; these sizes by this test alone.
    #[test]
    fn kernels_and_launchers_spell_the_same_sizes() {
        let header = |name: &str| HEADERS.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
        for (text, name, value) in [
            (header("attention.cuh"), "SPLIT = ", attention::SPLIT),
            (header("elementwise.cuh"), "FLIGHT = ", elementwise::FLIGHT),
            (header("norms.cuh"), "KEEP = ", norm::KEEP),
            (header("products.cuh"), "WARPS = ", linear::WARPS),
            (header("products.cuh"), "AHEAD = M == 1 ? ", linear::AHEAD),
            (Some(linear::PAGE.text), "int TILE = ", linear::TILE),
            (Some(linear::PAGE.text), "int SIMT = ", linear::SIMT),
        ] {
            let text = text.expect("a file that is compiled in");
            let after = text.split(name).nth(1).unwrap_or_else(|| panic!("no {name}"));
            let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
            assert_eq!(digits.parse(), Ok(value), "{name}");
        }
    }
}
