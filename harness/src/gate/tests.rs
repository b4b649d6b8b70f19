//! Gates by literals: nothing passes on nothing.

use std::collections::BTreeMap;

use goldgate_tensor::DType;

use crate::gate::lock::Lock;
use crate::gate::vacuity;
use crate::gate::weigh::{Evidences, State, Weighed, weigh};
use crate::line::{
    AskedSubject, BrokenKind, FailKind, Family, FaultResult, Head, NotRun, On, Profile, Roles, Row,
    Sort, Verdict,
};
use crate::spec::Specs;
use crate::spec::folder::read_file;
use crate::spec::gates::GatesFile;
use crate::trials;

mod engines;

const OP: &str = r"format: 1
op: layernorm
gate: 1
source: a paper
inputs:
  x: { shape: [n, h], fill: { normal: [0, 1] } }
  gamma: { shape: [h], fill: { uniform: [0.5, 1.5] } }
  beta: { shape: [h], fill: { constant: 0 } }
attributes: { eps: 1.0e-5 }
dtypes: [f32, f16]
cases:
  - { name: one, why: reason, sizes: { n: 3, h: 4 } }
  - name: whole
    why: reason
    sizes: { n: 3, h: 4 }
    fill: { x: { integers: [0, 9] }, gamma: { constant: 1 } }
  - { name: big, why: reason, sizes: { n: 3, h: 4 }, judge: definition }
  - { name: empty, why: reason, sizes: { n: 3, h: 0 }, refuses: { kind: EmptyAxis, operand: x } }
bench:
  - { name: fast, why: reason, sizes: { n: 3, h: 4 }, dtypes: [f16], against: copy }
";

const MUTANTS: &str = r"format: 1
mutants: layernorm
list:
  - { id: M-001, fault: eps missing, wrong: no_eps, killed_by: one }
  - { id: M-002, fault: a line, kernel: { replace: a, by: b }, killed_by: whole }
  - { id: M-003, fault: none, equivalent: the same numbers }
";

const GATES: &str = r"format: 1
release: [cpu, cuda]
founding:
  - { id: 1.2a, requirement: G1.02 }
  - { id: 1.3a, dropped: not a requirement }
gates:
  - gate: 1
    title: Every kernel computes its formula
    requirements:
      - id: G1.02
        asked: LayerNorm
        from: a document
        on: [engine]
        evidence:
          - cases:
              { select: [layernorm], at_least: 6, dtypes: [f32, f16],
                families: [exact, rough, refused], goldens: 2 }
          - faults: { kill: [M-001, M-002, M-003] }
      - id: K1.01
        asked: fast
        from: us
        on: [card]
        evidence:
          - bench:
              { select: ['layernorm::fast'], median_us_below: 100,
                cards: { read_gb_s_at_least: 900 } }
      - id: K1.02
        asked: said
        from: us
        on: [repository]
        evidence:
          - document: { path: docs/a.md }
          - checks: { select: ['tamper::*'], at_least: 1 }
";

struct World {
    specs: Specs,
    plan: Vec<Head>,
    rows: Vec<Row>,
    found: Evidences,
}

fn specs(gates: &str) -> Specs {
    let (mut specs, mut problems) = (Specs::default(), Vec::new());
    let find = |name: &str| crate::spec::tests::signature(name);
    for (file, text) in
        [("ops/layernorm.yaml", OP), ("mutants/layernorm.yaml", MUTANTS), ("gates.yaml", gates)]
    {
        read_file(file, text.as_bytes(), &find, &mut specs, &mut problems);
    }
    assert_eq!(problems, []);
    specs
}

fn row(trial: &Head, subject: &str) -> Row {
    let bench = trial.sort == Sort::Bench;
    let figures = if bench { vec![("median_us", 20.0), ("read_gb_s", 4000.0)] } else { vec![] };
    Row {
        name: format!("{}::{subject}", trial.name),
        folder: String::new(),
        verdict: Verdict::Pass,
        gate: trial.gate,
        stem: trial.stem.clone(),
        kind: "op".into(),
        subject: subject.into(),
        family: trial.family,
        load: Some(0.0),
        compared: u64::from(trial.family != Family::Refused) * 12,
        faults: (12, 12),
        time_ms: 1.0,
        observed: Default::default(),
        page: None,
        worst: None,
        figures: figures.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        notes: Vec::new(),
        bits: None,
    }
}

