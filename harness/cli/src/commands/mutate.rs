//! `goldgate mutate`

mod generated;

use std::sync::Arc;
use std::time::Duration;

use goldgate_harness::kinds::mutant::Mutant;
use goldgate_harness::line::{Fate, Planted};
use goldgate_harness::mutants::{self, Planting};
use goldgate_harness::session::Suites;
use goldgate_harness::session::folders::{Folders, nothing, selects};
use goldgate_harness::subject::{How, SubjectSpec};
use serde_json::json;

use crate::commands::{Exit, Failure, say, say_json};

/// Example: goldgate mutate layernorm --on cuda:0
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `OP::ID`, globs with `*`, or parts of that.
    filter: Vec<String>,
    /// `cpu`: questions and wrong formulas; `cuda:N`: kernel text too.
    #[arg(long, value_name = "SUBJECT", default_value = "cpu")]
    on: String,
    #[command(flatten)]
    folders: Folders,
    /// Seconds that a question may take, in place of the cases' own limits.
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Faults made by rule from the signature of each op, in place of the listed ones; the filters
    /// are parts of their names, as `linear::f16::round`. Survivors by name, and a score; 4 is the
    /// exit code if a fault could not be tried.
    #[arg(long)]
    generate: bool,
    /// With --generate: the exit code is 1 if a smaller share of the faults is killed.
    #[arg(long, value_name = "PERCENT", requires = "generate", value_parser = percent)]
    floor: Option<f64>,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..=100.0).contains(&x) => Ok(x),
        _ => Err("wants a number from 0 to 100".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let suites = Suites(args.folders.read_all()?.into_iter().map(Arc::new).collect());
    let models = args.folders.models_dirs()?;
    let subject = SubjectSpec::parse(&args.on).map_err(|e| Failure::Usage(e.to_string()))?;
    let chosen = |op: &str, m: &Mutant| selects(&args.filter, &format!("{op}::{}", m.id.value));
    let (program, scratch) = (std::env::current_exe()?, tempfile::tempdir()?);
    let plant = |at: usize, what: &mut dyn FnMut(&Planting<'_>) -> Result<(), Failure>| {
        let suite = &suites.0[at];
        what(&Planting {
            specs: &suite.specs,
            trials: &suites.trials_of(at),
            goldens: &suites.goldens(at, &models),
            program: &program,
            scratch: scratch.path(),
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            timeout: args.timeout.map(Duration::from_secs),
            stop: Arc::default(),
        })
    };
    if args.generate {
        // The faults are those of ops, whichever folder asks them; the cases are of the first.
        let mut exit = Exit::Yes;
        plant(0, &mut |planting| {
            exit = generated::run(planting, &args.filter, args.floor, args.json)?;
            Ok(())
        })?;
        return Ok(exit);
    }
    let mut planted = Vec::new();
    for at in 0..suites.0.len() {
        plant(at, &mut |planting| {
            planted.extend(mutants::plant(planting, chosen));
            // Kernels run on a card only, so nothing else can show a fault in them.
            if let How::Cuda(_) = subject.how {
                planted.extend(mutants::kernel::plant(planting, &subject, chosen));
            }
            Ok(())
        })?;
    }
    // A filter that selects nothing must not look like a run without survivors.
    if planted.is_empty() {
        let listed = suites.0.iter().flat_map(|suite| mutants::listed(&suite.specs));
        let names = listed.map(|(op, m)| format!("{op}::{}", m.id.value));
        let names: Vec<String> = names.collect();
        return Err(nothing(&args.filter, names.iter().map(String::as_str)).into());
    }
    match args.json {
        true => say_json(&json!(planted))?,
        false => tell(&planted)?,
    }
    let survived = planted.iter().any(|p| matches!(p.fate, Fate::Survived { .. }));
    Ok(if survived { Exit::No } else { Exit::Yes })
}

fn tell(planted: &[Planted]) -> Result<(), Failure> {
    let (mut killed, mut asked) = (0, 0);
    for p in planted {
        let (word, detail) = match &p.fate {
            Fate::Killed { variant, by } => ("killed", format!("{}::{variant}, {by}", p.case)),
            Fate::Survived { why } => ("SURVIVED", why.clone()),
            Fate::Equivalent { reason } => ("equivalent", reason.clone()),
            Fate::NotRun { why } => ("not run", why.clone()),
        };
        killed += u32::from(word == "killed");
        asked += u32::from(word == "killed" || word == "SURVIVED");
        say(&format!("{word:<10} {:<16} {:<7} {} ({detail})", p.op, p.id, p.fault))?;
    }
    say(&format!("killed {killed} of {asked}"))?;
    Ok(())
}
