//! Which trials a pattern of gates.yaml selects.

use crate::line::Head;
use crate::line::glob::glob;

/// Whether `stem`, `stem::case` or `stem::case::variant`, with `*` inside a part, selects a trial.
pub fn selects(pattern: &str, trial: &Head) -> bool {
    let mut parts = [&trial.stem, &trial.case, &trial.variant].into_iter();
    pattern.split("::").all(|part| parts.next().is_some_and(|own| glob(part, own)))
}

/// Whether any pattern selects a trial.
pub fn any_selects(patterns: &[String], trial: &Head) -> bool {
    patterns.iter().any(|pattern| selects(pattern, trial))
}
