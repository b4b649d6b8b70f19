//! What a gate's page shows beyond its rows: each requirement with everything that was measured.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::gate::faults::{mutants_of, tier};
use crate::gate::select::any_selects;
use crate::gate::weigh::{SubjectVerdict, weigh};
use crate::gate::{GateVerdict, State, Weighed};
use crate::line::{Head, Sort, finite};
use crate::report::Report;
use crate::spec::Specs;
use crate::spec::gates::{BenchEvidence, Evidence, GateSpec, Requirement, figure};

/// A weighed gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSummary {
    /// Its number.
    pub gate: u8,
    /// Its title.
    pub title: String,
    /// `met`, `not_met` or `incomplete`.
    pub state: State,
    /// The engines that must meet it: those asked, and those that a release needs.
    pub required: Vec<String>,
    /// Its state on each subject.
    pub subjects: BTreeMap<String, State>,
    /// Its requirements, in the order of the specs.
    pub requirements: Vec<RequirementSummary>,
}

impl GateSummary {
    /// How many requirements concern a subject; those that need files from outside the repository
    /// aside.
    pub fn concerning(&self, label: &str) -> usize {
        let own = self.requirements.iter().filter(|r| !r.field);
        own.filter(|r| r.on.get(label).is_some_and(|m| m.state != State::NotAsked)).count()
    }

    /// How many of those are met on it.
    pub fn met_on(&self, label: &str) -> usize {
        let own = self.requirements.iter().filter(|r| !r.field);
        own.filter(|r| r.on.get(label).is_some_and(|m| m.state == State::Met)).count()
    }
}

/// A weighed requirement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequirementSummary {
    /// Its id.
    pub id: String,
    /// The requirement in the words of those who asked for it.
    pub asked: String,
    /// Where it was asked.
    pub from: String,
    /// How it is read, where that differs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub means: Option<String>,
    /// Whether it needs files from outside the repository, and is reported alongside the gate.
    #[serde(default)]
    pub field: bool,
    /// The results on each subject that it concerns.
    pub on: BTreeMap<String, Measured>,
}

/// The results of a requirement on one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The state.
    pub state: State,
    /// How many trials it rests on.
    pub planned: usize,
    /// How many of them passed.
    pub passed: usize,
    /// How many of them the subject does not offer.
    #[serde(skip_serializing_if = "none", default)]
    pub not_offered: usize,
    /// The largest load of those trials.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "finite::maybe")]
    pub load: Option<f64>,
    /// How many of the listed faults were detected.
    #[serde(default)]
    pub killed: usize,
    /// How many faults are listed, without equivalent ones.
    #[serde(default)]
    pub listed: usize,
    /// Timed figures with their limits.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub figures: Vec<Figure>,
    /// Why it is not met, in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
}

fn none(count: &usize) -> bool {
    *count == 0
}

/// A measured figure with its limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The trial.
    pub trial: String,
    /// The name of the figure, which ends in its unit.
    pub figure: String,
    /// The measured value; absent where nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "finite::maybe")]
    pub value: Option<f64>,
    /// The limit.
    #[serde(with = "finite::one")]
    pub limit: f64,
    /// Whether the limit is a lower bound.
    pub at_least: bool,
}

impl Figure {
    /// The fraction of the limit that was used: 1 is at the limit, more is beyond it.
    pub fn share(&self) -> Option<f64> {
        let value = self.value?;
        // More than 1 is beyond the limit, whichever direction the limit has.
        Some(if self.at_least { self.limit / value } else { value / self.limit })
    }
}

/// Weighs a report's rows and stores the gates in it, with everything that its pages need. `plan`
/// lists all trials, whatever was selected.
pub fn conclude(report: &mut Report, specs: &Specs, plan: &[Head]) -> Weighed {
    report.rules = rules(specs);
    report.gates.clear();
    // All gates are weighed, because what makes a report INVALID may be in any of them.
    let weighed = weigh(&specs.gates, &specs.mutants, plan, &report.rows, &report.evidences());
    for reason in &weighed.invalid {
        // Weighing hands back the reasons that it was given, and those are listed already.
        if !report.invalid.contains(reason) {
            report.invalid.push(reason.clone());
        }
    }
    // A gate that was not asked has no rows, and its page could only say that nothing ran.
    let asked = &report.selection.gates;
    let asked = |gate: u8| asked.is_empty() || asked.contains(&gate);
    let gates: Vec<GateSummary> = weighed
        .gates
        .iter()
        .filter(|verdict| asked(verdict.gate))
        .filter_map(|verdict| {
            let spec = specs.gates.gates.iter().find(|g| g.gate.value == verdict.gate)?;
            Some(Summarizer { specs, plan, report }.gate(spec, verdict))
        })
        .collect();
    report.gates = gates;
    weighed
}

fn rules(specs: &Specs) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in specs.cases() {
        rules.entry(crate::kinds::op::page::expectation(case)).or_default().push(case.full_name());
    }
    rules.values_mut().for_each(|names| names.sort());
    rules
}

