//! `goldgate check`

use std::path::PathBuf;

use goldgate_harness::session::Suite;
use goldgate_harness::session::folders::{Folders, Pair};
use goldgate_harness::session::suite::between;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use serde_json::{Value, json};

use crate::commands::{Exit, Failure, generated, problems_json, say, say_json, today};
use crate::review::{Found, lock, review, slowdowns};

/// Runs nothing. Example: goldgate check --format github
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The specs folder, as --specs.
    #[arg(value_name = "DIR", conflicts_with = "specs")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    folders: Folders,
    /// Writes the generated parts: schema.json, and the table of gates in README.md.
    #[arg(long)]
    write: bool,
    /// Renews gates.lock: the trials that each requirement rests on.
    #[arg(long)]
    lock: bool,
    /// How errors are written: for people, as JSON, or as annotations of a GitHub workflow.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// As --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// How errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// `specs/ops/x.yaml:12:5: error[CODE]: …` on stderr, with the lines around.
    Text,
    /// All facts on stdout.
    Json,
    /// `::error file=…,line=…,col=…,title=CODE::…` on stdout.
    Github,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut folders = args.folders.clone();
    folders.specs.extend(args.dir.clone());
    let (mut suites, mut problems, mut counts) = (Vec::new(), Vec::new(), Counts::default());
    for pair in folders.pairs()? {
        let (suite, found) = checked(pair, args, &mut counts.pending)?;
        counts.add(&suite.specs);
        problems.extend(found);
        suites.push(suite);
    }
    // Of a broken folder some trials are missing, and what is left says little about clashes.
    if problems.is_empty() {
        problems = between(&suites);
    }
    let format = if args.json { Format::Json } else { args.format };
    tell(format, &counts, problems)
}

/// One folder, with everything that is wrong in it. Its goldens that are pending are added up.
fn checked(pair: Pair, args: &Args, pending: &mut usize) -> Result<(Suite, Vec<Problem>), Failure> {
    let root = &pair.specs;
    // The schema follows from the program and not from the specs, so errors in them do not matter.
    if args.write {
        generated::write_schema(root)?;
    }
    let (mut specs, mut problems) = pair.read();
    // Gates that could not be read would be missing from the table.
    if args.write && problems.is_empty() {
        generated::write_table(root, &specs.gates)?;
    }
    // A broken manifest must not hide the mistakes in the specs.
    let (store, of_store) = match pair.store() {
        Ok(store) => (Some(store), Vec::new()),
        Err(more) => (None, more),
    };
    let Found { specs: mut more, golden } = review(&mut specs, store.as_ref(), today());
    more.extend(generated::problems(root, &specs));
    more.extend(slowdowns(&specs, today(), &root.join("../reports/record")));
    let good = problems.is_empty() && more.is_empty() && golden.is_empty() && of_store.is_empty();
    // Trials that a faulty requirement no longer selects would be reported as removed.
    if !more.iter().any(|p| p.place.file == "gates.yaml") {
        more.extend(lock(root, &specs, args.lock && good)?);
    }
    problems.extend(pair.of_specs(more));
    problems.extend(of_store);
    problems.extend(pair.of_golden(golden));
    *pending += store.as_ref().map_or(0, |store| not_made(&specs, store));
    let store = store.unwrap_or_else(|| Store::empty(&pair.golden));
    Ok((Suite::new(pair, specs, store), problems))
}

/// What the folders hold.
#[derive(Debug, Default)]
struct Counts {
    ops: usize,
    containers: usize,
    cases: usize,
    benches: usize,
    mutants: usize,
    requirements: usize,
    pending: usize,
    left_out: Vec<String>,
}

impl Counts {
    fn add(&mut self, specs: &Specs) {
        self.ops += specs.ops.len();
        self.containers += specs.containers.len();
        self.cases += specs.cases().count() + specs.files().count() + specs.models.len();
        self.benches += specs.benches().count();
        self.mutants += specs.mutants.iter().map(|m| m.list.len()).sum::<usize>();
        self.requirements += specs.gates.gates.iter().map(|g| g.requirements.len()).sum::<usize>();
        self.left_out.extend(specs.broken.files.iter().cloned());
    }
}

fn tell(format: Format, counts: &Counts, problems: Vec<Problem>) -> Result<Exit, Failure> {
    let Counts { ops, containers, cases, benches, mutants, requirements, pending, left_out } =
        counts;
    let exit = if problems.is_empty() { Exit::Yes } else { Exit::BadInput };
    if format == Format::Json {
        let facts: Value = json!({
            "cases": cases, "benches": benches, "mutants": mutants,
            "requirements": requirements, "golden_pending": pending,
            "problems": problems_json(&problems), "left_out": left_out,
        });
        say_json(&facts)?;
        return Ok(exit);
    }
    if format == Format::Github {
        for problem in &problems {
            say(&problem.annotation())?;
        }
        return Ok(exit);
    }
    say(&format!(
        "{ops} ops, {containers} containers, {cases} cases, {benches} benches, {mutants} mutants, \
         {requirements} requirements"
    ))?;
    if *pending > 0 {
        say(&format!("golden pending: {pending}"))?;
    }
    if !left_out.is_empty() {
        let files = left_out.join(", ");
        say(&format!("left out until it is mended: what else rests on {files}"))?;
    }
    if problems.is_empty() { Ok(exit) } else { Err(Failure::Problems(problems)) }
}

fn not_made(specs: &Specs, store: &Store) -> usize {
    // Goldens of checkpoints that are not shipped are made where the checkpoint is.
    let shipped = specs.golden_paths().into_iter().filter(|path| !path.starts_with("local/"));
    shipped.filter(|path| !store.has(path)).count()
}
