//! What the cases of each op cover: a row per dtype and weight type, a column per family. An empty
//! cell needs a reason in the op's file, so that no gap stays unnoticed.

use goldgate_tensor::DType;
use serde::Serialize;

use crate::kinds::op::case::Case;
use crate::line::Family;
use crate::spec::{OpSpec, Specs};
use crate::yaml::Problem;

/// The families in the order of the table's columns.
pub const FAMILIES: [Family; 3] = [Family::Exact, Family::Rough, Family::Refused];

/// The cases of one op in one type: a row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The type: `f16`, or `w q4_k` for a weight.
    pub stored: String,
    /// How many cases each family has.
    pub cases: [usize; 3],
}

/// What the cases of one op cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// The op.
    pub op: String,
    /// One row per type.
    pub lines: Vec<Line>,
    /// The families with empty cells, each with the reason.
    pub without: Vec<(Family, String)>,
    /// The ids of its listed mutants.
    pub faults: Vec<String>,
}

impl Coverage {
    /// The rows in which a family has no case.
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
        let count = |family| op.cases.iter().filter(|c| c.family == family && is(c)).count();
        Line { stored, cases: FAMILIES.map(count) }
    };
    let mut lines: Vec<Line> = op
        .file
        .dtypes
        .iter()
        .map(|d| line(d.name().to_owned(), &|case| case.ask.dtype == *d))
        .collect();
    // Weights have a storage type of their own, which varies independently of the dtype.
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

/// Of specs that decide about a release, problems for empty cells without a reason, reasons without
/// an empty cell, and ops without a mutant.
pub fn check(specs: &Specs) -> Vec<Problem> {
    let mut problems = Vec::new();
    // A folder of a few cases of somebody's own does not have to cover what it adds to.
    if !specs.gates.decides_release() {
        return problems;
    }
    for (op, covered) in specs.ops.iter().zip(coverage(specs)) {
        // An op whose file is broken has no cases yet, so every cell would be reported as empty.
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
                // A reason that explains nothing is refused too: it would hide the next gap.
                Some(reason) if empty.is_empty() => {
                    let found = format!("a reason for no {word} case");
                    note(reason.line, reason.column, found, "no reason: every type has one");
                }
                _ => {}
            }
        }
        // Without a planted fault nothing shows that the cases of the op can fail.
        if covered.faults.is_empty() {
            let found = format!("no mutant of {}", covered.op);
            note(op.file.op.line, op.file.op.column, found, "one at least in mutants/");
        }
    }
    problems
}
