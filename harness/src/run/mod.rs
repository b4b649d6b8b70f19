//! A run: asks every planned trial of its subject, judges the answers, and reports a row for each,
//! so that nothing is lost silently.

mod definitions;
mod golden_subject;
pub mod known;
mod lanes;
mod prepare;
mod rerun;
pub mod stored;
mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use crate::kinds::{Goldens, Trial, Withheld};
use definitions::Shared;

use crate::line::{BrokenKind, On, Row, Transport, Verdict, Whom, hex};
use crate::subject::launch::Starts;
use crate::subject::{How, Launch, SubjectSpec};
pub use known::Unmatched;
pub use lanes::News;
pub use stored::Stored;
use teller::Teller;

/// A trial on one subject.
#[derive(Clone)]
pub struct Entry {
    /// The trial.
    pub trial: Arc<dyn Trial>,
    /// The subject's index in the plan.
    pub subject: usize,
    /// Its full name, subject last.
    pub name: String,
    /// The command that reruns it.
    pub again: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a run asks, and of which subjects.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The subjects; the harness comes last, because its own checks are asked of it.
    pub subjects: Vec<SubjectSpec>,
    /// The trials in the order in which each subject is asked.
    pub trials: Vec<Entry>,
    /// Entries of known.yaml that match no trial.
    pub unmatched: Vec<Unmatched>,
}

impl Plan {
    /// The plan of every trial on every subject that it applies to.
    pub fn new(trials: &[Arc<dyn Trial>], mut subjects: Vec<SubjectSpec>) -> Plan {
        subjects.push(SubjectSpec::harness());
        let mut entries = Vec::new();
        for (at, subject) in subjects.iter().enumerate() {
            for trial in trials {
                let on = trial.head().on;
                let asked = match subject.how {
                    How::Harness => on == On::Harness,
                    _ => on.asks(subject.roles()),
                };
                if asked {
                    let name = trial.head().on_subject(&subject.label);
                    let again = format!("goldgate run {name}{}", subject.option());
                    entries.push(Entry { trial: Arc::clone(trial), subject: at, name, again });
                }
            }
        }
        Plan { subjects, trials: entries, unmatched: Vec::new() }
    }

    /// Keeps the trials for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.trials.retain(|entry| keep(entry));
    }

    /// Keeps the trials, and the entries of known.yaml, for whose names `keep` holds.
    pub fn retain_names(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.trials.retain(|entry| keep(&entry.name));
        self.unmatched.retain(|entry| keep(&entry.name));
    }

    /// The names of all trials, sorted.
    pub fn names(&self) -> Vec<String> {
        let trials = self.trials.iter().map(|t| t.name.clone());
        let unmatched = self.unmatched.iter().map(|u| u.name.clone());
        let names: BTreeSet<String> = trials.chain(unmatched).collect();
        names.into_iter().collect()
    }

    /// SHA-256 over all names, one per line.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for name in self.names() {
            hash.update(format!("{name}\n"));
        }
        hex(&hash.finalize())
    }

    /// The trial with that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.trials.iter().find(|entry| entry.name == name)
    }
}

/// The settings of a run. Environment and arguments are passed in as values, so that a run depends
/// on nothing else.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our own program, which starts every worker.
    pub program: PathBuf,
    /// How many warm workers the CPU subject has.
    pub jobs: usize,
    /// Replaces the time limits of all cases.
    pub timeout: Option<Duration>,
    /// Labels of the subjects that the user named; each of them is started even if it is asked
    /// nothing.
    pub named: Vec<String>,
    /// Whether the first failure stops the run.
    pub fail_fast: bool,
    /// A kernel source that replaces the one compiled in.
    pub overlay: Option<PathBuf>,
    /// How many failing rows are rerun, twice each, alone in fresh processes.
    pub reruns: usize,
    /// Set from outside to stop the run.
    pub stop: Arc<AtomicBool>,
}

/// The default number of failing rows that are rerun.
pub const RERUNS: usize = 20;

/// Applies known.yaml to a row, given the name of the device.
pub type Known<'a> = dyn Fn(Row, &str) -> Row + Sync + 'a;

