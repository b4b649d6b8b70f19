//! Evidence that proves nothing: `goldgate check` refuses it before anything runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::gate::faults::mutants_of;
use crate::gate::select::{any_selects, selects};
use crate::line::glob::glob;
use crate::line::{Family, Head, On, Role, Roles, Sort};
use crate::spec::Specs;
use crate::spec::gates::{CasesEvidence, Evidence, GateSpec, Requirement};
use crate::yaml::Problem;
use crate::yaml::near::guess;
use crate::yaml::read::{At, Reader};

/// How many lines below an evidence are searched for one of its words.
const LINES: usize = 12;

/// Problems for requirements that could be met by nothing, and for cases that prove nothing. `own`
/// are the roles of the engines that a release may name.
pub fn check(specs: &Specs, plan: &[Head], own: &BTreeMap<&str, Roles>) -> Vec<Problem> {
    // A folder without gates adds cases that no gate weighs.
    let Some(source) = &specs.gates_source else { return Vec::new() };
    let reader = Reader::new(source);
    if specs.broken.has_gates() {
        return Vec::new();
    }
    if specs.gates.gates.is_empty() {
        let expected = "one gate at least";
        reader.push(Problem::of_file("GATE_EMPTY", "gates.yaml", "no gate", expected));
        return reader.finish();
    }
    let vacuity = Vacuity { r: &reader, specs, plan, own };
    vacuity.names();
    vacuity.release();
    for gate in &specs.gates.gates {
        vacuity.gate(gate);
    }
    // If a requirement is wrong, its cases would be reported as orphans: one cause, two errors.
    if reader.count() == 0 {
        vacuity.orphans();
        vacuity.founding();
    }
    reader.finish()
}

struct Vacuity<'v, 's> {
    r: &'v Reader<'s>,
    specs: &'v Specs,
    plan: &'v [Head],
    own: &'v BTreeMap<&'v str, Roles>,
}

impl Vacuity<'_, '_> {
    fn requirements(&self) -> impl Iterator<Item = (u8, &Requirement)> {
        let gates = self.specs.gates.gates.iter();
        gates.flat_map(|g| g.requirements.iter().map(|r| (g.gate.value, r)))
    }

    fn names(&self) {
        let mut gates = BTreeSet::new();
        for gate in &self.specs.gates.gates {
            // A trial knows its gate by the number alone.
            if !gates.insert(gate.gate.value) {
                let found = gate.gate.value.to_string();
                self.r.note_value(&gate.gate, "ID_DUP", "gates.gate", &found, "each gate once");
            }
        }
        let mut ids = BTreeSet::new();
        for (gate, requirement) in self.requirements() {
            let id = &requirement.id;
            // The lock and the report name a requirement by its id alone.
            if !ids.insert(&id.value) {
                self.r.note_value(id, "ID_DUP", "requirements.id", &id.value, "each id once");
            }
            // An id begins with its letter, which only says who asked for it.
            if !id.value[1..].starts_with(&format!("{gate}.")) {
                let expected = format!("an id of gate {gate}");
                self.r.note_value(id, "ID_FORM", "requirements.id", &id.value, &expected);
            }
        }
    }

    /// Checks that a release names engines that exist: it could otherwise never be met.
    fn release(&self) {
        for label in &self.specs.gates.release {
            if !self.own.contains_key(label.value.as_str()) {
                let known: Vec<&str> = self.own.keys().copied().collect();
                let near = guess(&label.value, known.iter().copied());
                let expected = format!("one of {}{near}", known.join(", "));
                self.r.note_value(label, "ENUM", "release", &label.value, &expected);
            }
        }
    }

    fn gate(&self, gate: &GateSpec) {
        // A gate without subjects or requirements would be met by nothing.
        if gate.requirements.is_empty() {
            let found = format!("gate {}", gate.gate.value);
            let expected = "one requirement at least";
            self.r.note_value(&gate.gate, "GATE_EMPTY", "gates", &found, expected);
        }
        for requirement in &gate.requirements {
            let id = &requirement.id;
            if requirement.on.is_empty() || requirement.evidence.is_empty() {
                let expected = "`on` with a role, and evidence";
                self.r.note_value(id, "GATE_EMPTY", &id.value, "nothing", expected);
            }
            let before = self.r.count();
            for evidence in &requirement.evidence {
                self.evidence(gate.gate.value, requirement, evidence);
            }
            // After an error in the evidence, further findings would only be its consequences.
            if self.r.count() == before && !self.rests_on_broken(requirement) {
                for evidence in &requirement.evidence {
                    self.faults(requirement, evidence);
                }
                self.families(requirement);
            }
        }
    }

