//! Subjects as written on the command line, and how their processes start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use goldgate_wire::arithmetic::Arithmetic;
use goldgate_wire::words::Claim;

use crate::line::roles::{TAKEN, is_label};
use crate::line::{Profile, Roles};
use crate::subject::worker::HELLO_LIMIT;

/// A subject as written: `cpu`, `cuda:0`, `'COMMAND'` or `'LABEL=COMMAND'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectSpec {
    /// The last part of the names of its trials.
    pub label: String,
    /// How it is reached.
    pub how: How,
    /// The text on the command line.
    pub written: String,
    /// Variables of its environment, besides those of the run.
    pub environment: BTreeMap<String, String>,
    /// How long it may take to answer hello, where its file says so.
    pub start: Option<Duration>,
    /// What may be held against it, in place of what its hello claims.
    pub claims: Option<Vec<Claim>>,
    /// Where it rounds, in place of what its hello declares.
    pub arithmetic: Option<Arithmetic>,
    /// The profile that its owners measure it by.
    pub profile: Option<Profile>,
}

/// How a subject is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The definitions of our engine.
    Cpu,
    /// Our engine on these cards.
    Cuda(Vec<usize>),
    /// Another program, as the words of its command.
    Command(Vec<String>),
    /// The harness itself: it needs no process, because its checks run in this one.
    Harness,
}

/// A subject that cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It is neither a device nor a command.
    #[error("subject {0:?}: wants `cpu`, `cuda:0`, a command, or `LABEL=COMMAND`")]
    Form(String),
    /// Its label is reserved.
    #[error("subject {0:?}: the label is taken, as are {list}", list = TAKEN.join(", "))]
    Taken(String),
    /// Its label is malformed.
    #[error("subject {0:?}: a label is a small letter, then at most 30 of a-z, 0-9 and -")]
    Label(String),
}

/// The roles of our own subject with this label; none for any other label.
pub fn builtin(label: &str) -> Option<Roles> {
    let own = Roles { own: true, ..Roles::default() };
    match label {
        "cpu" => Some(Roles { definition: true, host: true, ..own }),
        // Files and texts are read by the same code as for `cpu`, which is asked about them.
        "cuda" => Some(Roles { card: true, ..own }),
        _ => None,
    }
}

/// Our own subjects, by label.
pub fn builtins() -> BTreeMap<&'static str, Roles> {
    TAKEN.into_iter().filter_map(|label| Some((label, builtin(label)?))).collect()
}

impl SubjectSpec {
    /// The roles of this subject, as far as they are known before it is started.
    pub fn roles(&self) -> Roles {
        builtin(&self.label).unwrap_or(Roles::UNKNOWN)
    }

    /// A subject of which nothing else is known; `written` is the text on the command line.
    pub fn new(label: &str, how: How, written: &str) -> SubjectSpec {
        SubjectSpec {
            label: label.to_owned(),
            how,
            written: written.to_owned(),
            environment: BTreeMap::new(),
            start: None,
            claims: None,
            arithmetic: None,
            profile: None,
        }
    }

    /// The harness itself, whose own checks are trials as well.
    pub fn harness() -> SubjectSpec {
        let name = "harness".to_owned();
        SubjectSpec::new(&name, How::Harness, &name)
    }

    /// Parses a subject as written on the command line.
    ///
    /// # Errors
    /// A device has no number, a label is reserved or malformed, or a command does not split into
    /// words.
    pub fn parse(written: &str) -> Result<SubjectSpec, SubjectError> {
        let form = || SubjectError::Form(written.to_owned());
        let spec = |label: &str, how| SubjectSpec::new(label, how, written);
        if written == "cpu" {
            return Ok(spec("cpu", How::Cpu));
        }
        if let Some(cards) = written.strip_prefix("cuda:") {
            let cards: Option<Vec<usize>> = cards.split(',').map(|c| c.parse().ok()).collect();
            return Ok(spec("cuda", How::Cuda(cards.ok_or_else(form)?)));
        }
        if written == "cuda" {
            return Err(form());
        }
        let (label, command) = match written.split_once('=') {
            // `A=b program` names a label only if `A` looks like one.
            Some((label, command)) if !label.contains([' ', '/', '.']) => (label, command),
            _ => ("ext", written),
        };
        if TAKEN.contains(&label) {
            return Err(SubjectError::Taken(written.to_owned()));
        }
        if !is_label(label) {
            return Err(SubjectError::Label(written.to_owned()));
        }
        match shlex::split(command) {
            Some(words) if !words.is_empty() => Ok(spec(label, How::Command(words))),
            _ => Err(form()),
        }
    }

    /// The option that selects it on a command line, such as `--on cuda:0`; empty for `cpu`, which
    /// is a default.
    pub fn option(&self) -> String {
        match &self.how {
            How::Cpu | How::Harness => String::new(),
            How::Cuda(_) => format!(" --on {}", self.written),
            How::Command(_) => match shlex::try_quote(&self.written) {
                Ok(quoted) => format!(" --on {quoted}"),
                Err(_) => format!(" --on {:?}", self.written),
            },
        }
    }
}

