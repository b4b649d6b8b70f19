//! Reasons for a command to stop.

use std::io;

use goldgate_harness::session::exit::Exit;
use goldgate_harness::yaml::Problem;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Files that people write are invalid.
    #[error("{} errors", .0.len())]
    Problems(Vec<Problem>),
    /// A model file is malformed.
    #[error(transparent)]
    Malformed(Box<goldgate_engine::weights::Malformed>),
    /// A result is NaN or infinite: the file, which result, how many.
    #[error("{0}")]
    NotFinite(String),
    /// Something that was requested does not exist.
    #[error("{0}")]
    Absent(String),
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The oracle does not answer.
    #[error(transparent)]
    Oracle(#[from] goldgate_harness::golden::make::OracleError),
    /// The run could not begin.
    #[error(transparent)]
    Run(#[from] goldgate_harness::run::RunError),
    /// The rows could not be written.
    #[error("could not write the report: {0}")]
    Report(#[source] io::Error),
    /// The pages of the report could not be written.
    #[error(transparent)]
    Publish(#[from] goldgate_harness::report::publish::PublishError),
    /// The report could not be attested.
    #[error(transparent)]
    Attest(#[from] goldgate_harness::report::attestation::AttestError),
    /// Output could not be written.
    #[error("could not write: {0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        use goldgate_harness::report::attestation::AttestError;
        match self {
            Failure::Problems(_) | Failure::Malformed(_) | Failure::NotFinite(_) => Exit::BadInput,
            Failure::Absent(_) => Exit::Absent,
            Failure::Usage(_) => Exit::Usage,
            // An oracle that does not run is something that this machine lacks.
            Failure::Oracle(_) => Exit::Absent,
            Failure::Attest(AttestError::NoProgram(_)) => Exit::Absent,
            Failure::Attest(AttestError::Unsigned(_)) => Exit::BadInput,
            Failure::Attest(_)
            | Failure::Publish(_)
            | Failure::Report(_)
            | Failure::Run(_)
            | Failure::Io(_) => Exit::Ours,
        }
    }
}

impl From<goldgate_harness::session::Failure> for Failure {
    fn from(failure: goldgate_harness::session::Failure) -> Failure {
        use goldgate_harness::session::Failure as Session;
        match failure {
            Session::Problems(problems) => Failure::Problems(problems),
            Session::Absent(what) => Failure::Absent(what),
            Session::Usage(what) => Failure::Usage(what),
            Session::Oracle(error) => Failure::Oracle(error),
            Session::Run(error) => Failure::Run(error),
            Session::Report(error) => Failure::Report(error),
            Session::Publish(error) => Failure::Publish(error),
            Session::Io(error) => Failure::Io(error),
        }
    }
}
