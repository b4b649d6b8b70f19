//! Signatures: what an op takes and gives, and the check of a question against it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::dtype::DType;
use crate::error::{Refusal, RefusalKind as Kind};
use crate::ops::attributes::Attributes;
use crate::ops::{Op, Phase, Values};
use crate::shape::{Dims, Meta};
use crate::tensor::Tensor;

/// Which stored types an operand or a result may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The question's dtype.
    D,
    /// Residual stream: f32, or the question's dtype.
    R,
    /// The question's dtype or f32 (router inputs, gate and up).
    DOrF32,
    /// A vector, always f32.
    P,
    /// Any weight type.
    W,
    /// The cache's type: any activation type.
    C,
    /// i32.
    Ids,
    /// Always f32 (logits, router weights).
    F32,
    /// A result of the type of that operand.
    Like(&'static str),
    /// A result whose type the attribute `to` names; the question's dtype where it is absent.
    To,
    /// The type of that operand where it is there, else as [`Class::To`].
    LikeOrTo(&'static str),
    /// As [`Class::To`], but f32 where it is absent.
    ToF32,
}

/// An operand: name, class, axes.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The name in specs and on the wire.
    pub name: &'static str,
    /// Its types.
    pub class: Class,
    /// Its axes by symbol. `"..."` as the only one is any shape; a first symbol that ends in `?`
    /// may be absent; a symbol may be a number.
    pub shape: &'static [&'static str],
    /// Whether it may be left out.
    pub optional: bool,
}

impl Operand {
    /// A required operand.
    pub const fn new(name: &'static str, class: Class, shape: &'static [&'static str]) -> Operand {
        Operand { name, class, shape, optional: false }
    }

    /// An operand that may be left out.
    pub const fn optional(
        name: &'static str,
        class: Class,
        shape: &'static [&'static str],
    ) -> Operand {
        Operand { name, class, shape, optional: true }
    }
}

/// A result: name, class, axes.
#[derive(Clone, Copy, Debug)]
pub struct ResultSlot {
    /// The name in specs and on the wire.
    pub name: &'static str,
    /// Its type.
    pub class: Class,
    /// Its axes by symbol; `["=x"]` is the shape of operand x.
    pub shape: &'static [&'static str],
    /// The operand whose memory it may share (`alias`), or must for a state.
    pub shares: Option<&'static str>,
}

impl ResultSlot {
    /// A result with memory of its own.
    pub const fn new(
        name: &'static str,
        class: Class,
        shape: &'static [&'static str],
    ) -> ResultSlot {
        ResultSlot { name, class, shape, shares: None }
    }

    /// A result that may share the memory of an operand; of the same name, it always does.
    pub const fn sharing(
        name: &'static str,
        class: Class,
        shape: &'static [&'static str],
        operand: &'static str,
    ) -> ResultSlot {
        ResultSlot { name, class, shape, shares: Some(operand) }
    }
}

/// What an attribute may be.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// A finite real number in `(above, up to]`, or `[above, up to]` with `closed`.
    Real {
        /// Lower end.
        low: f64,
        /// Whether the lower end itself is allowed.
        closed: bool,
        /// Upper end, allowed.
        high: f64,
        /// The value where it is absent; NaN: the op derives it; `None`: it is required.
        default: Option<f64>,
    },
    /// A whole number in `[low, high]`.
    Int {
        /// Lower end, allowed.
        low: i64,
        /// Upper end, allowed.
        high: i64,
        /// The value where it is absent; `None`: it is required. [`i64::MIN`]: the op derives it.
        default: Option<i64>,
    },
    /// One of these words.
    Choice {
        /// The words.
        of: &'static [&'static str],
        /// The word where it is absent; `None`: it is required.
        default: Option<&'static str>,
    },
    /// True or false.
    Flag {
        /// The value where it is absent.
        default: bool,
    },
    /// An object or null that the op reads itself in [`Op::check`].
    Object,
}

/// A named attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// The name in specs and on the wire.
    pub name: &'static str,
    /// What it may be.
    pub rule: Rule,
}

impl Attribute {
    /// The type of the result: `f32` or `D`; absent means what the result's class says.
    pub const TO: Attribute =
        Attribute { name: "to", rule: Rule::Choice { of: &["f32", "D"], default: None } };

    /// A finite number above zero.
    pub const fn positive(name: &'static str, default: Option<f64>) -> Attribute {
        let rule = Rule::Real { low: 0.0, closed: false, high: f32::MAX as f64, default };
        Attribute { name, rule }
    }

    /// A number in `[low, high]`.
    pub const fn real(name: &'static str, low: f64, high: f64, default: Option<f64>) -> Attribute {
        Attribute { name, rule: Rule::Real { low, closed: true, high, default } }
    }

    /// A whole number in `[low, high]`.
    pub const fn whole(name: &'static str, low: i64, high: i64, default: Option<i64>) -> Attribute {
        Attribute { name, rule: Rule::Int { low, high, default } }
    }

    /// A position, length or window: 0 to 2^31 − 1, 0 where it is absent.
    pub const fn index(name: &'static str) -> Attribute {
        Attribute::whole(name, 0, i32::MAX as i64, Some(0))
    }

