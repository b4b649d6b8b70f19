//! A session: what `goldgate run` and `cargo test` share, from folders to gates.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::case::Case;
use crate::checks;
use crate::cli::Failure;
use crate::cli::Folders;
use crate::cli::folders::selects;
use crate::documents::{self, Untrue};
use crate::gate::{self, Weighed};
use crate::golden::store::Store;
use crate::models::ModelCase;
use crate::mutate::{self, Planted};
use crate::report::document::SLOW;
use crate::report::document::Shard;
use crate::report::provenance::folder_hash;
use crate::report::publish::publish;
use crate::report::record;
use crate::report::summary::conclude;
use crate::report::{Provenance, Report, Row, Selection};
use crate::run::extra::What;
use crate::run::{self, Extra, Options, Plan, RERUNS, Stored, known};
use crate::spec::Specs;
use crate::spec::known::Day;
use crate::subject::SubjectSpec;
use crate::verdict::Verdict;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Whole names, globs, parts of names.
    pub filters: Vec<String>,
    /// Gates; what they ask includes slow cases.
    pub gates: Vec<u8>,
    /// Subjects as written; none: `cpu` and `cuda:0`.
    pub on: Vec<String>,
    /// Labels that must be there.
    pub require: Vec<String>,
    /// Where specs and goldens are.
    pub folders: Folders,
    /// Where the report goes.
    pub reports: Option<PathBuf>,
    /// Warm CPU workers.
    pub jobs: usize,
    /// Shard I of N, from 1.
    pub shard: Option<(u64, u64)>,
    /// A limit in place of the cases' own.
    pub timeout: Option<Duration>,
    /// Whether slow cases are asked too.
    pub slow: bool,
    /// Whether kernel mutants are planted too.
    pub kernel_mutants: bool,
    /// Whether the first failure ends the run.
    pub fail_fast: bool,
    /// Nothing but benches.
    pub benches_alone: bool,
    /// Our own program.
    pub program: PathBuf,
}

/// Specs read, trials planned, nothing asked yet.
#[derive(Debug)]
pub struct Session {
    /// The specs.
    pub specs: Specs,
    /// The goldens.
    pub store: Store,
    /// What will be asked.
    pub plan: Plan,
    request: Request,
    selection: Selection,
}

/// Everything that a run found out.
#[derive(Debug)]
pub struct Told {
    /// The report.
    pub report: Report,
    /// What became of the mutants.
    pub mutants: Vec<Planted>,
    /// What the gates make of it.
    pub weighed: Weighed,
}

impl Session {
    /// Reads everything and plans.
    ///
    /// # Errors
    /// Specs or a manifest that are bad, folders or subjects that are none.
    pub fn open(request: Request) -> Result<Session, Failure> {
        let specs = request.folders.read_all()?;
        let store = request.folders.store()?;
        let written = match request.on.is_empty() {
            true => vec!["cpu".to_owned(), "cuda:0".to_owned()],
            false => request.on.clone(),
        };
        let subjects: Result<Vec<SubjectSpec>, _> =
            written.iter().map(|w| SubjectSpec::parse(w)).collect();
        let subjects = subjects.map_err(|e| Failure::Usage(e.to_string()))?;
        let cases: Vec<Arc<Case>> = specs.cases().cloned().map(Arc::new).collect();
        let mut plan = Plan::new(&cases, subjects);
        plan.checks = checks::ALL.to_vec();
        plan.extras = extras(&specs, &plan.subjects, !request.gates.is_empty());
        let planned = gate::plan(&specs, &checks::planned());
        plan.unmatched = run::Unmatched::among(&specs.known.known, &planned);
        let whole = plan.names().len();
        let slow = request.slow || !request.gates.is_empty();
        plan.trials.retain(|t| slow || !t.case.slow);
        plan.extras.retain(|e| slow || !matches!(&e.what, What::Model(m) if m.slow));
        let mut selection = Selection {
            filters: request.filters.clone(),
            gates: request.gates.clone(),
            models: request.folders.named_models()?.is_some(),
            ..Selection::default()
        };
        if plan.names().len() != whole {
            selection.left_out.push(SLOW.to_owned());
        }
        let gate = |g: u8| request.gates.is_empty() || request.gates.contains(&g);
        plan.trials.retain(|t| gate(t.case.gate));
        plan.checks.retain(|c| gate(c.gate));
        plan.unmatched.retain(|u| gate(u.gate()));
        plan.extras.retain(|e| match &e.what {
            What::Check(c) => gate(c.gate),
            What::Bench(b) => gate(b.case.gate),
            What::Files(c) => gate(c.gate),
            What::Tokens(t) => gate(t.gate),
            What::Model(m) => gate(m.gate),
        });
        if request.benches_alone {
            plan.trials.clear();
            plan.checks.clear();
            plan.unmatched.clear();
            plan.extras.retain(|e| matches!(e.what, What::Bench(_)));
        }
        plan.retain(|name| selects(&request.filters, name));
        if let Some((i, n)) = request.shard {
            selection.shard = Some(Shard { index: i, of: n, plan_sha256: plan.hash() });
            plan.retain(|name| shard_of(name, n) == i);
        }
        Ok(Session { specs, store, plan, request, selection })
    }

