//! Goldens from the golden folder, as a run reads them.

use std::path::Path;

use crate::case::Case;
use crate::golden::Golden;
use crate::golden::ask::question;
use crate::golden::make::wrong_of;
use crate::golden::store::Store;
use crate::run::{Goldens, Withheld};
use crate::spec::{Problem, Specs};
use crate::verdict::{BrokenKind, NotRun};

/// The golden folder beside the specs that ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The specs: a golden's question names the wrong formulas of its case's mutants.
    pub specs: &'a Specs,
    /// The folder.
    pub store: &'a Store,
}

impl Goldens for Stored<'_> {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        let asked = question(case, &wrong_of(self.specs, case));
        self.store.awaited(case, &asked).map_err(|problem| withheld(&problem))
    }

    fn folder(&self) -> &Path {
        &self.store.root
    }
}

fn withheld(problem: &Problem) -> Withheld {
    let kind = match problem.code {
        "GOLDEN_MISSING" => {
            let said = "golden pending: goldgate golden make";
            return Withheld::NotRun(NotRun::NoGolden, said.to_owned());
        }
        "GOLDEN_WEAK" => BrokenKind::GoldenWeak,
        code if code.starts_with("INPUT") || code == "QUESTION" => BrokenKind::InputsHash,
        _ => BrokenKind::GoldenHash,
    };
    Withheld::Broken(kind, problem.line())
}