struct Summarizer<'a> {
    specs: &'a Specs,
    plan: &'a [Head],
    report: &'a Report,
}

impl Summarizer<'_> {
    fn gate(&self, spec: &GateSpec, verdict: &GateVerdict) -> GateSummary {
        let pairs = spec.requirements.iter().zip(&verdict.requirements);
        let requirements = pairs.map(|(spec, verdict)| RequirementSummary {
            id: spec.id.value.clone(),
            asked: spec.asked.clone(),
            from: spec.from.clone(),
            means: spec.means.clone(),
            field: spec.field,
            on: verdict.on.iter().map(|(s, v)| (s.clone(), self.measured(spec, s, v))).collect(),
        });
        GateSummary {
            gate: verdict.gate,
            title: verdict.title.clone(),
            state: verdict.state,
            required: self.report.subjects.keys().cloned().collect(),
            subjects: verdict.subjects.clone(),
            requirements: requirements.collect(),
        }
    }

    fn measured(&self, spec: &Requirement, subject: &str, verdict: &SubjectVerdict) -> Measured {
        let mut measured = Measured {
            state: verdict.state,
            planned: verdict.planned,
            passed: verdict.passed,
            not_offered: verdict.not_offered,
            reasons: verdict.reasons.clone(),
            ..Measured::default()
        };
        // Several patterns of one requirement may name the same fault, which must count once.
        let mut faults = BTreeSet::new();
        for evidence in &spec.evidence {
            match &evidence.value {
                Evidence::Cases(e) => {
                    let loads = self.rows(&e.select, Sort::Case, subject);
                    let loads = loads.filter_map(|name| self.report.row(&name)?.load);
                    measured.load = measured.load.into_iter().chain(loads).reduce(worse);
                }
                Evidence::Faults(e) => {
                    let named = e.kill.iter().flat_map(|kill| self.faults(spec, kill, subject));
                    faults.extend(named);
                }
                Evidence::Bench(e) => self.figures(e, subject, &mut measured.figures),
                Evidence::Document(_) | Evidence::Checks(_) => {}
            }
        }
        measured.listed = faults.len();
        measured.killed = faults.iter().filter(|fault| self.killed(fault)).count();
        measured
    }

    /// The names of the trials of one sort that patterns select on a subject.
    fn rows<'s>(
        &'s self,
        select: &'s [String],
        kind: Sort,
        subject: &'s str,
    ) -> impl Iterator<Item = String> + 's {
        let roles = self.report.subjects.get(subject).map(|s| s.roles);
        let profile = self.report.selection.profile;
        let selected = move |p: &&Head| {
            p.sort == kind
                && roles.is_some_and(|roles| p.on.asks(roles))
                && profile.is_none_or(|profile| profile.covers(p.kind))
                && any_selects(select, p)
        };
        self.plan.iter().filter(selected).map(move |p| format!("{}::{subject}", p.name))
    }

    /// Op, mutant and tier of every fault that `kill` names on a subject.
    fn faults(
        &self,
        spec: &Requirement,
        kill: &str,
        subject: &str,
    ) -> Vec<(String, String, String)> {
        let roles = self.report.subjects.get(subject).map(|s| s.roles);
        let mutants = mutants_of(&self.specs.mutants, self.plan, spec, kill);
        // An equivalent mutant changes no answer, so its survival says nothing about the judge.
        let real = mutants.into_iter().filter(|(_, m)| m.equivalent.is_none());
        real.filter_map(|(op, m)| {
            let tier = tier(m, subject, roles)?;
            Some((op.to_owned(), m.id.value.clone(), tier.to_owned()))
        })
        .collect()
    }

    fn killed(&self, (op, id, tier): &(String, String, String)) -> bool {
        let mut same = self
            .report
            .faults
            .iter()
            .filter(|f| f.op == *op && f.id == *id && f.subject == *tier)
            .peekable();
        // A fault that was not planted is not killed.
        same.peek().is_some() && same.all(|f| f.killed)
    }

    fn figures(&self, evidence: &BenchEvidence, subject: &str, measured: &mut Vec<Figure>) {
        for trial in self.rows(&evidence.select, Sort::Bench, subject) {
            let row = self.report.row(&trial);
            for (name, &limit) in &evidence.limits {
                let Some((figure, at_least)) = figure(name) else { continue };
                // An absent figure stays absent, so that the page cannot show it as within its
                // limit.
                let value = row.and_then(|row| row.figures.get(figure).copied());
                let (trial, figure) = (trial.clone(), figure.to_owned());
                measured.push(Figure { trial, figure, value, limit, at_least });
            }
        }
    }
}

/// The larger load; NaN counts as larger than everything, so that it cannot be hidden.
fn worse(a: f64, b: f64) -> f64 {
    // `f64::max` ignores NaN, which would hide the worst load of all.
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
