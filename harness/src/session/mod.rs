//! A session: everything between folders and gates that `goldgate run` and `cargo test` share.

pub mod documents;
pub mod exit;
pub mod failure;
pub mod folders;
mod planting;
pub mod recorded;
pub mod suite;

pub use failure::Failure;
pub use folders::Folders;
pub use recorded::Recorder;
pub use suite::{Suite, Suites};

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use goldgate_wire::Hello;
use sha2::{Digest, Sha256};

use crate::gate::{State, Weighed};
use crate::line::{AskedSubject, Day, Fate, FaultResult, On, Planted, Profile, Row, Sort, Verdict};
use crate::report::against::against;
use crate::report::document::{SLOW, Shard, page_name};
use crate::report::provenance::{FolderOrigin, together};
use crate::report::publish::publish;
use crate::report::summary::conclude;
use crate::report::{Provenance, Report, Selection, record};
use crate::run::{Entry, Options, Plan, RERUNS, known};
use crate::session::exit::{Happened, Signal};
use crate::session::folders::{Pair, selects};
use crate::session::suite::base;
use crate::spec::known::KnownFailure;
use crate::spec::subject::read_subject;
use crate::subject::launch::builtin;
use crate::subject::{How, SubjectSpec};

/// What the user requested.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Whole names, globs, or parts of names.
    pub filters: Vec<String>,
    /// Gates; a gate includes its slow cases.
    pub gates: Vec<u8>,
    /// Subjects as written; empty for `cpu` and `cuda:0`.
    pub on: Vec<String>,
    /// Labels of subjects that must be present.
    pub require: Vec<String>,
    /// The part of the trials that engines are measured by; none for everything.
    pub profile: Option<Profile>,
    /// Where specs and goldens are.
    pub folders: Folders,
    /// Where the report goes, if anywhere.
    pub reports: Option<PathBuf>,
    /// How many warm CPU workers to use.
    pub jobs: usize,
    /// Shard I of N, counted from 1.
    pub shard: Option<(u64, u64)>,
    /// Replaces the time limits of all cases.
    pub timeout: Option<Duration>,
    /// Whether slow cases are asked too.
    pub slow: bool,
    /// Whether kernel mutants are planted too.
    pub kernel_mutants: bool,
    /// Whether faults that nobody chose are planted too.
    pub generated_faults: bool,
    /// Whether the first failure ends the run.
    pub fail_fast: bool,
    /// Whether to ask nothing but benches.
    pub benches_alone: bool,
    /// Our own program.
    pub program: PathBuf,
}

/// A session after reading and planning, before anything is asked.
pub struct Session {
    /// The specs and goldens of each folder.
    pub suites: Suites,
    /// The trials that will be asked.
    pub plan: Plan,
    /// How many trials were selected before sharding.
    pub selected: usize,
    /// The failures that are known, those of subject files too.
    known: Vec<KnownFailure>,
    /// Names of rows without a trial → the folder whose known.yaml has them.
    unmatched: BTreeMap<String, usize>,
    request: Request,
    selection: Selection,
    plants: bool,
}

/// Everything that a run found out.
#[derive(Debug)]
pub struct RunOutcome {
    /// The report.
    pub report: Report,
    /// The outcomes of the mutants.
    pub mutants: Vec<Planted>,
    /// The verdicts on the gates.
    pub weighed: Weighed,
}

impl Session {
    /// Reads specs and goldens, and plans the trials.
    ///
    /// # Errors
    /// Specs, manifest, folders or subjects are invalid.
    pub fn open(request: Request) -> Result<Session, Failure> {
        let suites = request.folders.read_all()?;
        let suites = Suites(suites.into_iter().map(Arc::new).collect());
        let (subjects, of_subjects) = subjects(&request.on)?;
        let (mut plan, known, unmatched) = suites.plan(subjects, of_subjects);
        // A bench needs the card to itself, so benches run only with a gate or on their own.
        let benches = request.benches_alone || !request.gates.is_empty();
        plan.retain(|e| benches || e.trial.head().sort != Sort::Bench);
        let whole = plan.names().len();
        // A gate rests on slow cases too.
        let slow = request.slow || !request.gates.is_empty();
        plan.retain(|e| slow || !e.trial.head().slow);
        let mut selection = Selection {
            filters: request.filters.clone(),
            gates: request.gates.clone(),
            models: request.folders.named_models()?.is_some(),
            profile: request.profile,
            ..Selection::default()
        };
        // Benches that are left out are no gap: an ordinary run never includes them.
        if plan.names().len() != whole {
            selection.left_out.push(SLOW.to_owned());
        }
        let gate = |g: u8| request.gates.is_empty() || request.gates.contains(&g);
        plan.retain(|e| gate(e.trial.head().gate));
        plan.unmatched.retain(|u| gate(u.gate()));
        if request.benches_alone {
            plan.unmatched.clear();
            plan.retain(|e| e.trial.head().sort == Sort::Bench);
        }
        if let Some(profile) = request.profile {
            let own = |e: &Entry| e.trial.head().on == On::Harness;
            plan.retain(|e| own(e) || profile.covers(e.trial.head().kind));
        }
        plan.retain_names(|name| selects(&request.filters, name));
        let count = plan.names().len();
        // Shards are cut last, so that all of them cut the same plan.
        if let Some((i, n)) = request.shard {
            selection.shard = Some(Shard { index: i, of: n, plan_sha256: plan.hash() });
            plan.retain_names(|name| shard_of(name, n) == i);
        }
        Ok(Session {
            suites,
            plan,
            selected: count,
            known,
            unmatched,
            request,
            selection,
            plants: true,
        })
    }

