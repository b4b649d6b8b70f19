//! What the cases of each op cover: a row a dtype and a weight type, a column a family. An empty
//! cell has a reason in the op's file, or `goldgate check` refuses it.

use goldgate_tensor::DType;
use serde::Serialize;

use crate::kinds::op::case::Case;
use crate::line::Family;
use crate::spec::{OpSpec, Specs};
use crate::yaml::Problem;

/// The families, as columns stand.
pub const FAMILIES: [Family; 3] = [Family::Exact, Family::Rough, Family::Refused];

/// The cases of one op in one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `f16`, or of a weight `w q4_k`.
    pub stored: String,
    /// Cases of each family.
    pub cases: [usize; 3],
}

/// What the cases of one op cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The op.
    pub op: String,
    /// A line a type.
    pub lines: Vec<Line>,
    /// Family and why it has empty cells.
    pub without: Vec<(Family, String)>,
    /// Its listed mutants.
    pub faults: Vec<String>,
}

impl Coverage {
    /// The lines in which a family has no case.
    pub fn empty(&self, family: Family) -> Vec<&str> {
        let at = FAMILIES.iter().position(|f| *f == family).unwrap_or_default();
        self.lines.iter().filter(|l| l.cases[at] == 0).map(|l| l.stored.as_str()).collect()
    }
}

/// The coverage of every op.
pub fn coverage(specs: &Specs) -> Vec<Coverage> {
    specs.ops.iter().map(|op| of_op(specs, op)).collect()
}

fn of_op(specs: &Specs, op: &OpSpec) -> Coverage {
    let name = &op.file.op.value;
    let line = |stored: String, is: &dyn Fn(&Case) -> bool| {
        let of = |family| op.cases.iter().filter(|c| c.family == family && is(c)).count();
        Line { stored, cases: FAMILIES.map(of) }
    };
    let mut lines: Vec<Line> = op
        .file
        .dtypes
        .iter()
        .map(|d| line(d.name().to_owned(), &|case| case.ask.dtype == *d))
        .collect();
    let weight = goldgate_engine::ops::find(name).and_then(|op| op.signature().weight());
    if let Some(weight) = weight {
        let stored = |case: &Case| {
            let operand = case.ask.operands.iter().find(|i| i.name == weight.name);
            operand.map(|i| i.meta.dtype)
        };
        let each = DType::WEIGHTS.iter();
        lines.extend(each.map(|w| line(format!("w {w}"), &|case| stored(case) == Some(*w))));
    }
    let reason = |f: Family| Some((f, op.file.without.reason(f)?.value.clone()));
    let mutants = specs.mutants.iter().filter(|m| m.mutants.value == *name);
    Coverage {
        op: name.clone(),
        lines,
        without: FAMILIES.into_iter().filter_map(reason).collect(),
        faults: mutants.flat_map(|m| m.list.iter().map(|m| m.id.value.clone())).collect(),
    }
}

/// Empty cells without a reason, reasons without an empty cell, and ops without a fault.
pub fn check(specs: &Specs) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (op, covered) in specs.ops.iter().zip(coverage(specs)) {
        if specs.broken.has(&covered.op) {
            continue;
        }
        let file = format!("ops/{}.yaml", covered.op);
        let mut note = |line: u32, column: u32, found: String, expected: &str| {
            let mut problem = Problem::of_file("COVERAGE", &file, found, expected);
            (problem.place.line, problem.place.column) = (line, column);
            problems.push(problem);
        };
        for family in FAMILIES {
            let word = format!("{family:?}").to_lowercase();
            let empty = covered.empty(family).join(", ");
            match op.file.without.reason(family) {
                None if !empty.is_empty() => {
                    let found = format!("no {word} case in {empty}");
                    let expected = format!("a case, or `without: {{ {word}: reason }}`");
                    note(op.file.op.line, op.file.op.column, found, &expected);
                }
                Some(reason) if empty.is_empty() => {
                    let found = format!("a reason for no {word} case");
                    note(reason.line, reason.column, found, "no reason: every type has one");
                }
                _ => {}
            }
        }
        if covered.faults.is_empty() {
            let found = format!("no mutant of {}", covered.op);
            note(op.file.op.line, op.file.op.column, found, "one at least in mutants/");
        }
    }
    problems
}