/// The cases and benches of the specs, and one check in place of the harness's own.
fn planned(specs: &Specs, (stem, case): (&str, &str)) -> Vec<Head> {
    let mut all = trials::heads(specs);
    let mut check = all.iter().find(|p| p.on == On::Harness).expect("a check").clone();
    (check.name, check.stem) = (format!("gate1::{stem}::{case}::self"), stem.to_owned());
    check.case = case.to_owned();
    all.retain(|p| p.sort != Sort::Check);
    all.push(check);
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The labels under which a trial has rows.
fn labels(trial: &Head) -> Vec<&'static str> {
    let engines =
        OWN.into_iter().filter(|(_, roles)| trial.on.asks(*roles)).map(|(label, _)| label);
    let harness = (trial.on == On::Harness).then_some("harness");
    engines.chain(harness).collect()
}

/// The roles of two engines of one release.
const OWN: [(&str, Roles); 2] = [
    ("cpu", Roles { definition: true, host: true, own: true, card: false }),
    ("cuda", Roles { card: true, own: true, definition: false, host: false }),
];

/// A run in which everything holds.
fn perfect() -> World {
    let specs = specs(GATES);
    let plan = planned(&specs, ("tamper", "go_01"));
    let rows = plan.iter().flat_map(|p| labels(p).into_iter().map(|s| row(p, s))).collect();
    let fault = |id: &str, subject: &str| FaultResult {
        folder: String::new(),
        op: "layernorm".into(),
        id: id.into(),
        subject: subject.into(),
        killed: true,
    };
    let found = Evidences {
        faults: vec![fault("M-001", "harness"), fault("M-002", "cuda")],
        documents: BTreeMap::from([("docs/a.md".to_owned(), true)]),
        complete: true,
        models: false,
        invalid: Vec::new(),
        subjects: OWN.into_iter().map(|(label, roles)| (label.to_owned(), asked(roles))).collect(),
        profile: None,
    };
    World { specs, plan, rows, found }
}

fn asked(roles: Roles) -> AskedSubject {
    AskedSubject { roles, asked: true, option: String::new(), declared: String::new() }
}

impl World {
    fn weigh(&self) -> Weighed {
        weigh(&self.specs.gates, &self.specs.mutants, &self.plan, &self.rows, &self.found)
    }

    /// The gate's state, and that of each requirement on a subject, `id subject STATE`.
    fn states(&self) -> (State, Vec<String>) {
        let weighed = self.weigh();
        assert_eq!(weighed.invalid, [] as [String; 0]);
        let gate = &weighed.gates[0];
        let each = gate
            .requirements
            .iter()
            .flat_map(|r| r.on.iter().map(|(s, v)| format!("{} {s} {}", r.id, v.state.word())));
        (gate.state, each.collect())
    }

    fn row(&mut self, name: &str) -> &mut Row {
        self.rows.iter_mut().find(|r| r.name == name).expect("a row of that name")
    }
}

const ALL_MET: [&str; 4] =
    ["G1.02 cpu MET", "G1.02 cuda MET", "K1.01 cuda MET", "K1.02 repository MET"];

#[test]
fn everything_holds() {
    let world = perfect();
    assert_eq!(world.states(), (State::Met, ALL_MET.map(str::to_owned).to_vec()));
    let gate = &world.weigh().gates[0];
    let subjects: Vec<_> = gate.subjects.iter().map(|(s, v)| (s.as_str(), *v)).collect();
    assert_eq!(subjects, [("cpu", State::Met), ("cuda", State::Met), ("repository", State::Met)]);
    assert_eq!(gate.requirements[0].on["cpu"].planned, 6);
    assert_eq!(gate.requirements[0].on["cuda"].planned, 8);
}

#[test]
fn each_verdict_but_pass_turns_its_requirement() {
    let word = String::from("word");
    let fail = FailKind::Load;
    let table = [
        (Verdict::Fail { kind: fail, message: word.clone() }, State::NotMet),
        (Verdict::Flaky { kind: fail, message: word.clone() }, State::NotMet),
        (
            Verdict::Known {
                kind: fail,
                message: word.clone(),
                reason: word.clone(),
                expires: word.clone(),
            },
            State::NotMet,
        ),
        (Verdict::Unexpected { message: word.clone() }, State::NotMet),
        (Verdict::Broken { kind: BrokenKind::Harness, message: word.clone() }, State::NotMet),
        (Verdict::NotRun { kind: NotRun::NoGolden, message: word }, State::Incomplete),
    ];
    for name in perfect().rows.iter().map(|r| r.name.clone()) {
        for (verdict, want) in &table {
            let mut world = perfect();
            world.row(&name).verdict = verdict.clone();
            assert_eq!(world.states().0, *want, "{name} {verdict:?}");
        }
    }
}