    /// Leaves the report folder alone: a partial run must not replace a whole report.
    pub fn write_no_report(&mut self) {
        self.request.reports = None;
        self.selection.left_out.push("trials that nobody asked for".to_owned());
    }

    /// Plants no mutants: the caller chose trials without regard to them.
    pub fn plant_no_mutants(&mut self) {
        self.plants = false;
    }

    /// Runs the plan, plants the mutants and weighs the gates. Each row goes to `sink` as it is
    /// judged.
    ///
    /// # Errors
    /// The report cannot be written.
    pub fn run(
        &self,
        stop: Arc<AtomicBool>,
        sink: &mut dyn FnMut(&Row),
    ) -> Result<RunOutcome, Failure> {
        let today = today();
        let models = self.request.folders.models_dirs()?;
        let goldens = self.suites.goldens(0, &models);
        let known = |row: Row, device: &str| known::apply(&self.known, today, row, device);
        let options = self.options(Arc::clone(&stop));
        let recorder = self.recorder(self.request.reports.clone())?;
        let mut report = recorder.run(&self.plan, &options, &goldens, &known, sink)?;
        report.rows.iter_mut().for_each(|row| row.folder = self.folder_of(&row.name).to_owned());
        let mut mutants = Vec::new();
        for at in (0..self.suites.0.len()).filter(|_| self.plants) {
            let planted = self.mutants(at, &models, &stop)?;
            let folder = self.suites.name(at).to_owned();
            let results = planted.iter().filter_map(Planted::result);
            let named = |result| FaultResult { folder: folder.clone(), ..result };
            report.faults.extend(results.map(named));
            mutants.extend(planted);
        }
        if stop.load(Ordering::SeqCst) {
            report.incomplete.get_or_insert("stopped before its end".to_owned());
        }
        if self.plants && self.request.generated_faults {
            report.generated = self.generated(&models, &stop)?;
        }
        report.selection = self.selection.clone();
        // Only gates rest on documents, and running every command on their pages takes long.
        report.subjects = self.subjects(&report);
        if !self.request.gates.is_empty() {
            report.documents = self.documents()?;
        }
        let weighed = conclude(&mut report, &self.suites.gates());
        if let Some(folder) = &self.request.reports {
            // A stopped run must end at once, and reading all records takes seconds.
            if report.incomplete.is_none() {
                compare_with_last(&mut report, &self.suites)?;
            }
            publish(folder, &mut report)?;
        }
        Ok(RunOutcome { report, mutants, weighed })
    }

