//! The interface of a kind of trial: what it asks and how it judges. Everything else (which subject
//! is asked and when, the names of events, the form of rows and pages) is the same for all kinds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldgate_wire::Tensors;

use crate::kinds::model::case::ModelCase;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::mutant::Mutant;
use crate::kinds::op::case::Case;
use crate::kinds::op::golden::Golden;
use crate::line::{BrokenKind, Caller, Fate, Head, Judgement, NotRun, Stopped, Verdict, Whom};

/// The definition's answer that stands in for a golden, or the reason why there is none.
pub type Defined = Result<Arc<Golden>, String>;

/// The source of goldens.
pub trait Goldens: Sync {
    /// The golden of a case, after checking that it was made for the case's inputs.
    ///
    /// # Errors
    /// Why there is no golden to judge by.
    fn golden(&self, case: &Case) -> Result<Golden, Withheld>;

    /// The definition's answer to a case. An implementation may keep it for the cases that share
    /// it.
    fn defined(&self, _case: &Case, define: &dyn Fn() -> Defined) -> Defined {
        define()
    }

    /// The golden of a case about a model; an empty one if the case has none.
    ///
    /// # Errors
    /// Why there is no golden to judge by.
    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        let message = format!("{} is not kept here", case.full_name());
        Err(Withheld::NotRun(NotRun::NoGolden, message))
    }

    /// Folders with checkpoints that are not shipped.
    fn models(&self) -> &[PathBuf] {
        &[]
    }

    /// The folder that contains the files which cases name.
    fn folder(&self) -> &Path {
        Path::new("")
    }
}

/// Why a trial cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Something that it depends on is broken.
    Broken(BrokenKind, String),
    /// Something that it depends on is missing here.
    NotRun(NotRun, String),
}

impl Withheld {
    /// The verdict of the row.
    pub fn verdict(self) -> Verdict {
        match self {
            Withheld::Broken(kind, message) => Verdict::Broken { kind, message },
            Withheld::NotRun(kind, message) => Verdict::NotRun { kind, message },
        }
    }

    /// The reason, in words.
    pub fn message(self) -> String {
        match self {
            Withheld::Broken(_, message) | Withheld::NotRun(_, message) => message,
        }
    }
}

/// A right and a wrong answer, for kinds whose whole answer is one message of tensors.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Tensors that must pass.
    pub right: Tensors,
    /// Tensors that must fail.
    pub wrong: Tensors,
}

/// Changes an answer in place, for the part of a planted fault that no question can express.
pub type Twist<G> = Box<dyn Fn(&mut G) + Send + Sync>;

/// A planted fault.
pub enum Plant<Q, G> {
    /// A different question is put to the subject, and its answer is changed if the fault demands
    /// it.
    Asked(Q, Option<Twist<G>>),
    /// The wrong answer is known: the oracle has computed it.
    Answered(G),
}