    /// Leaves the report folder alone: a part of the trials is no report.
    pub fn write_no_report(&mut self) {
        self.request.reports = None;
        self.selection.left_out.push("trials that nobody asked for".to_owned());
    }

    /// Runs the plan, plants the mutants, weighs the gates. Every row goes to `sink` as it comes.
    ///
    /// # Errors
    /// A report that cannot be written.
    pub fn run(&self, stop: Arc<AtomicBool>, sink: &mut dyn FnMut(&Row)) -> Result<Told, Failure> {
        let today = today();
        let models = self.request.folders.models_dirs()?;
        let goldens = Stored { specs: &self.specs, store: &self.store, models: &models };
        let entries = &self.specs.known.known;
        let known = |row: Row, device: &str| known::apply(entries, today, row, device);
        let options = self.options(stop)?;
        let mut report = run::run(&self.plan, &options, &goldens, &known, sink)?;
        let selected = |stem: &str| {
            let of = |e: &Extra| match &e.what {
                What::Tokens(case) => case.stem == stem,
                What::Model(case) => case.stem == stem,
                _ => false,
            };
            self.plan.trials.iter().any(|t| t.case.stem == stem) || self.plan.extras.iter().any(of)
        };
        let mut mutants = mutate::plant(&self.specs, &goldens, |op, _| selected(op));
        if self.request.kernel_mutants {
            mutants.extend(self.kernel_mutants(&goldens, selected)?);
        }
        report.faults = mutants.iter().filter_map(Planted::result).collect();
        report.selection = self.selection.clone();
        if !self.request.gates.is_empty() {
            report.documents = self.documents()?;
        }
        let plan = gate::plan(&self.specs, &checks::planned());
        let weighed = conclude(&mut report, &self.specs, &plan);
        if let Some(folder) = &self.request.reports {
            let last = self.last_record(&report)?;
            let last = last.as_ref().map(|(name, record)| (name.as_str(), record));
            publish(folder, &mut report, last)?;
        }
        Ok(Told { report, mutants, weighed })
    }

    /// Runs a plan of benches alone: rows, no gates, no report.
    ///
    /// # Errors
    /// Folders that cannot be read.
    pub fn bench(
        &self,
        stop: Arc<AtomicBool>,
        sink: &mut dyn FnMut(&Row),
    ) -> Result<Report, Failure> {
        let models = self.request.folders.models_dirs()?;
        let goldens = Stored { specs: &self.specs, store: &self.store, models: &models };
        Ok(run::run(&self.plan, &self.options(stop)?, &goldens, &|row, _| row, sink)?)
    }

    /// The record that a report is held beside: one on the same card, else the newest.
    fn last_record(&self, report: &Report) -> Result<Option<record::Record>, Failure> {
        let folder = self.root()?.join("reports/record");
        let mut unread = |why: String| eprintln!("warning: no record to compare with: {why}");
        Ok(record::last(&folder, report, &mut unread))
    }

    /// The folder that holds specs/ and docs/.
    fn root(&self) -> Result<PathBuf, Failure> {
        let specs = self.request.folders.specs_dir()?.canonicalize()?;
        Ok(specs.parent().unwrap_or(&specs).to_path_buf())
    }

    /// The documents of every gate, held against what is asked of them.
    fn documents(&self) -> Result<BTreeMap<String, bool>, Failure> {
        let root = self.root()?;
        let mut tell = |untrue: &Untrue| eprintln!("{untrue}\n");
        Ok(documents::all(&self.specs.gates, &root, &self.request.program, &mut tell))
    }

