//! A run: every planned trial is asked of its subject, judged, and reported; nothing is lost.

mod definitions;
mod golden_subject;
pub mod known;
mod lanes;
mod prepare;
mod rerun;
pub mod stored;
mod teller;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use crate::kinds::{Goldens, Trial, Withheld};
use definitions::Shared;

use crate::line::{BrokenKind, Row, Transport, Verdict, Whom, hex};
use crate::report::Report;
use crate::report::document::Writer;
use crate::report::provenance::Provenance;
use crate::subject::{How, Launch, SubjectSpec};
pub use known::Unmatched;
pub use lanes::News;
pub use stored::Stored;
use teller::Teller;

/// A trial on a subject.
#[derive(Clone)]
pub struct Entry {
    /// The trial.
    pub trial: Arc<dyn Trial>,
    /// Which of the plan's subjects.
    pub subject: usize,
    /// Its full name, subject last.
    pub name: String,
    /// The command that runs it again.
    pub again: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a run asks, and of whom.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The subjects; the harness itself last, where its own checks are asked.
    pub subjects: Vec<SubjectSpec>,
    /// The trials in the order in which each subject is asked.
    pub trials: Vec<Entry>,
    /// Entries of known.yaml that name no trial.
    pub unmatched: Vec<Unmatched>,
}

impl Plan {
    /// Every trial on every subject that it is asked of.
    pub fn new(trials: &[Arc<dyn Trial>], mut subjects: Vec<SubjectSpec>) -> Plan {
        subjects.push(SubjectSpec::harness());
        let mut entries = Vec::new();
        for (at, subject) in subjects.iter().enumerate() {
            let own = matches!(subject.how, How::Harness);
            for trial in trials {
                let on = trial.head().on;
                let asked = if own { on == OWN } else { on.asks(&subject.label) };
                if asked {
                    let name = trial.head().on_subject(&subject.label);
                    let again = format!("goldgate run {name}{}", subject.option());
                    entries.push(Entry { trial: Arc::clone(trial), subject: at, name, again });
                }
            }
        }
        Plan { subjects, trials: entries, unmatched: Vec::new() }
    }

    /// Keeps the trials that pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.trials.retain(|entry| keep(entry));
    }

    /// Keeps the trials, and the entries of known.yaml, whose names pass.
    pub fn retain_names(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.trials.retain(|entry| keep(&entry.name));
        self.unmatched.retain(|entry| keep(&entry.name));
    }

    /// Every trial's name, sorted.
    pub fn names(&self) -> Vec<String> {
        let trials = self.trials.iter().map(|t| t.name.clone());
        let unmatched = self.unmatched.iter().map(|u| u.name.clone());
        let names: BTreeSet<String> = trials.chain(unmatched).collect();
        names.into_iter().collect()
    }

    /// SHA-256 over all names, a line each.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for name in self.names() {
            hash.update(format!("{name}\n"));
        }
        hex(&hash.finalize())
    }

    /// The trial of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.trials.iter().find(|entry| entry.name == name)
    }
}

/// The trials that the harness asks itself.
const OWN: crate::line::On = crate::line::On::Only(&["harness"]);

/// How a run is done. Clock, environment and arguments come in as values.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our own program, which starts every worker.
    pub program: PathBuf,
    /// Where the report goes; none: nowhere.
    pub reports: Option<PathBuf>,
    /// Warm workers for the CPU.
    pub jobs: usize,
    /// A limit in place of the cases' own.
    pub timeout: Option<Duration>,
    /// Labels of subjects that were named: each is started, whether it is asked anything or not.
    pub named: Vec<String>,
    /// Whether the first failure stops the run.
    pub fail_fast: bool,
    /// Kernel text in place of that compiled in.
    pub overlay: Option<PathBuf>,
    /// How many failing rows are asked again, twice each, alone in fresh processes.
    pub reruns: usize,
    /// What is known of specs, goldens and the clock before the run.
    pub provenance: Provenance,
    /// The clock at the end, RFC 3339.
    pub clock: fn() -> String,
    /// Set from outside to stop.
    pub stop: Arc<AtomicBool>,
}

/// The most failing rows that are asked again.
pub const RERUNS: usize = 20;

