//! The checks of `goldgate check` beyond the form of each file: dangling names, unanswerable
//! questions, goldens of other questions, and gates that prove nothing.
//!
//! ```text
//! files ─own problems→ broken ─references→ broken ─goldens, gates, lock→ the rest
//! ```
//!
//! Each stage leaves out whatever depends on a file that an earlier stage found broken, so that one
//! mistake is reported once.

mod equivalent;
mod gates;
mod goldens;
mod known;
mod models;
mod mutants;
mod questions;
mod slower;
mod tokens;

use std::collections::BTreeSet;

pub use gates::lock;
pub use slower::problems as slowdowns;

use goldgate_harness::gate;
use goldgate_harness::line::Day;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::cause::add;

/// Problems of the specs folder and of the golden folder, whose paths are printed differently.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Problems of files below specs/.
    pub specs: Vec<Problem>,
    /// Problems of files below golden/.
    pub golden: Vec<Problem>,
}

/// Everything that is wrong between the files. Files that turn out to be broken are recorded in
/// `specs`.
pub fn review(specs: &mut Specs, store: Option<&Store>, today: Day) -> Found {
    let mut found = Found::default();
    let note = |specs: &mut Specs, found: &mut Found, problems: Vec<Problem>| {
        specs.broken.extend(&problems);
        found.specs.extend(problems);
    };
    // First, because a question that no op takes can have neither a golden nor a planted fault.
    let questions = questions::problems(specs);
    note(specs, &mut found, questions);
    // Without a golden folder all paths would be reported as missing.
    if let Some(store) = store.filter(|store| store.root.is_dir()) {
        let forms = models::problems(specs, store);
        note(specs, &mut found, forms);
        let forms = tokens::problems(specs, store);
        note(specs, &mut found, forms);
    }
    let faults = mutants::problems(specs, store);
    note(specs, &mut found, faults);
    let reviewed = equivalent::problems(specs);
    note(specs, &mut found, reviewed);
    let entries = known::problems(specs, today);
    note(specs, &mut found, entries);
    if let Some(store) = store {
        let goldens = goldens::problems(specs, store);
        note(specs, &mut found, goldens);
        found.golden = goldens::files(specs, store);
    }
    found.specs.extend(gate::coverage::check(specs));
    found.specs.extend(gates::problems(specs));
    found
}

/// Merges problems of one code in one file into one with a count.
fn once(mut problems: Vec<Problem>) -> Vec<Problem> {
    let place = |p: &Problem| (p.place.file.clone(), p.place.line, p.place.column);
    problems.sort_by_key(place);
    let mut kept: Vec<Problem> = Vec::new();
    for problem in problems {
        let same = |first: &&mut Problem| {
            (first.code, &first.place.file) == (problem.code, &problem.place.file)
        };
        match kept.iter_mut().find(same) {
            Some(first) => add(first, &problem),
            None => kept.push(problem),
        }
    }
    kept
}

/// The distinct `items`, in their order.
fn distinct<T: Ord + Copy>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(*item)).collect()
}
