//! Which trials a pattern of gates.yaml selects.

use crate::line::Head;
use crate::line::glob::glob;

/// Whether a pattern selects a trial: `stem`, `stem::case` or `stem::case::variant`, with `*`
/// inside a part.
pub fn selects(pattern: &str, trial: &Head) -> bool {
    // Parts that the pattern leaves out match anything.
    let mut parts = [&trial.stem, &trial.case, &trial.variant].into_iter();
    pattern.split("::").all(|part| parts.next().is_some_and(|own| glob(part, own)))
}

/// Whether any of the patterns selects a trial.
pub fn any_selects(patterns: &[String], trial: &Head) -> bool {
    patterns.iter().any(|pattern| selects(pattern, trial))
}
