//! What a kind of trial is: it says what it asks and how it judges; everything else (who is asked,
//! when, what an event is called, what a row and a page look like) is the same for all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldgate_wire::Tensors;

use crate::kinds::model::case::ModelCase;
use crate::kinds::model::golden::ModelGolden;
use crate::kinds::mutant::Mutant;
use crate::kinds::op::case::Case;
use crate::kinds::op::golden::Golden;
use crate::line::{BrokenKind, Caller, Fate, Head, Judgement, NotRun, Stopped, Verdict, Whom};

/// What the definition of an op answers in a golden's place, or why it does not.
pub type Defined = Result<Arc<Golden>, String>;

/// Where goldens come from.
pub trait Goldens: Sync {
    /// The golden of a case, its inputs held against those that it was made for.
    ///
    /// # Errors
    /// Why there is none to judge by.
    fn golden(&self, case: &Case) -> Result<Golden, Withheld>;

    /// What the definition answers to a case; an implementation may keep it for the cases that
    /// share it.
    fn defined(&self, _case: &Case, define: &dyn Fn() -> Defined) -> Defined {
        define()
    }

    /// The golden of a case about a model; an empty one where the case has none.
    ///
    /// # Errors
    /// Why there is none to judge by.
    fn model(&self, case: &ModelCase) -> Result<ModelGolden, Withheld> {
        let message = format!("{} is not kept here", case.full_name());
        Err(Withheld::NotRun(NotRun::NoGolden, message))
    }

    /// Folders of checkpoints that are not shipped.
    fn models(&self) -> &[PathBuf] {
        &[]
    }

    /// The folder below which files that cases name are looked for.
    fn folder(&self) -> &Path {
        Path::new("")
    }
}

/// Why a trial cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Something is wrong with what it rests on.
    Broken(BrokenKind, String),
    /// Something that it rests on is not here.
    NotRun(NotRun, String),
}

impl Withheld {
    /// What the row is called.
    pub fn verdict(self) -> Verdict {
        match self {
            Withheld::Broken(kind, message) => Verdict::Broken { kind, message },
            Withheld::NotRun(kind, message) => Verdict::NotRun { kind, message },
        }
    }

    /// Why, in words.
    pub fn message(self) -> String {
        match self {
            Withheld::Broken(_, message) | Withheld::NotRun(_, message) => message,
        }
    }
}

/// A right answer and a wrong one, where one message of tensors is the whole answer.
#[derive(Clone, Debug)]
pub struct Answers {
    /// What must pass.
    pub right: Tensors,
    /// What must not.
    pub wrong: Tensors,
}

/// Changes an answer in place: the part of a planted fault that no question can express.
pub type Twist<G> = Box<dyn Fn(&mut G) + Send + Sync>;

/// A fault as it is planted.
pub enum Plant<Q, G> {
    /// Another question is put to the subject; its answer is changed where the fault says so.
    Asked(Q, Option<Twist<G>>),
    /// The answer is known: somebody else has computed it.
    Answered(G),
}

/// A kind of trial.
pub trait Kind: Clone + Send + Sync + 'static {
    /// What a spec says.
    type Case: Send + Sync;
    /// What a subject is asked, without what is expected of it.
    type Question: Send;
    /// What is expected.
    type Golden: Send;
    /// What a subject answered.
    type Got;

    /// What every trial has.
    fn head(&self, case: &Self::Case) -> Head;

    /// About how much memory preparing a case takes, in bytes.
    fn cost(&self, _case: &Self::Case) -> u64 {
        0
    }

    /// About how much memory a question holds that is ready to be asked, in bytes.
    fn held(&self, _question: &Self::Question, _golden: &Self::Golden) -> u64 {
        0
    }

    /// Cases with the same key share what [`Goldens::defined`] gives.
    fn shares(&self, _case: &Self::Case) -> Option<String> {
        None
    }

    /// Reads what is expected.
    ///
    /// # Errors
    /// Why there is nothing to judge by.
    fn golden(&self, case: &Self::Case, from: &dyn Goldens) -> Result<Self::Golden, Withheld>;

    /// The judge on trial, on the golden alone: how many planted faults it was asked about, and
    /// how many it noticed.
    ///
    /// # Errors
    /// A right answer that it refuses, or a wrong one that it lets pass.
    fn self_check(&self, case: &Self::Case, golden: &Self::Golden) -> Result<(u32, u32), String>;

    /// The question of a case.
    ///
    /// # Errors
    /// A file that it rests on is not here.
    fn question(
        &self,
        case: &Self::Case,
        golden: &Self::Golden,
        from: &dyn Goldens,
    ) -> Result<Self::Question, Withheld>;

    /// Puts it. Repeats, chunks and other ways of asking are parts of what comes back.
    ///
    /// # Errors
    /// The trial is over before its answers are all there.
    fn ask(&self, question: &Self::Question, to: &mut Caller<'_>) -> Result<Self::Got, Stopped>;

    /// Judges what came back.
    fn judge(
        &self,
        case: &Self::Case,
        golden: &Self::Golden,
        got: &Self::Got,
        whom: &Whom,
    ) -> Judgement;

    /// Answers that are known beforehand, for a subject that only hands them out.
    fn answers(&self, _golden: &Self::Golden) -> Option<Answers> {
        None
    }

    /// Lines of a failure page that say what was expected; the golden is there where it was read.
    fn detail(
        &self,
        _case: &Self::Case,
        _golden: Option<&Self::Golden>,
    ) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// A listed fault, planted in a case's question or answer.
    ///
    /// # Errors
    /// A fault that cannot be planted there, in words.
    fn plant(
        &self,
        _case: &Self::Case,
        _golden: &Self::Golden,
        _mutant: &Mutant,
        _from: &dyn Goldens,
    ) -> Result<Plant<Self::Question, Self::Got>, String> {
        Err("no fault is planted in cases of this kind".to_owned())
    }

    /// What became of a fault, by the judgement of its answer.
    fn fate(&self, case: &Self::Case, _mutant: &Mutant, judgement: &Judgement) -> Fate {
        fate(&self.head(case).variant, judgement)
    }
}