    fn evidence(&self, gate: u8, requirement: &Requirement, at: &At<Evidence>) {
        let field = format!("{}.evidence", requirement.id.value);
        let note = |code, found: &str, expected: &str| {
            self.r.note_value(at, code, &field, found, expected);
        };
        let (kind, select, at_least) = match &at.value {
            Evidence::Cases(e) => (Sort::Case, &e.select, e.at_least),
            Evidence::Checks(e) => (Sort::Check, &e.select, e.at_least),
            Evidence::Bench(e) => (Sort::Bench, &e.select, 1),
            Evidence::Faults(e) => {
                // An empty list would be killed without a single fault.
                if e.kill.is_empty() {
                    note("GATE_EMPTY", "no fault", "one fault at least");
                }
                return;
            }
            Evidence::Document(_) => return,
        };
        // The trials of a broken file are unknown, so nothing can be said about what is selected.
        if select.iter().any(|pattern| self.specs.broken.meets(pattern)) {
            return;
        }
        let own: Vec<&Head> = self.plan.iter().filter(|p| p.sort == kind).collect();
        let before = self.r.count();
        for pattern in select {
            if !own.iter().any(|p| selects(pattern, p)) {
                let near = self.meant(pattern, kind);
                let expected = format!("a pattern that selects something{near}");
                let (line, column) = self.written(at, pattern);
                self.r.note_at(line, column, "GATE_REF", &field, pattern, &expected);
            }
            // A gate must be able to be met before the gates after it.
            if let Some(later) = own.iter().find(|p| selects(pattern, p) && p.gate > gate) {
                note("GATE_REF", &later.name, &format!("trials of gate {gate} or earlier"));
            }
        }
        if self.r.count() > before {
            return;
        }
        let selected: Vec<&Head> = own.into_iter().filter(|p| any_selects(select, p)).collect();
        // Counted for each subject, because the requirement must be met on every one of them.
        for (whom, count) in self.counts(requirement, &selected) {
            if count < at_least {
                let found = format!("{count} on {whom}");
                note("GATE_REF", &found, &format!("at least {at_least} that are selected"));
            }
        }
        if let Evidence::Cases(cases) = &at.value
            && !selected.is_empty()
        {
            self.cases(at, &field, cases, &selected);
        }
    }

    /// How many of the selected trials each subject is asked that a requirement concerns. An engine
    /// that is asked none is not concerned, unless all are asked none.
    fn counts(&self, requirement: &Requirement, selected: &[&Head]) -> Vec<(String, usize)> {
        let asked = |by: &dyn Fn(On) -> bool| {
            // Checks of the harness prove something for every subject.
            let asks = |p: &&&Head| by(p.on) || p.sort == Sort::Check && p.on == On::Harness;
            selected.iter().filter(asks).count()
        };
        let engines =
            requirement.on.contains(&Role::Engine) || requirement.on.contains(&Role::Card);
        let any = Roles { own: true, ..Roles::UNKNOWN };
        let all = engines.then(|| ("any engine".to_owned(), asked(&|on| on.asks(any))));
        let release = self.specs.gates.release.iter().filter_map(|label| {
            let roles = *self.own.get(label.value.as_str())?;
            let count = asked(&|on| on.asks(roles));
            (roles.any_of(&requirement.on) && count > 0).then(|| (label.value.clone(), count))
        });
        let mut counts: Vec<(String, usize)> = all.into_iter().chain(release).collect();
        for role in [Role::Harness, Role::Repository] {
            if requirement.on.contains(&role) {
                let own = asked(&|on| on == On::Harness && role == Role::Harness);
                counts.push((role.word().to_owned(), own));
            }
        }
        counts
    }

    /// Whether trials of a requirement may be missing because their file is broken.
    fn rests_on_broken(&self, requirement: &Requirement) -> bool {
        let select = requirement.evidence.iter().flat_map(|at| match &at.value {
            Evidence::Cases(e) => e.select.as_slice(),
            Evidence::Checks(e) => e.select.as_slice(),
            Evidence::Bench(e) => e.select.as_slice(),
            Evidence::Faults(_) | Evidence::Document(_) => &[],
        });
        select.into_iter().any(|pattern| self.specs.broken.meets(pattern))
    }

