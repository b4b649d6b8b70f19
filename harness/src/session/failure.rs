//! Reasons for a session to stop.

use std::io;

use crate::yaml::Problem;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Files that people write are invalid.
    #[error("{} errors", .0.len())]
    Problems(Vec<Problem>),
    /// Something that was requested does not exist.
    #[error("{0}")]
    Absent(String),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The oracle does not answer.
    #[error(transparent)]
    Oracle(#[from] crate::golden::make::OracleError),
    /// The run could not begin.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// The rows could not be written.
    #[error("could not write the report: {0}")]
    Report(#[source] io::Error),
    /// The pages of the report could not be written.
    #[error(transparent)]
    Publish(#[from] crate::report::publish::PublishError),
    /// Output could not be written.
    #[error("could not write: {0}")]
    Io(#[from] io::Error),
}
