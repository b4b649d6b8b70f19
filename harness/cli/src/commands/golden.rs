//! `goldgate golden make|verify`

use goldgate_harness::golden::make::{Made, ORACLE, Options, make, orders};
use goldgate_harness::golden::make_models;
use goldgate_harness::kinds::model;
use goldgate_harness::kinds::model::case::ModelCase;
use goldgate_harness::kinds::model::golden::question;
use goldgate_harness::kinds::model::recompute::from_logits;
use goldgate_harness::kinds::model::selfcheck::self_check;
use goldgate_harness::kinds::op::case::Case;
use goldgate_harness::kinds::op::golden::{family, is_pending};
use goldgate_harness::kinds::op::recompute::slack;
use goldgate_harness::kinds::op::{self, oracle as ask};
use goldgate_harness::session::Suite;
use goldgate_harness::session::folders::{Folders, nothing, selects};
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use serde_json::json;

use crate::commands::{Exit, Failure, problems_json, say, say_json, today};

/// The two operations on goldens.
#[derive(Debug, clap::Subcommand)]
pub enum Golden {
    /// Asks the oracle over the wire; writes goldens and the manifest. Unchanged ones are kept.
    ///
    /// Example: goldgate golden make layernorm
    Make(Make),
    /// Reads every golden again: hashes, shapes, questions, inputs, witnesses; and recomputes its
    /// slack by the op's formula, and the margins of logits.
    ///
    /// Example: goldgate golden verify
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub struct Make {
    /// Whole names, globs with `*`, or parts of names.
    filter: Vec<String>,
    /// The oracle, as words of a command.
    #[arg(long, value_name = "COMMAND", default_value = ORACLE)]
    by: String,
    /// The oracle of models.
    #[arg(long, value_name = "COMMAND", default_value = make_models::ORACLE)]
    models_by: String,
    /// Asks again where nothing has changed: after a change of the oracle itself.
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Whole names, globs with `*`, or parts of names.
    filter: Vec<String>,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Golden) -> Result<Exit, Failure> {
    match args {
        Golden::Make(args) => run_make(args),
        Golden::Verify(args) => run_verify(args),
    }
}

fn run_make(args: &Make) -> Result<Exit, Failure> {
    let mut suites = args.folders.read_all()?;
    let selected = |case: &Case| selects(&args.filter, &case.full_name());
    let about = |case: &ModelCase| selects(&args.filter, &case.full_name());
    let is_asked =
        |suite: &Suite| suite.specs.cases().any(selected) || suite.specs.models.iter().any(about);
    if !suites.iter().any(is_asked) {
        let ops = suites.iter().flat_map(|suite| suite.specs.cases().map(Case::full_name));
        let models = suites.iter().flat_map(|suite| &suite.specs.models);
        let names: Vec<String> = ops.chain(models.map(ModelCase::full_name)).collect();
        return Err(nothing(&args.filter, names.iter().map(String::as_str)).into());
    }
    let options = Options {
        command: &args.by,
        today: today(),
        again: args.again,
        // A filter selects a part of the goldens and says nothing about the others.
        remove_unclaimed: args.filter.is_empty(),
    };
    // Another command, because models need torch and transformers, which ops do without.
    let by_models = Options { command: &args.models_by, ..options };
    let models = args.folders.models_dirs()?;
    let (mut all, mut problems) = (Made::default(), Vec::new());
    for Suite { pair, specs, store, .. } in suites.iter_mut().filter(|suite| is_asked(suite)) {
        let mut made = Made::default();
        let asked = make_models::make(specs, store, &by_models, &models, &mut made, about);
        // The manifest contains what was made before an oracle died, so the other oracle runs as
        // well.
        make(specs, store, &options, &mut made, selected)?;
        asked?;
        problems.extend(pair.of_either(std::mem::take(&mut made.problems)));
        all.written.extend(made.written);
        all.kept += made.kept;
        all.recorded.extend(made.recorded);
        all.removed.extend(made.removed);
        all.not_exact.extend(made.not_exact);
    }
    tell_made(&all, &problems, args.json)?;
    match problems.is_empty() {
        true => Ok(Exit::Yes),
        false => Err(Failure::Problems(problems)),
    }
}

fn tell_made(made: &Made, problems: &[Problem], json: bool) -> Result<(), Failure> {
    if json {
        say_json(&json!({
            "written": made.written,
            "kept": made.kept,
            "recorded": made.recorded,
            "removed": made.removed,
            "not_exact": made.not_exact,
            "problems": problems_json(problems),
        }))?;
        return Ok(());
    }
    for (word, paths) in
        [("written ", &made.written), ("recorded", &made.recorded), ("removed ", &made.removed)]
    {
        for path in paths {
            say(&format!("{word} {path}"))?;
        }
    }
    for path in &made.not_exact {
        say(&format!("rough    {path}: exact inputs, but not every sum is exact"))?;
    }
    let (written, removed) = (made.written.len(), made.removed.len());
    say(&format!("{written} written, {} unchanged, {removed} removed", made.kept))?;
    Ok(())
}

/// What was found about goldens that were read again.
#[derive(Debug, Default)]
struct Verified {
    good: usize,
    two: usize,
    exact: usize,
    pending: usize,
    differs: f64,
    problems: Vec<Problem>,
}

fn run_verify(args: &Verify) -> Result<Exit, Failure> {
    let mut all = Verified::default();
    for suite in args.folders.read_all()? {
        let mut problems = std::mem::take(&mut all.problems);
        verify_ops(args, &suite, &mut all);
        verify_models(args, &suite, &mut all);
        problems.extend(suite.pair.of_either(all.problems));
        all.problems = problems;
    }
    let Verified { good, two, exact, pending, differs, problems } = all;
    if args.json {
        say_json(&json!({
            "good": good, "two_witnesses": two, "exact": exact, "pending": pending,
            "slack_differs": differs, "problems": problems_json(&problems),
        }))?;
    } else {
        say(&format!(
            "{good} goldens verified, {two} with two witnesses, {exact} exact; {pending} pending"
        ))?;
        say(&format!("slack recomputed: the largest relative difference is {differs:.1e}"))?;
    }
    match problems.is_empty() {
        true => Ok(Exit::Yes),
        false => Err(Failure::Problems(problems)),
    }
}

fn verify_ops(args: &Verify, suite: &Suite, all: &mut Verified) {
    let Suite { specs, store, .. } = suite;
    all.problems.extend(store.check_files(&specs.golden_paths()));
    for order in orders(specs) {
        if !order.cases.iter().any(|case| selects(&args.filter, &case.full_name())) {
            continue;
        }
        let case = order.cases[0];
        // A golden that has not been made is no bad golden.
        if is_pending(store, case) {
            all.pending += 1;
            continue;
        }
        let asked = ask::question(case, &order.wrong);
        match op::golden::of_case(store, case, &asked) {
            Ok(golden) => {
                match slack(&order.path, case, &golden) {
                    Ok(part) => all.differs = part.max(all.differs),
                    Err(problem) => all.problems.push(problem),
                }
                all.good += 1;
                all.two += usize::from(golden.witnesses.len() > 1);
                let exact = family(case, &golden) == goldgate_harness::line::Family::Exact;
                all.exact += usize::from(exact);
            }
            Err(problem) => all.problems.push(problem),
        }
    }
}

fn verify_models(args: &Verify, suite: &Suite, all: &mut Verified) {
    let Suite { specs, store, .. } = suite;
    for (path, cases) in make_models::orders(specs) {
        if !cases.iter().any(|case| selects(&args.filter, &case.full_name())) {
            continue;
        }
        match verified(specs, store, path, cases[0]) {
            Some(Ok(witnesses)) => {
                all.good += 1;
                all.two += usize::from(witnesses > 1);
            }
            Some(Err(problem)) => all.problems.push(problem),
            // A golden that is not shipped is not expected here.
            None if path.starts_with("local/") => {}
            None => all.pending += 1,
        }
    }
}

/// How many witnesses the golden of a case about a model has; none if it does not exist.
fn verified(
    specs: &Specs,
    store: &Store,
    path: &str,
    case: &ModelCase,
) -> Option<Result<usize, Problem>> {
    if !store.has(path) {
        return None;
    }
    let wrong = make_models::wrong_of_model(specs, case);
    let asked = question(case, &wrong, &store.manifest, &store.root, &[])
        .map_err(|found| Problem::of_file("IO", path, found, "the file that it was made for"));
    let golden = asked.and_then(|asked| model::golden::of_case(store, case, path, &asked));
    let golden = golden.and_then(|golden| match from_logits(&golden) {
        Ok(()) => Ok(golden),
        Err(found) => {
            let expected = "what follows from the golden's own logits";
            Err(Problem::of_file("GOLDEN_SLACK", path, found, expected))
        }
    });
    // A golden in which no planted fault shows would let any answer pass.
    let checked = golden.and_then(|golden| match self_check(case, &golden) {
        Ok(_) => Ok(golden.witnesses.len()),
        Err(found) => {
            Err(Problem::of_file("GOLDEN_WEAK", path, found, "a golden that shows planted faults"))
        }
    });
    Some(checked)
}
