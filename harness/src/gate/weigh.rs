//! Turns rows into verdicts on requirements, and those into verdicts on gates.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::gate::select::any_selects;
use crate::gate::tally::{Limit, Tally, beyond, outcome};
use crate::kinds::mutant::{Mutant, MutantsFile};
use crate::line::glob::glob;
use crate::line::{BrokenKind, Family, FaultResult, Head, Row, Sort, Verdict};
use crate::spec::gates::{
    BenchEvidence, ChecksEvidence, Evidence, FaultsEvidence, GateSpec, GatesFile, Requirement,
};

/// The state of a requirement or a gate on one subject.
// The order of the variants is the order of severity: the worst state of a gate is the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything planned ran and passed, limits were met, and faults were detected.
    Met,
    /// It does not concern the subject, or there is no card of its class.
    NotAsked,
    /// Nothing failed, but something planned did not run.
    Incomplete,
    /// The subject ran nothing at all.
    #[default]
    NotRun,
    /// Something failed, survived or exceeded its limit.
    NotMet,
}

impl State {
    /// The word that reports print.
    pub const fn word(self) -> &'static str {
        match self {
            State::Met => "MET",
            State::NotAsked => "NOT ASKED",
            State::Incomplete => "INCOMPLETE",
            State::NotRun => "NOT RUN",
            State::NotMet => "NOT MET",
        }
    }
}

/// Everything that a run found out apart from its rows.
#[derive(Clone, Debug, Default)]
pub struct Evidences {
    /// Results of the planted mutants.
    pub faults: Vec<FaultResult>,
    /// Page → whether it exists, has the required content, and its blocks ran.
    pub documents: BTreeMap<String, bool>,
    /// Whether everything was asked: no filter, no shard, no early end.
    pub complete: bool,
    /// Whether `--models` named a folder, so that field requirements count.
    pub models: bool,
    /// Reasons why nothing in this run can be believed.
    pub invalid: Vec<String>,
}

/// The verdict on a requirement for one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectVerdict {
    /// The state.
    pub state: State,
    /// How many trials it rests on.
    pub planned: usize,
    /// How many of them passed.
    pub passed: usize,
    /// Why it is not met, in words; at most 20 reasons.
    pub reasons: Vec<String>,
}

/// The verdict on a requirement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequirementVerdict {
    /// Its id.
    pub id: String,
    /// The requirement in the words of those who asked for it.
    pub asked: String,
    /// Whether it needs files from outside the repository, and is reported alongside the gate.
    pub field: bool,
    /// The verdict for each subject that it concerns.
    pub on: BTreeMap<String, SubjectVerdict>,
}

/// The verdict on a gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateVerdict {
    /// Its number.
    pub gate: u8,
    /// Its title.
    pub title: String,
    /// The state for each subject that a requirement concerns or that must meet the gate.
    pub subjects: BTreeMap<String, State>,
    /// Its requirements.
    pub requirements: Vec<RequirementVerdict>,
    /// `Met`, `NotMet` or `Incomplete`.
    pub state: State,
}

/// The verdicts that a run's rows amount to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weighed {
    /// Why the report is INVALID. There are no gates then.
    pub invalid: Vec<String>,
    /// The gates.
    pub gates: Vec<GateVerdict>,
}

/// Subjects that are present in every run.
const ALWAYS: [&str; 2] = ["harness", "repository"];

/// Weighs the rows of a run.
pub fn weigh(
    gates: &GatesFile,
    mutants: &[MutantsFile],
    plan: &[Head],
    rows: &[Row],
    found: &Evidences,
) -> Weighed {
    let mut invalid = found.invalid.clone();
    let mut by_name: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in rows {
        if by_name.insert(&row.name, row).is_some() {
            invalid.push(format!("{} stands twice in the rows", row.name));
        }
        // A judge or a golden that is broken makes every other row doubtful as well.
        if let Verdict::Broken { kind, message } = &row.verdict
            && matches!(
                kind,
                BrokenKind::SelfCheck | BrokenKind::GoldenHash | BrokenKind::InputsHash
            )
        {
            invalid.push(format!("{}: {} ({message})", row.name, kind.word()));
        }
    }
    let names: BTreeSet<&str> = plan.iter().map(|p| p.name.as_str()).collect();
    for row in rows {
        let base = row.name.rsplit_once("::").map_or("", |(base, _)| base);
        // Entries of known.yaml and of `--require` have rows of their own without a trial; they
        // prove nothing.
        let of_a_trial = !["known", "required"].contains(&row.kind.as_str());
        if !names.contains(base) && of_a_trial {
            invalid.push(format!("{} is in no plan", row.name));
        }
    }
    // No verdict at all, so that nobody can quote a gate from a report that cannot be believed.
    if !invalid.is_empty() {
        return Weighed { invalid, gates: Vec::new() };
    }
    let run = Run { mutants, plan, rows: by_name, found };
    Weighed { invalid, gates: gates.gates.iter().map(|gate| run.gate(gate)).collect() }
}

