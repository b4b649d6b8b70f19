//! The command line: one file per subcommand.

mod bench;
mod check;
pub mod closing;
mod doctor;
mod failure;
mod fetch;
mod generate;
pub mod generated;
mod golden;
mod inspect;
mod list;
mod logits;
mod model;
mod mutate;
mod new;
mod numbers;
mod op;
mod perplexity;
mod progress;
mod report;
mod run;
mod schema;
mod show;
mod synth;
mod tokenize;
pub mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use goldgate_harness::yaml::Problem;
use serde_json::{Value, json};

pub use failure::Failure;
pub use goldgate_harness::session::Folders;
pub use goldgate_harness::session::exit::Exit;
pub use goldgate_harness::session::today;

/// Conformance for LLM inference engines: cases in YAML, goldens by others, gate reports.
#[derive(Debug, Parser)]
#[command(name = "goldgate", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times the benches of the specs, or a whole model, beside the card's own limits.
    Bench(bench::Args),
    /// Reads every spec, golden and manifest, and lists every error of every file.
    Check(check::Args),
    /// Driver, compiler, device, cache: what is there, what is missing, how to get it.
    Doctor(doctor::Args),
    /// Downloads published checkpoints that the specs name; nothing else ever does.
    Fetch(fetch::Args),
    /// Goes on from a prompt, token by token.
    Generate(generate::Args),
    /// Makes goldens by asking the oracle, or verifies them.
    #[command(subcommand)]
    Golden(golden::Golden),
    /// Opens a model file: architecture, configuration, tensors, hash, memory that it needs.
    Inspect(inspect::Args),
    /// Lists trials.
    List(list::Args),
    /// Logits and inner values of a model for given tokens.
    Logits(logits::Args),
    /// Plants each mutant and runs the case that must notice it.
    Mutate(mutate::Args),
    /// Begins a new spec file, or appends a case to one.
    New(new::Args),
    /// Runs trials, writes the report, prints the gates.
    Run(run::Args),
    /// Shows, compares, merges and verifies reports.
    #[command(subcommand)]
    Report(report::Report),
    /// One op on tensors of a file, results into another.
    Op(op::Args),
    /// How well a model foretells a text, and how far it is from another.
    Perplexity(perplexity::Args),
    /// Prints the JSON Schema of the spec files.
    Schema(schema::Args),
    /// Shows one case in full.
    Show(show::Args),
    /// Writes a model file of real shapes with random weights.
    Synth(synth::Args),
    /// Text to ids, or ids to text.
    Tokenize(tokenize::Args),
    /// Answers the wire on stdin and stdout.
    Worker(worker::Worker),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are requests and no errors; only clap knows which of them it was.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    let outcome = match &cli.command {
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Op(args) => op::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Check(args) => check::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Golden(args) => golden::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::List(args) => list::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Mutate(args) => mutate::run(args),
        Command::New(args) => new::run(args),
        Command::Run(args) => run::run(args),
        Command::Report(args) => report::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Show(args) => show::run(args),
        Command::Synth(args) => synth::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        // A worker speaks the wire, so it neither prints nor exits like the other commands.
        Command::Worker(args) => return args.run(),
    };
    let exit = outcome.unwrap_or_else(|failure| {
        // A reader that has seen enough (`goldgate list | head`) is not a failure.
        let gone = matches!(&failure, Failure::Io(e) if e.kind() == io::ErrorKind::BrokenPipe);
        if gone {
            return Exit::Yes;
        }
        match &failure {
            Failure::Problems(problems) => {
                problems.iter().for_each(|problem| eprintln!("{problem}\n"));
                eprintln!("{failure}");
            }
            // Its single line begins with error[CODE].
            Failure::Malformed(malformed) => eprintln!("{malformed}"),
            other => eprintln!("error: {other}"),
        }
        failure.exit()
    });
    ExitCode::from(exit as u8)
}

/// Prints one line of text on stdout.
///
/// # Errors
/// Stdout is closed.
pub fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints facts as JSON on stdout.
///
/// # Errors
/// Stdout is closed.
pub fn say_json(value: &Value) -> io::Result<()> {
    say(&format!("{value:#}"))
}

/// With `json`, reports bad input as JSON on stdout instead of a line on stderr.
///
/// # Errors
/// Any other failure, or a closed stdout.
pub fn bad_input(outcome: Result<Exit, Failure>, json: bool) -> Result<Exit, Failure> {
    match outcome {
        Err(Failure::Malformed(malformed)) if json => {
            say_json(&goldgate_worker::inspect::refusal(&malformed))?;
            Ok(Exit::BadInput)
        }
        Err(Failure::NotFinite(what)) if json => {
            say_json(&json!({ "not_finite": what }))?;
            Ok(Exit::BadInput)
        }
        Err(Failure::Problems(problems)) if json => {
            say_json(&problems_json(&problems))?;
            Ok(Exit::BadInput)
        }
        outcome => outcome,
    }
}

/// Problems as JSON.
pub fn problems_json(problems: &[Problem]) -> Value {
    json!(problems.iter().map(Problem::to_json).collect::<Vec<_>>())
}
