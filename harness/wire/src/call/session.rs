//! The calls about sessions: open, extend, fork, close.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Tensor};
use serde_json::Value;

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields, i32s, nothing, operand};
use crate::observed::Observed;
use crate::words::{Logits, Phase};

/// Asks to open an empty session of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The handle of the model.
    pub model: u64,
}

/// An open session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenAnswer {
    /// The handle by which later calls refer to it.
    pub session: u64,
    /// The bytes of the arena that it took; absent if it took none.
    pub bytes_session: Option<u64>,
}

impl Call for Open {
    const NAME: &'static str = "open";

    type Answer = OpenAnswer;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("model", self.model);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Open, BadQuestion> {
        Ok(Open { model: Fields(question).number("model")? })
    }

    fn write_answer(answer: OpenAnswer) -> (Value, Tensors) {
        let mut body = Body::default();
        body.put("session", answer.session);
        body.put("bytes_session", answer.bytes_session);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<OpenAnswer, BadField> {
        let fields = Fields(&body);
        let bytes_session = fields.may_number("bytes_session")?;
        Ok(OpenAnswer { session: fields.number("session")?, bytes_session })
    }
}

/// What an `extend` should return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Globs of slots, which `load` must have kept.
    pub trace: Vec<String>,
    /// How rows of logits are returned.
    pub logits: Logits,
    /// The tokens of this call whose rows are returned, counted from 0; all if absent. Only for
    /// [`Logits::All`] and [`Logits::Compact`].
    pub rows: Option<Vec<u64>>,
}

impl Want {
    /// The value of the field `want`.
    pub fn json(&self) -> Value {
        let mut body = Body::default();
        // A subject that keeps no slots must not be asked for any, not even by an empty list.
        body.may("trace", (!self.trace.is_empty()).then(|| self.trace.clone()));
        body.put("logits", self.logits.name());
        body.may("rows", self.rows.clone());
        body.json()
    }

    /// Reads the value of the field `want`.
    ///
    /// # Errors
    /// A field has the wrong type or an unknown word.
    pub fn read(want: &Value) -> Result<Want, String> {
        let fields = Fields(want);
        let logits = fields.may_word("logits", "none, last, all or compact")?;
        Ok(Want {
            trace: fields.texts("trace")?,
            logits: logits.unwrap_or_default(),
            rows: fields.may_list("rows", "a list of rows", Value::as_u64)?,
        })
    }
}

/// Asks to append tokens to a session and to run them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extend {
    /// The handle of the session.
    pub session: u64,
    /// What the answer should contain.
    pub want: Want,
    /// How the tokens are run; if absent, one token is a decode step and several are a prompt.
    pub phase: Option<Phase>,
    /// The tokens.
    pub ids: Vec<i32>,
}

/// What an `extend` returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extended {
    /// `logits` [rows, vocabulary], or for compact rows `top_ids top_logprobs tail entropy
    /// next_logprob`; each traced slot; `<slot>.local` of one element.
    pub results: Tensors,
    /// The stored type of each slot before it was widened.
    pub types: BTreeMap<String, DType>,
    /// The number of tokens in the session now.
    pub length: Option<u64>,
    /// What the subject observed.
    pub observed: Observed,
}

impl Extended {
    /// The tensor `name`.
    ///
    /// # Errors
    /// The tensor is missing.
    pub fn result(&self, name: &str) -> Result<&Tensor, BadField> {
        self.results.get(name).ok_or_else(|| BadField::no_tensor(name))
    }

    /// The load of each slot's step against the step's own definition, where it was traced.
    pub fn local(&self) -> impl Iterator<Item = (&str, f64)> {
        self.results.iter().filter_map(|(name, tensor)| {
            let slot = name.strip_suffix(".local")?;
            // A tensor without a number is no load, and NaN fails every limit.
            Some((slot, tensor.to_f64().first().copied().unwrap_or(f64::NAN)))
        })
    }
}

impl Call for Extend {
    const NAME: &'static str = "extend";

    type Answer = Extended;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("session", self.session);
        body.put("want", self.want.json());
        body.may("phase", self.phase.map(Phase::name));
        (body.json(), Tensors::from([("ids".to_owned(), i32s(&self.ids))]))
    }

    fn read(question: &Value, mut tensors: Tensors) -> Result<Extend, BadQuestion> {
        let fields = Fields(question);
        Ok(Extend {
            session: fields.number("session")?,
            want: Want::read(&question["want"])?,
            phase: fields.may_word("phase", "prefill or decode")?,
            ids: operand(&mut tensors, "ids", DType::I32)?.to_i32(),
        })
    }

    fn write_answer(answer: Extended) -> (Value, Tensors) {
        let mut types = Body::default();
        answer.types.iter().for_each(|(name, dtype)| types.put(name, dtype.name()));
        let mut body = Body::default();
        body.put("types", types.json());
        body.put("length", answer.length);
        // Absent means that nothing was observed.
        if answer.observed != Observed::default() {
            body.put("observed", answer.observed.json());
        }
        (body.json(), answer.results)
    }

    fn read_answer(body: Value, tensors: Tensors) -> Result<Extended, BadField> {
        let fields = Fields(&body);
        let types = fields.may("types", "an object of stored types", |v| {
            let pair = |(k, v): (&String, &Value)| Some((k.clone(), v.as_str()?.parse().ok()?));
            v.as_object()?.iter().map(pair).collect()
        })?;
        Ok(Extended {
            results: tensors,
            types: types.unwrap_or_default(),
            length: fields.may_number("length")?,
            observed: Observed::from_answer(&body).map_err(BadField::Mistyped)?,
        })
    }
}

/// Asks for a new session with the first tokens of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The handle of the session to copy from.
    pub session: u64,
    /// How many of its tokens the new session has.
    pub keep: u64,
}

/// The copied session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forked {
    /// The handle of the new session.
    pub session: u64,
}

impl Call for Fork {
    const NAME: &'static str = "fork";

    type Answer = Forked;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("session", self.session);
        body.put("keep", self.keep);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Fork, BadQuestion> {
        let fields = Fields(question);
        Ok(Fork { session: fields.number("session")?, keep: fields.number("keep")? })
    }

    fn write_answer(answer: Forked) -> (Value, Tensors) {
        let mut body = Body::default();
        body.put("session", answer.session);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<Forked, BadField> {
        Ok(Forked { session: Fields(&body).number("session")? })
    }
}

/// Asks to end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The handle of the session.
    pub session: u64,
}

impl Call for Close {
    const NAME: &'static str = "close";

    type Answer = ();

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("session", self.session);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Close, BadQuestion> {
        Ok(Close { session: Fields(question).number("session")? })
    }

    fn write_answer((): ()) -> (Value, Tensors) {
        (nothing(), Tensors::new())
    }

    fn read_answer(_: Value, _: Tensors) -> Result<(), BadField> {
        Ok(())
    }
}
