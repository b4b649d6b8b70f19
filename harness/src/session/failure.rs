//! Why a session stopped.

use std::io;

use crate::yaml::Problem;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Files that people write are wrong.
    #[error("{} errors", .0.len())]
    Problems(Vec<Problem>),
    /// What was asked for is not there.
    #[error("{0}")]
    Absent(String),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The oracle does not answer.
    #[error(transparent)]
    Oracle(#[from] crate::golden::make::OracleError),
    /// A run that could not be told.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// A report could not be written.
    #[error(transparent)]
    Publish(#[from] crate::report::publish::PublishError),
    /// Output went nowhere.
    #[error("could not write: {0}")]
    Io(#[from] io::Error),
}
