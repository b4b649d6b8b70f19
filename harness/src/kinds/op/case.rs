//! A case: one complete question with the expected answer, independent of any device.

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_tensor::{DType, RefusalKind};
use serde_json::{Map, Value};

use crate::fill::Input;
use crate::line::{Family, Part, Place};

/// One complete question and how its answer is judged. A trial is a case on a subject.
#[derive(Clone, Debug)]
pub struct Case {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The stem of its spec file; for ops, the op.
    pub stem: String,
    /// Its name in the file.
    pub name: String,
    /// The variant: `f16`, `f16-q4_k`, the label of a model file …
    pub variant: String,
    /// Why the case exists; printed on failure.
    pub why: String,
    /// The source of the expected numbers.
    pub source: String,
    /// Where it was written.
    pub place: Place,
    /// The question.
    pub ask: OpAsk,
    /// The expected answer.
    pub expect: Expect,
    /// The family, by the fills: integers, powers, values and one-hot make `exact`.
    pub family: Family,
    /// How often it is asked; all answers must have the same bits.
    pub repeat: u32,
    /// Row invariance to be checked bit for bit.
    pub same_bits: Option<SameBits>,
    /// The time limit.
    pub timeout: Duration,
    /// The memory that it needs, on the device or the host, in MiB; 0 if unspecified.
    pub memory_mib: u64,
    /// Whether `cargo test` leaves it out.
    pub slow: bool,
    /// The part that a trial judges.
    pub part: Part,
    /// For a refusal: a question of the same op and type that must be answered in the same trial.
    pub control: Option<Box<Case>>,
    /// Why the expected result may be constant or all zero; without a reason it must not be.
    pub constant_golden: Option<String>,
}

impl Case {
    /// The trial's name without its subject, such as `gate1::layernorm::ragged::f16`.
    pub fn full_name(&self) -> String {
        format!("gate{}::{}::{}::{}", self.gate, self.stem, self.name, self.label())
    }

    /// The variant, with the part that a trial judges.
    pub fn label(&self) -> String {
        self.part.variant(&self.variant)
    }

    /// A refusal together with its control: the smallest of `cases` with a golden that asks the
    /// same op in the same types. A subject that refuses everything has shown nothing by its
    /// refusals.
    pub fn controlled<'c>(&self, cases: impl Iterator<Item = &'c Case>) -> Case {
        if !matches!(self.expect, Expect::Refusal { .. }) {
            return self.clone();
        }
        let has_golden = |case: &&Case| {
            matches!(&case.expect, Expect::Answer { golden: GoldenSource::File(_), .. })
        };
        let same = |case: &&Case| case.stem == self.stem && case.ask.dtype == self.ask.dtype;
        let size = |case: &Case| -> usize {
            case.ask.operands.iter().map(|input| input.meta.volume().unwrap_or(usize::MAX)).sum()
        };
        // Of the same weight type where there is one; then what uses the fewest features.
        let order = |case: &&Case| {
            let other = case.variant != self.variant;
            (other, case.ask.operands.len() + case.ask.alias.len(), size(case), case.name.clone())
        };
        let control = cases.filter(|case| !case.slow).filter(has_golden).filter(same);
        let control = control.min_by_key(order);
        Case { control: control.map(|case| Box::new(case.clone())), ..self.clone() }
    }

    /// The case as the trial that compares bits; none if it is asked in one form only.
    pub fn bits(&self) -> Option<Case> {
        let several = self.repeat > 1 || self.same_bits.is_some();
        several.then(|| Case { part: Part::Bits, ..self.clone() })
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
    /// The attributes; real ones are already f32 values.
    pub attributes: Map<String, Value>,
    /// The operands in the order of the op's signature (unknown ones last).
    pub operands: Vec<Input>,
    /// Result → operand whose memory it shares.
    pub alias: BTreeMap<String, String>,
}

/// The expected answer.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Numbers within a tolerance.
    Answer {
        /// The source of the numbers.
        golden: GoldenSource,
        /// What is allowed.
        tolerance: Tolerance,
    },
    /// A refusal of this kind, naming this operand or attribute.
    Refusal {
        /// Kind.
        kind: RefusalKind,
        /// Operand or attribute.
        operand: String,
    },
}

/// The source of expected numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum GoldenSource {
    /// A file below golden/, made by the oracle.
    File(String),
    /// Written in the spec: result → numbers, each with half a unit of its last digit.
    Written(BTreeMap<String, Vec<Written>>),
    /// The CPU definition, which is therefore never asked of `cpu`.
    Definition,
}

/// A number as written, with half a unit of its last digit.
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
    /// Whether sequential sums are allowed: K takes the place of √K.
    pub linear_sum: bool,
    /// Value kept inside the op → the type that a legal engine may round it to.
    pub keeps: BTreeMap<String, DType>,
    /// Why an error is allowed, for `number` and `sum: linear`.
    pub because: Option<String>,
}

/// The rule of a tolerance.
#[derive(Clone, Debug, PartialEq)]
pub enum ToleranceRule {
    /// 2^-24 · slack.
    Derived,
    /// The golden rounded to the stored type, bit for bit.
    Exact,
    /// Set by hand: absolute + relative · |r| + ulp · ulp(r).
    Number {
        /// The absolute part.
        absolute: f64,
        /// The relative part.
        relative: f64,
        /// In units of the last place of the stored type.
        ulp: f64,
    },
}

/// The accumulator of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// A tensor core, which truncates.
    Tensor,
    /// CUDA cores, which round to nearest.
    F32,
}

/// Rows that are asked in parts must come back with the same bits (specs/README.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameBits {
    /// Operands whose first axis is cut.
    pub cut: Vec<String>,
    /// Results whose first axis is cut.
    pub results: Vec<String>,
    /// Sizes of the chunks.
    pub chunks: Vec<usize>,
    /// The attribute that is raised by the first row of a chunk.
    pub advance: Option<String>,
    /// Whether rows are also asked in reverse order.
    pub moved: bool,
}
