//! The question to the oracle whose answer becomes a golden, and its hash.

use std::collections::BTreeMap;

use goldgate_engine::ops;
use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, Refusal, Tensor};
use goldgate_wire::Call;
use goldgate_wire::call::Op;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fill::{self, Grid};
use crate::kinds::op::case::{Accumulate, Case, Expect, GoldenSource};
use crate::line::hex;
use crate::store::canonical;

/// A question to the oracle.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The JSON, without its id.
    pub json: Value,
    /// The operands.
    pub tensors: BTreeMap<String, Tensor>,
    /// SHA-256 of the values of each operand.
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 of the question in canonical form, in which operands appear by their hashes.
    pub hash: String,
}

/// The question whose answer is the golden of `case`; `wrong` names the formulas that its mutants
/// use.
///
/// On the common grid one golden serves every float type, so the oracle is asked once, in f32. If
/// inputs or formula depend on the type, it is asked in that type.
pub fn question(case: &Case, wrong: &[String]) -> Asked {
    let depends_on_type = depends_on_type(case);
    let dtype = if depends_on_type { case.ask.dtype } else { DType::F32 };
    let tensors: BTreeMap<String, Tensor> = case
        .ask
        .operands
        .iter()
        .map(|input| {
            let stored = input.meta.dtype;
            let asked = if stored.is_float() && !depends_on_type { DType::F32 } else { stored };
            (input.name.clone(), fill::fill_as(input, asked))
        })
        .collect();
    let inputs: BTreeMap<String, String> =
        tensors.iter().map(|(name, tensor)| (name.clone(), fill::hash(tensor))).collect();
    // The defaults are spelled out, so that a changed default cannot keep an old hash.
    let mut golden = json!({"accumulate": "f32", "sum": "tree", "keeps": [], "wrong": wrong});
    if let Expect::Answer { tolerance, .. } = &case.expect {
        if tolerance.accumulate == Accumulate::Tensor {
            golden["accumulate"] = "tensor".into();
        }
        if tolerance.linear_sum {
            golden["sum"] = "linear".into();
        }
        golden["keeps"] = tolerance.keeps.keys().cloned().collect();
    }
    // Shared memory and time limits concern subjects only, so they are not part of a golden.
    let op = Op {
        op: case.ask.op.clone(),
        dtype,
        attributes: case.ask.attributes.clone(),
        tensors: BTreeMap::new(),
        alias: BTreeMap::new(),
        timeout_s: None,
    };
    let (mut json, _) = op.question();
    json["golden"] = golden;
    let canonical = canonical(&json!({"question": json, "inputs": inputs}));
    let hash = hex(&Sha256::digest(canonical.to_string().as_bytes()));
    Asked { json, tensors, inputs, hash }
}

/// Whether the golden depends on the case's types; if not, all float types share one.
pub fn depends_on_type(case: &Case) -> bool {
    let rounds = ops::find(&case.ask.op).is_some_and(|op| op.signature().rounds_inside);
    rounds || case.ask.operands.iter().any(|input| input.grid == Grid::Full)
}

/// Name, type and shape of each result of a case, in the order of the op's signature.
///
/// # Errors
/// The refusal of the op's signature, if the question is malformed.
pub fn results(case: &Case) -> Result<Vec<(&'static str, Meta)>, Refusal> {
    let Some(op) = ops::find(&case.ask.op) else { return Ok(Vec::new()) };
    let metas: BTreeMap<String, Meta> =
        case.ask.operands.iter().map(|i| (i.name.clone(), i.meta.clone())).collect();
    let question = ops::Question::new(op, case.ask.dtype, &case.ask.attributes, &metas)?;
    Ok(question.results())
}

/// The path of a case's golden below golden/, if the oracle makes it.
pub fn path(case: &Case) -> Option<&str> {
    match &case.expect {
        Expect::Answer { golden: GoldenSource::File(path), .. } => Some(path),
        _ => None,
    }
}
