//! Suites: each is one specs folder with the goldens of its cases. A run may ask those of several;
//! each keeps its own gates, goldens, known failures and slowdowns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kinds::model::case::ModelCase;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::mutant::Mutant;
use crate::kinds::op::case::Case;
use crate::kinds::op::golden::Golden;
use crate::kinds::{Answers, Defined, Goldens, Ready, Trial, Withheld};
use crate::line::{Fate, Head, Judgement, Sort};
use crate::report::provenance::specs_option;
use crate::report::summary::FolderGates;
use crate::run::{Plan, Stored, Unmatched};
use crate::session::folders::Pair;
use crate::spec::Specs;
use crate::spec::known::KnownFailure;
use crate::spec::slower::AcceptedSlowdown;
use crate::store::Store;
use crate::subject::SubjectSpec;
use crate::trials;
use crate::yaml::Problem;
use crate::yaml::read::At;

/// A specs folder that was read, with its golden folder.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The folders.
    pub pair: Pair,
    /// The specs.
    pub specs: Specs,
    /// The goldens.
    pub store: Store,
    /// The heads of its trials, and of the program's checks, which gates of any folder may select.
    pub heads: Vec<Head>,
}

impl Suite {
    /// The suite of two folders.
    pub fn new(pair: Pair, specs: Specs, store: Store) -> Suite {
        let heads = trials::heads(&specs);
        Suite { pair, specs, store, heads }
    }

    /// Whether a trial, by its name without a subject, is one of this folder's cases.
    pub fn has(&self, base: &str) -> bool {
        // Sorted by name.
        let at = self.heads.binary_search_by(|head| head.name.as_str().cmp(base));
        at.is_ok_and(|at| self.heads[at].sort != Sort::Check)
    }
}

/// The name of a trial without its subject.
pub fn base(name: &str) -> &str {
    name.rsplit_once("::").map_or(name, |(base, _)| base)
}

/// The suites of a run.
#[derive(Clone, Debug)]
pub struct Suites(pub Vec<Arc<Suite>>);

impl Suites {
    /// The name of a folder in rows and gates. The first folder needs none, so that its part of a
    /// report is the same whatever is asked alongside it.
    pub fn name(&self, at: usize) -> &str {
        if at == 0 { "" } else { &self.0[at].pair.name }
    }

    /// The index of the folder that a trial belongs to; the first for what belongs to none.
    pub fn home(&self, base: &str) -> usize {
        self.0.iter().position(|suite| suite.has(base)).unwrap_or_default()
    }

    /// The trials of all folders, and once the checks of the program. Benches come last.
    pub fn trials(&self) -> Vec<Arc<dyn Trial>> {
        let mut all = Vec::new();
        for at in 0..self.0.len() {
            let trials = self.trials_of(at);
            all.extend(trials.into_iter().filter(|t| at == 0 || t.head().sort != Sort::Check));
        }
        // A stable sort: in all else the order of each folder stays.
        all.sort_by_key(|trial| trial.head().sort == Sort::Bench);
        all
    }

    /// The trials of one folder, and the checks of the program.
    pub fn trials_of(&self, at: usize) -> Vec<Arc<dyn Trial>> {
        let suite = &self.0[at];
        let trials = trials::all(&suite.specs);
        // The goldens of a run are those of its first folder.
        if at == 0 {
            return trials;
        }
        let own =
            |trial| -> Arc<dyn Trial> { Arc::new(OfSuite { trial, suite: Arc::clone(suite) }) };
        trials.into_iter().map(own).collect()
    }

    /// The plan of all trials on `subjects`, the known failures with those of the subjects, and the
    /// folder of each that no trial has.
    pub fn plan(
        &self,
        subjects: Vec<SubjectSpec>,
        of_subjects: Vec<KnownFailure>,
    ) -> (Plan, Vec<KnownFailure>, BTreeMap<String, usize>) {
        let mut known: Vec<Vec<KnownFailure>> =
            self.0.iter().map(|suite| suite.specs.known.known.clone()).collect();
        for failure in of_subjects {
            known[self.home(base(&failure.case.value))].push(failure);
        }
        let mut plan = Plan::new(&self.trials(), subjects);
        let mut unmatched = BTreeMap::new();
        for (at, (suite, known)) in self.0.iter().zip(&known).enumerate() {
            let found = Unmatched::among(known, &suite.heads);
            unmatched.extend(found.iter().map(|entry| (entry.name.clone(), at)));
            plan.unmatched.extend(found);
        }
        // A trial of one of several folders is found again only in its own.
        let several = self.0.len() > 1;
        for entry in plan.trials.iter_mut().filter(|_| several) {
            let pair = &self.0[self.home(&entry.trial.head().name)].pair;
            entry.again.push_str(&specs_option(&pair.specs.display().to_string()));
        }
        (plan, known.concat(), unmatched)
    }

    /// The goldens of one folder.
    pub fn goldens<'a>(&'a self, at: usize, models: &'a [PathBuf]) -> Stored<'a> {
        let suite = &self.0[at];
        Stored { specs: &suite.specs, store: &suite.store, models }
    }

