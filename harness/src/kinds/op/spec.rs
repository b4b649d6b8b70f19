//! The spec of an op as it was written: `specs/ops/<op>.yaml`.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, RefusalKind};
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::fill::{Fill, Grid};
use crate::kinds::op::case::{Accumulate, Written};
use crate::line::Family;
use crate::yaml::forms;
use crate::yaml::read::{At, Table};

/// The file of one op: what its inputs are, and its cases.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OpFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The op: the stem of the file.
    #[schemars(with = "String")]
    pub op: At<String>,
    /// The gate that its cases belong to, unless a case names a later one.
    pub gate: u8,
    /// Where the formula comes from.
    pub source: String,
    /// Operands by name: shape in symbols, fill, type.
    #[schemars(with = "BTreeMap<String, InputSpec>")]
    pub inputs: Table<InputSpec>,
    /// Attributes of every case.
    #[schemars(default)]
    pub attributes: Map<String, Value>,
    /// The types that each case is asked in.
    #[schemars(with = "Vec<forms::Activation>")]
    pub dtypes: Vec<DType>,
    /// The stored types of the operand of class W that each case is asked in.
    #[schemars(with = "Option<Vec<forms::Weight>>")]
    pub weights: Option<Vec<DType>>,
    /// What is allowed; `rule: derived` where it is absent.
    pub tolerance: Option<ToleranceSpec>,
    /// The accumulator that a legal engine may use.
    #[schemars(with = "Option<forms::AccumulateForm>")]
    pub accumulate: Option<Accumulate>,
    /// Values inside the op → the type that a legal engine may round them to.
    #[schemars(with = "Option<BTreeMap<String, forms::Kept>>")]
    pub keeps: Option<BTreeMap<String, Kept>>,
    /// Families that some of its types have no case of, each with the reason.
    #[schemars(default)]
    pub without: Without,
    /// The cases.
    #[schemars(default)]
    pub cases: Vec<CaseSpec>,
    /// What is timed.
    #[schemars(default)]
    pub bench: Vec<BenchSpec>,
}

/// Why a family has no case for some dtype or weight type: an empty cell of the table that
/// `goldgate list --coverage` prints.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Without {
    /// Why no case of whole numbers or powers of two.
    #[schemars(with = "Option<String>")]
    pub exact: Option<At<String>>,
    /// Why no case of other numbers.
    #[schemars(with = "Option<String>")]
    pub rough: Option<At<String>>,
    /// Why no case that must be refused.
    #[schemars(with = "Option<String>")]
    pub refused: Option<At<String>>,
}

impl Without {
    /// The reason given for a family.
    pub fn reason(&self, family: Family) -> Option<&At<String>> {
        match family {
            Family::Exact => self.exact.as_ref(),
            Family::Rough => self.rough.as_ref(),
            Family::Refused => self.refused.as_ref(),
        }
    }
}

/// An operand.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct InputSpec {
    /// Axes: names of sizes, or numbers.
    #[schemars(with = "Vec<forms::AxisForm>")]
    pub shape: At<Vec<Axis>>,
    /// How it is filled, unless a case says otherwise.
    #[schemars(with = "forms::FillForm")]
    pub fill: At<Fill>,
    /// Its stored type, where it is not the one that the op's signature gives.
    #[schemars(rename = "type", with = "Option<forms::TypeForm>")]
    pub dtype: Option<TypeWord>,
}

/// One axis of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The name of a size.
    Symbol(String),
    /// A number.
    Number(usize),
}

/// A stored type in a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeWord {
    /// The case's dtype.
    D,
    /// This type.
    Is(DType),
}

/// The type that a kept value may be rounded to.
pub type Kept = TypeWord;

/// What is allowed beyond half an ulp of the stored type.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ToleranceSpec {
    /// The rule.
    #[schemars(with = "forms::RuleForm")]
    pub rule: At<Rule>,
    /// `linear`: sequential sums are legal in this case.
    #[schemars(with = "Option<forms::SumForm>")]
    pub sum: Option<Sum>,
    /// Allowed, absolute.
    #[schemars(range(min = 0.0))]
    pub absolute: Option<f64>,
    /// Allowed, as a share of the awaited number.
    #[schemars(range(min = 0.0))]
    pub relative: Option<f64>,
    /// Allowed, in units of the last place of the stored type.
    #[schemars(range(min = 0.0))]
    pub ulp: Option<f64>,
    /// Why an error is allowed.
    pub because: Option<String>,
    /// What shows that it must be.
    pub evidence: Option<String>,
}

/// The rule of a tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// From the slack that comes with the golden.
    Derived,
    /// Bit for bit.
    Exact,
    /// By numbers.
    Number,
}

/// How a legal engine may sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// As a tree, with an error that grows with √K.
    Tree,
    /// Sequentially, with an error that grows with K.
    Linear,
}