    /// Whether a value asks for more than the attribute's absence would. A required attribute is no
    /// choice.
    pub fn is_chosen(&self, value: &Value) -> bool {
        match self.rule {
            Rule::Real { default, .. } => default.is_some() && value.as_f64() != default,
            Rule::Int { default, .. } => default.is_some() && value.as_i64() != default,
            Rule::Choice { default, .. } => {
                let is_free = default.is_some() || self.name == Attribute::TO.name;
                is_free && value.as_str() != default
            }
            Rule::Flag { default } => value.as_bool() != Some(default),
            Rule::Object => !value.is_null(),
        }
    }

    /// True or false, false where it is absent.
    pub const fn flag(name: &'static str) -> Attribute {
        Attribute { name, rule: Rule::Flag { default: false } }
    }
}

/// The face of an op.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The one name: stem of its files, first part of its rows.
    pub name: &'static str,
    /// Where the formula comes from.
    pub source: &'static str,
    /// Operands, in order.
    pub operands: &'static [Operand],
    /// Attributes.
    pub attributes: &'static [Attribute],
    /// Results, in order.
    pub results: &'static [ResultSlot],
    /// Whether a rounding to the stored type happens inside the formula, so that each dtype has a
    /// right answer of its own.
    pub rounds_inside: bool,
}

impl Signature {
    /// The operand of that name.
    pub fn operand(&self, name: &str) -> Option<&'static Operand> {
        self.operands.iter().find(|o| o.name == name)
    }

    /// The operand that is stored in a weight type, if the op has one.
    pub fn weight(&self) -> Option<&'static Operand> {
        self.operands.iter().find(|o| o.class == Class::W)
    }
}

/// A question that agrees with the op's signature: every axis bound, every attribute read.
#[derive(Clone, Debug)]
pub struct Question {
    /// The op's signature.
    pub signature: &'static Signature,
    /// The activation type D.
    pub dtype: DType,
    /// Attributes with defaults filled in.
    pub attributes: Attributes,
    /// The number of each axis symbol.
    pub dims: Dims,
    /// The phase, where the caller knows it; else products go by the number of rows.
    pub phase: Option<Phase>,
    operands: BTreeMap<&'static str, Meta>,
}

