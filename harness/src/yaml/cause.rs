//! Reduces errors to their causes: an error that follows from another one in the same file is left
//! out, and the same mistake in many places is one error with a count, so that the list shows what
//! to repair.

use crate::yaml::Problem;

/// Codes which state that something in a whole is missing or does not fit. If a part of that whole
/// has an error of its own, such an error follows from it.
const OF_A_WHOLE: &[&str] = &["MISSING_FIELD", "GATE_EMPTY", "EDIT", "RANGE"];

/// The problems of one file in the order of its lines, with each cause listed once.
pub fn causes(mut problems: Vec<Problem>) -> Vec<Problem> {
    // In the order of the file, so that of equal mistakes the first one is shown.
    problems.sort_by_key(|p| (p.place.line, p.place.column));
    let follows: Vec<bool> =
        problems.iter().map(|p| problems.iter().any(|cause| follows(p, cause))).collect();
    let mut kept: Vec<Problem> = Vec::new();
    for (problem, follows) in problems.into_iter().zip(follows) {
        if follows {
            continue;
        }
        // A mistake that was copied into thirty cases is one mistake.
        match kept.iter_mut().find(|first| same(first, &problem)) {
            Some(first) => add(first, &problem),
            None => kept.push(problem),
        }
    }
    kept
}

/// Whether `problem` follows from `cause`.
fn follows(problem: &Problem, cause: &Problem) -> bool {
    // Only what is said of a whole can follow from a mistake in one of its parts.
    if !OF_A_WHOLE.contains(&problem.code) || std::ptr::eq(problem, cause) {
        return false;
    }
    // A misspelt key is an unknown key, and at the same time the right one is missing.
    let misspelt = cause.code == "UNKNOWN_FIELD"
        && problem.code == "MISSING_FIELD"
        && parent(&cause.field) == parent(&problem.field);
    misspelt || is_inside(&cause.field, &problem.field)
}

/// Whether the field `part` is below the field `whole`.
fn is_inside(part: &str, whole: &str) -> bool {
    !whole.is_empty() && part.strip_prefix(whole).is_some_and(|rest| rest.starts_with(['.', '[']))
}

fn parent(field: &str) -> &str {
    field.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Whether two problems are the same mistake in two places.
fn same(a: &Problem, b: &Problem) -> bool {
    let facts = |p: &Problem| (p.code, p.found.clone(), p.expected.clone());
    last(&a.field) == last(&b.field) && facts(a) == facts(b)
}

/// The last part of a dotted name, without its index.
fn last(field: &str) -> &str {
    let part = field.rsplit('.').next().unwrap_or_default();
    part.split('[').next().unwrap_or_default()
}

/// Adds the place of an equal problem to the first one.
pub fn add(first: &mut Problem, other: &Problem) {
    let place = (other.place.line, other.place.column);
    // A case is expanded in several types, each of which may note the same place.
    if place != (first.place.line, first.place.column) && !first.again.contains(&place) {
        first.again.push(place);
        first.again.extend(&other.again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: &'static str, line: u32, field: &str, found: &str) -> Problem {
        let mut problem = Problem::of_file(code, "ops/x.yaml", found, "y");
        (problem.place.line, problem.place.column) = (line, 3);
        problem.field = field.to_owned();
        problem
    }

    fn listed(problems: Vec<Problem>) -> Vec<(&'static str, u32, usize)> {
        let facts = |p: &Problem| (p.code, p.place.line, p.again.len());
        causes(problems).iter().map(facts).collect()
    }

    #[test]
    fn a_misspelt_key_is_one_error() {
        let missing = problem("MISSING_FIELD", 4, "cases[0].why", "nothing");
        let unknown = problem("UNKNOWN_FIELD", 5, "cases[0].wyh", "wyh");
        assert_eq!(listed(vec![missing.clone(), unknown.clone()]), [("UNKNOWN_FIELD", 5, 0)]);
        let other = problem("UNKNOWN_FIELD", 9, "cases[1].wyh", "wyh");
        assert_eq!(listed(vec![missing, other]).len(), 2);
        let whole = problem("MISSING_FIELD", 4, "cases[0]", "a mapping of 3");
        assert_eq!(listed(vec![whole, unknown]), [("UNKNOWN_FIELD", 5, 0)]);
    }

    #[test]
    fn the_same_mistake_in_many_places_is_counted() {
        let each = |i: u32| problem("UNKNOWN_FIELD", 4 + i, &format!("cases[{i}].wyh"), "wyh");
        assert_eq!(listed((0..30).map(each).collect()), [("UNKNOWN_FIELD", 4, 29)]);
        let others = vec![problem("TYPE", 1, "a.slow", "yes"), problem("TYPE", 2, "b.slow", "no")];
        assert_eq!(listed(others).len(), 2);
    }
}
