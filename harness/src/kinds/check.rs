//! The kind *self*: checks of the harness itself, and checks of a subject as a whole.

use std::time::Duration;

use goldgate_wire::call::{Check, Checked};

use crate::case::Family;
use crate::checks::{HarnessCheck, SubjectCheck};
use crate::kinds::{Goldens, Kind, Withheld};
use crate::line::{Caller, Head, Judgement, On, Sort, Stopped, Whom};
use crate::verdict::{FailKind, Verdict};

/// How long a check of a subject may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Checks of the harness: what is tampered with must be noticed. Nobody is asked over a wire.
#[derive(Clone, Copy, Debug)]
pub struct Own;

/// Checks that a subject answers about itself.
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
        head(check.gate, (check.stem, check.case), check.why, On::Only(&["harness"]))
    }

    fn golden(&self, _: &HarnessCheck, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, _: &HarnessCheck, (): &()) -> Result<(u32, u32), String> {
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
            Ok(()) => Judgement::of(Verdict::Pass),
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
        head(check.gate, (check.stem, check.case), check.why, On::Only(check.subjects))
    }

    fn golden(&self, _: &SubjectCheck, _: &dyn Goldens) -> Result<(), Withheld> {
        Ok(())
    }

    fn self_check(&self, check: &SubjectCheck, (): &()) -> Result<(u32, u32), String> {
        let passes = |fails: Option<&str>| {
            let said = Checked { fails: fails.map(str::to_owned) };
            self.judge(check, &(), &said, &Whom::Cpu).passed()
        };
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
            None => Judgement::of(Verdict::Pass),
            Some(why) => Judgement::fail(FailKind::Load, why.clone()),
        }
    }
}