#[test]
fn a_row_that_is_lost_or_compares_nothing_is_never_met() {
    for name in perfect().rows.iter().map(|r| r.name.clone()) {
        let mut world = perfect();
        world.rows.retain(|r| r.name != name);
        assert_eq!(world.states().0, State::Incomplete, "{name}");
    }
    let mut world = perfect();
    world.row("gate1::layernorm::one::f32::cpu").compared = 0;
    assert_eq!(world.states().0, State::NotMet);
    let mut world = perfect();
    world.rows.clear();
    world.found.faults.clear();
    world.found.documents.clear();
    assert_eq!(world.states().0, State::Incomplete);
    let gate = &world.weigh().gates[0];
    assert_eq!(gate.subjects["cuda"], State::NotRun);
}

#[test]
fn without_a_device_cuda_is_not_run_and_the_gate_incomplete() {
    let mut world = perfect();
    for row in world.rows.iter_mut().filter(|r| r.subject == "cuda") {
        row.verdict = Verdict::NotRun { kind: NotRun::NoDevice, message: "no device".into() };
    }
    let gate = &world.weigh().gates[0];
    assert_eq!(gate.subjects["cpu"], State::Met);
    assert_eq!(gate.subjects["cuda"], State::NotRun);
    assert_eq!(gate.state, State::Incomplete);
}

#[test]
fn doubled_foreign_and_self_checked_rows_make_the_report_invalid() {
    let mut world = perfect();
    let again = world.rows[0].clone();
    world.rows.push(again);
    assert!(world.weigh().invalid[0].contains("stands twice"));
    let mut world = perfect();
    world.rows[0].name = "gate1::other::one::f32::cpu".into();
    assert!(world.weigh().invalid[0].contains("is in no plan"));
    for kind in [BrokenKind::SelfCheck, BrokenKind::GoldenHash, BrokenKind::InputsHash] {
        let mut world = perfect();
        world.rows[0].verdict = Verdict::Broken { kind, message: "m".into() };
        let weighed = world.weigh();
        assert_eq!((weighed.invalid.len(), weighed.gates.len()), (1, 0));
    }
    let mut world = perfect();
    world.found.invalid.push("two builds of one subject".into());
    assert!(world.weigh().gates.is_empty());
}

#[test]
fn figures_that_are_absent_or_no_number_are_not_met() {
    let name = "gate1::layernorm::fast::f16::cuda";
    for (figure, value, want) in [
        ("median_us", Some(99.9), State::Met),
        ("median_us", Some(100.0), State::NotMet),
        ("median_us", Some(f64::NAN), State::NotMet),
        ("median_us", Some(f64::NEG_INFINITY), State::NotMet),
        ("median_us", None, State::NotMet),
        ("read_gb_s", Some(900.0), State::Met),
        ("read_gb_s", Some(899.0), State::NotAsked),
        ("read_gb_s", None, State::NotMet),
        ("read_gb_s", Some(f64::NAN), State::NotMet),
    ] {
        let mut world = perfect();
        let figures = &mut world.row(name).figures;
        figures.remove(figure);
        figures.extend(value.map(|v| (figure.to_owned(), v)));
        let weighed = world.weigh();
        let state = weighed.gates[0].requirements[1].on["cuda"].state;
        assert_eq!(state, want, "{figure} {value:?}");
        // A bound that no card here can show keeps the gate from being met, but fails nobody.
        let gate = match want {
            State::NotAsked => State::Incomplete,
            state => state,
        };
        assert_eq!(weighed.gates[0].state, gate, "{figure} {value:?}");
    }
}

