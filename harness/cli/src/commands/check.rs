//! `goldgate check`

use std::path::PathBuf;

use goldgate_harness::session;
use goldgate_harness::session::folders::Folders;
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
    folders.specs = folders.specs.or_else(|| args.dir.clone());
    let root = folders.specs_dir()?;
    // The schema follows from the program and not from the specs, so errors in them do not matter.
    if args.write {
        generated::write_schema(&root)?;
    }
    let (mut specs, mut problems) = folders.read()?;
    // Gates that could not be read would be missing from the table.
    if args.write && problems.is_empty() {
        generated::write_table(&root, &specs.gates)?;
    }
    // A broken manifest must not hide the mistakes in the specs.
    let (store, of_store) = match folders.store() {
        Ok(store) => (Some(store), Vec::new()),
        Err(session::Failure::Problems(more)) => (None, more),
        Err(other) => return Err(other.into()),
    };
    let Found { specs: mut more, golden } = review(&mut specs, store.as_ref(), today());
    more.extend(generated::problems(&root, &specs));
    more.extend(slowdowns(&specs, today(), &root.join("../reports/record")));
    let good = problems.is_empty() && more.is_empty() && golden.is_empty() && of_store.is_empty();
    // Trials that a faulty requirement no longer selects would be reported as removed.
    if !more.iter().any(|p| p.place.file == "gates.yaml") {
        more.extend(lock(&root, &specs, args.lock && good)?);
    }
    problems.extend(folders.of_specs(more)?);
    problems.extend(of_store);
    problems.extend(folders.of_golden(golden)?);
    let format = if args.json { Format::Json } else { args.format };
    tell(format, &specs, pending(&specs, store.as_ref()), problems)
}

fn tell(
    format: Format,
    specs: &Specs,
    pending: usize,
    problems: Vec<Problem>,
) -> Result<Exit, Failure> {
    let left_out: Vec<&String> = specs.broken.files.iter().collect();
    let cases = specs.cases().count() + specs.files().count() + specs.models.len();
    let benches = specs.benches().count();
    let mutants: usize = specs.mutants.iter().map(|m| m.list.len()).sum();
    let requirements: usize = specs.gates.gates.iter().map(|g| g.requirements.len()).sum();
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
        "{} ops, {} containers, {cases} cases, {benches} benches, {mutants} mutants, \
         {requirements} requirements",
        specs.ops.len(),
        specs.containers.len()
    ))?;
    if pending > 0 {
        say(&format!("golden pending: {pending}"))?;
    }
    if !left_out.is_empty() {
        let files = left_out.iter().map(|f| f.as_str()).collect::<Vec<_>>().join(", ");
        say(&format!("left out until it is mended: what else rests on {files}"))?;
    }
    if problems.is_empty() { Ok(exit) } else { Err(Failure::Problems(problems)) }
}

fn pending(specs: &Specs, store: Option<&Store>) -> usize {
    let Some(store) = store else { return 0 };
    // Goldens of checkpoints that are not shipped are made where the checkpoint is.
    let shipped = specs.golden_paths().into_iter().filter(|path| !path.starts_with("local/"));
    shipped.filter(|path| !store.has(path)).count()
}
