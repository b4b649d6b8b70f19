//! Turns rows into verdicts on requirements, and those into verdicts on gates.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::gate::faults::{mutants_of, tier};
use crate::gate::select::any_selects;
use crate::gate::tally::{Limit, Tally, beyond, outcome};
use crate::kinds::mutant::MutantsFile;
use crate::line::{
    AskedSubject, BrokenKind, Family, FaultResult, Head, NotRun, On, Profile, Role, Roles, Row,
    Sort, Verdict,
};
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
    /// The subject offers nothing of what it asks.
    NotOffered,
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
            State::NotOffered => "NOT OFFERED",
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
    /// The engines that the gates are weighed for, by label: those asked, and those that a release
    /// needs.
    pub subjects: BTreeMap<String, AskedSubject>,
    /// The profile that the user named; none for everything, with nothing promised.
    pub profile: Option<Profile>,
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
    /// How many of them the subject does not offer.
    pub not_offered: usize,
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
    /// The specs folder that asks it; empty for the first one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub folder: String,
    /// Its number.
    pub gate: u8,
    /// Its title.
    pub title: String,
    /// The state for each engine, and for harness and repository where a requirement concerns
    /// them.
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

/// Roles that are present in every run, under their own labels.
const ALWAYS: [Role; 2] = [Role::Harness, Role::Repository];

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
        let labels: BTreeSet<&String> = concerned.chain(self.found.subjects.keys()).collect();
        let subjects: BTreeMap<String, State> = labels
            .into_iter()
            .map(|label| {
                let on = requirements.iter().filter(counts).filter_map(|r| r.on.get(label));
                (label.clone(), self.on_subject(label, &on.collect::<Vec<_>>()))
            })
            .collect();
        let met_somewhere = |r: &RequirementVerdict| r.on.values().any(|v| v.state == State::Met);
        // A requirement that concerns none of the subjects, such as one on cards where none is
        // asked, says nothing about them.
        let concerns = |r: &&RequirementVerdict| !r.on.is_empty();
        let everywhere: Vec<&RequirementVerdict> =
            requirements.iter().filter(counts).filter(concerns).collect();
        let failed = subjects.values().any(|state| *state == State::NotMet)
            || everywhere.iter().any(|r| r.on.values().any(|v| v.state == State::NotMet));
        let needed = self.found.subjects.keys();
        let all_met = !self.found.subjects.is_empty()
            && !everywhere.is_empty()
            && needed.into_iter().all(|label| subjects.get(label) == Some(&State::Met))
            && everywhere.iter().all(|r| met_somewhere(r));
        // A partial run can show that a gate is not met, but never that it is met.
        let state = match (failed, all_met && self.found.complete) {
            (true, _) => State::NotMet,
            (false, true) => State::Met,
            (false, false) => State::Incomplete,
        };
        GateVerdict {
            folder: String::new(),
            gate: spec.gate.value,
            title: spec.title.clone(),
            subjects,
            requirements,
            state,
        }
    }

    /// The state of a gate on one subject, given its requirements there.
    fn on_subject(&self, label: &str, on: &[&SubjectVerdict]) -> State {
        let unasked = |row: &&Row| {
            let kind = match &row.verdict {
                Verdict::NotRun { kind, .. } => Some(*kind),
                _ => None,
            };
            // A subject that says that it does not offer a question has answered.
            kind.is_some_and(|kind| kind != NotRun::Unsupported)
        };
        let ran = ALWAYS.iter().any(|role| role.word() == label)
            || self.rows.values().any(|row| row.subject == label && !unasked(row));
        if !ran {
            return State::NotRun;
        }
        let states: Vec<State> =
            on.iter().map(|v| v.state).filter(|s| *s != State::NotAsked).collect();
        let all = |state: State| states.iter().all(|s| *s == state);
        let worst = states.iter().max().copied();
        match worst {
            None => State::NotAsked,
            Some(State::Met) if !self.found.complete => State::Incomplete,
            // Part of it is met and the rest is not offered: nothing failed, and the gate as a
            // whole is not met.
            Some(State::NotOffered) if !all(State::NotOffered) => State::Incomplete,
            Some(state) => state,
        }
    }

    fn requirement(&self, spec: &Requirement) -> RequirementVerdict {
        let engines = self.found.subjects.iter().filter(|(_, s)| s.roles.any_of(&spec.on));
        let mut on: BTreeMap<String, SubjectVerdict> = engines
            .filter_map(|(label, s)| {
                Some((label.clone(), self.requirement_on(spec, label, Some(s.roles))?))
            })
            .collect();
        for role in ALWAYS.iter().filter(|role| spec.on.contains(role)) {
            let verdict = self.requirement_on(spec, role.word(), None);
            on.extend(verdict.map(|verdict| (role.word().to_owned(), verdict)));
        }
        RequirementVerdict {
            id: spec.id.value.clone(),
            asked: spec.asked.clone(),
            field: spec.field,
            on,
        }
    }

    /// The verdict on one subject; none if none of the trials that it rests on concern it.
    /// `roles` are those of an engine.
    fn requirement_on(
        &self,
        spec: &Requirement,
        label: &str,
        roles: Option<Roles>,
    ) -> Option<SubjectVerdict> {
        let mut tally = Tally::new(self.found.profile.is_some());
        let (mut elsewhere, mut here) = (false, false);
        for evidence in &spec.evidence {
            let (sort, select, at_least) = match &evidence.value {
                Evidence::Cases(e) => (Sort::Case, &e.select, e.at_least),
                Evidence::Checks(ChecksEvidence { select, at_least }) => {
                    (Sort::Check, select, *at_least)
                }
                Evidence::Bench(e) => (Sort::Bench, &e.select, 1),
                Evidence::Faults(_) | Evidence::Document(_) => continue,
            };
            let selected: Vec<&Head> =
                self.plan.iter().filter(|p| p.sort == sort && any_selects(select, p)).collect();
            let own: Vec<(&Head, &str)> = selected
                .iter()
                .filter_map(|trial| Some((*trial, self.as_subject(trial, label, roles)?)))
                .collect();
            // What is selected, and none of it for this subject, concerns other subjects.
            if own.is_empty() && !selected.is_empty() {
                elsewhere = true;
                continue;
            }
            here = true;
            if let Evidence::Bench(e) = &evidence.value {
                self.bench(e, &own, &mut tally);
                continue;
            }
            // Counted per evidence, so that one strong evidence does not cover for a weak one.
            let before = tally.strong;
            self.trials(&own, (select, at_least), &mut tally);
            let weak = tally.strong == before && tally.worst() == State::Met;
            if sort == Sort::Case && weak {
                tally.not_met("every row was judged by the definition or refused".into());
            }
        }
        if elsewhere && !here {
            return None;
        }
        for evidence in &spec.evidence {
            match &evidence.value {
                Evidence::Faults(e) => self.faults(spec, e, (label, roles), &mut tally),
                Evidence::Document(e) => match self.found.documents.get(&e.path) {
                    Some(true) => tally.held += 1,
                    Some(false) => tally.not_met(format!("{} does not hold", e.path)),
                    None => tally.incomplete(format!("{} was not looked at", e.path)),
                },
                Evidence::Cases(_) | Evidence::Checks(_) | Evidence::Bench(_) => {}
            }
        }
        // An empty requirement must not be met by default.
        if tally.planned + tally.held == 0 && tally.worst() == State::Met {
            tally.not_met("nothing proves it".into());
        }
        Some(tally.verdict())
    }

    /// The subject whose row counts for `label`: checks of the harness count for all subjects.
    fn as_subject<'s>(
        &self,
        trial: &Head,
        label: &'s str,
        roles: Option<Roles>,
    ) -> Option<&'s str> {
        let harness = Role::Harness.word();
        let covered = self.found.profile.is_none_or(|profile| profile.covers(trial.kind));
        match (trial.on, roles) {
            (On::Harness, None) => Some(harness),
            (On::Harness, Some(_)) if trial.sort == Sort::Check => Some(harness),
            (on, Some(roles)) if covered && on.asks(roles) => Some(label),
            _ => None,
        }
    }

    fn trials(
        &self,
        own: &[(&Head, &str)],
        (select, at_least): (&[String], usize),
        tally: &mut Tally,
    ) {
        let mut passed = 0;
        let mut open = false;
        for (trial, subject) in own {
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
                    Err((State::NotOffered, why)) => {
                        open = true;
                        tally.not_offered(format!("{name}: {why}"));
                    }
                    Err((_, why)) => tally.not_met(format!("{name}: {why}")),
                },
            }
        }
        // A subject that is asked fewer trials, by its roles or its profile, cannot pass more.
        // That the specs have as many as a requirement demands, `check` has found out.
        let at_least = at_least.min(own.len());
        if passed < at_least && !open {
            tally
                .not_met(format!("{passed} of at least {at_least} passed ({})", select.join(", ")));
        }
    }

    fn faults(
        &self,
        spec: &Requirement,
        evidence: &FaultsEvidence,
        (label, roles): (&str, Option<Roles>),
        tally: &mut Tally,
    ) {
        for kill in &evidence.kill {
            let mutants = mutants_of(self.mutants, self.plan, spec, kill);
            if mutants.is_empty() {
                tally.not_met(format!("no mutant {kill}"));
            }
            for (op, mutant) in mutants.into_iter().filter(|(_, m)| m.equivalent.is_none()) {
                let Some(tier) = tier(mutant, label, roles) else { continue };
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

    fn bench(&self, evidence: &BenchEvidence, own: &[(&Head, &str)], tally: &mut Tally) {
        for (trial, subject) in own {
            tally.planned += 1;
            let name = format!("{}::{subject}", trial.name);
            let Some(row) = self.rows.get(name.as_str()) else {
                tally.incomplete(format!("{name} did not run"));
                continue;
            };
            match &row.verdict {
                Verdict::Pass => {}
                Verdict::NotRun { kind: NotRun::Unsupported, message } => {
                    tally.not_offered(format!("{name}: {message}"));
                    continue;
                }
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
        if own.is_empty() {
            tally.not_met(format!("no bench {}", evidence.select.join(", ")));
        }
    }
}