#[test]
fn faults_must_be_planted_and_killed() {
    let mut world = perfect();
    world.found.faults[0].killed = false;
    assert_eq!(world.states().1[..2], ["G1.02 cpu NOT MET", "G1.02 cuda NOT MET"]);
    let mut world = perfect();
    world.found.faults[1].killed = false;
    assert_eq!(world.states().1[..2], ["G1.02 cpu MET", "G1.02 cuda NOT MET"]);
    let mut world = perfect();
    world.found.faults.remove(1);
    assert_eq!(world.states().1[..2], ["G1.02 cpu MET", "G1.02 cuda INCOMPLETE"]);
}

#[test]
fn a_page_must_hold_and_a_selection_is_incomplete() {
    let mut world = perfect();
    world.found.documents.insert("docs/a.md".into(), false);
    assert_eq!(world.states().0, State::NotMet);
    world.found.documents.clear();
    assert_eq!(world.states().0, State::Incomplete);
    let mut world = perfect();
    world.found.complete = false;
    assert_eq!(world.states().0, State::Incomplete);
    assert_eq!(world.weigh().gates[0].subjects["cpu"], State::Incomplete);
}

#[test]
fn an_empty_gate_never_passes() {
    let mut world = perfect();
    world.specs.gates.gates[0].requirements.clear();
    assert_eq!(world.states().0, State::Incomplete);
    let mut world = perfect();
    world.found.subjects.clear();
    assert_eq!(world.states().0, State::Incomplete);
    let mut world = perfect();
    world.specs.gates.gates[0].requirements[0].evidence.clear();
    assert_eq!(world.states().0, State::NotMet);
    let mut world = perfect();
    world.plan.clear();
    world.rows.clear();
    assert_ne!(world.states().0, State::Met);
    assert_eq!(weigh(&GatesFile::default(), &[], &[], &[], &world.found).gates, []);
}

#[test]
fn a_field_requirement_counts_only_with_its_files() {
    let mut world = perfect();
    world.specs.gates.gates[0].requirements[1].field = true;
    world.row("gate1::layernorm::fast::f16::cuda").figures.clear();
    let (state, each) = world.states();
    assert_eq!((state, each[2].as_str()), (State::Met, "K1.01 cuda NOT MET"));
    world.found.models = true;
    assert_eq!(world.states().0, State::NotMet);
}

fn codes(gates: &str) -> Vec<&'static str> {
    let specs = specs(gates);
    let world = perfect();
    let plan = planned(&specs, ("tamper", "go_01"));
    assert_eq!(plan, world.plan);
    vacuity::check(&specs, &plan, &BTreeMap::from(OWN)).iter().map(|p| p.code).collect()
}

/// The six rules of vacuity, one by one.
#[test]
fn what_could_be_met_by_nothing_is_refused() {
    let from = |old: &str, new: &str| {
        assert!(GATES.contains(old), "{old}");
        GATES.replacen(old, new, 1)
    };
    assert_eq!(codes(GATES), [] as [&str; 0]);
    for (gates, want) in [
        (from("on: [engine]", "on: []"), "GATE_EMPTY"),
        (from("release: [cpu, cuda]", "release: [cpu, tpu]"), "ENUM"),
        (from("select: [layernorm]", "select: [layernorm, gelu]"), "GATE_REF"),
        (from("at_least: 6", "at_least: 7"), "GATE_REF"),
        (from("select: [layernorm]", "select: ['layernorm::one']"), "GATE_REF"),
        (from("goldens: 2", "goldens: 3"), "GATE_REF"),
        (from("dtypes: [f32, f16]", "dtypes: [f32, bf16]"), "GATE_REF"),
        (from("M-001, ", "M-099, "), "GATE_REF"),
        (from("requirement: G1.02", "requirement: G1.03"), "GATE_REF"),
        (from("id: K1.01", "id: G1.05"), "GATE_REF"),
        (from("id: K1.01", "id: K1.02"), "ID_DUP"),
        (from("id: K1.01", "id: K2.01"), "ID_FORM"),
        (from("1.3a, dropped: not a requirement", "1.2a, requirement: G1.02"), "ID_DUP"),
    ] {
        let codes = codes(&gates);
        assert!(codes.contains(&want), "{want}: {codes:?}\n{gates}");
    }
    let only = |select: &str, extra: &str| {
        let old = "select: [layernorm], at_least: 6, dtypes: [f32, f16],\n                \
                   families: [exact, rough, refused], goldens: 2";
        from(old, &format!("select: ['layernorm::{select}'], at_least: 1{extra}"))
    };
    assert!(codes(&only("empty", "")).contains(&"GATE_WEAK"), "only refusals");
    assert!(codes(&only("big", "")).contains(&"GATE_WEAK"), "only the definition");
    assert!(codes(&only("one", "")).contains(&"GATE_WEAK"), "one family of two");
    let two = only("one', 'layernorm::whole", "");
    assert_eq!(codes(&two), ["ORPHAN"], "the others prove nothing");
}

