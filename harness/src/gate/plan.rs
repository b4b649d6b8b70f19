//! The plan: every trial that there is, before any subject is asked.

use goldgate_engine::dtype::DType;

use crate::case::{Case, Expect, Family, GoldenSource};
use crate::container::ContainerCase;
use crate::glob::glob;
use crate::models::ModelCase;
use crate::models::row::family;
use crate::spec::Specs;
use crate::tokens::TokenCase;

/// What a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrialKind {
    /// A case of an op, or files.
    Case,
    /// A question that is timed.
    Bench,
    /// A check of the harness itself, or of the engine as a whole.
    Check,
}

/// One trial without its subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// `gate1::layernorm::ragged::f16`.
    pub name: String,
    /// What it is.
    pub kind: TrialKind,
    /// The gate.
    pub gate: u8,
    /// The stem.
    pub stem: String,
    /// The case.
    pub case: String,
    /// The variant.
    pub variant: String,
    /// The family, as far as the spec shows it.
    pub family: Family,
    /// The activation type; none for checks.
    pub dtype: Option<DType>,
    /// The golden's path, or `written`; none for refusals and the definition.
    pub golden: Option<String>,
    /// Whether the CPU definition answers in place of a golden.
    pub definition: bool,
    /// The subjects that are asked.
    pub subjects: Vec<String>,
}

/// A check that is no case: code of the harness under a trial's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The gate.
    pub gate: u8,
    /// The first part of its name: `tamper`, `layer`.
    pub stem: String,
    /// Its own name.
    pub case: String,
    /// The subjects that it is asked of: `harness`, or `cpu` and `cuda`.
    pub subjects: Vec<String>,
}

/// Every trial of the specs and every check, sorted by name.
pub fn plan(specs: &Specs, checks: &[Check]) -> Vec<Planned> {
    let cases = specs.cases().map(|case| of_case(case, TrialKind::Case));
    let benches = specs.benches().map(|bench| of_case(&bench.case, TrialKind::Bench));
    let files = specs.files().map(of_file);
    let mut plan: Vec<Planned> = cases.chain(benches).chain(files).collect();
    plan.extend(specs.tokens.iter().map(of_tokens));
    plan.extend(specs.models.iter().map(of_model));
    plan.extend(checks.iter().map(|check| Planned {
        name: format!("gate{}::{}::{}::self", check.gate, check.stem, check.case),
        kind: TrialKind::Check,
        gate: check.gate,
        stem: check.stem.clone(),
        case: check.case.clone(),
        variant: "self".into(),
        family: Family::Rough,
        dtype: None,
        golden: None,
        definition: false,
        subjects: check.subjects.clone(),
    }));
    plan.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

/// A file is opened without a device, so it is asked of the CPU alone.
fn of_file(case: &ContainerCase) -> Planned {
    Planned {
        name: case.full_name(),
        kind: TrialKind::Case,
        gate: case.gate,
        stem: case.stem.clone(),
        case: case.name.clone(),
        variant: "file".into(),
        family: case.family(),
        dtype: None,
        golden: None,
        definition: false,
        subjects: vec!["cpu".to_owned()],
    }
}

fn of_case(case: &Case, kind: TrialKind) -> Planned {
    let (golden, definition) = match &case.expect {
        Expect::Refusal { .. } => (None, false),
        Expect::Answer { golden: GoldenSource::Definition, .. } => (None, true),
        Expect::Answer { golden: GoldenSource::File(path), .. } => (Some(path.clone()), false),
        Expect::Answer { golden: GoldenSource::Written(_), .. } => {
            (Some(format!("written {}::{}", case.stem, case.name)), false)
        }
    };
    // The definition answers there, so it is never asked of the cpu; nor is the cpu timed.
    let subjects: &[&str] = if definition { &["cuda"] } else { &["cpu", "cuda"] };
    Planned {
        name: case.full_name(),
        kind,
        gate: case.gate,
        stem: case.stem.clone(),
        case: case.name.clone(),
        variant: case.variant.clone(),
        family: case.family,
        dtype: Some(case.ask.dtype),
        golden,
        definition: definition && kind == TrialKind::Case,
        subjects: subjects.iter().map(|&s| s.to_owned()).collect(),
    }
}

fn of_tokens(case: &TokenCase) -> Planned {
    Planned {
        name: case.full_name(),
        kind: TrialKind::Case,
        gate: case.gate,
        stem: case.stem.clone(),
        case: case.name.clone(),
        variant: case.variant.clone(),
        family: Family::Exact,
        dtype: None,
        golden: Some(format!("written {}::{}", case.stem, case.name)),
        definition: false,
        subjects: vec!["cpu".to_owned()],
    }
}

fn of_model(case: &ModelCase) -> Planned {
    Planned {
        name: case.full_name(),
        kind: TrialKind::Case,
        gate: case.gate,
        stem: case.stem.clone(),
        case: case.name.clone(),
        variant: case.variant.clone(),
        family: family(case),
        dtype: case.activations,
        golden: case.golden.clone(),
        definition: false,
        subjects: vec!["cpu".to_owned(), "cuda".to_owned()],
    }
}

/// Whether `stem`, `stem::case` or `stem::case::variant`, with `*` inside a part, selects a trial.
pub fn selects(pattern: &str, trial: &Planned) -> bool {
    let mut parts = [&trial.stem, &trial.case, &trial.variant].into_iter();
    pattern.split("::").all(|part| parts.next().is_some_and(|own| glob(part, own)))
}

/// Whether any pattern selects a trial.
pub fn any_selects(patterns: &[String], trial: &Planned) -> bool {
    patterns.iter().any(|pattern| selects(pattern, trial))
}
