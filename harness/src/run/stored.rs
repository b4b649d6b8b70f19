//! Goldens as a run reads them from the golden folder.

use std::path::{Path, PathBuf};

use crate::golden::make::wrong_of;
use crate::golden::make_models::{asker_of, wrong_of_model};
use crate::kinds::model::case::{At, ModelCase};
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::model::{self, golden as models};
use crate::kinds::op::case::Case;
use crate::kinds::op::golden::Golden;
use crate::kinds::op::oracle::question;
use crate::kinds::{Goldens, Withheld, op};
use crate::line::{BrokenKind, NotRun};
use crate::spec::Specs;
use crate::store::Store;
use crate::yaml::Problem;

/// The golden folder, together with the specs whose cases need it.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The specs: the question of a golden names the wrong formulas that its case's mutants use.
    pub specs: &'a Specs,
    /// The folder.
    pub store: &'a Store,
    /// Folders with checkpoints that are not shipped.
    pub models: &'a [PathBuf],
}

impl Goldens for Stored<'_> {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        let asked = question(case, &wrong_of(self.specs, case));
        op::golden::of_case(self.store, case, &asked).map_err(|problem| withheld(&problem))
    }

    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        let not_run = |kind, message| Err(Withheld::NotRun(kind, message));
        if let Err(why) = case.form.find(&self.store.root, self.models) {
            // A shipped file that is missing is our fault; a checkpoint that is missing is merely
            // not here.
            return Err(match case.form.at {
                At::Golden(_) => Withheld::Broken(BrokenKind::FileMissing, why),
                At::Hub(_) => Withheld::NotRun(NotRun::NoModel, why),
            });
        }
        let Some(path) = &case.golden else { return Ok(ModelGolden::default()) };
        if !self.store.has(path) {
            let message = "golden pending: goldgate golden make";
            return not_run(NotRun::NoGolden, message.to_owned());
        }
        // A form shares the golden of the form whose numbers it holds, so that form's question
        // counts.
        let case = asker_of(self.specs, case);
        let wrong = wrong_of_model(self.specs, case);
        let (manifest, root) = (&self.store.manifest, &self.store.root);
        let asked = models::question(case, &wrong, manifest, root, self.models);
        let asked = asked.map_err(|message| Withheld::NotRun(NotRun::NoModel, message))?;
        model::golden::of_case(self.store, case, path, &asked).map_err(|problem| withheld(&problem))
    }

    fn models(&self) -> &[PathBuf] {
        self.models
    }

    fn folder(&self) -> &Path {
        &self.store.root
    }
}

fn withheld(problem: &Problem) -> Withheld {
    let kind = match problem.code {
        "GOLDEN_MISSING" => {
            let message = "golden pending: goldgate golden make";
            return Withheld::NotRun(NotRun::NoGolden, message.to_owned());
        }
        "GOLDEN_WEAK" => BrokenKind::GoldenWeak,
        code if code.starts_with("INPUT") || code == "QUESTION" => BrokenKind::InputsHash,
        _ => BrokenKind::GoldenHash,
    };
    Withheld::Broken(kind, problem.line())
}
