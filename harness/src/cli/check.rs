//! `goldgate check`

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::folders::Folders;
use crate::cli::{Exit, Failure, generated, problems_json, say, say_json};
use crate::gate::{self, lock::Lock};
use crate::golden::manifest::replace;
use crate::golden::{ask, store::Store, store::written};
use crate::spec::{Problem, Specs};

/// Runs nothing. Example: goldgate check
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
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut folders = args.folders.clone();
    folders.specs = folders.specs.or_else(|| args.dir.clone());
    let root = folders.specs_dir()?;
    if args.write {
        generated::write_schema(&root)?;
    }
    let (specs, mut problems) = folders.read()?;
    if args.write && problems.is_empty() {
        generated::write_table(&root, &specs.gates)?;
    }
    problems.extend(generated::problems(&root, &specs.gates));
    problems.extend(questions(&specs));
    problems.extend(gate::coverage::check(&specs));
    problems.extend(gates(&root, &specs, args.lock)?);
    let pending = match folders.store() {
        Ok(store) => {
            problems.extend(store.check_files(&specs.golden_paths()));
            pending(&specs, &store)
        }
        Err(Failure::Problems(more)) => {
            problems.extend(more);
            0
        }
        Err(other) => return Err(other),
    };
    let cases = specs.cases().count() + specs.files().count() + specs.models.len();
    let benches = specs.benches().count();
    let mutants: usize = specs.mutants.iter().map(|m| m.list.len()).sum();
    let requirements: usize = specs.gates.gates.iter().map(|g| g.requirements.len()).sum();
    if args.json {
        say_json(&json!({
            "cases": cases, "benches": benches, "mutants": mutants,
            "requirements": requirements, "golden_pending": pending,
            "problems": problems_json(&problems),
        }))?;
        return Ok(if problems.is_empty() { Exit::Yes } else { Exit::BadInput });
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
    if problems.is_empty() { Ok(Exit::Yes) } else { Err(Failure::Problems(problems)) }
}

/// Gates prove something, and rest on what they rested on.
fn gates(root: &Path, specs: &Specs, renew: bool) -> Result<Vec<Problem>, Failure> {
    let plan = gate::plan(specs);
    let mut problems = gate::check(specs, &plan);
    for known in &specs.known.known {
        let name = &known.case.value;
        let base = name.rsplit_once("::").map_or("", |(base, _)| base);
        if !plan.iter().any(|p| p.name == base) {
            let mut problem =
                Problem::of_file("GATE_REF", "known.yaml", name.as_str(), "the name of a trial");
            (problem.place.line, problem.place.column) = (known.case.line, known.case.column);
            problems.push(problem);
        }
    }
    let path = root.join("gates.lock");
    let lock = match fs::read_to_string(&path) {
        Ok(text) => match Lock::parse(&text) {
            Ok(lock) => lock,
            Err(problem) => {
                problems.push(problem);
                return Ok(problems);
            }
        },
        Err(_) => Lock::default(),
    };
    let gone = lock.problems(&specs.gates, &plan);
    if renew && gone.is_empty() && problems.is_empty() {
        replace(&path, lock.renewed(&specs.gates, &plan).text().as_bytes())?;
    }
    problems.extend(gone);
    Ok(problems)
}

/// Every case that awaits an answer asks a question that the op takes.
fn questions(specs: &Specs) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let timed = specs.benches().map(|b| &b.case);
    for case in specs.cases().chain(timed) {
        let crate::case::Expect::Answer { golden, .. } = &case.expect else { continue };
        let outcome = match golden {
            crate::case::GoldenSource::Written(numbers) => written(case, numbers).map(|_| ()),
            _ => ask::results(case).map(|_| ()).map_err(|refusal| {
                let expected = "a question that the op takes";
                let mut p =
                    Problem::of_file("QUESTION", &case.place.file, refusal.to_string(), expected);
                p.place = case.place.clone();
                p.field = case.name.clone();
                p
            }),
        };
        if let Err(problem) = outcome
            && problems.last().is_none_or(|last| last.place != problem.place)
        {
            problems.push(problem);
        }
    }
    problems
}

fn pending(specs: &Specs, store: &Store) -> usize {
    let shipped = specs.golden_paths().into_iter().filter(|path| !path.starts_with("local/"));
    shipped.filter(|path| !store.has(path)).count()
}