impl Question {
    /// [`Question::new`] of operands that are there.
    ///
    /// # Errors
    /// As [`Question::new`].
    pub fn of_tensors(
        op: &dyn Op,
        dtype: DType,
        attributes: &Map<String, Value>,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Question, Refusal> {
        let metas = tensors.iter().map(|(name, t)| (name.clone(), t.meta.clone())).collect();
        Question::new(op, dtype, attributes, &metas)
    }

    /// Checks operands, types, shapes and attributes, then the op's own rules.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the operand or attribute.
    pub fn new(
        op: &dyn Op,
        dtype: DType,
        attributes: &Map<String, Value>,
        operands: &BTreeMap<String, Meta>,
    ) -> Result<Question, Refusal> {
        let signature = op.signature();
        for name in operands.keys() {
            if signature.operand(name).is_none() {
                let known: Vec<_> = signature.operands.iter().map(|o| o.name).collect();
                let message = format!("{} takes {}", signature.name, known.join(", "));
                return Err(Refusal::new(Kind::OperandUnknown, name, message));
            }
        }
        let mut dims = Dims::default();
        let mut metas = BTreeMap::new();
        for operand in signature.operands {
            match operands.get(operand.name) {
                None if operand.optional => {}
                None => {
                    let message = format!("{} needs it", signature.name);
                    return Err(Refusal::new(Kind::OperandMissing, operand.name, message));
                }
                Some(meta) => {
                    check_type(operand, meta, dtype)?;
                    bind_shape(operand, meta, &mut dims)?;
                    metas.insert(operand.name, meta.clone());
                }
            }
        }
        let attributes = Attributes::read(signature, attributes)?;
        let phase = None;
        let question = Question { signature, dtype, attributes, dims, phase, operands: metas };
        op.check(&question)?;
        Ok(question)
    }

    /// Type and shape of an operand that is there.
    pub fn operand(&self, name: &str) -> Option<&Meta> {
        self.operands.get(name)
    }

    /// Whether an optional operand is there.
    pub fn has(&self, name: &str) -> bool {
        self.operands.contains_key(name)
    }

    /// Stored type of an operand that is there.
    ///
    /// # Panics
    /// If it is not there.
    pub fn type_of(&self, name: &str) -> DType {
        self.operands.get(name).unwrap_or_else(|| panic!("no operand {name}")).dtype
    }

    /// The operands that are there, in the order of their names.
    pub fn operands(&self) -> impl Iterator<Item = (&'static str, &Meta)> {
        self.operands.iter().map(|(name, meta)| (*name, meta))
    }

    /// Type and shape of each result, in the order of the signature.
    pub fn results(&self) -> Vec<(&'static str, Meta)> {
        self.signature.results.iter().map(|r| (r.name, self.result_meta(r))).collect()
    }

    /// Stored type of a result.
    ///
    /// # Panics
    /// If the op has no such result.
    pub fn result_type(&self, name: &str) -> DType {
        let result = self.signature.results.iter().find(|r| r.name == name);
        self.result_meta(result.unwrap_or_else(|| panic!("no result {name}"))).dtype
    }

    fn result_meta(&self, result: &ResultSlot) -> Meta {
        let dtype = match result.class {
            Class::Like(name) => self.type_of(name),
            Class::LikeOrTo(name) if self.has(name) => self.type_of(name),
            Class::Ids => DType::I32,
            Class::F32 | Class::P => DType::F32,
            Class::To | Class::ToF32 | Class::LikeOrTo(_) => {
                match self.attributes.find_word("to") {
                    Some("f32") => DType::F32,
                    Some(_) => self.dtype,
                    None if result.class == Class::ToF32 => DType::F32,
                    None => self.dtype,
                }
            }
            _ => self.dtype,
        };
        let shape = match result.shape {
            [same] if same.starts_with('=') => self.operands[&same[1..]].shape.clone(),
            axes => axes.iter().filter_map(|axis| self.axis(axis)).collect(),
        };
        Meta { dtype, shape }
    }

    fn axis(&self, axis: &str) -> Option<usize> {
        if let Ok(number) = axis.parse() {
            return Some(number);
        }
        match axis.strip_suffix('?') {
            Some(symbol) => self.dims.find(symbol),
            None => Some(
                self.dims
                    .find(axis)
                    .or_else(|| {
                        self.attributes.find_int(axis).and_then(|x| usize::try_from(x).ok())
                    })
                    .unwrap_or_else(|| panic!("no axis {axis}")),
            ),
        }
    }
}

fn check_type(operand: &Operand, meta: &Meta, dtype: DType) -> Result<(), Refusal> {
    let refuse = |kind, want: String| {
        Err(Refusal::new(kind, operand.name, format!("is {}, wants {want}", meta.dtype)))
    };
    let d = meta.dtype;
    match operand.class {
        Class::D if d != dtype => refuse(Kind::DtypeMismatch, dtype.to_string()),
        Class::R | Class::DOrF32 if d != dtype && d != DType::F32 => {
            refuse(Kind::DtypeMismatch, format!("{dtype} or f32"))
        }
        Class::P | Class::F32 if d != DType::F32 => refuse(Kind::DtypeMismatch, "f32".into()),
        Class::Ids if d != DType::I32 => refuse(Kind::DtypeMismatch, "i32".into()),
        Class::C if !DType::ACTIVATIONS.contains(&d) => {
            refuse(Kind::TypeUnsupported, "f32, f16 or bf16".into())
        }
        Class::W if !DType::WEIGHTS.contains(&d) => {
            refuse(Kind::TypeUnsupported, "a weight type".into())
        }
        _ => Ok(()),
    }
}

fn bind_shape(operand: &Operand, meta: &Meta, dims: &mut Dims) -> Result<(), Refusal> {
    let shape = &meta.shape;
    let refuse = |kind, message: String| Err(Refusal::new(kind, operand.name, message));
    let axes: Vec<&'static str> = match operand.shape {
        ["..."] => Vec::new(),
        [first, rest @ ..] if first.ends_with('?') && rest.len() == shape.len() => rest.to_vec(),
        axes => axes.iter().map(|a| a.strip_suffix('?').unwrap_or(a)).collect(),
    };
    if operand.shape != ["..."] && axes.len() != shape.len() {
        return refuse(
            Kind::RankMismatch,
            format!("has {} axes, wants {:?}", shape.len(), operand.shape),
        );
    }
    if let Some(at) = shape.iter().position(|&axis| axis == 0) {
        return refuse(Kind::EmptyAxis, format!("axis {at} of {shape:?} is empty"));
    }
    for (symbol, &axis) in axes.into_iter().zip(shape) {
        let bound = match symbol.parse::<usize>() {
            Ok(number) if number == axis => Ok(()),
            Ok(number) => Err(number),
            Err(_) => dims.bind(symbol, axis),
        };
        if let Err(bound) = bound {
            return refuse(
                Kind::ShapeMismatch,
                format!("axis {symbol} is {axis} in {shape:?}, but {bound} elsewhere"),
            );
        }
    }
    match meta.bytes() {
        Some(_) => Ok(()),
        None => refuse(
            Kind::ShapeMismatch,
            format!("{shape:?} is no whole number of {} blocks a row, or too large", meta.dtype),
        ),
    }
}

impl Values {
    /// The elements of a tensor, widened.
    pub fn of(tensor: &Tensor) -> Values {
        match tensor.meta.dtype {
            DType::I32 => Values::Ids(tensor.to_i32()),
            _ => Values::Real(tensor.to_f64()),
        }
    }

    /// The numbers.
    ///
    /// # Panics
    /// If these are ids.
    pub fn real(&self) -> &[f64] {
        match self {
            Values::Real(x) => x,
            Values::Ids(_) => panic!("ids are no numbers"),
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Real(x) => x.len(),
            Values::Ids(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