    /// Runs a plan of benches alone: it yields rows, but no gates and no report files.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn bench(
        &self,
        stop: Arc<AtomicBool>,
        sink: &mut dyn FnMut(&Row),
    ) -> Result<Report, Failure> {
        let models = self.request.folders.models_dirs()?;
        let goldens = self.suites.goldens(0, &models);
        let options = self.options(stop);
        self.recorder(None)?.run(&self.plan, &options, &goldens, &|row, _| row, sink)
    }

    /// The engines that the gates are weighed for: those asked, and with one of a release's all
    /// that the release needs. A run of other engines says nothing about a release.
    fn subjects(&self, report: &Report) -> BTreeMap<String, AskedSubject> {
        let engines = self.plan.subjects.iter().filter(|s| s.how != How::Harness);
        let asked = engines.map(|subject| {
            let mut roles = subject.roles();
            let mut declared = String::new();
            // What another engine computes on is known from its hello alone, and so is where it
            // rounds.
            if !roles.own {
                let hello = report.provenance.subjects.get(&subject.label);
                let hello = hello.and_then(|hello| Hello::read(hello).ok()).unwrap_or_default();
                roles.card = hello.on_card();
                declared = hello.arithmetic().to_string();
            }
            let option = match subject.option() {
                // A default goes without saying only where nothing else is named.
                option if option.is_empty() => format!(" --on {}", subject.label),
                option => option,
            };
            (subject.label.clone(), AskedSubject { roles, asked: true, option, declared })
        });
        let mut subjects: BTreeMap<String, AskedSubject> = asked.collect();
        for suite in &self.suites.0 {
            let release = &suite.specs.gates.release;
            if !release.iter().any(|label| subjects.contains_key(&label.value)) {
                continue;
            }
            for label in release {
                let roles = builtin(&label.value).unwrap_or_default();
                let unasked = AskedSubject { roles, ..AskedSubject::default() };
                subjects.entry(label.value.clone()).or_insert(unasked);
            }
        }
        subjects
    }

    /// Checks the documents that the gates rest on.
    fn documents(&self) -> Result<BTreeMap<String, bool>, Failure> {
        let mut report = |reason: &str| eprintln!("{reason}\n");
        let asked = |gate: u8| self.request.gates.contains(&gate);
        let mut all = BTreeMap::new();
        for (at, suite) in self.suites.0.iter().enumerate() {
            let (root, program) = (suite.pair.root()?, &self.request.program);
            let found = documents::all(&suite.specs.gates, asked, &root, program, &mut report);
            let name = |path: &str| page_name(self.suites.name(at), path);
            all.extend(found.into_iter().map(|(path, holds)| (name(&path), holds)));
        }
        Ok(all)
    }

    /// The name in rows of the folder that a row belongs to.
    fn folder_of(&self, name: &str) -> &str {
        let unmatched = self.unmatched.get(name).copied();
        self.suites.name(unmatched.unwrap_or_else(|| self.suites.home(base(name))))
    }

    fn options(&self, stop: Arc<AtomicBool>) -> Options {
        Options {
            program: self.request.program.clone(),
            jobs: self.request.jobs,
            timeout: self.request.timeout,
            named: self.named(),
            fail_fast: self.request.fail_fast,
            overlay: None,
            reruns: RERUNS,
            stop,
        }
    }

    fn recorder(&self, folder: Option<PathBuf>) -> Result<Recorder, Failure> {
        let pairs: Vec<&Pair> = self.suites.0.iter().map(|suite| &suite.pair).collect();
        let folders = pairs.iter().map(|pair| pair.origin()).collect::<io::Result<Vec<_>>>()?;
        let all = |hash: fn(&FolderOrigin) -> &String| {
            together(&folders.iter().map(|folder| hash(folder).clone()).collect::<Vec<_>>())
        };
        let mut provenance = Provenance {
            specs_sha256: all(|folder| &folder.specs_sha256),
            golden_sha256: all(|folder| &folder.golden_sha256),
            began: clock(),
            ..Provenance::of_program(&self.request.program)
        };
        let read = pairs.iter().flat_map(|pair| [pair.specs.clone(), pair.golden.clone()]);
        provenance.hold_to_commit(&read.collect::<Vec<_>>());
        // Of a single folder the hashes above say everything.
        if folders.len() > 1 {
            provenance.folders = folders;
        }
        Ok(Recorder { folder, provenance, clock })
    }

    /// Labels of the subjects that the command line names.
    fn named(&self) -> Vec<String> {
        let on = self.plan.subjects.iter().filter(|s| s.how != How::Harness);
        let on = on.filter(|_| !self.request.on.is_empty()).map(|s| s.label.clone());
        on.chain(self.request.require.iter().cloned()).collect()
    }

    /// Subjects that the user named and that never answered hello, with the reasons.
    pub fn missing(&self, report: &Report) -> Vec<(String, String)> {
        let heard = |label: &String| report.provenance.subjects.contains_key(label);
        let why = |label: String| {
            let absent = report.absent.get(&label).cloned();
            let nobody = || "nobody was asked under this label".to_owned();
            (label, absent.unwrap_or_else(nobody))
        };
        let mut named = self.named();
        named.sort();
        named.dedup();
        // After an early stop a subject may simply not have had its turn.
        let stopped = report.incomplete.is_some() && report.absent.is_empty();
        named.into_iter().filter(|label| !stopped && !heard(label)).map(why).collect()
    }

    /// The events of a run, from which the exit code follows.
    pub fn happened(&self, outcome: &RunOutcome, signal: Option<Signal>) -> Happened {
        let rows = &outcome.report.rows;
        let unrun = |row: &Row| matches!(row.verdict, Verdict::NotRun { .. });
        let survived = |mutant: &Planted| matches!(mutant.fate, Fate::Survived { .. });
        Happened {
            invalid: !outcome.weighed.invalid.is_empty(),
            absent: !self.missing(&outcome.report).is_empty(),
            signal,
            red: rows.iter().any(Row::is_red),
            survived: outcome.mutants.iter().any(survived),
            // Planned and not judged must not look like success.
            silent: !rows.is_empty() && rows.iter().all(unrun),
            unmet: self.unmet(outcome),
        }
    }

    /// Whether a requested gate is not MET on a subject that was asked, ours or not. An absent
    /// subject counts only if the user named it.
    fn unmet(&self, outcome: &RunOutcome) -> bool {
        let named = self.named();
        // A default subject that is not here counts for nothing, one that was named counts.
        let counts = |s: &&SubjectSpec| {
            named.contains(&s.label) || !outcome.report.absent.contains_key(&s.label)
        };
        let asked: Vec<&SubjectSpec> = self.plan.subjects.iter().filter(counts).collect();
        let gates = outcome.weighed.gates.iter();
        gates.filter(|gate| self.request.gates.contains(&gate.gate)).any(|gate| {
            let met = |label: &str| {
                let state = gate.subjects.get(label);
                state.is_some_and(|state| matches!(state, State::Met | State::NotAsked))
            };
            let ours = |label: &&str| gate.subjects.contains_key(*label);
            let own = ["harness", "repository"].into_iter().filter(ours);
            let subjects = asked.iter().filter(|s| s.how != How::Harness).map(|s| &*s.label);
            subjects.chain(own).any(|label| !met(label))
        })
    }
}

