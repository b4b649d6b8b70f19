//! The call `op`: one op on given operands.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Refusal, RefusalKind};
use serde_json::{Map, Value};

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields};
use crate::observed::Observed;

/// Asks for one op on given operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// The name of the op in the vocabulary.
    pub op: String,
    /// The type of activations.
    pub dtype: DType,
    /// Attributes by name.
    pub attributes: Map<String, Value>,
    /// Operands by name.
    pub tensors: Tensors,
    /// Result → operand whose memory it shares.
    pub alias: BTreeMap<String, String>,
    /// The time limit of the harness in seconds, as information only.
    pub timeout_s: Option<f64>,
}

/// The results of an op.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpAnswer {
    /// Results by name.
    pub results: Tensors,
    /// What the subject observed.
    pub observed: Observed,
}

impl Op {
    /// The JSON of the question under the name of a call: `op`, or `bench` for timing an op.
    pub(super) fn body(&self, name: &str) -> Body {
        let mut body = Body::call(name);
        body.put("op", self.op.as_str());
        body.put("dtype", self.dtype.name());
        body.put("attr", self.attributes.clone());
        body.may_real("timeout_s", self.timeout_s);
        // Left out where it says nothing, because the oracle's question is hashed as it is written.
        if !self.alias.is_empty() {
            let pairs = self.alias.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str())));
            body.put("alias", pairs.collect::<Map<String, Value>>());
        }
        body
    }
}

impl Call for Op {
    const NAME: &'static str = "op";

    type Answer = OpAnswer;

    fn question(&self) -> (Value, Tensors) {
        (self.body(Self::NAME).json(), self.tensors.clone())
    }

    fn read(question: &Value, tensors: Tensors) -> Result<Op, BadQuestion> {
        let fields = Fields(question);
        let dtype = fields.text("dtype")?;
        // A refusal and no broken message, because a case may ask for a type that does not exist.
        let dtype = dtype.parse().map_err(|_| {
            let message = format!("{dtype} is no stored type");
            Refusal::new(RefusalKind::TypeUnsupported, "dtype", message)
        })?;
        let pairs = fields.may("alias", "an object of texts", |alias| {
            let pair = |(k, v): (&String, &Value)| Some((k.clone(), v.as_str()?.to_owned()));
            alias.as_object()?.iter().map(pair).collect()
        });
        Ok(Op {
            op: fields.text("op")?,
            dtype,
            attributes: fields
                .may("attr", "an object", |attr| attr.as_object().cloned())?
                .unwrap_or_default(),
            tensors,
            alias: pairs?.unwrap_or_default(),
            timeout_s: fields.may_real("timeout_s")?,
        })
    }

    fn write_answer(answer: OpAnswer) -> (Value, Tensors) {
        let mut body = Body::default();
        // Absent means that nothing was observed.
        if answer.observed != Observed::default() {
            body.put("observed", answer.observed.json());
        }
        (body.json(), answer.results)
    }

    fn read_answer(body: Value, tensors: Tensors) -> Result<OpAnswer, BadField> {
        Ok(OpAnswer {
            // All of them, also those that were not asked for: the judge compares the set of
            // results.
            results: tensors,
            observed: Observed::from_answer(&body).map_err(BadField::Mistyped)?,
        })
    }
}
