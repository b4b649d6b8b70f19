//! Checks that goldens answer the questions that their cases ask now; otherwise a run would report
//! `golden_hash`.

use goldgate_harness::golden::make::orders;
use goldgate_harness::golden::make_models;
use goldgate_harness::kinds::model;
use goldgate_harness::kinds::model::case::At;
use goldgate_harness::kinds::model::golden::question;
use goldgate_harness::kinds::op::{self, oracle as ask};
use goldgate_harness::line::Place;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use rayon::prelude::*;

use crate::review::once;

/// Goldens that exist but do not belong to their case, reported at the place of the case.
pub fn problems(specs: &Specs, store: &Store) -> Vec<Problem> {
    let orders: Vec<_> = orders(specs)
        .into_iter()
        .filter(|order| store.has(&order.path) && !specs.broken.has(&order.cases[0].stem))
        .collect();
    // In parallel, because every question computes its inputs anew to hash them.
    let of_ops = orders.par_iter().filter_map(|order| {
        let case = order.cases[0];
        let asked = ask::question(case, &order.wrong);
        let problem = op::golden::of_case(store, case, &asked).err()?;
        Some(at_case(specs, &case.place, (&case.stem, &case.name), &order.path, &problem))
    });
    let mut problems: Vec<Problem> = of_ops.collect();
    for (path, cases) in make_models::orders(specs) {
        let case = cases[0];
        let is_shipped = matches!(case.form.at, At::Golden(_));
        // Goldens of checkpoints that are not shipped cannot be checked on every machine.
        if !is_shipped || !store.has(path) || specs.broken.has(&case.stem) {
            continue;
        }
        let wrong = make_models::wrong_of_model(specs, case);
        // A missing file is reported for its path already.
        let asked = question(case, &wrong, &store.manifest, &store.root, &[]);
        let Ok(asked) = asked else { continue };
        if let Err(problem) = model::golden::of_case(store, case, path, &asked) {
            let name = (case.stem.as_str(), case.name.as_str());
            problems.push(at_case(specs, &case.place, name, path, &problem));
        }
    }
    once(problems)
}

/// A golden's problem at the place of its case, with the command that makes the golden again.
fn at_case(
    specs: &Specs,
    place: &Place,
    (stem, name): (&str, &str),
    path: &str,
    problem: &Problem,
) -> Problem {
    let make = format!("goldgate golden make {stem}::{name}");
    let expected = match problem.code {
        "GOLDEN_QUESTION" | "GOLDEN_CASE" | "INPUTS_HASH" => {
            format!("the golden of what the case asks now: {make}")
        }
        "GOLDEN_HASH" | "GOLDEN_SIZE" | "GOLDEN_MISSING" => {
            format!("the file that MANIFEST.json lists; as it was, or made again by {make}")
        }
        _ => format!("{}; {make} makes it again", problem.expected),
    };
    let found = match problem.code {
        "GOLDEN_QUESTION" => format!("golden/{path} with the answer to another question"),
        "INPUTS_HASH" => {
            format!("golden/{path} with the answer to other inputs ({})", problem.field)
        }
        _ => format!("golden/{path}: {} {}", problem.field, problem.found),
    };
    // Reported at the case, because a golden has no line that an editor could open.
    let mut at_case = match specs.sources.get(&place.file) {
        Some(source) => {
            source.problem(problem.code, place.line, place.column, "", &found, &expected)
        }
        None => Problem::of_file(problem.code, &place.file, found, expected),
    };
    at_case.field = name.to_owned();
    at_case
}

/// Checks that manifest and folder agree. Files of cases that may be missing for now are left out,
/// and goldens of one folder that no case needs any more are one problem.
pub fn files(specs: &Specs, store: &Store) -> Vec<Problem> {
    let mut kept: Vec<(Problem, usize)> = Vec::new();
    for problem in store.check_files(&specs.golden_paths()) {
        let path = problem.place.file.as_str();
        // The case that asks for it may be in the file that could not be read.
        if problem.code == "UNCLAIMED" && specs.broken.meets_golden(path) {
            continue;
        }
        let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        // One error per folder, because a case that goes away leaves several goldens behind.
        let same = |(first, _): &&mut (Problem, usize)| {
            first.code == problem.code && folder(&first.place.file) == folder(path)
        };
        match kept.iter_mut().find(same) {
            Some((_, more)) => *more += 1,
            None => kept.push((problem, 0)),
        }
    }
    let counted = kept.into_iter().map(|(mut problem, more)| {
        if more > 0 {
            problem.found += &format!("; {more} more of this folder");
        }
        problem
    });
    counted.collect()
}
