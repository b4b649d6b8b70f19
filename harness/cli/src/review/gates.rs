//! Checks that gates prove something, and still rest on what they rested on at the last release.

use std::path::Path;

use goldgate_harness::gate::lock::Lock;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::manifest::replace;
use goldgate_harness::subject::launch::builtins;
use goldgate_harness::yaml::Problem;
use goldgate_harness::{gate, trials};
use goldgate_tensor::foreign::{Bounds, ForeignError, LARGEST_TEXT, read_foreign_text};

/// Requirements that could be met by nothing.
pub fn problems(specs: &Specs) -> Vec<Problem> {
    gate::check(specs, &trials::heads(specs), &builtins())
}

/// Trials that were locked and are gone. With `renew`, and if there are none, the lock is
/// rewritten.
///
/// # Errors
/// The folder cannot be written.
pub fn lock(root: &Path, specs: &Specs, renew: bool) -> std::io::Result<Vec<Problem>> {
    // Requirements that could not be read would all seem to have lost their trials.
    if specs.broken.has_gates() {
        return Ok(Vec::new());
    }
    let path = root.join("gates.lock");
    // Before the first release there is no lock.
    let text = match read_foreign_text(&path, Bounds::of_user(LARGEST_TEXT)) {
        Ok(text) => text,
        Err(ForeignError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let lock = match Lock::parse(&text) {
        Ok(lock) => lock,
        Err(problem) => return Ok(vec![problem]),
    };
    let plan = trials::heads(specs);
    let mut gone = lock.problems(specs, &plan);
    for problem in &mut gone {
        let line = Lock::line_of(&text, problem);
        (problem.place.line, problem.place.column) = (line, u32::from(line > 0));
    }
    // Never renewed over a loss, or the lock would forget what it exists to remember.
    // Without gates there is nothing to be locked.
    if renew && gone.is_empty() && specs.gates_source.is_some() {
        replace(&path, lock.renewed(&specs.gates, &plan).text().as_bytes())?;
    }
    Ok(gone)
}
