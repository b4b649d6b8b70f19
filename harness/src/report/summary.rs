//! What a gate's page shows beyond its rows: each requirement with everything that was measured.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::gate::faults::{mutants_of, tier};
use crate::gate::select::any_selects;
use crate::gate::weigh::{SubjectVerdict, weigh};
use crate::gate::{GateVerdict, State, Weighed};
use crate::line::{AskedSubject, Head, Row, Sort, finite};
use crate::report::Report;
use crate::spec::Specs;
use crate::spec::gates::{BenchEvidence, Evidence, GateSpec, Requirement, figure};

/// A weighed gate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSummary {
    /// The specs folder that asks it; empty for the first one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub folder: String,
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
    /// Its number, with its folder where that is not the first: `1`, `1 of mine`.
    pub fn number(&self) -> String {
        match self.folder.as_str() {
            "" => self.gate.to_string(),
            folder => format!("{} of {folder}", self.gate),
        }
    }

    /// Whether a row is one of its trials.
    pub fn has(&self, row: &Row) -> bool {
        row.gate == self.gate && row.folder == self.folder
    }

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

/// The gates of one specs folder, with what they are weighed by.
#[derive(Clone, Copy, Debug)]
pub struct FolderGates<'a> {
    /// The folder's name in rows and gates; empty for the first one.
    pub folder: &'a str,
    /// Its specs.
    pub specs: &'a Specs,
    /// All trials that its gates may rest on, whatever was selected: its own and the checks.
    pub plan: &'a [Head],
}

impl FolderGates<'_> {
    /// Whether the gates must be met on a subject: it was asked, or their own release needs it.
    fn needs(&self, label: &str, subject: &AskedSubject) -> bool {
        let release = &self.specs.gates.release;
        subject.asked || release.iter().any(|needed| needed.value == label)
    }
}

/// Weighs a report's rows and stores the gates in it, with everything that its pages need. Gates of
/// a folder rest on rows of that folder alone.
pub fn conclude(report: &mut Report, folders: &[FolderGates<'_>]) -> Weighed {
    report.rules = rules(folders);
    report.gates.clear();
    let mut all = Weighed { invalid: report.invalid.clone(), gates: Vec::new() };
    if let Some(row) = report.rows.iter().find(|r| folders.iter().all(|f| f.folder != r.folder)) {
        all.invalid.push(format!("{} is of no specs folder", row.name));
    }
    for own in folders {
        let names: BTreeSet<&str> = own.plan.iter().map(|head| head.name.as_str()).collect();
        let base = |row: &Row| row.name.rsplit_once("::").is_some_and(|(b, _)| names.contains(b));
        let rows = report.rows.iter().filter(|row| row.folder == own.folder || base(row));
        let rows: Vec<Row> = rows.cloned().collect();
        let mut evidences = report.evidences(own.folder);
        evidences.subjects.retain(|label, subject| own.needs(label, subject));
        // All gates are weighed, because what makes a report INVALID may be in any of them.
        let weighed = weigh(&own.specs.gates, &own.specs.mutants, own.plan, &rows, &evidences);
        for why in weighed.invalid {
            // Weighing hands back the reasons that it was given, and those are listed already.
            if !all.invalid.contains(&why) {
                all.invalid.push(why);
            }
        }
        let named = |gate| GateVerdict { folder: own.folder.to_owned(), ..gate };
        all.gates.extend(weighed.gates.into_iter().map(named));
    }
    report.invalid.clone_from(&all.invalid);
    if !all.invalid.is_empty() {
        all.gates.clear();
    }
    // A gate that was not asked has no rows, and its page could only say that nothing ran.
    let asked = &report.selection.gates;
    let asked = |gate: u8| asked.is_empty() || asked.contains(&gate);
    let shown = all.gates.iter().filter(|verdict| asked(verdict.gate));
    let gates = shown.filter_map(|verdict| {
        let own = folders.iter().find(|own| own.folder == verdict.folder)?;
        let spec = own.specs.gates.gates.iter().find(|g| g.gate.value == verdict.gate)?;
        Some(Summarizer { own, report }.gate(spec, verdict))
    });
    report.gates = gates.collect();
    all
}

fn rules(folders: &[FolderGates<'_>]) -> BTreeMap<String, Vec<String>> {
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in folders.iter().flat_map(|own| own.specs.cases()) {
        rules.entry(crate::kinds::op::page::expectation(case)).or_default().push(case.full_name());
    }
    rules.values_mut().for_each(|names| names.sort());
    rules
}

struct Summarizer<'a> {
    own: &'a FolderGates<'a>,
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
        let subjects = self.report.subjects.iter();
        let required = subjects.filter(|(label, subject)| self.own.needs(label, subject));
        GateSummary {
            folder: verdict.folder.clone(),
            gate: verdict.gate,
            title: verdict.title.clone(),
            state: verdict.state,
            required: required.map(|(label, _)| label.clone()).collect(),
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
        self.own.plan.iter().filter(selected).map(move |p| format!("{}::{subject}", p.name))
    }

    /// Op, mutant and tier of every fault that `kill` names on a subject.
    fn faults(
        &self,
        spec: &Requirement,
        kill: &str,
        subject: &str,
    ) -> Vec<(String, String, String)> {
        let roles = self.report.subjects.get(subject).map(|s| s.roles);
        let mutants = mutants_of(&self.own.specs.mutants, self.own.plan, spec, kill);
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
            .filter(|f| f.folder == self.own.folder)
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