    /// The gates of every folder, as a report weighs them.
    pub fn gates(&self) -> Vec<FolderGates<'_>> {
        let each = self.0.iter().enumerate();
        each.map(|(at, suite)| FolderGates {
            folder: self.name(at),
            specs: &suite.specs,
            plan: &suite.heads,
        })
        .collect()
    }

    /// The accepted slowdowns of every folder, each for the benches of that folder.
    pub fn slower(&self) -> Vec<AcceptedSlowdown> {
        let own = self.0.iter().flat_map(|suite| {
            let all = suite.specs.slower.slower.iter();
            all.filter(|entry| self.0.len() == 1 || suite.has(base(&entry.bench.value)))
        });
        own.cloned().collect()
    }
}

/// What is wrong between folders that are right by themselves: a case that two of them have, and a
/// known failure or accepted slowdown of one about a case of another.
pub fn between(suites: &[Suite]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<(&str, &str), (usize, &Head)> = BTreeMap::new();
    for (at, suite) in suites.iter().enumerate() {
        let mut own = BTreeMap::new();
        for head in suite.heads.iter().filter(|head| head.sort != Sort::Check) {
            own.entry((head.stem.as_str(), head.case.as_str())).or_insert((at, head));
        }
        for (key, (_, head)) in &own {
            // Inputs and rows go by this name, so one of the two would be judged as the other.
            if let Some((first, other)) = seen.get(key) {
                problems.extend(clash(&suites[*first], other, suite, head));
            }
        }
        for (key, head) in own {
            seen.entry(key).or_insert(head);
        }
        problems.extend(strangers(suites, at));
    }
    problems
}

/// The problem of a case that an earlier folder has too, at its place in the later one.
fn clash(first: &Suite, other: &Head, suite: &Suite, head: &Head) -> Option<Problem> {
    let (there, place) = (other.place.as_ref()?, head.place.as_ref()?);
    let file = Problem::of_file("ID_DUP", &there.file, "", "");
    let file = first.pair.of_specs(vec![file]).pop()?;
    let path = file.folder.join(&there.file);
    let name = format!("gate{}::{}::{}", head.gate, head.stem, head.case);
    let expected = format!("another name: {}:{} has it", path.display(), there.line);
    let problem = match suite.specs.sources.get(&place.file) {
        Some(source) => {
            source.problem("ID_DUP", place.line, place.column, "name", &name, &expected)
        }
        None => Problem::of_file("ID_DUP", &place.file, name, expected),
    };
    suite.pair.of_specs(vec![problem]).pop()
}

/// Entries of one folder about trials of another.
fn strangers(suites: &[Suite], at: usize) -> Vec<Problem> {
    let suite = &suites[at];
    let known = suite.specs.known.known.iter().map(|known: &KnownFailure| ("known", &known.case));
    let slower = suite.specs.slower.slower.iter().map(|entry| ("slower", &entry.bench));
    let other = |name: &At<String>| {
        let base = base(&name.value);
        suites.iter().find(|other| !suite.has(base) && other.has(base))
    };
    let found = known.chain(slower).filter_map(|(list, name)| {
        let field = if list == "known" { "case" } else { "bench" };
        let way = [(list, Some(name.value.as_str())), (field, None)];
        let folder = other(name)?.pair.specs.display();
        let expected = format!("a trial of this folder; it is one of {folder}");
        Some(suite.specs.problem(
            "GATE_REF",
            (&format!("{list}.yaml"), &way),
            &name.value,
            &expected,
        ))
    });
    suite.pair.of_specs(found.collect())
}

/// A trial of a folder after the first: its goldens are those of its own folder.
struct OfSuite {
    trial: Arc<dyn Trial>,
    suite: Arc<Suite>,
}

/// The goldens of a folder, and what all trials of a run share.
struct Own<'a> {
    stored: Stored<'a>,
    shared: &'a dyn Goldens,
}

impl OfSuite {
    fn goldens<'a>(&'a self, shared: &'a dyn Goldens) -> Own<'a> {
        let Suite { specs, store, .. } = &*self.suite;
        Own { stored: Stored { specs, store, models: shared.models() }, shared }
    }
}

impl Goldens for Own<'_> {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        self.stored.golden(case)
    }

    fn defined(&self, case: &Case, define: &dyn Fn() -> Defined) -> Defined {
        self.shared.defined(case, define)
    }

    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        self.stored.model(case)
    }

    fn models(&self) -> &[PathBuf] {
        self.stored.models
    }

    fn folder(&self) -> &Path {
        self.stored.folder()
    }
}

impl Trial for OfSuite {
    fn head(&self) -> &Head {
        self.trial.head()
    }

    fn cost(&self) -> u64 {
        self.trial.cost()
    }

    fn shares(&self) -> Option<String> {
        self.trial.shares()
    }

    fn prepare(&self, from: &dyn Goldens) -> Result<Box<dyn Ready>, Withheld> {
        self.trial.prepare(&self.goldens(from))
    }

    fn plant(&self, from: &dyn Goldens, mutant: &Mutant) -> Result<Box<dyn Ready>, Fate> {
        self.trial.plant(&self.goldens(from), mutant)
    }

    fn fate(&self, mutant: &Mutant, judgement: &Judgement) -> Fate {
        self.trial.fate(mutant, judgement)
    }

    fn answers(&self, from: &dyn Goldens) -> Option<Answers> {
        self.trial.answers(&self.goldens(from))
    }

    fn withheld(&self, why: Withheld) -> Judgement {
        self.trial.withheld(why)
    }
}
