//! `goldgate run`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use goldgate_harness::line::{Head, Profile, Row, Verdict};
use goldgate_harness::report::publish::gate_lines;
use goldgate_harness::session::exit::Signal;
use goldgate_harness::session::folders::{Folders, nothing};
use goldgate_harness::session::{Request, RunOutcome, Session};
use goldgate_harness::yaml::near::guess;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::commands::{Exit, Failure, closing, say, say_json};

/// Example: goldgate run layernorm --on cuda:0
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whole names, globs with `*`, or parts of names.
    filter: Vec<String>,
    /// Everything that this gate asks, slow cases and kernel mutants too.
    #[arg(long, value_name = "N")]
    gate: Vec<u8>,
    /// `cpu`, `cuda:0`, 'COMMAND', 'LABEL=COMMAND' or the path of a subject file; without it `cpu`
    /// and, if there, `cuda:0`.
    #[arg(long, value_name = "SUBJECT")]
    on: Vec<String>,
    /// Which part of the trials the engines are measured by: `full`, `kernels`, `files`,
    /// `tokenizer`, `logits` or `text`. What they do not offer of it is not met.
    #[arg(long, value_name = "NAME", value_parser = profile)]
    profile: Option<Profile>,
    /// A subject that must be there, by its label.
    #[arg(long, value_name = "LABEL")]
    require: Vec<String>,
    #[command(flatten)]
    folders: Folders,
    /// Where the report goes.
    #[arg(long, value_name = "DIR", default_value = "reports/latest")]
    reports: PathBuf,
    /// Warm workers for the CPU.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Shard I of N, as 2/8.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(u64, u64)>,
    /// Seconds that any question may take, in place of the cases' own limits.
    #[arg(long, value_name = "S", value_parser = positive)]
    timeout: Option<f64>,
    /// Slow cases too.
    #[arg(long)]
    slow: bool,
    /// Kernel mutants too.
    #[arg(long)]
    mutants: bool,
    /// End with the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// The report as JSON on stdout.
    #[arg(long)]
    json: bool,
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if (1..=n).contains(&i) => Ok((i, n)),
        _ => Err("wants I/N with I from 1 to N".to_owned()),
    }
}

fn profile(text: &str) -> Result<Profile, String> {
    let all = Profile::ALL.map(Profile::word);
    Profile::find(text).ok_or_else(|| {
        format!("wants one of {}{}", all.join(", "), guess(text, all.iter().copied()))
    })
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 86_400.0 => Ok(x),
        _ => Err("wants seconds, above 0 and at most a day".to_owned()),
    }
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let session = Session::open(request(args)?)?;
    let whole: Vec<&Head> = session.suites.0.iter().flat_map(|suite| &suite.heads).collect();
    // A gate that does not exist selects nothing, and the message for that would not name the
    // mistake.
    let gates: BTreeSet<u8> = whole.iter().map(|p| p.gate).collect();
    if let Some(gate) = args.gate.iter().find(|gate| !gates.contains(gate)) {
        let there = gates.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        return Err(Failure::Usage(format!("--gate {gate}: there are the gates {there}")));
    }
    // Counted before sharding: a shard may rightly be empty, a selection may not.
    if session.selected == 0 {
        return Err(nothing(&args.filter, whole.iter().map(|p| p.name.as_str())).into());
    }
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let signal = stop_on_signals(&stop);
    let counter = Counter::new(session.plan.names().len(), args.json);
    let mut shown = BTreeMap::new();
    let outcome = session.run(Arc::clone(&stop), &mut |row| {
        // A row that comes again after reruns is shown again only if its status changed.
        let before = shown.insert(row.name.clone(), status(row));
        let page = row.page.as_deref().filter(|_| !args.json && before != Some(status(row)));
        counter.row(row, before.is_none(), page);
    })?;
    counter.finish();
    match args.json {
        true => say_json(&json!({
            "report": outcome.report, "gates": outcome.weighed, "mutants": outcome.mutants }))?,
        false => {
            summary(&outcome)?;
            for line in closing::lines(&outcome, Some(&args.reports), began.elapsed()) {
                say(&line)?;
            }
            for line in gate_lines(&outcome.report) {
                say(&line)?;
            }
            // A profile in a file is its owners' word; only the user's command selects one.
            let own = session.plan.subjects.iter().filter(|_| args.profile.is_none());
            for (label, profile) in own.filter_map(|s| Some((&s.label, s.profile?))) {
                let word = profile.word();
                say(&format!("{label} is measured by its owners with --profile {word}"))?;
            }
        }
    }
    let signal = signal.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(session.happened(&outcome, *signal).exit())
}