/// What known.yaml makes of a row, given the device's name.
pub type Known<'a> = dyn Fn(Row, &str) -> Row + Sync + 'a;

/// A run that could not be told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The report cannot be written.
    #[error("could not write the report: {0}")]
    Report(#[source] std::io::Error),
    /// No place for the workers' files.
    #[error("could not make a scratch folder: {0}")]
    Scratch(#[source] std::io::Error),
}

/// What the lanes of a run share.
pub struct Context<'a> {
    plan: &'a Plan,
    options: &'a Options,
    goldens: Shared<'a>,
    known: &'a Known<'a>,
    scratch: PathBuf,
}

impl<'a> Context<'a> {
    fn new(
        plan: &'a Plan,
        options: &'a Options,
        goldens: &'a dyn Goldens,
        known: &'a Known<'a>,
        scratch: PathBuf,
    ) -> Context<'a> {
        Context { plan, options, goldens: Shared::new(plan, goldens), known, scratch }
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }

    /// How one subject's workers start.
    fn launch(&self, subject: usize) -> Launch {
        let spec = self.plan.subjects[subject].clone();
        let overlay =
            matches!(spec.how, How::Cuda(_)).then(|| self.options.overlay.clone()).flatten();
        let program = self.options.program.clone();
        let stop = Some(Arc::clone(&self.options.stop));
        Launch { overlay, stop, ..Launch::new(program, spec, self.scratch.clone()) }
    }

    /// Who answers for a subject, as far as judging goes.
    fn whom(&self, subject: usize, to: &dyn Transport) -> Whom {
        match self.plan.subjects[subject].how {
            How::Cpu | How::Harness => Whom::Cpu,
            How::Cuda(_) => Whom::Cuda,
            How::Command(_) => Whom::Foreign(to.hello().device_kind().to_owned()),
        }
    }
}

/// Runs a plan. Every row goes to `sink` as it comes; a row that changes later (a rerun that
/// passes, a leak found at the end) comes again, and the last one holds.
///
/// # Errors
/// A report that cannot be written.
pub fn run(
    plan: &Plan,
    options: &Options,
    goldens: &dyn Goldens,
    known: &Known<'_>,
    sink: &mut dyn FnMut(&Row),
) -> Result<Report, RunError> {
    let scratch = tempfile::tempdir().map_err(RunError::Scratch)?;
    let context = Context::new(plan, options, goldens, known, scratch.path().to_path_buf());
    let mut report = Report {
        provenance: Provenance { plan_sha256: plan.hash(), ..options.provenance.clone() },
        planned: plan.names(),
        ..Report::default()
    };
    let writer = options.reports.as_deref().map(|folder| Writer::begin(folder, &report));
    let writer = writer.transpose().map_err(RunError::Report)?;
    let stop = options.fail_fast.then(|| Arc::clone(&options.stop));
    let mut teller = Teller::new(plan, known, writer, sink, stop);
    report.invalid.extend(golden_subject::judge_on_the_wire(&context));
    for entry in &plan.unmatched {
        teller.row(entry.row());
    }
    ask_all(&context, &mut teller);
    if !context.stopped() {
        rerun::ask_again(&context, &mut teller);
    }
    let writer = teller.conclude(&mut report)?;
    let self_check = |row: &&Row| {
        matches!(&row.verdict, Verdict::Broken { kind, .. } if matches!(kind,
            BrokenKind::SelfCheck | BrokenKind::GoldenHash | BrokenKind::InputsHash))
    };
    let invalid = report.rows.iter().find(self_check).map(|row| format!("{} is BROKEN", row.name));
    report.invalid.extend(invalid);
    if context.stopped() {
        report.incomplete = Some("stopped before its end".to_owned());
    }
    report.hold_to_plan();
    report.provenance.ended = (options.clock)();
    if let Some(writer) = &writer {
        writer.write(&report).map_err(RunError::Report)?;
    }
    Ok(report)
}

/// Asks every subject, each in lanes of its own.
fn ask_all(context: &Context<'_>, teller: &mut Teller<'_>) {
    let (to, news) = mpsc::channel();
    std::thread::scope(|scope| {
        for subject in 0..context.plan.subjects.len() {
            lanes::start(scope, context, subject, &to);
        }
        drop(to);
        news.iter().for_each(|item| teller.hear(item));
    });
}
