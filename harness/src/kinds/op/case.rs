//! A case: one complete question and what is awaited, independent of any device.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_tensor::{DType, RefusalKind};
use serde_json::{Map, Value};

use crate::fill::Input;
use crate::line::{Family, Place};

/// One complete question with its answer's rule. A trial is a case on a subject.
#[derive(Clone, Debug)]
pub struct Case {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its spec file; for ops the op.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// `f16`, `f16-q4_k`, a model file's label …
    pub variant: String,
    /// Why the case exists; printed on failure.
    pub why: String,
    /// Where the awaited numbers come from.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// The question.
    pub ask: OpAsk,
    /// What is awaited.
    pub expect: Expect,
    /// Whether all fills are integers, powers, values or one-hot (family `exact`).
    pub family: Family,
    /// How often it is asked; all answers must have the same bits.
    pub repeat: u32,
    /// Row invariance to hold bit for bit.
    pub same_bits: Option<SameBits>,
    /// The supervisor's limit.
    pub timeout: Duration,
    /// Device or host memory that it needs, MiB; 0 if it did not say.
    pub memory_mib: u64,
    /// Left out of `cargo test`.
    pub slow: bool,
    /// Why the awaited result may be constant or all zero; without a reason it must not be.
    pub constant_golden: Option<String>,
}

impl Case {
    /// `gate1::layernorm::ragged::f16`: the trial's name without its subject.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::{}", self.gate, self.stem, self.name, self.variant)
    }

    /// The trial's name on a subject.
    pub fn trial(&self, subject: &str) -> String {
        format!("{}::{subject}", self.full_name())
    }
}

/// A question about one op.
#[derive(Clone, Debug)]
pub struct OpAsk {
    /// The op.
    pub op: String,
    /// The activation type.
    pub dtype: DType,
    /// Attributes; real ones are already f32 values.
    pub attributes: Map<String, Value>,
    /// Operands in the order of the op's signature (unknown ones last).
    pub operands: Vec<Input>,
    /// Result → operand whose memory it shares.
    pub alias: BTreeMap<String, String>,
}

/// What is awaited.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Numbers within a tolerance.
    Answer {
        /// Where the numbers come from.
        golden: GoldenSource,
        /// What is allowed.
        tolerance: Tolerance,
    },
    /// A refusal of this kind, of this operand or attribute.
    Refusal {
        /// Kind.
        kind: RefusalKind,
        /// Operand or attribute.
        operand: String,
    },
}

/// Where awaited numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub enum GoldenSource {
    /// A file below golden/, by the oracle.
    File(String),
    /// Written in the spec: result → numbers with half a unit of their last digit.
    Written(BTreeMap<String, Vec<Written>>),
    /// The CPU definition answers; never asked of `cpu`.
    Definition,
}

/// A number as written, and half a unit of its last written digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    /// The number.
    pub value: f64,
    /// Half a unit of the last digit.
    pub half_unit: f64,
}

/// What is allowed beyond half an ulp of the stored type (`What is allowed` in specs/README.md).
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerance {
    /// The rule.
    pub rule: ToleranceRule,
    /// The accumulator of a legal engine.
    pub accumulate: Accumulate,
    /// Sequential sums are allowed: K in place of √K.
    pub linear_sum: bool,
    /// Value kept inside the op → the type that a legal engine may round it to.
    pub keeps: BTreeMap<String, DType>,
    /// Why, where a number or `sum: linear` allows an error.
    pub because: Option<String>,
}

/// The rule of a tolerance.
#[derive(Clone, Debug, PartialEq)]
pub enum ToleranceRule {
    /// 2^-24 · slack.
    Derived,
    /// The golden rounded to the stored type, bit for bit.
    Exact,
    /// By hand: absolute + relative · |r| + ulp · ulp(r).
    Number {
        /// Absolute part.
        absolute: f64,
        /// Relative part.
        relative: f64,
        /// In units of the last place of the stored type.
        ulp: f64,
    },
}

/// What sums the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// mma: truncates.
    Tensor,
    /// CUDA cores, nearest.
    F32,
}

/// Rows asked apart must come back with the same bits (specs/README.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameBits {
    /// Operands whose first axis is cut.
    pub cut: Vec<String>,
    /// Results whose first axis is cut.
    pub results: Vec<String>,
    /// Sizes of the chunks.
    pub chunks: Vec<usize>,
    /// The attribute that grows by the first row of a chunk.
    pub advance: Option<String>,
    /// Whether rows are also asked in reverse order.
    pub moved: bool,
}
