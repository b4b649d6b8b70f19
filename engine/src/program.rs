//! A model as a Program: named steps over named slots, built once, at load.
//!
//! The only symbols in a shape are `n`, the tokens of a call, and `m`, its rows whose logits are
//! wanted, so everything is planned once for the largest. Model files build Programs and contain no
//! launch, no device and no type switch; executors run them; [`fuse`](crate::fuse) rewrites them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::error::Refusal;
use crate::ops::{self, Op, Question};
use crate::shape::Meta;

/// An axis of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Tokens of this call.
    N,
    /// Rows of this call whose logits are wanted.
    M,
    /// A number known at load.
    Is(usize),
}

/// The two numbers that a call chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sizes {
    /// Tokens.
    pub n: usize,
    /// Rows whose logits are wanted.
    pub m: usize,
}

/// The numbers of a shape in a call.
pub fn concrete(shape: &[Axis], sizes: Sizes) -> Vec<usize> {
    let number = |axis: &Axis| match axis {
        Axis::N => sizes.n,
        Axis::M => sizes.m,
        Axis::Is(x) => *x,
    };
    shape.iter().map(number).collect()
}

/// Who writes a slot, and where it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows `first ..` of a tensor of the model file, as many as the shape says.
    Weight {
        /// The tensor's name in the file.
        tensor: String,
        /// Its first row that belongs to the slot.
        first: usize,
    },
    /// Lives with the session; written in place by the step that names it as a result.
    State,
    /// Handed in with a call.
    Input,
    /// Written exactly once in a call.
    Value,
    /// Rows `first ..` of another slot that is no part: who reads or writes it reads or writes
    /// those.
    Part {
        /// The whole.
        of: Id,
        /// Its first row that belongs to the slot.
        first: usize,
    },
}

/// A named place.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name in traces, a contract with other engines: `attn.q`, `ffn.norm` …
    pub name: String,
    /// Who writes it.
    pub kind: Kind,
    /// Stored type; for weights whatever the file has, filled in at load.
    pub dtype: DType,
    /// Its axes.
    pub shape: Vec<Axis>,
}

/// The index of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub usize);

/// A slot as an operand or result: the same elements, perhaps by other axes.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The slot.
    pub slot: Id,
    /// The axes that the op sees.
    pub shape: Vec<Axis>,
}

/// One op over slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The name of its first result.
    pub name: String,
    /// The op.
    pub op: &'static str,
    /// Attributes known at load.
    pub attributes: Map<String, Value>,
    /// Attributes that stand in device memory: the first element of an i32 slot that a call
    /// brings, or a state of two words, the lower one first.
    pub scalars: Vec<(&'static str, Id)>,
    /// Operands by name.
    pub operands: Vec<(&'static str, View)>,
    /// Results by name.
    pub results: Vec<(&'static str, View)>,
}

/// A Program that breaks a rule: a mistake in a model file or in what it was given.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A step whose question the op refuses.
    #[error("step {step}: {source}")]
    Step {
        /// The step.
        step: String,
        /// What the op says.
        source: Refusal,
    },
    /// A slot that is read before it is written, or written twice.
    #[error("step {step}: slot {slot} {what}")]
    Order {
        /// The step.
        step: String,
        /// The slot.
        slot: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A result of another type or shape than its slot.
    #[error("step {step}: result {slot} is {found}, the slot is {wanted}")]
    Result {
        /// The step.
        step: String,
        /// The slot.
        slot: String,
        /// What the op gives.
        found: Meta,
        /// What the slot is.
        wanted: Meta,
    },
    /// A weight that is not there, or has another shape.
    #[error("weight {tensor}: {what}")]
    Weight {
        /// The tensor.
        tensor: String,
        /// What is wrong, with both shapes.
        what: String,
    },
    /// Several weights that do not fit, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Weights(Vec<ProgramError>),
    /// A configuration that no model has.
    #[error("{field} is {found}, wants {wanted}")]
    Config {
        /// The field.
        field: &'static str,
        /// What was found.
        found: String,
        /// What it must be.
        wanted: String,
    },
}

/// Steps over slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Every slot.
    pub slots: Vec<Slot>,
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// How many of them work on all tokens; the others, the head, on the rows that are wanted.
    pub body: usize,
    /// The last steps of the head, which each of its rows has for itself.
    pub tail: Tail,
}

/// Steps at the end of a Program that belong to one row each: first those of row 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Steps of a row.
    pub each: usize,
    /// Rows that have them.
    pub rows: usize,
}

impl Program {
    /// Declares a slot.
    pub fn slot(&mut self, name: &str, kind: Kind, dtype: DType, shape: &[Axis]) -> Id {
        let slot = Slot { name: name.to_owned(), kind, dtype, shape: shape.to_vec() };
        self.slots.push(slot);
        Id(self.slots.len() - 1)
    }

    /// The slot as it was declared, as an operand.
    pub fn whole(&self, slot: Id) -> View {
        View { slot, shape: self.slots[slot.0].shape.clone() }
    }