    /// A suggestion for a pattern that selects nothing: the nearest word for the part that fails.
    fn meant(&self, pattern: &str, kind: Sort) -> String {
        let own = || self.plan.iter().filter(|p| p.sort == kind);
        let mut parts = pattern.split("::");
        let stem = parts.next().unwrap_or_default();
        if !own().any(|p| glob(stem, &p.stem)) {
            return guess(stem, own().map(|p| p.stem.as_str()));
        }
        let cases = own().filter(|p| glob(stem, &p.stem)).map(|p| p.case.as_str());
        parts.next().map(|case| guess(case, cases)).unwrap_or_default()
    }

    /// Where a word of an evidence was written, which may be some lines below the evidence itself.
    fn written(&self, at: &At<Evidence>, word: &str) -> (u32, u32) {
        let rows = self.r.source.text.lines().zip(1..).skip(at.line.saturating_sub(1) as usize);
        let found = rows.take(LINES).find_map(|(row, line)| {
            let from = row.find(word)?;
            Some((line, row[..from].chars().count() as u32 + 1))
        });
        found.unwrap_or((at.line, at.column))
    }

    /// Checks the evidence `cases`: not only refusals, not only the definition, and everything that
    /// it names must exist.
    fn cases(&self, at: &At<Evidence>, field: &str, e: &CasesEvidence, selected: &[&Head]) {
        let note = |code, found: &str, expected: &str| {
            self.r.note_value(at, code, field, found, expected);
        };
        let answers: Vec<&&Head> =
            selected.iter().filter(|p| p.family != Family::Refused).collect();
        // A subject that refuses everything would pass.
        if answers.is_empty() {
            return note("GATE_WEAK", "only refusals", "one case at least that answers");
        }
        // The definition is our own code, so it cannot be the only authority.
        if answers.iter().all(|p| p.definition) {
            return note("GATE_WEAK", "only the definition", "one golden at least");
        }
        for family in &e.families {
            if !selected.iter().any(|p| p.family == *family) {
                let found = format!("none of the family {family:?}").to_lowercase();
                note("GATE_REF", &found, "every family that it names");
            }
        }
        for dtype in &e.dtypes {
            // Among the cases that answer, because a refusal computes nothing in its type.
            if !answers.iter().any(|p| p.dtype == Some(*dtype)) {
                note("GATE_REF", &format!("none in {dtype}"), "every dtype that it names");
            }
        }
        let goldens: BTreeSet<&String> =
            selected.iter().filter_map(|p| p.golden.as_ref()).collect();
        // Variants share goldens, so a count of cases would count one answer several times.
        if let Some(least) = e.goldens.filter(|least| goldens.len() < *least) {
            let found = format!("{} goldens", goldens.len());
            note("GATE_REF", &found, &format!("at least {least}"));
        }
    }

    /// Checks that both families are selected: cases of one family reveal only half of all
    /// mistakes.
    fn families(&self, requirement: &Requirement) {
        let own = |p: &&Head| p.sort == Sort::Case && selected_by(requirement, p);
        let answers: Vec<&Head> =
            self.plan.iter().filter(own).filter(|p| p.family != Family::Refused).collect();
        let stems: BTreeSet<&str> = answers.iter().map(|p| p.stem.as_str()).collect();
        for family in [Family::Exact, Family::Rough] {
            let has = |p: &Head| p.family == family && p.sort == Sort::Case;
            // Exact cases find wrong wiring and rough ones lost precision; neither finds the
            // other's faults.
            let could = self.plan.iter().any(|p| stems.contains(p.stem.as_str()) && has(p));
            if could && !answers.iter().any(|p| has(p)) {
                let id = &requirement.id;
                let field = format!("{}.evidence", id.value);
                let found = format!("none of the family {family:?}").to_lowercase();
                let expected = "both families, where the op has both";
                self.r.note_value(id, "GATE_WEAK", &field, &found, expected);
            }
        }
    }

    fn faults(&self, requirement: &Requirement, at: &At<Evidence>) {
        let Evidence::Faults(faults) = &at.value else { return };
        for kill in &faults.kill {
            // A fault listed in a broken file cannot be found, and the file is reported already.
            if !kill.contains("::") || !self.specs.broken.meets(kill) {
                self.fault(requirement, at, kill);
            }
        }
    }

