//! Sums up rows, figures and evidence for one requirement.

use std::collections::BTreeMap;

use crate::gate::weigh::{State, SubjectVerdict};
use crate::line::{Family, Head, NotRun, Row, Sort, Verdict};
use crate::spec::gates::figure;

/// The most reasons that are kept: a page lists causes, not every row.
const MAX_REASONS: usize = 20;

/// What a single row proves for its requirement.
pub(super) fn outcome(row: &Row, trial: &Head) -> Result<(), (State, String)> {
    match &row.verdict {
        Verdict::Pass => {
            // A refusal compares nothing by nature; any other pass that compared nothing proves
            // nothing.
            let compares = trial.sort == Sort::Case && row.family != Family::Refused;
            if compares && row.compared == 0 {
                return Err((State::NotMet, "passed, but nothing was compared".into()));
            }
            Ok(())
        }
        Verdict::NotRun { kind: NotRun::Unsupported, message } => {
            Err((State::NotOffered, format!("not offered: {message}")))
        }
        Verdict::NotRun { kind, message } => {
            Err((State::Incomplete, format!("not run ({}): {message}", kind.word())))
        }
        Verdict::Fail { kind, message } => {
            Err((State::NotMet, format!("fails ({}): {message}", kind.word())))
        }
        Verdict::Flaky { kind, .. } => Err((State::NotMet, format!("is flaky ({})", kind.word()))),
        Verdict::Known { kind, reason, .. } => {
            Err((State::NotMet, format!("is a known failure ({}): {reason}", kind.word())))
        }
        Verdict::Unexpected { message } => Err((State::NotMet, message.clone())),
        Verdict::Broken { kind, message } => {
            Err((State::NotMet, format!("is broken ({}): {message}", kind.word())))
        }
    }
}

/// The result of comparing figures with limits.
pub(super) enum Limit {
    Holds,
    Exceeded(String),
    Absent(String),
}

/// Compares the figures of a row with limits, such that an absent figure or NaN never holds.
pub(super) fn beyond(limits: &BTreeMap<String, f64>, row: &Row) -> Limit {
    for (name, &limit) in limits {
        let Some((figure, lower)) = figure(name) else { return Limit::Absent(name.clone()) };
        let Some(&value) = row.figures.get(figure).filter(|x| x.is_finite()) else {
            return Limit::Absent(figure.to_owned());
        };
        let holds = if lower { value >= limit } else { value < limit };
        if !holds {
            return Limit::Exceeded(format!("{figure} is {value}, asked is {name} {limit}"));
        }
    }
    Limit::Holds
}

/// What the evidence of one requirement amounts to on one subject.
#[derive(Default)]
pub(super) struct Tally {
    pub planned: usize,
    pub passed: usize,
    /// Passed rows that were judged by a golden.
    pub strong: usize,
    /// Documents that hold, and faults that were detected.
    pub held: usize,
    /// Trials that the subject does not offer.
    not_offered: usize,
    /// Whether the user named a profile: then all of it is demanded.
    promised: bool,
    failed: bool,
    open: bool,
    pub not_asked: bool,
    reasons: Vec<String>,
}

impl Tally {
    /// A tally of nothing. `promised` is whether the user named a profile.
    pub fn new(promised: bool) -> Tally {
        Tally { promised, ..Tally::default() }
    }

    pub fn not_met(&mut self, why: String) {
        self.failed = true;
        self.reason(why);
    }

    pub fn incomplete(&mut self, why: String) {
        self.open = true;
        self.reason(why);
    }

    /// A trial that the subject does not offer.
    pub fn not_offered(&mut self, why: String) {
        self.not_offered += 1;
        self.reason(why);
    }

    fn reason(&mut self, why: String) {
        if self.reasons.len() < MAX_REASONS {
            self.reasons.push(why);
        }
    }

    pub fn worst(&self) -> State {
        match (self.failed, self.open, self.not_asked) {
            // A failure outweighs everything: it cannot be repaired by running the rest.
            (true, _, _) => State::NotMet,
            _ if self.not_offered > 0 && self.promised => State::NotMet,
            (_, true, _) => State::Incomplete,
            _ if self.not_offered > 0 && self.passed > 0 => State::Incomplete,
            _ if self.not_offered > 0 => State::NotOffered,
            (_, _, true) => State::NotAsked,
            _ => State::Met,
        }
    }

    pub fn verdict(self) -> SubjectVerdict {
        let state = self.worst();
        let Tally { planned, passed, not_offered, reasons, .. } = self;
        SubjectVerdict { state, planned, passed, not_offered, reasons }
    }
}
