//! Literal reports for the tests of this folder.

use std::collections::BTreeMap;

use goldgate_wire::Observed;
use serde_json::json;

use crate::gate::State;
use crate::line::{
    AskedSubject, FailKind, Family, FaultResult, GeneratedScore, NotRun, Roles, Row, Verdict, Worst,
};
use crate::report::document::hash_names;
use crate::report::summary::{Figure, GateSummary, Measured, RequirementSummary};
use crate::report::{Provenance, Report};

/// A row that passed.
pub fn row(name: &str, load: f64) -> Row {
    let parts: Vec<&str> = name.split("::").collect();
    Row {
        name: name.to_owned(),
        verdict: Verdict::Pass,
        gate: 1,
        stem: parts[1].to_owned(),
        kind: "op".to_owned(),
        subject: parts[4].to_owned(),
        family: Family::Rough,
        load: Some(load),
        compared: 1_000,
        faults: (12, 12),
        time_ms: 1.5,
        observed: Observed::default(),
        page: None,
        worst: None,
        figures: BTreeMap::new(),
        notes: Vec::new(),
        bits: None,
        folder: String::new(),
    }
}

/// A failure by load.
pub fn fail(message: &str) -> Verdict {
    Verdict::Fail { kind: FailKind::Load, message: message.to_owned() }
}

fn rows() -> Vec<Row> {
    let failing = Row {
        verdict: fail("load 4.2 at y[2, 3], allowed 1"),
        load: Some(4.2),
        page: Some(
            "FAIL gate1::layernorm::ragged::f16::cpu\n  why      the last row is short\n  \
             again    goldgate run gate1::layernorm::ragged::f16::cpu --on cpu\n"
                .to_owned(),
        ),
        worst: Some(Worst {
            result: "y".into(),
            index: vec![2, 3],
            first: 13,
            got: vec![0.5, 0.25, -0.0],
            want: vec![0.5, 0.125, 0.0],
            load: vec![0.0, 4.2, 0.0],
            over: 1,
            total: 15,
        }),
        ..row("gate1::layernorm::ragged::f16::cpu", 4.2)
    };
    let flaky = Verdict::Flaky { kind: FailKind::Bits, message: "other bits".into() };
    let known = Verdict::Known {
        kind: FailKind::Load,
        message: "load 1.5".into(),
        reason: "the tail is summed in f16 | *soon* mended".into(),
        expires: "2026-12-20".into(),
    };
    let absent = Verdict::NotRun { kind: NotRun::NoDevice, message: "no CUDA driver".into() };
    vec![
        row("gate1::gelu::wide::f16::cpu", 0.93),
        Row { verdict: flaky, load: None, ..row("gate1::gelu::wide::f32::cpu", 0.0) },
        row("gate1::layernorm::one::f16::cpu", 0.25),
        Row { verdict: known, ..row("gate1::layernorm::prime::f32::cpu", 1.5) },
        failing,
        Row {
            verdict: absent,
            load: None,
            compared: 0,
            faults: (0, 0),
            ..row("gate1::layernorm::ragged::f16::cuda", 0.0)
        },
    ]
}

fn gate() -> GateSummary {
    let cpu = Measured {
        state: State::NotMet,
        planned: 3,
        passed: 1,
        not_offered: 0,
        load: Some(4.2),
        killed: 1,
        listed: 2,
        figures: Vec::new(),
        reasons: vec![
            "gate1::layernorm::ragged::f16::cpu: fails (load): load 4.2".into(),
            "layernorm::M-002 survived".into(),
        ],
    };
    let sprint = Figure {
        trial: "gate1::layernorm::sprint::f16::cuda".into(),
        figure: "median_us".into(),
        value: None,
        limit: 100.0,
        at_least: false,
    };
    let cuda = Measured {
        state: State::Incomplete,
        planned: 2,
        figures: vec![sprint],
        listed: 2,
        killed: 1,
        ..Measured::default()
    };
    let requirement = RequirementSummary {
        id: "G1.02".into(),
        asked: "LayerNorm | mean <variance>".into(),
        from: "a document".into(),
        means: None,
        field: false,
        on: BTreeMap::from([("cpu".into(), cpu), ("cuda".into(), cuda)]),
    };
    GateSummary {
        folder: String::new(),
        gate: 1,
        title: "Every kernel computes its formula".into(),
        state: State::NotMet,
        required: vec!["cpu".into(), "cuda".into()],
        subjects: BTreeMap::from([("cpu".into(), State::NotMet), ("cuda".into(), State::NotRun)]),
        requirements: vec![requirement],
    }
}

/// Two engines of one release.
fn subjects() -> BTreeMap<String, AskedSubject> {
    let own = Roles { own: true, ..Roles::default() };
    let each = [
        ("cpu", Roles { definition: true, host: true, ..own }, " --on cpu"),
        ("cuda", Roles { card: true, ..own }, " --on cuda:0"),
    ];
    let subject = |roles, option: &str| AskedSubject {
        roles,
        asked: true,
        option: option.into(),
        declared: String::new(),
    };
    each.into_iter().map(|(label, roles, option)| (label.into(), subject(roles, option))).collect()
}

/// The score of generated faults in one variant of layernorm.
fn generated(variant: &str, survivors: &[&str]) -> GeneratedScore {
    let name = |fault: &&str| format!("generated::layernorm::{variant}::{fault}");
    GeneratedScore {
        op: "layernorm".into(),
        variant: variant.into(),
        generated: 40,
        killed: 38 - survivors.len(),
        survived: survivors.len(),
        equivalent: 1,
        not_run: 1,
        survivors: survivors.iter().map(name).collect(),
    }
}

/// A sealed report with rows of most statuses.
pub fn report() -> Report {
    let rows = rows();
    let planned: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let hello = json!({
        "wire": 1, "subject": {"name": "goldgate", "version": "0.1.0"},
        "device": {"kind": "cpu", "name": "a CPU"}, "calls": ["op"],
    });
    let fault = |id: &str, killed| FaultResult {
        folder: String::new(),
        op: "layernorm".into(),
        id: id.into(),
        subject: "harness".into(),
        killed,
    };
    let mut report = Report {
        provenance: Provenance {
            version: "0.1.0".into(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            tree: "clean".into(),
            compared_with: String::new(),
            edited: Vec::new(),
            folders: Vec::new(),
            rustc: "rustc 1.95.0".into(),
            program_sha256: "aa".repeat(32),
            specs_sha256: "bb".repeat(32),
            golden_sha256: "cc".repeat(32),
            kernels_sha256: "dd".repeat(32),
            host: "linux x86_64".into(),
            began: "2026-11-20T10:00:00Z".into(),
            ended: "2026-11-20T10:01:30Z".into(),
            subjects: BTreeMap::from([("cpu".into(), hello)]),
            plan_sha256: hash_names(planned.iter().map(String::as_str)),
        },
        planned,
        rows,
        absent: BTreeMap::from([("cuda".into(), "no CUDA driver".into())]),
        subjects: subjects(),
        faults: vec![fault("M-001", true), fault("M-002", false)],
        generated: vec![
            generated("f16", &["flush.x", "round.x.tf32"]),
            generated("f32", &["flush.x"]),
        ],
        documents: BTreeMap::from([("docs/kernels.md".into(), true)]),
        gates: vec![gate()],
        ..Report::default()
    };
    report.seal().expect("sealed");
    report
}
