//! `goldgate golden make|verify`

use serde_json::json;

use crate::case::Case;
use crate::cli::folders::{Folders, selects};
use crate::cli::{Exit, Failure, problems_json, say, say_json, today};
use crate::golden::make::{ORACLE, Options, make, orders};
use crate::golden::{ask, store::family};

/// The two things that are done with goldens.
#[derive(Debug, clap::Subcommand)]
pub enum Golden {
    /// Asks the oracle over the wire; writes goldens and the manifest. Unchanged ones are kept.
    ///
    /// Example: goldgate golden make layernorm
    Make(Make),
    /// Reads every golden again: hashes, shapes, questions, inputs, witnesses.
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
    let specs = args.folders.read_all()?;
    let mut store = args.folders.store()?;
    let selected = |case: &Case| selects(&args.filter, &case.full_name());
    if !specs.cases().any(selected) {
        return Err(Failure::Usage(format!("{:?} selects no case", args.filter)));
    }
    let options = Options {
        command: &args.by,
        today: today(),
        again: args.again,
        remove_unclaimed: args.filter.is_empty(),
    };
    let made = make(&specs, &mut store, &options, selected)?;
    if args.json {
        say_json(&json!({
            "written": made.written,
            "kept": made.kept,
            "recorded": made.recorded,
            "removed": made.removed,
            "not_exact": made.not_exact,
            "problems": problems_json(&made.problems),
        }))?;
    } else {
        for path in &made.written {
            say(&format!("written  {path}"))?;
        }
        for path in &made.recorded {
            say(&format!("recorded {path}"))?;
        }
        for path in &made.removed {
            say(&format!("removed  {path}"))?;
        }
        for path in &made.not_exact {
            say(&format!("rough    {path}: exact inputs, but not every sum is exact"))?;
        }
        let (written, removed) = (made.written.len(), made.removed.len());
        say(&format!("{written} written, {} unchanged, {removed} removed", made.kept))?;
    }
    if made.problems.is_empty() { Ok(Exit::Yes) } else { Err(Failure::Problems(made.problems)) }
}

fn run_verify(args: &Verify) -> Result<Exit, Failure> {
    let specs = args.folders.read_all()?;
    let store = args.folders.store()?;
    let mut problems = store.check_files(specs.cases());
    let (mut good, mut two, mut pending, mut exact) = (0, 0, 0, 0);
    for order in orders(&specs) {
        if !order.cases.iter().any(|case| selects(&args.filter, &case.full_name())) {
            continue;
        }
        let case = order.cases[0];
        if store.is_pending(case) {
            pending += 1;
            continue;
        }
        let asked = ask::question(case, &order.wrong);
        match store.awaited(case, &asked) {
            Ok(golden) => {
                good += 1;
                two += usize::from(golden.witnesses.len() > 1);
                exact += usize::from(family(case, &golden) == crate::case::Family::Exact);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if args.json {
        say_json(&json!({
            "good": good, "two_witnesses": two, "exact": exact, "pending": pending,
            "problems": problems_json(&problems),
        }))?;
    } else {
        say(&format!(
            "{good} goldens verified, {two} with two witnesses, {exact} exact; {pending} pending"
        ))?;
    }
    if problems.is_empty() { Ok(Exit::Yes) } else { Err(Failure::Problems(problems)) }
}