/// How the process of a subject starts: always through our own program, which asks to die with its
/// parent and then becomes the command. No worker is left behind that way if the harness is killed.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Our program.
    pub program: PathBuf,
    /// The subject.
    pub spec: SubjectSpec,
    /// A folder whose kernel sources replace those compiled in.
    pub overlay: Option<PathBuf>,
    /// A folder that the subject may use; hello names it.
    pub scratch: PathBuf,
    /// Replaces the arguments of `worker` for the subject.
    pub arguments: Option<Vec<String>>,
    /// Set from outside when answers are no longer needed.
    pub stop: Option<Arc<AtomicBool>>,
    /// How long hello may take: the time to start.
    pub start: Duration,
    /// What all processes of this subject have in common.
    pub starts: Arc<Starts>,
}

/// How many starts in a row may fail before a subject is given up: what fails twice, each time up
/// to its limit, must not cost that limit in every case that is left.
const GIVEN_UP: u32 = 2;

/// The starts of a subject that failed, in all its places together.
#[derive(Debug, Default)]
pub struct Starts(Mutex<(u32, String)>);

impl Starts {
    /// Why the subject was given up, if it was.
    pub fn given_up(&self) -> Option<String> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, why) = &*failed;
        (*times >= GIVEN_UP).then(|| format!("did not start {times} times in a row: {why}"))
    }

    /// It started.
    pub fn succeeded(&self) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Given up is given up: another place may have seen a start that worked before.
        if failed.0 < GIVEN_UP {
            failed.0 = 0;
        }
    }

    /// It did not start.
    pub fn failed(&self, why: &str) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = (failed.0 + 1, why.to_owned());
    }
}

impl Launch {
    /// Starts `spec` through `program`.
    pub fn new(program: PathBuf, spec: SubjectSpec, scratch: PathBuf) -> Launch {
        let (start, starts) = (spec.start.unwrap_or(HELLO_LIMIT), Arc::default());
        let (overlay, arguments, stop) = (None, None, None);
        Launch { program, spec, overlay, scratch, arguments, stop, start, starts }
    }

    /// The same with a limit that replaces those of all questions: hello, too, takes no longer.
    pub fn capped(mut self, limit: Option<Duration>) -> Launch {
        self.start = limit.map_or(self.start, |limit| limit.min(self.start));
        self
    }

    /// The arguments for our program.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["worker".to_owned()];
        match (&self.arguments, &self.spec.how) {
            (Some(arguments), _) => words.extend(arguments.iter().cloned()),
            (None, How::Command(command)) => {
                // After `--run` come the words of the command itself, which may look like options
                // of ours.
                words.push("--run".to_owned());
                words.push("--".to_owned());
                words.extend(command.iter().cloned());
            }
            (None, _) => words.extend(["--on".to_owned(), self.spec.written.clone()]),
        }
        if let (Some(folder), None) = (&self.overlay, &self.arguments) {
            words.extend(["--cuda".to_owned(), folder.display().to_string()]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(written: &str) -> (String, How) {
        let spec = SubjectSpec::parse(written).expect("a subject");
        (spec.label, spec.how)
    }

    #[test]
    fn subjects_as_written() {
        let words = |w: &[&str]| How::Command(w.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(parsed("cpu"), ("cpu".into(), How::Cpu));
        assert_eq!(parsed("cuda:0"), ("cuda".into(), How::Cuda(vec![0])));
        assert_eq!(parsed("cuda:0,1"), ("cuda".into(), How::Cuda(vec![0, 1])));
        assert_eq!(
            parsed("python3 'my engine.py'"),
            ("ext".into(), words(&["python3", "my engine.py"]))
        );
        assert_eq!(parsed("mine=./a --x=1"), ("mine".into(), words(&["./a", "--x=1"])));
        assert_eq!(parsed("./a --x=1"), ("ext".into(), words(&["./a", "--x=1"])));
    }

    #[test]
    fn a_subject_is_given_up_after_two_failed_starts_in_a_row() {
        let starts = Starts::default();
        for _ in 0..3 {
            starts.failed("silence");
            assert_eq!(starts.given_up(), None);
            starts.succeeded();
        }
        starts.failed("silence");
        starts.failed("more silence");
        let why = "did not start 2 times in a row: more silence";
        assert_eq!(starts.given_up().as_deref(), Some(why));
        starts.succeeded();
        assert_eq!(starts.given_up().as_deref(), Some(why));
    }

    #[test]
    fn what_is_no_subject() {
        for bad in ["cuda", "cuda:", "cuda:x", "", "mine=", "mine='"] {
            assert!(matches!(SubjectSpec::parse(bad), Err(SubjectError::Form(_))), "{bad}");
        }
        for taken in TAKEN {
            let written = format!("{taken}=./engine");
            assert!(matches!(SubjectSpec::parse(&written), Err(SubjectError::Taken(_))));
        }
        assert!(matches!(SubjectSpec::parse("Mine=./a"), Err(SubjectError::Label(_))));
    }

    #[test]
    fn a_failure_page_names_the_subject() {
        let option = |w: &str| SubjectSpec::parse(w).expect("a subject").option();
        assert_eq!(option("cpu"), "");
        assert_eq!(option("cuda:0"), " --on cuda:0");
        assert_eq!(option("mine=python3 a.py"), " --on 'mine=python3 a.py'");
    }
}