/// Compares a report with the last record of the first folder: one from the same card, or else the
/// newest.
///
/// # Errors
/// The specs folder is gone, whose parent has the records.
pub fn compare_with_last(report: &mut Report, suites: &Suites) -> Result<(), Failure> {
    let folder = suites.0[0].pair.root()?.join("reports/record");
    let mut unread = |why: String| eprintln!("warning: no record to compare with: {why}");
    report.against = record::last(&folder, report, &mut unread)
        .map(|(name, record)| against(report, (&name, &record), &suites.slower()));
    Ok(())
}

/// The subjects as written after `--on`, or else the default ones, with what the owners of engines
/// know of their failures.
fn subjects(on: &[String]) -> Result<(Vec<SubjectSpec>, Vec<KnownFailure>), Failure> {
    let default = ["cpu".to_owned(), "cuda:0".to_owned()];
    let written = if on.is_empty() { &default[..] } else { on };
    let (mut subjects, mut known) = (Vec::new(), Vec::new());
    for written in written {
        let (subject, failures) = subject(written)?;
        subjects.push(subject);
        known.extend(failures);
    }
    Ok((subjects, known))
}

/// A subject as written after `--on`: a device, a command, or a subject file, with what the owners
/// of an engine know of its failures.
fn subject(written: &str) -> Result<(SubjectSpec, Vec<KnownFailure>), Failure> {
    if !written.ends_with(".yaml") {
        let subject = SubjectSpec::parse(written).map_err(|e| Failure::Usage(e.to_string()))?;
        return Ok((subject, Vec::new()));
    }
    let file = read_subject(Path::new(written)).map_err(Failure::Problems)?;
    let how = How::Command(file.command);
    let subject = SubjectSpec {
        environment: file.environment,
        start: file.start_s.map(|seconds| Duration::from_secs(seconds.into())),
        claims: file.claims,
        arithmetic: file.arithmetic,
        profile: file.profile,
        ..SubjectSpec::new(&file.subject.value, how, written)
    };
    Ok((subject, file.known_failures))
}

/// The shard of a trial, from 1. The subject is left out of the hash, so that a trial is in one
/// shard for all subjects.
pub fn shard_of(name: &str, shards: u64) -> u64 {
    // Without the subject, so that a trial is in the same shard on every subject.
    let base = name.rsplit_once("::").map_or(name, |(base, _)| base);
    let digest = Sha256::digest(base.as_bytes());
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    // By hash, so that a new case moves no other one to another shard.
    1 + u64::from_be_bytes(first) % shards.max(1)
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The day by the clock of this machine, in UTC.
pub fn today() -> Day {
    Day::of_seconds(seconds())
}

/// The wall clock in UTC, RFC 3339.
pub fn clock() -> String {
    let now = seconds();
    let of_day = now % 86_400;
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{}T{h:02}:{m:02}:{s:02}Z", Day::of_seconds(now))
}