/// One case, asked once in each of its dtypes and weight types.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CaseSpec {
    /// Its name, once in the file.
    #[schemars(with = "forms::Id")]
    pub name: At<String>,
    /// Why it exists; printed on failure.
    pub why: String,
    /// Where the awaited numbers come from, if not where the file says.
    pub source: Option<String>,
    /// A later gate than the file's.
    pub gate: Option<u8>,
    /// The number of each symbol.
    #[schemars(default, with = "BTreeMap<String, usize>")]
    pub sizes: Table<At<usize>>,
    /// Fills in place of the file's.
    #[schemars(default, with = "BTreeMap<String, forms::FillForm>")]
    pub fill: Table<At<Fill>>,
    /// Attributes over the file's; null removes one.
    #[schemars(default)]
    pub attributes: Map<String, Value>,
    /// Operands left out.
    #[schemars(default, with = "Vec<String>")]
    pub omit: Vec<At<String>>,
    /// Shapes in place of the file's; with a fill also of an operand that the file has not.
    #[schemars(default, with = "BTreeMap<String, Vec<forms::AxisForm>>")]
    pub shape: Table<At<Vec<Axis>>>,
    /// Stored types in place of the file's.
    #[schemars(default, rename = "type", with = "BTreeMap<String, forms::TypeForm>")]
    pub types: Table<TypeWord>,
    /// Types in place of the file's.
    #[schemars(with = "Option<Vec<forms::Activation>>")]
    pub dtypes: Option<Vec<DType>>,
    /// Weight types in place of the file's.
    #[schemars(with = "Option<Vec<forms::Weight>>")]
    pub weights: Option<Vec<DType>>,
    /// The grid of the inputs; `common` where it is absent.
    #[schemars(with = "Option<forms::GridForm>")]
    pub grid: Option<Grid>,
    /// A tolerance in place of the file's.
    pub tolerance: Option<ToleranceSpec>,
    /// An accumulator in place of the file's.
    #[schemars(with = "Option<forms::AccumulateForm>")]
    pub accumulate: Option<Accumulate>,
    /// Kept values in place of the file's.
    #[schemars(with = "Option<BTreeMap<String, forms::Kept>>")]
    pub keeps: Option<BTreeMap<String, Kept>>,
    /// Result → operand whose memory it shares.
    #[schemars(default, with = "BTreeMap<String, String>")]
    pub alias: Table<At<String>>,
    /// How often it is asked; all answers must have the same bits.
    #[schemars(with = "Option<u32>", range(min = 1, max = 1000))]
    pub repeat: Option<At<u32>>,
    /// Seconds until it is given up.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_s: Option<u32>,
    /// What the machine must have.
    pub needs: Option<Needs>,
    /// Not in `cargo test`.
    #[schemars(default)]
    pub slow: bool,
    /// `definition`: the CPU definition answers in place of a golden.
    #[schemars(with = "Option<forms::JudgeForm>")]
    pub judge: Option<()>,
    /// Results, at most 64 numbers each.
    #[schemars(with = "Option<BTreeMap<String, Vec<forms::NumberForm>>>")]
    pub expect: Option<Table<At<Vec<Written>>>>,
    /// The refusal that a correct engine gives.
    #[schemars(with = "Option<Refuses>")]
    pub refuses: Option<At<Refuses>>,
    /// Rows asked apart have the same bits.
    #[schemars(with = "Option<SameBitsSpec>")]
    pub same_bits: Option<At<SameBitsSpec>>,
    /// Why the awaited result may be constant or all zero.
    pub constant_golden: Option<String>,
    /// Whether it was read without a problem; what is not whole is not expanded.
    #[schemars(skip)]
    pub is_whole: bool,
}

/// What the machine must have.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Needs {
    /// Memory of host or device, MiB.
    #[schemars(range(min = 1, max = 1048576))]
    pub memory_mib: u64,
}

/// A refusal that is awaited.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Refuses {
    /// The kind.
    #[schemars(with = "forms::RefusalForm")]
    pub kind: RefusalKind,
    /// The operand or attribute.
    pub operand: String,
}

/// Rows asked apart have the same bits.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SameBitsSpec {
    /// The size along which operands are cut: their first axis.
    pub axis: String,
    /// Rows of a chunk; each is tried.
    pub chunks: Vec<usize>,
    /// An attribute that grows by the first row of a chunk.
    pub advance: Option<String>,
    /// Whether rows are also asked in reverse order.
    #[schemars(default)]
    pub moved: bool,
}

/// What is timed.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BenchSpec {
    /// Its name, once in the file.
    #[schemars(with = "forms::Id")]
    pub name: At<String>,
    /// Why it is timed.
    pub why: String,
    /// A later gate than the file's.
    pub gate: Option<u8>,
    /// The number of each symbol.
    #[schemars(default, with = "BTreeMap<String, usize>")]
    pub sizes: Table<At<usize>>,
    /// Fills in place of the file's.
    #[schemars(default, with = "BTreeMap<String, forms::FillForm>")]
    pub fill: Table<At<Fill>>,
    /// Attributes over the file's; null removes one.
    #[schemars(default)]
    pub attributes: Map<String, Value>,
    /// Operands left out.
    #[schemars(default, with = "Vec<String>")]
    pub omit: Vec<At<String>>,
    /// Types in place of the file's.
    #[schemars(with = "Option<Vec<forms::Activation>>")]
    pub dtypes: Option<Vec<DType>>,
    /// Weight types in place of the file's.
    #[schemars(with = "Option<Vec<forms::Weight>>")]
    pub weights: Option<Vec<DType>>,
    /// The limit that the same run measures on the same card.
    pub against: Against,
    /// Whether it was read without a problem; what is not whole is not expanded.
    #[schemars(skip)]
    pub is_whole: bool,
}

/// The limit that a bench is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// Bytes copied a second.
    Copy,
    /// Bytes read a second.
    Read,
    /// Operations a second of a large matrix product.
    Matmul,
}