    fn fault(&self, requirement: &Requirement, at: &At<Evidence>, kill: &str) {
        let field = format!("{}.evidence.faults", requirement.id.value);
        let mutants = mutants_of(&self.specs.mutants, self.plan, requirement, kill);
        if mutants.is_empty() {
            let files = &self.specs.mutants;
            let ids = files.iter().flat_map(|f| f.list.iter().map(|m| m.id.value.as_str()));
            let id = kill.rsplit("::").next().unwrap_or(kill);
            let expected = format!("a mutant of the requirement's ops{}", guess(id, ids));
            let (line, column) = self.written(at, kill);
            self.r.note_at(line, column, "GATE_REF", &field, kill, &expected);
        }
        for (op, mutant) in mutants {
            // A mutant without a killer is equivalent, and is not asked.
            let Some(killer) = &mutant.killed_by else { continue };
            let is_own = self
                .plan
                .iter()
                .any(|p| p.stem == op && p.case == killer.value && selected_by(requirement, p));
            // Otherwise the requirement would be met by a case that it does not rest on.
            if !is_own {
                let found = format!("{op}::{} is killed by {}", mutant.id.value, killer.value);
                let expected = "a case of this requirement";
                self.r.note_value(at, "GATE_REF", &field, &found, expected);
            }
        }
    }

    /// Reports cases of gate N that no requirement of gate N selects, as they prove nothing; one
    /// problem per stem.
    fn orphans(&self) {
        let mut stems: BTreeMap<(&str, u8), BTreeSet<&str>> = BTreeMap::new();
        let counts = |trial: &&Head| match trial.sort {
            Sort::Case => true,
            // A check belongs to the program, and not to a folder of somebody else's specs.
            Sort::Check => self.specs.gates.decides_release(),
            // A bench is evidence only where a requirement sets limits for it.
            Sort::Bench => false,
        };
        for trial in self.plan.iter().filter(counts) {
            let mut own = self.requirements().filter(|(gate, _)| *gate == trial.gate);
            let is_orphan = !own.any(|(_, r)| selected_by(r, trial));
            if is_orphan && !self.specs.broken.has(&trial.stem) {
                stems.entry((&trial.stem, trial.gate)).or_default().insert(&trial.case);
            }
        }
        for ((stem, gate), cases) in stems {
            let first = cases.first().copied().unwrap_or_default();
            let more = match cases.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more of {stem}"),
            };
            let expected = format!("a requirement of gate {gate} that selects it");
            let found = format!("{stem}::{first}{more}");
            self.r.push(Problem::of_file("ORPHAN", "gates.yaml", found, expected));
        }
    }

    /// Checks that each item of the founding documents has its requirement, and vice versa.
    fn founding(&self) {
        let ids: Vec<&str> = self.requirements().map(|(_, r)| r.id.value.as_str()).collect();
        let list = &self.specs.gates.founding;
        for (i, item) in list.iter().enumerate() {
            if list[..i].iter().any(|earlier| earlier.id.value == item.id.value) {
                self.r.note_value(&item.id, "ID_DUP", "founding", &item.id.value, "each id once");
            }
            if let Some(requirement) = &item.requirement
                && !ids.contains(&requirement.as_str())
            {
                let field = format!("founding.{}", item.id.value);
                let expected = "the id of a requirement";
                self.r.note_value(&item.id, "GATE_REF", &field, requirement, expected);
            }
        }
        for (_, requirement) in self.requirements() {
            let id = &requirement.id;
            let named = list.iter().any(|i| i.requirement.as_deref() == Some(id.value.as_str()));
            // The letter claims that the founding documents asked for it.
            if id.value.starts_with('G') && !named {
                let expected = "an item of `founding`; our own requirements begin with K";
                self.r.note_value(id, "GATE_REF", "founding", &id.value, expected);
            }
        }
    }
}

fn selected_by(requirement: &Requirement, trial: &Head) -> bool {
    requirement.evidence.iter().any(|at| match (&at.value, trial.sort) {
        (Evidence::Cases(e), Sort::Case) => any_selects(&e.select, trial),
        (Evidence::Checks(e), Sort::Check) => any_selects(&e.select, trial),
        (Evidence::Bench(e), Sort::Bench) => any_selects(&e.select, trial),
        _ => false,
    })
}

/// The trials that a requirement rests on, for the lock.
pub fn selected<'p>(requirement: &'p Requirement, plan: &'p [Head]) -> Vec<&'p Head> {
    plan.iter().filter(|trial| selected_by(requirement, trial)).collect()
}
