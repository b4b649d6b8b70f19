//! A run: every planned trial is asked of its subject, judged, and told; nothing is lost.

mod again;
mod ahead;
mod definitions;
pub mod extra;
mod files;
pub mod known;
mod on_trial;
pub mod own;
mod same;
mod slots;
pub mod stored;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::case::Case;
use crate::checks::HarnessCheck;
use crate::golden::Golden;
use crate::models::ModelCase;
use crate::models::golden::ModelGolden;
use crate::report::document::Writer;
use crate::report::provenance::{Provenance, hex};
use crate::report::{Report, Row};
use crate::subject::SubjectSpec;
use crate::verdict::{BrokenKind, FailKind, NotRun, Verdict};

use definitions::Definitions;
pub use extra::Extra;
pub use known::Unmatched;
pub use stored::Stored;
pub use trial::Trial;

/// What a run asks of whom.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The subjects.
    pub subjects: Vec<SubjectSpec>,
    /// The trials, a case on a subject each.
    pub trials: Vec<Trial>,
    /// Checks of the harness itself.
    pub checks: Vec<HarnessCheck>,
    /// Checks of subjects as a whole, and benches.
    pub extras: Vec<Extra>,
    /// Entries of known.yaml that await no trial.
    pub unmatched: Vec<Unmatched>,
}

impl Plan {
    /// Every case on every subject; a case judged by the definition is never asked of `cpu`.
    pub fn new(cases: &[Arc<Case>], subjects: Vec<SubjectSpec>) -> Plan {
        let mut trials = Vec::new();
        for (at, subject) in subjects.iter().enumerate() {
            for case in cases {
                if !(subject.label == "cpu" && trial::by_definition(case)) {
                    trials.push(Trial::new(Arc::clone(case), at, subject));
                }
            }
        }
        // By subject, gate and name: the order of asking.
        trials.sort_by(|a, b| {
            (a.subject, a.case.gate, &a.name).cmp(&(b.subject, b.case.gate, &b.name))
        });
        Plan { subjects, trials, ..Plan::default() }
    }

    /// Keeps the trials whose names pass.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.trials.retain(|trial| keep(&trial.name));
        self.checks.retain(|check| keep(&own::name(check)));
        self.extras.retain(|extra| keep(&extra.name));
        self.unmatched.retain(|entry| keep(&entry.name));
    }

    /// Every trial's name, sorted.
    pub fn names(&self) -> Vec<String> {
        let trials = self.trials.iter().map(|t| t.name.clone());
        let extras = self.extras.iter().map(|e| e.name.clone());
        let checks = self.checks.iter().map(own::name);
        let unmatched = self.unmatched.iter().map(|u| u.name.clone());
        let names: BTreeSet<String> = trials.chain(checks).chain(extras).chain(unmatched).collect();
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
}

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

/// Where goldens come from.
pub trait Goldens: Sync {
    /// The golden of a case, its inputs held against those that it was made for.
    ///
    /// # Errors
    /// Why there is none to judge by.
    fn golden(&self, case: &Case) -> Result<Golden, Withheld>;

    /// The golden of a case about a model; an empty one where the case has none.
    ///
    /// # Errors
    /// Why there is none to judge by.
    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        let message = format!("{} is not kept here", case.full_name());
        Err(Withheld::NotRun(NotRun::NoGolden, message))
    }

    /// Folders of checkpoints that are not shipped.
    fn models(&self) -> &[PathBuf] {
        &[]
    }

    /// The folder below which files that cases name are looked for.
    fn folder(&self) -> &Path {
        Path::new("")
    }
}

/// Why there is no golden to judge by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Something is wrong with it.
    Broken(BrokenKind, String),
    /// Nobody has made it.
    NotRun(NotRun, String),
}

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

/// What slots and reruns share.
struct Context<'a> {
    plan: &'a Plan,
    options: &'a Options,
    goldens: &'a dyn Goldens,
    known: &'a Known<'a>,
    definitions: Definitions,
    scratch: PathBuf,
}

impl Context<'_> {
    fn stopped(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }
}

