//! The families of inputs: what kind of mistakes a case can show.

/// The families of inputs (`Fills` in specs/README.md): what kind of mistakes the inputs can show.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Every partial sum is exact: finds wiring.
    Exact,
    /// Anything else: finds precision.
    Rough,
    /// A malformed question.
    Refused,
}