/// A failure has noticed the fault; whatever else came of it has not.
pub fn fate(variant: &str, judgement: &Judgement) -> Fate {
    match &judgement.verdict {
        Verdict::Fail { kind, .. } => {
            Fate::Killed { variant: variant.to_owned(), by: kind.word().to_owned() }
        }
        Verdict::Pass => Fate::Survived { why: format!("{variant}: it passes") },
        Verdict::NotRun { kind: NotRun::Stopped | NotRun::DeviceLost, message } => {
            Fate::NotRun { why: format!("{variant}: {message}") }
        }
        other => Fate::Survived { why: format!("{variant}: {other:?}") },
    }
}

/// A case of some kind, as the run sees it.
pub trait Trial: Send + Sync {
    /// What every trial has.
    fn head(&self) -> &Head;

    /// About how much memory preparing it takes, in bytes.
    fn cost(&self) -> u64;

    /// The key of what it shares with other trials.
    fn shares(&self) -> Option<String>;

    /// Reads, fills, and puts the judge on trial; afterwards it only has to be asked.
    ///
    /// # Errors
    /// Why it cannot be judged.
    fn prepare(&self, from: &dyn Goldens) -> Result<Box<dyn Ready>, Withheld>;

    /// The same with a listed fault in its question or answer.
    ///
    /// # Errors
    /// What became of a fault that could not be planted.
    fn plant(&self, from: &dyn Goldens, mutant: &Mutant) -> Result<Box<dyn Ready>, Fate>;

    /// What became of a fault, by the judgement of its answer.
    fn fate(&self, mutant: &Mutant, judgement: &Judgement) -> Fate;

    /// Answers that are known beforehand, where the kind has such and the golden is here.
    fn answers(&self, from: &dyn Goldens) -> Option<Answers>;

    /// A trial that could not be judged, with the lines of its page.
    fn withheld(&self, why: Withheld) -> Judgement;
}

/// A trial that only has to be asked.
pub trait Ready: Send {
    /// About how much memory it holds, in bytes.
    fn held(&self) -> u64;

    /// How many faults the judge was asked about on its golden, and how many it noticed.
    fn faults(&self) -> (u32, u32);

    /// Asks and judges.
    fn ask(&self, to: &mut Caller<'_>, whom: &Whom) -> Judgement;
}

/// A case with its kind.
pub struct Of<K: Kind> {
    kind: K,
    case: Arc<K::Case>,
    head: Head,
}

impl<K: Kind> Of<K> {
    /// The trial of a case.
    pub fn new(kind: K, case: Arc<K::Case>) -> Of<K> {
        let head = kind.head(&case);
        Of { kind, case, head }
    }

    fn planned(&self, from: &dyn Goldens) -> Result<Prepared<K>, Withheld> {
        let golden = self.kind.golden(&self.case, from)?;
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

impl<K: Kind> Trial for Of<K>
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
        // A definition is too dear to be computed for this.
        let stored = self.head.golden.is_some();
        stored.then(|| self.kind.golden(&self.case, from).ok())?.and_then(|g| self.kind.answers(&g))
    }

    fn withheld(&self, why: Withheld) -> Judgement {
        let mut judgement = Judgement::of(why.verdict());
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
                    twist.iter().for_each(|twist| twist(&mut got));
                    self.kind.judge(&self.case, &self.golden, &got, whom)
                }
                Err(stopped) => Judgement::of(stopped.verdict()),
            },
            Plant::Answered(got) => self.kind.judge(&self.case, &self.golden, got, whom),
        };
        judgement.detail.extend(self.kind.detail(&self.case, Some(&self.golden)));
        judgement
    }
}
