//! Checks models: missing files, slots that the model does not have, ids beyond its vocabulary.

use std::collections::{BTreeMap, BTreeSet};

use goldgate_engine::model::Config;
use goldgate_engine::model::map::Map;
use goldgate_engine::weights::Checkpoint;
use goldgate_harness::kinds::model::ask::prompt;
use goldgate_harness::kinds::model::case::{Ask, At, ModelCase, Prompt};
use goldgate_harness::line::glob::means;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::near::guess;
use goldgate_harness::yaml::place::Step;
use goldgate_tensor::DType;
use goldgate_wire::call::LoadOptions;
use goldgate_wire::words::TraceMode;
use goldgate_worker::load_plan::Plan;

use crate::review::{distinct, once};

/// What the engine derives from the configuration of a shipped form.
struct Shape {
    /// The number of rows of the embedding.
    vocabulary: usize,
    /// The slots of a run without rewrites.
    slots: Vec<String>,
}

/// Dangling names in the files of models.
pub fn problems(specs: &Specs, store: &Store) -> Vec<Problem> {
    let mut problems = Vec::new();
    let stems = distinct(specs.models.iter().map(|c| c.stem.as_str()));
    for stem in stems.into_iter().filter(|stem| !specs.broken.has(stem)) {
        let cases: Vec<&ModelCase> = specs.models.iter().filter(|c| c.stem == stem).collect();
        let missing = missing(specs, store, &cases);
        // Slots and vocabulary are read from the files, so without them nothing can be said.
        if missing.is_empty() {
            problems.extend(once(of_stem(specs, store, &cases)));
        }
        problems.extend(missing);
    }
    problems
}

/// The list of the file in which a case was written.
pub fn list(case: &ModelCase) -> &'static str {
    match &case.ask {
        Ask::Load(_) => "loads",
        Ask::Stage { .. } => "stages",
        Ask::Logits { .. } => "logits",
        Ask::Generation(_) => "generation",
        Ask::Perplexity { .. } => "perplexity",
        Ask::Draws(_) => "draws",
    }
}

/// Files below golden/ that do not exist.
fn missing(specs: &Specs, store: &Store, cases: &[&ModelCase]) -> Vec<Problem> {
    let mut paths: BTreeMap<&str, Vec<Step<'_>>> = BTreeMap::new();
    for case in cases {
        if let At::Golden(path) = &case.form.at {
            paths.entry(path).or_insert(vec![("files", Some(&case.form.label)), ("path", None)]);
        }
        let text = match &case.ask {
            Ask::Perplexity { text, .. } => Some((text, None)),
            Ask::Draws(draws) => Some((&draws.contexts.text, Some(("contexts", None)))),
            _ => None,
        };
        if let Some((text, inside)) = text {
            let way = [(list(case), Some(case.name.as_str()))].into_iter().chain(inside);
            paths.entry(text).or_insert(way.chain([("text", None)]).collect());
        }
    }
    let absent = paths.into_iter().filter(|(path, _)| !store.root.join(path).exists());
    let file = cases.first().map_or("", |c| c.place.file.as_str());
    absent.map(|(path, way)| no_file(specs, store, (file, &way), path)).collect()
}

/// The problem of a path below golden/ that does not exist, with the one that was probably meant.
pub fn no_file(specs: &Specs, store: &Store, at: (&str, &[Step<'_>]), path: &str) -> Problem {
    let files = store.given_files();
    let folders = files.iter().filter_map(|f| f.rsplit_once('/')).map(|(folder, _)| folder);
    // Folders too, because a form in safetensors is one.
    let known: BTreeSet<&str> = files.iter().map(String::as_str).chain(folders).collect();
    let expected = format!("a file or folder below golden/{}", guess(path, known));
    specs.problem("PATH", at, path, &expected)
}

fn of_stem(specs: &Specs, store: &Store, cases: &[&ModelCase]) -> Vec<Problem> {
    let mut shapes: BTreeMap<&str, Option<Shape>> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for case in cases {
        let At::Golden(path) = &case.form.at else { continue };
        let shape = shapes.entry(path).or_insert_with(|| shape(store, path));
        let Some(shape) = shape else { continue };
        let step = (list(case), Some(case.name.as_str()));
        let mut note = |path: &[Step<'_>], code, found: &str, expected: &str| {
            let problem = specs.problem(code, (&case.place.file, path), found, expected);
            // The same mistake shows in every form and type that a case is asked in.
            if seen.insert((problem.place.line, problem.place.column, found.to_owned())) {
                problems.push(problem);
            }
        };
        if let Ask::Stage { slots, .. } = &case.ask {
            for glob in slots.iter().filter(|g| !shape.slots.iter().any(|s| means(g, s))) {
                let near = guess(glob, shape.slots.iter().map(String::as_str));
                let expected = format!("a glob of slots of {path}{near}");
                note(&[step, ("slots", Some(glob))], "ENUM", glob, &expected);
            }
        }
        let stops: &[i32] = match &case.ask {
            Ask::Generation(g) => &g.stop_ids,
            _ => &[],
        };
        let ids: &[i32] = match prompt(&case.ask) {
            Some(Prompt::Ids(ids)) => ids,
            _ => &[],
        };
        let beyond = |id: &&i32| usize::try_from(**id).is_ok_and(|id| id >= shape.vocabulary);
        let expected = format!("an id below {}, the vocabulary of {path}", shape.vocabulary);
        if let Some(id) = ids.iter().find(beyond).map(i32::to_string) {
            note(&[step, ("prompt", None), ("ids", Some(&id))], "RANGE", &id, &expected);
        }
        if let Some(id) = stops.iter().find(beyond).map(i32::to_string) {
            note(&[step, ("stop_ids", Some(&id))], "RANGE", &id, &expected);
        }
    }
    problems
}

/// The shape of a shipped form; none if it does not open, which a run reports more clearly.
fn shape(store: &Store, path: &str) -> Option<Shape> {
    let checkpoint = Checkpoint::open(&store.root.join(path)).ok()?;
    let (config, _) = Config::of(&checkpoint).ok()?;
    let map = Map::of(&config, &checkpoint);
    let trace = vec!["*".to_owned()];
    // Fusion removes slots, so only a plan without it has all that a case may name.
    let trace_mode = Some(TraceMode::Unfused);
    let options = LoadOptions { trace, trace_mode, ..LoadOptions::default() };
    // By the plan of a load, so that the slots are those that our subject offers.
    let plan = Plan::new(DType::F32, &options, &config, &map).ok()?;
    Some(Shape { vocabulary: config.vocabulary, slots: plan.settings.trace })
}

/// The slots of the shipped forms of a stem.
pub fn slots(store: &Store, cases: &[&ModelCase]) -> BTreeSet<String> {
    let paths = distinct(cases.iter().filter_map(|case| match &case.form.at {
        At::Golden(path) => Some(path.as_str()),
        At::Hub(_) => None,
    }));
    paths.into_iter().filter_map(|path| shape(store, path)).flat_map(|s| s.slots).collect()
}