/// There is no place for the workers' files.
#[derive(Debug, thiserror::Error)]
#[error("could not make a scratch folder: {0}")]
pub struct RunError(#[source] std::io::Error);

/// Everything that a run found out.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The last version of each row, sorted by name.
    pub rows: Vec<Row>,
    /// Label of a subject → its first answer to hello.
    pub subjects: BTreeMap<String, Value>,
    /// Label of a subject → why it could not be started.
    pub absent: BTreeMap<String, String>,
    /// Reasons why no row can be relied on; empty if there are none.
    pub invalid: Vec<String>,
    /// Processes that outlived their worker, and unsolicited output.
    pub incidents: Vec<String>,
    /// How many processes had to be replaced.
    pub replaced: u32,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
}

/// State that the lanes of a run share.
pub struct Context<'a> {
    plan: &'a Plan,
    options: &'a Options,
    goldens: Shared<'a>,
    known: &'a Known<'a>,
    scratch: PathBuf,
    /// The failed starts of each subject.
    starts: Vec<Arc<Starts>>,
}

impl<'a> Context<'a> {
    fn new(
        plan: &'a Plan,
        options: &'a Options,
        goldens: &'a dyn Goldens,
        known: &'a Known<'a>,
        scratch: PathBuf,
    ) -> Context<'a> {
        let starts = plan.subjects.iter().map(|_| Arc::default()).collect();
        Context { plan, options, goldens: Shared::new(plan, goldens), known, scratch, starts }
    }

    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }

    /// How the workers of one subject are started.
    fn launch(&self, subject: usize) -> Launch {
        let spec = self.plan.subjects[subject].clone();
        // Only the CUDA worker compiles kernels, so an overlay has no meaning for the others.
        let overlay =
            matches!(spec.how, How::Cuda(_)).then(|| self.options.overlay.clone()).flatten();
        let program = self.options.program.clone();
        let stop = Some(Arc::clone(&self.options.stop));
        let starts = Arc::clone(&self.starts[subject]);
        let launch = Launch::new(program, spec, self.scratch.clone()).capped(self.options.timeout);
        Launch { overlay, stop, starts, ..launch }
    }

    /// The subject as judging sees it.
    fn whom(&self, subject: usize, to: &dyn Transport) -> Whom {
        match self.plan.subjects[subject].how {
            How::Cpu | How::Harness => Whom::Cpu,
            How::Cuda(_) => Whom::Cuda,
            How::Command(_) => {
                let hello = to.hello();
                Whom::Foreign { card: hello.on_card(), declared: hello.arithmetic() }
            }
        }
    }
}

/// Runs a plan. Each row goes to `sink` when its trial ends. A row that changes later (a rerun that
/// passes, a leak found at the end) is sent again, and the last version holds.
///
/// # Errors
/// There is no place for the workers' files.
pub fn run(
    plan: &Plan,
    options: &Options,
    goldens: &dyn Goldens,
    known: &Known<'_>,
    sink: &mut dyn FnMut(&Row),
) -> Result<Findings, RunError> {
    let scratch = tempfile::tempdir().map_err(RunError)?;
    let context = Context::new(plan, options, goldens, known, scratch.path().to_path_buf());
    let stop = options.fail_fast.then(|| Arc::clone(&options.stop));
    let mut teller = Teller::new(plan, known, sink, stop);
    // Before the first trial: if the judge fails here, none of the rows can be believed.
    teller.invalid(golden_subject::judge_on_the_wire(&context));
    for entry in &plan.unmatched {
        teller.row(entry.row());
    }
    ask_all(&context, &mut teller);
    // A rerun after a stop would delay the end that the user asked for.
    if !context.stopped() {
        rerun::ask_again(&context, &mut teller);
    }
    let mut found = teller.conclude();
    // A judge that failed, or a golden that changed, makes every other row doubtful as well.
    let self_check = |row: &&Row| {
        matches!(&row.verdict, Verdict::Broken { kind, .. } if matches!(kind,
            BrokenKind::SelfCheck | BrokenKind::GoldenHash | BrokenKind::InputsHash))
    };
    let invalid = found.rows.iter().find(self_check).map(|row| format!("{} is BROKEN", row.name));
    found.invalid.extend(invalid);
    found.stopped = context.stopped();
    Ok(found)
}

/// Asks every subject, each in its own lanes.
fn ask_all(context: &Context<'_>, teller: &mut Teller<'_>) {
    let (to, news) = mpsc::channel();
    std::thread::scope(|scope| {
        for subject in 0..context.plan.subjects.len() {
            lanes::start(scope, context, subject, &to);
        }
        // The iterator below ends only when every sender is gone, this one included.
        drop(to);
        news.iter().for_each(|item| teller.hear(item));
    });
}