fn request(args: &Args) -> Result<Request, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Request {
        filters: args.filter.clone(),
        gates: args.gate.clone(),
        on: args.on.clone(),
        require: args.require.clone(),
        profile: args.profile,
        folders: args.folders.clone(),
        reports: Some(args.reports.clone()),
        jobs: args.jobs.unwrap_or(cores),
        shard: args.shard,
        timeout: args.timeout.map(Duration::from_secs_f64),
        slow: args.slow,
        // A gate rests on planted faults, so it always has them planted.
        kernel_mutants: args.mutants || !args.gate.is_empty(),
        // They are faults of ops, whose requirements are those of the first gate.
        generated_faults: args.gate.contains(&1),
        fail_fast: args.fail_fast,
        benches_alone: false,
        program: std::env::current_exe()?,
    })
}

/// Installs handlers: the first SIGINT or SIGTERM stops the run, including open questions; a second
/// one ends the process at once. Returns the signal received, for the exit code.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Arc<Mutex<Option<Signal>>> {
    let came = Arc::new(Mutex::new(None));
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("warning: Ctrl-C ends the run without a report: {error}");
            return came;
        }
    };
    let (stop, first) = (Arc::clone(stop), Arc::clone(&came));
    std::thread::spawn(move || {
        for number in signals.forever() {
            let signal = if number == SIGINT { Signal::Interrupt } else { Signal::Terminate };
            // A second signal means that even an orderly stop takes too long.
            if stop.swap(true, Ordering::SeqCst) {
                std::process::exit(signal.exit() as i32);
            }
            *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
            eprintln!("stopping; once more to stop at once");
        }
    });
    came
}

/// A progress line on a terminal.
struct Counter {
    bar: ProgressBar,
    failed: AtomicUsize,
}

impl Counter {
    fn new(rows: usize, quiet: bool) -> Counter {
        let bar = match quiet {
            true => ProgressBar::hidden(),
            // If stderr is not a terminal, nothing is drawn.
            false => ProgressBar::new(rows as u64),
        };
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {pos} of {len} rows, {msg}") {
            bar.set_style(style);
        }
        bar.set_message("0 failed");
        bar.enable_steady_tick(Duration::from_millis(500));
        Counter { bar, failed: AtomicUsize::new(0) }
    }

    /// Counts a new row, and shows the page of a failed one.
    fn row(&self, row: &Row, new: bool, page: Option<&str>) {
        // A row that comes again was already counted.
        let red = usize::from(new && row.is_red());
        let failed = self.failed.fetch_add(red, Ordering::SeqCst) + red;
        if new {
            self.bar.inc(1);
            let last = Some(self.bar.position()) == self.bar.length();
            let then = if last { ", mutants are planted" } else { "" };
            self.bar.set_message(format!("{failed} failed{then}"));
        }
        if let Some(page) = page {
            self.bar.suspend(|| eprintln!("{page}"));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn summary(outcome: &RunOutcome) -> Result<(), Failure> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &outcome.report.rows {
        *counts.entry((&row.subject, status(row))).or_default() += 1;
    }
    for ((subject, status), count) in counts {
        say(&format!("{subject:<12} {status:<12} {count:>6}"))?;
    }
    for (label, why) in &outcome.report.absent {
        say(&format!("{label} is not there: {why}"))?;
    }
    // Named in every run, so that nobody forgets them.
    for known in outcome.report.rows.iter().filter(|r| matches!(r.verdict, Verdict::Known { .. })) {
        say(&format!("KNOWN {}", known.name))?;
    }
    Ok(())
}

fn status(row: &Row) -> &'static str {
    match row.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail { .. } => "FAIL",
        Verdict::Flaky { .. } => "FLAKY",
        Verdict::Known { .. } => "KNOWN",
        Verdict::Unexpected { .. } => "UNEXPECTED",
        Verdict::Broken { .. } => "BROKEN",
        Verdict::NotRun { .. } => "NOT RUN",
    }
}