    fn kernel_mutants(
        &self,
        goldens: &Stored<'_>,
        selected: impl Fn(&str) -> bool,
    ) -> Result<Vec<Planted>, Failure> {
        let Some(subject) = self.plan.subjects.iter().find(|s| s.label == "cuda") else {
            return Ok(Vec::new());
        };
        let scratch = tempfile::tempdir()?;
        let workers = mutate::kernel::Workers {
            program: self.request.program.clone(),
            subject: subject.clone(),
            timeout: self.request.timeout,
            scratch: scratch.path().to_path_buf(),
        };
        Ok(mutate::kernel::plant(&self.specs, goldens, &workers, |op, _| selected(op)))
    }

    fn options(&self, stop: Arc<AtomicBool>) -> Result<Options, Failure> {
        let folders = &self.request.folders;
        let provenance = Provenance {
            specs_sha256: folder_hash(&folders.specs_dir()?)?,
            golden_sha256: folder_hash(&folders.golden_dir()?)?,
            began: clock(),
            ..Provenance::of_program(&self.request.program)
        };
        Ok(Options {
            program: self.request.program.clone(),
            reports: self.request.reports.clone(),
            jobs: self.request.jobs,
            timeout: self.request.timeout,
            fail_fast: self.request.fail_fast,
            overlay: None,
            reruns: RERUNS,
            provenance,
            clock,
            stop,
        })
    }

    /// Subjects that were named and are not there.
    pub fn missing<'r>(&self, report: &'r Report) -> Vec<(&'r str, &'r str)> {
        let named = |label: &str| {
            let on = self.plan.subjects.iter().any(|s| s.label == label);
            !self.request.on.is_empty() && on || self.request.require.iter().any(|r| r == label)
        };
        let absent = report.absent.iter().map(|(l, w)| (l.as_str(), w.as_str()));
        absent.filter(|(label, _)| named(label)).collect()
    }

    /// Whether a row must turn the run red.
    pub fn is_red(row: &Row) -> bool {
        matches!(
            row.verdict,
            Verdict::Fail { .. }
                | Verdict::Flaky { .. }
                | Verdict::Unexpected { .. }
                | Verdict::Broken { .. }
        )
    }
}

/// Checks of our own subjects as a whole; and where a gate is asked, every bench on a card.
fn extras(specs: &Specs, subjects: &[SubjectSpec], benches: bool) -> Vec<Extra> {
    let mut extras = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        let checks =
            checks::SUBJECT_CHECKS.iter().filter(|c| c.subjects.contains(&&*subject.label));
        extras.extend(checks.map(|c| Extra::check(c, at, &subject.label)));
        // Files are opened and text is read without a device: a card has nothing to add to the CPU.
        if subject.label != "cuda" {
            let files = specs.files().cloned().map(Arc::new);
            extras.extend(files.map(|c| Extra::files(c, at, &subject.label)));
            let all = specs.tokens.iter().cloned().map(Arc::new);
            extras.extend(all.map(|t| Extra::tokens(t, at, &subject.label)));
        }
        let mut models: Vec<&ModelCase> = specs.models.iter().collect();
        // What is loaded alike is asked in a row.
        models.sort_by_key(|c| (&c.stem, &c.form.label, c.activations, c.kind(), &c.name));
        let models = models.into_iter().cloned().map(Arc::new);
        extras.extend(models.map(|c| Extra::model(c, at, &subject.label)));
        if benches && subject.label == "cuda" {
            let all = specs.benches().cloned().map(Arc::new);
            extras.extend(all.map(|b| Extra::bench(b, at, &subject.label)));
        }
    }
    extras
}

/// The shard of a trial, from 1: by its name without the subject.
pub fn shard_of(name: &str, shards: u64) -> u64 {
    let base = name.rsplit_once("::").map_or(name, |(base, _)| base);
    let digest = Sha256::digest(base.as_bytes());
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    1 + u64::from_be_bytes(first) % shards.max(1)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn today() -> Day {
    Day::of_seconds(seconds())
}

/// The time by the wall clock, UTC, RFC 3339.
pub fn clock() -> String {
    let now = seconds();
    let of_day = now % 86_400;
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{}T{h:02}:{m:02}:{s:02}Z", Day::of_seconds(now))
}
