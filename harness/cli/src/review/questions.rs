//! Checks that every case that expects an answer asks a question that its op accepts.

use goldgate_harness::kinds::op::case::{Case, Expect, GoldenSource};
use goldgate_harness::kinds::op::golden::written;
use goldgate_harness::kinds::op::oracle as ask;
use goldgate_harness::line::Place;
use goldgate_harness::spec::{OpSpec, Specs};
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::cause::add;
use goldgate_harness::yaml::place::{Step, first};

/// Questions that are refused, and written numbers that do not fit, with each cause once per file.
pub fn problems(specs: &Specs) -> Vec<Problem> {
    let ops = specs.ops.iter().filter(|op| !specs.broken.has(&op.file.op.value));
    ops.flat_map(of_op).collect()
}

fn of_op(op: &OpSpec) -> Vec<Problem> {
    let mut kept: Vec<Problem> = Vec::new();
    let timed = op.benches.iter().map(|b| &b.case);
    for problem in op.cases.iter().chain(timed).filter_map(|case| of_case(op, case)) {
        // The variants of a case mostly fail alike, and one error shows it.
        let same = |p: &&mut Problem| {
            let same_words = (&p.found, &p.expected) == (&problem.found, &problem.expected);
            same_words || (p.code, &p.place) == (problem.code, &problem.place)
        };
        match kept.iter_mut().find(same) {
            Some(first) => add(first, &problem),
            None => kept.push(problem),
        }
    }
    kept
}

fn of_case(op: &OpSpec, case: &Case) -> Option<Problem> {
    // A case that refuses asks on purpose what its op does not take.
    let Expect::Answer { golden, .. } = &case.expect else { return None };
    if let GoldenSource::Written(numbers) = golden
        && ask::results(case).is_ok()
    {
        let Place { line, column, .. } = case.place;
        return written(case, numbers)
            .err()
            .map(|p| op.source.problem(p.code, line, column, &p.field, &p.found, &p.expected));
    }
    let refusal = ask::results(case).err()?;
    let name = refusal.operand.as_str();
    let (cases, bench): (Step<'_>, Step<'_>) =
        (("cases", Some(case.name.as_str())), ("bench", Some(case.name.as_str())));
    let own = [("attributes", None), ("fill", None), ("shape", None), ("sizes", None)];
    let own = own.map(|(key, _): Step<'_>| (key, Some(name)));
    let mut paths: Vec<Vec<Step<'_>>> = Vec::new();
    for list in [cases, bench] {
        paths.extend(own.map(|step| vec![list, step]));
    }
    // The head of the file comes last, because a case overrides it.
    paths.extend([vec![("attributes", Some(name))], vec![("inputs", Some(name))]]);
    let paths: Vec<&[Step<'_>]> = paths.iter().map(Vec::as_slice).collect();
    let at = first(&op.source, &paths);
    let (line, column) = at.unwrap_or((case.place.line, case.place.column));
    let (found, expected) = (refusal.to_string(), "a question that the op takes");
    Some(op.source.problem("QUESTION", line, column, &case.name, &found, expected))
}
