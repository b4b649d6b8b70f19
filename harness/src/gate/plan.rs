//! The plan: every trial that there is, before any subject is asked.

use goldgate_engine::dtype::DType;

use crate::case::Family;
use crate::glob::glob;
use crate::kinds;
use crate::line::Head;
pub use crate::line::head::Sort as TrialKind;
use crate::spec::Specs;

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

/// Every trial of the specs and every check, sorted by name: what the run asks, gates weigh.
pub fn plan(specs: &Specs) -> Vec<Planned> {
    let mut plan: Vec<Planned> =
        kinds::all(specs).iter().map(|trial| Planned::of(trial.head())).collect();
    plan.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

impl Planned {
    /// The trial that a head describes.
    pub fn of(head: &Head) -> Planned {
        Planned {
            name: head.name.clone(),
            kind: head.sort,
            gate: head.gate,
            stem: head.stem.clone(),
            case: head.case.clone(),
            variant: head.variant.clone(),
            family: head.family,
            dtype: head.dtype,
            golden: head.golden.clone(),
            definition: head.definition,
            subjects: head.on.ours(),
        }
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
