//! The kind *self*: checks of the harness itself, and checks of a subject as a whole.

use std::time::Duration;

use goldgate_wire::call::{Check, Checked};

use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Caller, FailKind, Family, Head, Judgement, On, Sort, Stopped, Verdict, Whom};

/// The time limit of a check by a subject.
const LIMIT: Duration = Duration::from_secs(120);

/// Checks of the harness: tampering must be detected. No subject is asked.
#[derive(Clone, Copy, Debug)]
pub struct Own;

/// Checks that a subject performs on itself.
#[derive(Clone, Copy, Debug)]
pub struct OfSubject;

fn head(gate: u8, (stem, case): (&str, &str), why: &str, on: On) -> Head {
    Head {
        name: format!("gate{gate}::{stem}::{case}::self"),
        kind: "self",
        sort: Sort::Check,
        gate,
        stem: stem.to_owned(),
        case: case.to_owned(),
        variant: "self".to_owned(),
        why: why.to_owned(),
        source: String::new(),
        place: None,
        family: Family::Rough,
        dtype: None,
        golden: None,
        definition: false,
        slow: false,
        on,
        group: None,
    }
}

impl Kind for Own {
    type Case = HarnessCheck;
    type Question = HarnessCheck;
    type Golden = ();
    type Got = Result<(), String>;

    fn head(&self, check: &HarnessCheck) -> Head {
        head(check.gate, (check.stem, check.case), check.why, On::Harness)
    }

    fn golden(&self, _: &HarnessCheck, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, _: &HarnessCheck, (): &()) -> Result<(u32, u32), String> {
        // No subject answers such a check, so there is no judgement to be tested.
        Ok((0, 0))
    }

    fn question(
        &self,
        check: &HarnessCheck,
        (): &(),
        _: &dyn Goldens,
    ) -> Result<HarnessCheck, Withheld> {
        Ok(*check)
    }

    fn ask(&self, check: &HarnessCheck, _: &mut Caller<'_>) -> Result<Result<(), String>, Stopped> {
        Ok((check.run)().map_err(|unnoticed| unnoticed.to_string()))
    }

    fn judge(&self, _: &HarnessCheck, (): &(), got: &Result<(), String>, _: &Whom) -> Judgement {
        match got {
            Ok(()) => Judgement::unmeasured(Verdict::Pass),
            Err(why) => Judgement::fail(FailKind::Internal, why.clone()),
        }
    }
}

impl Kind for OfSubject {
    type Case = SubjectCheck;
    type Question = SubjectCheck;
    type Golden = ();
    type Got = Checked;

    fn head(&self, check: &SubjectCheck) -> Head {
        head(check.gate, (check.stem, check.case), check.why, check.on)
    }

    fn golden(&self, _: &SubjectCheck, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, check: &SubjectCheck, (): &()) -> Result<(u32, u32), String> {
        let passes = |fails: Option<&str>| {
            let checked = Checked { fails: fails.map(str::to_owned) };
            self.judge(check, &(), &checked, &Whom::Cpu).passed()
        };
        // An empty reason is still a failure: a subject must not pass by saying nothing.
        match (passes(None), passes(Some("it does not hold")), passes(Some(""))) {
            (true, false, false) => Ok((0, 0)),
            _ => Err("a check that does not hold passes, or one that holds fails".to_owned()),
        }
    }

    fn question(
        &self,
        check: &SubjectCheck,
        (): &(),
        _: &dyn Goldens,
    ) -> Result<SubjectCheck, Withheld> {
        Ok(*check)
    }

    fn ask(&self, check: &SubjectCheck, to: &mut Caller<'_>) -> Result<Checked, Stopped> {
        to.set_limit(LIMIT);
        to.call(&Check { stem: check.stem.to_owned(), case: check.case.to_owned() })
    }

    fn judge(&self, _: &SubjectCheck, (): &(), got: &Checked, _: &Whom) -> Judgement {
        match &got.fails {
            None => Judgement::unmeasured(Verdict::Pass),
            Some(why) => Judgement::fail(FailKind::Load, why.clone()),
        }
    }
}

/// One check of the harness.
#[derive(Clone, Copy, Debug)]
pub struct HarnessCheck {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The first part of its name.
    pub stem: &'static str,
    /// Its own name.
    pub case: &'static str,
    /// What is tampered with, in words.
    pub why: &'static str,
    /// Performs the check.
    pub run: fn() -> Result<(), Unnoticed>,
}

/// Tampering that the harness did not detect.
#[derive(Debug, thiserror::Error)]
pub enum Unnoticed {
    /// It reported a different code.
    #[error("said {reported}, expected {expected}")]
    OtherCode {
        /// The code; `nothing` if there was no complaint.
        reported: String,
        /// The code that was expected.
        expected: &'static str,
    },
    /// The scratch folder failed.
    #[error("could not tamper: {0}")]
    Io(#[from] std::io::Error),
    /// The intact golden was refused.
    #[error("the untampered golden was refused: {0}")]
    Good(String),
}

/// A check of a subject as a whole, which the subject answers under
/// `gate1::<stem>::<case>::self::<subject>`. A check that no subject answers did not run.
#[derive(Clone, Copy, Debug)]
pub struct SubjectCheck {
    /// The gate that it belongs to.
    pub gate: u8,
    /// The first part of its name.
    pub stem: &'static str,
    /// Its own name.
    pub case: &'static str,
    /// What must hold.
    pub why: &'static str,
    /// The subjects that it applies to.
    pub on: On,
}

const fn subject(
    (stem, case): (&'static str, &'static str),
    why: &'static str,
    on: On,
) -> SubjectCheck {
    SubjectCheck { gate: 1, stem, case, why, on }
}

/// All checks of subjects, in alphabetical order.
pub const SUBJECT_CHECKS: &[SubjectCheck] = &[
    subject(
        ("fault", "bad_id_is_refused"),
        "an id out of range, which only the data show, is refused by name and stores nothing",
        On::Own,
    ),
    subject(
        ("fault", "next_question_is_unharmed"),
        "after a refusal the same process answers a good question with the golden's bits",
        On::Own,
    ),
    subject(
        ("layer", "gpt2_agrees_with_its_steps"),
        "a GPT-2 layer as one Program gives what its ops give, each step within its derived bound",
        On::Own,
    ),
    subject(
        ("layer", "later_token_changes_nothing"),
        "another last token leaves the bits of every earlier row alone",
        On::Own,
    ),
    subject(
        ("layer", "prefill_agrees_with_decode"),
        "a prompt at once and token by token agree within the class of the activations",
        On::Own,
    ),
    subject(
        ("layer", "rows_of_a_batch"),
        "a row of eight sequences in one call has the bits that it has alone and elsewhere",
        On::Own,
    ),
    subject(
        ("streams", "side_by_side"),
        "two questions on two streams give the bits that each gives alone",
        On::OwnCards,
    ),
];
