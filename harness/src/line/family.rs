//! The families of inputs, by the mistakes that they can reveal.

/// The family of a case's inputs (`Fills` in specs/README.md), by the mistakes that they can
/// reveal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Every partial sum is exact, so any deviation is a wiring mistake.
    Exact,
    /// All other inputs: they reveal a loss of precision.
    Rough,
    /// A malformed question, which must be refused.
    Refused,
}