#[test]
fn malformed_evidence_is_refused_with_its_place() {
    for (old, new, want) in [
        ("median_us_below: 100", "median_us_below: .nan", "RANGE"),
        ("median_us_below: 100", "median_us_below: -1", "RANGE"),
        ("median_us_below: 100", "median_below: 100", "UNKNOWN_FIELD"),
        ("median_us_below: 100,", "", "MISSING_FIELD"),
        ("at_least: 6", "at_least: 0", "RANGE"),
        ("select: [layernorm]", "select: []", "GATE_EMPTY"),
        ("select: [layernorm]", "select: ['a::b::c::d']", "ID_FORM"),
        ("docs/a.md", "../a.md", "PATH"),
        ("docs/a.md", "/a.md", "PATH"),
        ("docs/a.md", "~/a.md", "PATH"),
        ("docs/a.md", "file://a.md", "PATH"),
        ("docs/a.md", "a\\\\b.md", "PATH"),
        ("dropped: not a requirement", "requirement: G1.02, dropped: x", "MISSING_FIELD"),
        ("- cases:", "- case:", "ENUM"),
        ("on: [engine]", "on: [cpu]", "ENUM"),
        ("release: [cpu, cuda]", "release: ['a b']", "ID_FORM"),
    ] {
        assert!(GATES.contains(old), "{old}");
        let (mut specs, mut problems) = (Specs::default(), Vec::new());
        let text = GATES.replacen(old, new, 1);
        let find = |_: &str| None;
        read_file("gates.yaml", text.as_bytes(), &find, &mut specs, &mut problems);
        assert_eq!(problems.first().map(|p| p.code), Some(want), "{new}: {problems:?}");
        assert!(problems[0].place.line > 0);
    }
}

#[test]
fn a_locked_name_goes_away_with_a_reason_only() {
    let world = perfect();
    let gates = &world.specs.gates;
    let lock = Lock::default().renewed(gates, &world.plan);
    assert_eq!(lock.names.len(), 10);
    assert_eq!(Lock::parse(&lock.text()).as_ref(), Ok(&lock));
    assert_eq!(lock.problems(&world.specs, &world.plan), []);
    let fewer: Vec<Head> =
        world.plan.iter().filter(|p| p.name != "gate1::layernorm::one::f16").cloned().collect();
    let problems = lock.problems(&world.specs, &fewer);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].found.contains("G1.02 gate1::layernorm::one::f16"));
    let text = format!("{}removed: gate1::layernorm::one::f16, twice the same\n", lock.text());
    assert_eq!(Lock::parse(&text).expect("read").problems(&world.specs, &fewer), []);
    assert!(lock.text().contains("\nG1.02 gate1::layernorm::one f16 f32\n"), "{}", lock.text());
    let malformed = [
        "removed: gate1::a",
        "removed: gate1::a, ",
        "G1.02",
        "G1.02 x f16",
        "G1.02 gate1::layernorm::one::f16",
        "G1.02 gate1::layernorm::one  f16",
    ];
    for bad in malformed {
        assert_eq!(Lock::parse(bad).expect_err("malformed").code, "LOCK", "{bad}");
    }
}

#[test]
fn the_plan_says_who_is_asked() {
    let world = perfect();
    let of = |name: &str| world.plan.iter().find(|p| p.name == name).expect("planned");
    assert_eq!(labels(of("gate1::layernorm::big::f32")), ["cuda"]);
    assert_eq!(labels(of("gate1::layernorm::fast::f16")), ["cuda"]);
    assert_eq!(labels(of("gate1::layernorm::one::f16")), ["cpu", "cuda"]);
    assert_eq!(of("gate1::layernorm::whole::f16").family, Family::Exact);
    assert_eq!(of("gate1::layernorm::whole::f16").dtype, Some(DType::F16));
    assert_eq!(of("gate1::tamper::go_01::self").sort, Sort::Check);
}