/// Something that a slot tells.
enum News {
    Row(Box<Row>, Option<String>),
    /// Subject, its hello.
    Hello(usize, serde_json::Value),
    /// Subject, why it is not there.
    Absent(usize, String),
    Finished(usize, crate::subject::pool::Incidents, Option<String>),
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
    let context = Context {
        plan,
        options,
        goldens,
        known,
        definitions: Definitions::of(plan),
        scratch: scratch.path().to_path_buf(),
    };
    let mut report = Report {
        provenance: Provenance { plan_sha256: plan.hash(), ..options.provenance.clone() },
        planned: plan.names(),
        ..Report::default()
    };
    let writer = options.reports.as_deref().map(|folder| Writer::begin(folder, &report));
    let mut teller = Teller {
        writer: writer.transpose().map_err(RunError::Report)?,
        sink,
        rows: BTreeMap::new(),
        bits: BTreeMap::new(),
        doubled: Vec::new(),
        error: None,
        fail_fast: options.fail_fast.then(|| Arc::clone(&options.stop)),
    };
    report.invalid.extend(on_trial::judge_on_the_wire(&context));
    ask_all(&context, &mut teller, &mut report);
    extra::ask_all(&context, &mut teller);
    if !context.stopped() {
        again::ask_again(&context, &mut teller);
    }
    let self_check = |row: &&Row| {
        matches!(&row.verdict, Verdict::Broken { kind, .. } if matches!(kind,
            BrokenKind::SelfCheck | BrokenKind::GoldenHash | BrokenKind::InputsHash))
    };
    let invalid =
        teller.rows.values().find(self_check).map(|row| format!("{} is BROKEN", row.name));
    report.invalid.extend(invalid);
    report.invalid.extend(teller.doubled.iter().map(|name| format!("{name} was told twice")));
    if context.stopped() {
        report.incomplete = Some("stopped before its end".to_owned());
    }
    if let Some(error) = teller.error.take() {
        return Err(RunError::Report(error));
    }
    report.rows = teller.rows.into_values().collect();
    report.hold_to_plan();
    report.provenance.ended = (options.clock)();
    if let Some(writer) = &teller.writer {
        writer.write(&report).map_err(RunError::Report)?;
    }
    Ok(report)
}

/// Everything that leaves a run goes through here.
struct Teller<'a> {
    writer: Option<Writer>,
    sink: &'a mut dyn FnMut(&Row),
    rows: BTreeMap<String, Row>,
    /// Trial → hash of its answer's bits.
    bits: BTreeMap<String, String>,
    doubled: Vec<String>,
    error: Option<std::io::Error>,
    fail_fast: Option<Arc<AtomicBool>>,
}

impl Teller<'_> {
    fn tell(&mut self, row: Row) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.row(&row)
        {
            self.error.get_or_insert(error);
        }
        (self.sink)(&row);
        if let (Verdict::Fail { .. }, Some(stop)) = (&row.verdict, &self.fail_fast) {
            stop.store(true, Ordering::SeqCst);
        }
        self.rows.insert(row.name.clone(), row);
    }

    fn first(&mut self, row: Row, bits: Option<String>) {
        if self.rows.contains_key(&row.name) {
            self.doubled.push(row.name.clone());
        }
        if let Some(bits) = bits {
            self.bits.insert(row.name.clone(), bits);
        }
        self.tell(row);
    }
}

fn ask_all(context: &Context<'_>, teller: &mut Teller<'_>, report: &mut Report) {
    let (news_to, news) = mpsc::channel();
    std::thread::scope(|scope| {
        for subject in 0..context.plan.subjects.len() {
            slots::start(scope, context, subject, &news_to);
        }
        let own = news_to.clone();
        scope.spawn(move || own::check_all(context, &own));
        drop(news_to);
        for item in news {
            match item {
                News::Row(row, bits) if matches!(row.verdict, Verdict::NotRun { .. }) => {
                    teller.first((context.known)(*row, ""), bits);
                }
                News::Row(row, bits) => teller.first(*row, bits),
                News::Hello(subject, hello) => {
                    let label = context.plan.subjects[subject].label.clone();
                    report.provenance.subjects.insert(label, hello);
                }
                News::Absent(subject, why) => {
                    report.absent.insert(context.plan.subjects[subject].label.clone(), why);
                }
                News::Finished(subject, found, last) => {
                    let label = &context.plan.subjects[subject].label;
                    report.replaced += found.replaced;
                    let changed = found.changed.iter().map(|c| format!("{label}: {c}"));
                    report.invalid.extend(changed);
                    blame(teller, &found, last.as_deref());
                    report.incidents.extend(found.leaks);
                    report.incidents.extend(found.strays);
                }
            }
        }
    });
}

/// A leak or a stray word is found after the fact; the slot's last row pays for it.
fn blame(teller: &mut Teller<'_>, found: &crate::subject::pool::Incidents, last: Option<&str>) {
    let leak = found.leaks.first().map(|leak| (FailKind::Leak, leak));
    let stray = found.strays.first().map(|stray| (FailKind::Protocol, stray));
    let Some((kind, message)) = leak.or(stray) else { return };
    let Some(row) = last.and_then(|name| teller.rows.get(name)) else { return };
    if row.verdict == Verdict::Pass {
        let mut row = row.clone();
        row.page = Some(format!("FAIL {}\n  failed   {}: {message}\n", row.name, kind.word()));
        row.verdict = Verdict::Fail { kind, message: message.clone() };
        teller.tell(row);
    }
}