struct Run<'r> {
    mutants: &'r [MutantsFile],
    plan: &'r [Head],
    rows: BTreeMap<&'r str, &'r Row>,
    found: &'r Evidences,
}

impl Run<'_> {
    fn gate(&self, spec: &GateSpec) -> GateVerdict {
        let requirements: Vec<RequirementVerdict> =
            spec.requirements.iter().map(|r| self.requirement(r)).collect();
        // Field requirements count only where the files that they need were given.
        let counts = |r: &&RequirementVerdict| !r.field || self.found.models;
        let concerned = requirements.iter().flat_map(|r| r.on.keys());
        let subjects: BTreeSet<&String> = concerned.chain(&spec.required).collect();
        let subjects: BTreeMap<String, State> = subjects
            .into_iter()
            .map(|subject| {
                let states = requirements.iter().filter(counts).filter_map(|r| r.on.get(subject));
                (subject.clone(), self.on_subject(subject, states.map(|v| v.state)))
            })
            .collect();
        let needed = spec.required.iter().map(|s| subjects.get(s).copied());
        let met_somewhere = |r: &RequirementVerdict| r.on.values().any(|v| v.state == State::Met);
        let everywhere: Vec<&RequirementVerdict> = requirements.iter().filter(counts).collect();
        let failed = needed.clone().any(|s| s == Some(State::NotMet))
            || everywhere.iter().any(|r| r.on.values().any(|v| v.state == State::NotMet));
        let all_met = !spec.required.is_empty()
            && !everywhere.is_empty()
            && needed.clone().all(|s| s == Some(State::Met))
            && everywhere.iter().all(|r| met_somewhere(r));
        // A partial run can show that a gate is not met, but never that it is met.
        let state = match (failed, all_met && self.found.complete) {
            (true, _) => State::NotMet,
            (false, true) => State::Met,
            (false, false) => State::Incomplete,
        };
        GateVerdict {
            gate: spec.gate.value,
            title: spec.title.clone(),
            subjects,
            requirements,
            state,
        }
    }

    /// The state of a gate on one subject: the worst of its requirements, those not asked aside.
    fn on_subject(&self, subject: &str, states: impl Iterator<Item = State>) -> State {
        let ran = ALWAYS.contains(&subject)
            || self.rows.values().any(|row| {
                row.subject == subject && !matches!(row.verdict, Verdict::NotRun { .. })
            });
        if !ran {
            return State::NotRun;
        }
        let worst = states.filter(|s| *s != State::NotAsked).max();
        match worst {
            None => State::NotAsked,
            Some(State::Met) if !self.found.complete => State::Incomplete,
            Some(state) => state,
        }
    }

    fn requirement(&self, spec: &Requirement) -> RequirementVerdict {
        let on = spec.on.iter().map(|s| (s.clone(), self.requirement_on(spec, s))).collect();
        RequirementVerdict {
            id: spec.id.value.clone(),
            asked: spec.asked.clone(),
            field: spec.field,
            on,
        }
    }

    fn requirement_on(&self, spec: &Requirement, subject: &str) -> SubjectVerdict {
        let mut tally = Tally::default();
        for evidence in &spec.evidence {
            match &evidence.value {
                Evidence::Cases(e) => {
                    // Counted per evidence, so that one strong evidence does not cover for a weak
                    // one.
                    let before = tally.strong;
                    self.trials(Sort::Case, (&e.select, e.at_least), subject, &mut tally);
                    if tally.strong == before && tally.worst() == State::Met {
                        tally.not_met("every row was judged by the definition or refused".into());
                    }
                }
                Evidence::Checks(ChecksEvidence { select, at_least }) => {
                    self.trials(Sort::Check, (select, *at_least), subject, &mut tally);
                }
                Evidence::Faults(e) => self.faults(spec, e, subject, &mut tally),
                Evidence::Bench(e) => self.bench(e, subject, &mut tally),
                Evidence::Document(e) => match self.found.documents.get(&e.path) {
                    Some(true) => tally.held += 1,
                    Some(false) => tally.not_met(format!("{} does not hold", e.path)),
                    None => tally.incomplete(format!("{} was not looked at", e.path)),
                },
            }
        }
        // An empty requirement must not be met by default.
        if tally.planned + tally.held == 0 && tally.worst() == State::Met {
            tally.not_met("nothing proves it".into());
        }
        tally.verdict()
    }

    /// The subject whose row counts for `subject`: checks of the harness count for all subjects.
    fn as_subject<'s>(&self, trial: &'s Head, subject: &'s str) -> Option<&'s str> {
        let has = |s: &str| trial.on.ours().iter().any(|own| own == s);
        match (has(subject), trial.sort == Sort::Check && has("harness")) {
            (true, _) => Some(subject),
            (false, true) => Some("harness"),
            (false, false) => None,
        }
    }

    fn trials(
        &self,
        kind: Sort,
        (select, at_least): (&[String], usize),
        subject: &str,
        tally: &mut Tally,
    ) {
        let mut passed = 0;
        let mut open = false;
        for trial in self.plan.iter().filter(|p| p.sort == kind && any_selects(select, p)) {
            let Some(subject) = self.as_subject(trial, subject) else { continue };
            tally.planned += 1;
            let name = format!("{}::{subject}", trial.name);
            match self.rows.get(name.as_str()) {
                None => {
                    open = true;
                    tally.incomplete(format!("{name} did not run"));
                }
                Some(row) => match outcome(row, trial) {
                    Ok(()) => {
                        passed += 1;
                        tally.passed += 1;
                        let strong = !trial.definition && row.family != Family::Refused;
                        tally.strong += usize::from(strong);
                    }
                    Err((State::Incomplete, why)) => {
                        open = true;
                        tally.incomplete(format!("{name}: {why}"));
                    }
                    Err((_, why)) => tally.not_met(format!("{name}: {why}")),
                },
            }
        }
        if passed < at_least {
            let why = format!("{passed} of at least {at_least} passed ({})", select.join(", "));
            if open { tally.incomplete(why) } else { tally.not_met(why) }
        }
    }

    fn faults(
        &self,
        spec: &Requirement,
        evidence: &FaultsEvidence,
        subject: &str,
        tally: &mut Tally,
    ) {
        for kill in &evidence.kill {
            let mutants = mutants_of(self.mutants, self.plan, spec, kill);
            if mutants.is_empty() {
                tally.not_met(format!("no mutant {kill}"));
            }
            for (op, mutant) in mutants.into_iter().filter(|(_, m)| m.equivalent.is_none()) {
                let tier = if mutant.kernel.is_some() { "cuda" } else { "harness" };
                // Mutants of kernels can only be planted where the kernels run.
                if tier == "cuda" && subject != "cuda" {
                    continue;
                }
                let name = format!("{op}::{}", mutant.id.value);
                let same =
                    |f: &&FaultResult| f.op == op && f.id == mutant.id.value && f.subject == tier;
                let results: Vec<_> = self.found.faults.iter().filter(same).collect();
                match (results.is_empty(), results.iter().all(|f| f.killed)) {
                    (true, _) => tally.incomplete(format!("{name} was not planted")),
                    (false, true) => tally.held += 1,
                    (false, false) => tally.not_met(format!("{name} survived")),
                }
            }
        }
    }

    fn bench(&self, evidence: &BenchEvidence, subject: &str, tally: &mut Tally) {
        let mut any = false;
        let selected = |p: &&Head| p.sort == Sort::Bench && any_selects(&evidence.select, p);
        for trial in self.plan.iter().filter(selected) {
            let Some(subject) = self.as_subject(trial, subject) else { continue };
            any = true;
            tally.planned += 1;
            let name = format!("{}::{subject}", trial.name);
            let Some(row) = self.rows.get(name.as_str()) else {
                tally.incomplete(format!("{name} did not run"));
                continue;
            };
            match &row.verdict {
                Verdict::Pass => {}
                Verdict::NotRun { message, .. } => {
                    tally.incomplete(format!("{name}: {message}"));
                    continue;
                }
                other => {
                    tally.not_met(format!("{name}: {other:?}"));
                    continue;
                }
            }
            // A card outside the requirement's class is not asked, rather than failed.
            match beyond(&evidence.cards, row) {
                Limit::Holds => {}
                Limit::Exceeded(_) => {
                    tally.not_asked = true;
                    continue;
                }
                Limit::Absent(figure) => {
                    tally.not_met(format!("{name}: no figure {figure}"));
                    continue;
                }
            }
            match beyond(&evidence.limits, row) {
                Limit::Holds => tally.passed += 1,
                Limit::Exceeded(why) => tally.not_met(format!("{name}: {why}")),
                Limit::Absent(figure) => tally.not_met(format!("{name}: no figure {figure}")),
            }
        }
        if !any {
            tally.not_met(format!("no bench {}", evidence.select.join(", ")));
        }
    }
}

/// The mutants that an item of `kill` names: `ID` among the ops of the requirement's own cases, or
/// `op::ID` with `*` inside a part.
pub fn mutants_of<'m>(
    mutants: &'m [MutantsFile],
    plan: &[Head],
    spec: &Requirement,
    kill: &str,
) -> Vec<(&'m str, &'m Mutant)> {
    let (stem, id) = match kill.split_once("::") {
        Some((stem, id)) => (Some(stem), id),
        None => (None, kill),
    };
    let own = |op: &str| {
        let cases = |e: &Evidence| match e {
            Evidence::Cases(c) => plan.iter().any(|p| p.stem == op && any_selects(&c.select, p)),
            _ => false,
        };
        spec.evidence.iter().any(|e| cases(&e.value))
    };
    mutants
        .iter()
        .filter(|file| match stem {
            Some(stem) => glob(stem, &file.mutants.value),
            None => own(&file.mutants.value),
        })
        .flat_map(|file| file.list.iter().map(|m| (file.mutants.value.as_str(), m)))
        .filter(|(_, mutant)| glob(id, &mutant.id.value))
        .collect()
}