/// A kind of trial.
pub trait Kind: Clone + Send + Sync + 'static {
    /// A case as the spec states it.
    type Case: Send + Sync;
    /// The question to a subject, without what is expected: asking must not see the answer.
    type Question: Send;
    /// What is expected.
    type Golden: Send;
    /// The answers of a subject.
    type Got;

    /// The head of a trial.
    fn head(&self, case: &Self::Case) -> Head;

    /// An estimate of the memory in bytes that preparing a case takes.
    fn cost(&self, _case: &Self::Case) -> u64 {
        0
    }

    /// An estimate of the memory in bytes that a prepared question holds.
    fn held(&self, _question: &Self::Question, _golden: &Self::Golden) -> u64 {
        0
    }

    /// The key of what a case shares: cases with the same key share the result of
    /// [`Goldens::defined`].
    fn shares(&self, _case: &Self::Case) -> Option<String> {
        None
    }

    /// Reads what is expected.
    ///
    /// # Errors
    /// Why there is nothing to judge by.
    fn golden(&self, case: &Self::Case, from: &dyn Goldens) -> Result<Self::Golden, Withheld>;

    /// Tests the judge on the golden alone. Returns how many planted faults it was given, and how
    /// many it detected.
    ///
    /// # Errors
    /// It refused a right answer, or accepted a wrong one.
    fn self_check(&self, case: &Self::Case, golden: &Self::Golden) -> Result<(u32, u32), String>;

    /// The question of a case.
    ///
    /// # Errors
    /// A file that it depends on is missing here.
    fn question(
        &self,
        case: &Self::Case,
        golden: &Self::Golden,
        from: &dyn Goldens,
    ) -> Result<Self::Question, Withheld>;

    /// Puts the question. Repetitions, chunks and other forms of asking are part of the answers.
    ///
    /// # Errors
    /// The trial ended before all its answers arrived.
    fn ask(&self, question: &Self::Question, to: &mut Caller<'_>) -> Result<Self::Got, Stopped>;

    /// Judges the answers.
    fn judge(
        &self,
        case: &Self::Case,
        golden: &Self::Golden,
        got: &Self::Got,
        whom: &Whom,
    ) -> Judgement;

    /// Answers that are known beforehand, for a subject that only replays them.
    fn answers(&self, _golden: &Self::Golden) -> Option<Answers> {
        None
    }

    /// Lines for a failure page that describe what was expected; the golden is given if it was
    /// read.
    fn detail(
        &self,
        _case: &Self::Case,
        _golden: Option<&Self::Golden>,
    ) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Plants a listed fault in a case's question or answer.
    ///
    /// # Errors
    /// Why the fault cannot be planted there, in words.
    fn plant(
        &self,
        _case: &Self::Case,
        _golden: &Self::Golden,
        _mutant: &Mutant,
        _from: &dyn Goldens,
    ) -> Result<Plant<Self::Question, Self::Got>, String> {
        Err("no fault is planted in cases of this kind".to_owned())
    }

    /// The outcome of a fault, given the judgement of its answer.
    fn fate(&self, case: &Self::Case, _mutant: &Mutant, judgement: &Judgement) -> Fate {
        fate(&self.head(case).variant, judgement)
    }
}

/// The outcome of a fault: only a failure has detected it.
pub fn fate(variant: &str, judgement: &Judgement) -> Fate {
    match &judgement.verdict {
        Verdict::Fail { kind, .. } => {
            Fate::Killed { variant: variant.to_owned(), by: kind.word().to_owned() }
        }
        Verdict::Pass => Fate::Survived { why: format!("{variant}: it passes") },
        // The fault itself cannot cause these, so they say nothing about the case.
        Verdict::NotRun { kind: NotRun::Stopped | NotRun::DeviceLost, message } => {
            Fate::NotRun { why: format!("{variant}: {message}") }
        }
        other => Fate::Survived { why: format!("{variant}: {other:?}") },
    }
}

/// A case of any kind, as the run sees it.
pub trait Trial: Send + Sync {
    /// The head of the trial.
    fn head(&self) -> &Head;

    /// An estimate of the memory in bytes that preparing it takes.
    fn cost(&self) -> u64;

    /// The key of what it shares with other trials.
    fn shares(&self) -> Option<String>;

    /// Reads the golden, computes the inputs and tests the judge. After that the trial only has to
    /// be asked.
    ///
    /// # Errors
    /// Why it cannot be judged.
    fn prepare(&self, from: &dyn Goldens) -> Result<Box<dyn Ready>, Withheld>;

    /// Prepares the trial with a listed fault in its question or answer.
    ///
    /// # Errors
    /// The outcome of a fault that could not be planted.
    fn plant(&self, from: &dyn Goldens, mutant: &Mutant) -> Result<Box<dyn Ready>, Fate>;

    /// The outcome of a fault, given the judgement of its answer.
    fn fate(&self, mutant: &Mutant, judgement: &Judgement) -> Fate;

    /// Answers that are known beforehand, if the kind has them and the golden is available.
    fn answers(&self, from: &dyn Goldens) -> Option<Answers>;

    /// The judgement of a trial that could not be judged, with the lines of its page.
    fn withheld(&self, why: Withheld) -> Judgement;
}

/// A prepared trial.
pub trait Ready: Send {
    /// An estimate of the memory in bytes that it holds.
    fn held(&self) -> u64;

    /// How many faults the judge was given on its golden, and how many it detected.
    fn faults(&self) -> (u32, u32);

