//! The written forms of values, as `specs/schema.json` describes them to editors. The doc comments
//! of these types are the descriptions in that file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($word:literal)*) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"enum": [$($word),*]})
            }
        }
    };
}

words! {
    /// A type of activations.
    Activation: "f32" "f16" "bf16"
}
words! {
    /// A stored type of weights.
    Weight: "f32" "f16" "bf16" "q4_0" "q5_0" "q8_0" "q4_k" "q5_k" "q6_k" "mxfp4"
}
words! {
    /// A stored type; D is the case's.
    TypeForm: "D" "f32" "f16" "bf16" "i32" "u8" "f64"
}
words! {
    /// What a value may be rounded to.
    Kept: "D" "f16" "bf16" "f32"
}
words! {
    /// What sums products.
    AccumulateForm: "tensor" "f32"
}
words! {
    /// The rule of a tolerance.
    RuleForm: "derived" "exact" "number"
}
words! {
    /// How a legal engine may sum.
    SumForm: "tree" "linear"
}
words! {
    /// The grid of inputs.
    GridForm: "common" "full"
}
words! {
    /// Who answers in place of a golden.
    JudgeForm: "definition"
}
words! {
    /// Which element of each row is one.
    OneHotForm: "last"
}
words! {
    /// Every code in every place once.
    EveryCodeForm: "every_code"
}
words! {
    /// A number that is none.
    NotFinite: "nan" "inf" "-inf" ".nan" ".inf" "-.inf"
}
words! {
    /// The kinds of refusal.
    RefusalForm:
    "EmptyAxis" "RankMismatch" "ShapeMismatch" "DtypeMismatch" "TypeUnsupported" "OperandMissing"
    "OperandUnknown" "IdOutOfRange" "PositionOutOfRange" "AttributeMissing" "AttributeUnknown"
    "AttributeOutOfRange" "NotANumber" "CapacityExceeded" "NotSupported" "Malformed"
}

/// A name that is part of a trial's name.
#[derive(Debug)]
pub struct Id;

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The rule of `is_id`, so that an editor marks a wrong name while it is typed.
        json_schema!({"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,63}$"})
    }
}

/// An axis: the name of a size, or a number.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum AxisForm {
    /// The name of a size.
    Symbol(String),
    /// A number.
    Number(usize),
}

/// A number, or one of `nan`, `inf`, `-inf`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum NumberForm {
    /// A finite number.
    Number(f64),
    /// Not a finite one.
    Word(NotFinite),
}

words! {
    /// Each row in the place of the next one.
    ByRows: "by_rows"
}

/// One name, or several.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

/// How an operand is rolled.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum RollForm {
    /// Each row in the place of the next one.
    Rows(ByRows),
    /// Each row by that many elements.
    Elements(i64),
}

/// How a tensor is filled: exactly one of these.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum FillForm {
    /// Evenly between two numbers.
    Uniform([f64; 2]),
    /// Mean and standard deviation.
    Normal([f64; 2]),
    /// Whole numbers, both ends included.
    Integers([i64; 2]),
    /// Plus or minus 2^k, both ends of k included.
    Powers([i64; 2]),
    /// Normal with rare large elements.
    Outliers(OutliersForm),
    /// Linear over the elements.
    Ramp([f64; 2]),
    /// One number.
    Constant(f64),
    /// One in one element of each row, zero elsewhere.
    OneHot(OneHotForm),
    /// The numbers, row-major.
    Values(Vec<NumberForm>),
    /// Ids, both ends included.
    Ids([i32; 2]),
    /// Raw blocks of a quantised type.
    Blocks(BlocksForm),
}

/// Normal numbers of which every n-th is multiplied.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OutliersForm {
    /// Standard deviation.
    pub std: f64,
    /// Which elements.
    pub every: u64,
    /// The factor.
    pub times: f64,
}

/// Random codes under scales in a range, or each code in each place once.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum BlocksForm {
    /// Random codes.
    Random(ScaleForm),
    /// Each code in each place once.
    EveryCode(EveryCodeForm),
}

/// The range of the magnitude of scales.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScaleForm {
    /// Low end, high end.
    pub scale: [f64; 2],
}