    /// Type and shape of a view in a call.
    pub fn meta(&self, view: &View, sizes: Sizes) -> Meta {
        Meta::new(self.slots[view.slot.0].dtype, &concrete(&view.shape, sizes))
    }

    /// Type and shape of a slot in a call.
    pub fn slot_meta(&self, slot: Id, sizes: Sizes) -> Meta {
        let slot = &self.slots[slot.0];
        Meta::new(slot.dtype, &concrete(&slot.shape, sizes))
    }

    /// The steps that a call of these sizes runs: without wanted rows the body alone, and of the
    /// tail what belongs to the rows of the call.
    pub fn steps_of(&self, sizes: Sizes) -> &[Step] {
        if sizes.m == 0 {
            return &self.steps[..self.body];
        }
        let absent = self.tail.rows.saturating_sub(sizes.m);
        &self.steps[..self.steps.len() - absent * self.tail.each]
    }

    /// The slot whose memory a slot is in, and its first row there.
    pub fn memory(&self, slot: Id) -> (Id, usize) {
        match self.slots[slot.0].kind {
            Kind::Part { of, first } => (of, first),
            _ => (slot, 0),
        }
    }

    /// The slot of that name.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.slots.iter().position(|s| s.name == name).map(Id)
    }

    /// Whether a slot is written by the head.
    pub fn in_head(&self, slot: Id) -> bool {
        let writes = |s: &Step| s.results.iter().any(|(_, v)| self.memory(v.slot).0 == slot);
        let body = &self.steps[..self.body];
        !body.iter().any(writes) && self.steps[self.body..].iter().any(writes)
    }

    /// The checked question of a step in a call; `scalar` tells what stands in a slot that an
    /// attribute is read from.
    ///
    /// # Errors
    /// What the op refuses.
    pub fn question(
        &self,
        step: &Step,
        dtype: DType,
        sizes: Sizes,
        scalar: impl Fn(Id) -> i64,
    ) -> Result<(&'static dyn Op, Question), ProgramError> {
        let op = ops::find(step.op).expect("a model names ops of the vocabulary");
        let mut attributes = step.attributes.clone();
        for (name, slot) in &step.scalars {
            attributes.insert((*name).to_owned(), json!(scalar(*slot)));
        }
        let meta = |(name, v): &(&'static str, View)| ((*name).to_owned(), self.meta(v, sizes));
        let metas: BTreeMap<String, Meta> = step.operands.iter().map(meta).collect();
        let question = Question::new(op, dtype, &attributes, &metas)
            .map_err(|source| ProgramError::Step { step: step.name.clone(), source })?;
        Ok((op, question))
    }

    /// Holds the Program against its rules for calls of up to `largest`: every question is one
    /// that its op takes, values are written once and before they are read, results have the types
    /// and shapes of their slots.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, dtype: DType, largest: Sizes) -> Result<(), ProgramError> {
        let whole = |slot: Id| &self.slots[self.memory(slot).0.0];
        let ready = |i: usize| whole(Id(i)).kind != Kind::Value;
        let mut written: Vec<bool> = (0..self.slots.len()).map(ready).collect();
        for step in &self.steps {
            let order = |slot: Id, what| ProgramError::Order {
                step: step.name.clone(),
                slot: self.slots[slot.0].name.clone(),
                what,
            };
            // Who writes the whole has written every part, and not the other way round.
            let has = |slot: Id| written[slot.0] || written[self.memory(slot).0.0];
            if let Some((_, v)) = step.operands.iter().find(|(_, v)| !has(v.slot)) {
                return Err(order(v.slot, "is read before it is written"));
            }
            let (_, question) = self.question(step, dtype, largest, |_| 0)?;
            for ((name, view), (result, found)) in step.results.iter().zip(question.results()) {
                debug_assert_eq!(*name, result, "results in the order of the signature");
                let slot = &self.slots[view.slot.0];
                let wanted = self.meta(view, largest);
                if found != wanted {
                    let (step, slot) = (step.name.clone(), slot.name.clone());
                    return Err(ProgramError::Result { step, slot, found, wanted });
                }
                // An op that works in place writes where it read.
                let in_place = step.operands.iter().any(|(n, v)| n == name && v.slot == view.slot);
                let again = written[view.slot.0] || written[self.memory(view.slot).0.0];
                match whole(view.slot).kind {
                    Kind::Value if again && !in_place => {
                        return Err(order(view.slot, "is written twice"));
                    }
                    Kind::Input if !in_place => {
                        return Err(order(view.slot, "is what a call brings"));
                    }
                    Kind::Value | Kind::State | Kind::Input => written[view.slot.0] = true,
                    Kind::Weight { .. } => return Err(order(view.slot, "is a weight")),
                    Kind::Part { .. } => return Err(order(view.slot, "is a part of a part")),
                }
            }
        }
        Ok(())
    }
}