    /// Asks the question and judges the answers.
    fn ask(&self, to: &mut Caller<'_>, whom: &Whom) -> Judgement;
}

/// A case together with its kind.
pub struct CaseTrial<K: Kind> {
    kind: K,
    case: Arc<K::Case>,
    head: Head,
}

impl<K: Kind> CaseTrial<K> {
    /// The trial of a case.
    pub fn new(kind: K, case: Arc<K::Case>) -> CaseTrial<K> {
        let head = kind.head(&case);
        CaseTrial { kind, case, head }
    }

    fn planned(&self, from: &dyn Goldens) -> Result<Prepared<K>, Withheld> {
        let golden = self.kind.golden(&self.case, from)?;
        // Before any question: the verdict of a judge that cannot tell right from wrong is
        // worthless.
        let faults = self
            .kind
            .self_check(&self.case, &golden)
            .map_err(|message| Withheld::Broken(BrokenKind::SelfCheck, message))?;
        let question = self.kind.question(&self.case, &golden, from)?;
        let plant = Plant::Asked(question, None);
        Ok(Prepared {
            kind: self.kind.clone(),
            case: Arc::clone(&self.case),
            golden,
            faults,
            plant,
        })
    }
}

struct Prepared<K: Kind> {
    kind: K,
    case: Arc<K::Case>,
    golden: K::Golden,
    faults: (u32, u32),
    plant: Plant<K::Question, K::Got>,
}

impl<K: Kind> Trial for CaseTrial<K>
where
    K::Got: Send,
{
    fn head(&self) -> &Head {
        &self.head
    }

    fn cost(&self) -> u64 {
        self.kind.cost(&self.case)
    }

    fn shares(&self) -> Option<String> {
        self.kind.shares(&self.case)
    }

    fn prepare(&self, from: &dyn Goldens) -> Result<Box<dyn Ready>, Withheld> {
        Ok(Box::new(self.planned(from)?))
    }

    fn plant(&self, from: &dyn Goldens, mutant: &Mutant) -> Result<Box<dyn Ready>, Fate> {
        // The judge is not tested again here: the unplanted trial has done that.
        let golden = self.kind.golden(&self.case, from);
        let golden = golden.map_err(|withheld| Fate::NotRun { why: withheld.message() })?;
        let plant = self.kind.plant(&self.case, &golden, mutant, from);
        let variant = &self.head.variant;
        let plant = plant.map_err(|why| Fate::Survived { why: format!("{variant}: {why}") })?;
        let (kind, case) = (self.kind.clone(), Arc::clone(&self.case));
        Ok(Box::new(Prepared { kind, case, golden, faults: (0, 0), plant }))
    }

    fn fate(&self, mutant: &Mutant, judgement: &Judgement) -> Fate {
        self.kind.fate(&self.case, mutant, judgement)
    }

    fn answers(&self, from: &dyn Goldens) -> Option<Answers> {
        // Computing a definition would cost too much for this purpose.
        let stored = self.head.golden.is_some();
        stored.then(|| self.kind.golden(&self.case, from).ok())?.and_then(|g| self.kind.answers(&g))
    }

    fn withheld(&self, why: Withheld) -> Judgement {
        let mut judgement = Judgement::unmeasured(why.verdict());
        // The page still says what was expected, although there is no golden to show.
        judgement.detail = self.kind.detail(&self.case, None);
        judgement
    }
}

impl<K: Kind> Ready for Prepared<K>
where
    K::Got: Send,
{
    fn held(&self) -> u64 {
        match &self.plant {
            Plant::Asked(question, _) => self.kind.held(question, &self.golden),
            Plant::Answered(_) => 0,
        }
    }

    fn faults(&self) -> (u32, u32) {
        self.faults
    }

    fn ask(&self, to: &mut Caller<'_>, whom: &Whom) -> Judgement {
        let mut judgement = match &self.plant {
            Plant::Asked(question, twist) => match self.kind.ask(question, to) {
                Ok(mut got) => {
                    // Before judging, so that the judge sees the answer as if the subject had given
                    // it.
                    twist.iter().for_each(|twist| twist(&mut got));
                    self.kind.judge(&self.case, &self.golden, &got, whom)
                }
                Err(stopped) => Judgement::unmeasured(stopped.verdict()),
            },
            Plant::Answered(got) => self.kind.judge(&self.case, &self.golden, got, whom),
        };
        judgement.detail.extend(self.kind.detail(&self.case, Some(&self.golden)));
        judgement
    }
}
