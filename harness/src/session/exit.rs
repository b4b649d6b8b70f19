//! How a run ends: one table from events to the exit code, shared by all callers.

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The answer is yes.
    Yes = 0,
    /// It ran, and the answer is no.
    No = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// An input file is malformed.
    BadInput = 3,
    /// Something that it needs is missing.
    Absent = 4,
    /// A fault of goldgate itself.
    Ours = 5,
    /// A report that holds and is incomplete: nothing is wrong with it, and it decides nothing.
    Incomplete = 6,
    /// Stopped by SIGINT.
    Interrupted = 130,
    /// Stopped by SIGTERM.
    Terminated = 143,
}

/// The signal that stopped a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupt,
    /// SIGTERM: the system ends the run.
    Terminate,
}

impl Signal {
    /// The exit code of a process that this signal ends: 128 plus its number, as in shells.
    pub fn exit(self) -> Exit {
        match self {
            Signal::Interrupt => Exit::Interrupted,
            Signal::Terminate => Exit::Terminated,
        }
    }
}

/// The events of a run whose specs, goldens and command line were valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// The report is INVALID.
    pub invalid: bool,
    /// A subject that the user named never answered hello.
    pub absent: bool,
    /// The run was stopped from outside.
    pub signal: Option<Signal>,
    /// A row is FAIL, FLAKY, UNEXPECTED or BROKEN.
    pub red: bool,
    /// A listed mutant survived.
    pub survived: bool,
    /// Something was planned in this shard, but none of it was judged.
    pub silent: bool,
    /// A gate that was requested is not MET on a subject that was asked.
    pub unmet: bool,
}

impl Happened {
    /// The exit code: the first row of the table that applies.
    pub fn exit(self) -> Exit {
        // In this order, because a report that is invalid proves nothing that the later lines ask
        // about.
        match self {
            Happened { invalid: true, .. } => Exit::Ours,
            Happened { absent: true, .. } => Exit::Absent,
            Happened { signal: Some(signal), .. } => signal.exit(),
            Happened { red: true, .. }
            | Happened { survived: true, .. }
            | Happened { silent: true, .. }
            | Happened { unmet: true, .. } => Exit::No,
            Happened { .. } => Exit::Yes,
        }
    }

    /// Whether `cargo test` fails although each of its tests has passed: a row may turn red after
    /// its test has ended, as by a process that is left behind when the subject ends. Gates that
    /// are not met and rows that did not run are shown as such there, and fail nothing.
    pub fn fails_tests(self) -> bool {
        let Happened { invalid, absent, red, survived, .. } = self;
        invalid || absent || red || survived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination, against the sentences of docs/report.md in their order.
    #[test]
    fn every_combination_has_the_code_of_the_first_sentence_that_holds() {
        let signals = [None, Some(Signal::Interrupt), Some(Signal::Terminate)];
        let mut seen = 0;
        for bits in 0..64u8 {
            for signal in signals {
                let bit = |at: u8| bits & (1 << at) != 0;
                let happened = Happened {
                    invalid: bit(0),
                    absent: bit(1),
                    signal,
                    red: bit(2),
                    survived: bit(3),
                    silent: bit(4),
                    unmet: bit(5),
                };
                let no = bit(2) || bit(3) || bit(4) || bit(5);
                let sentences = [
                    (bit(0), 5),
                    (bit(1), 4),
                    (signal == Some(Signal::Interrupt), 130),
                    (signal == Some(Signal::Terminate), 143),
                    (no, 1),
                    (true, 0),
                ];
                let want = sentences.iter().find(|(holds, _)| *holds).map(|(_, code)| *code);
                assert_eq!(Some(happened.exit() as u8), want, "{happened:?}");
                let fails = bit(0) || bit(1) || bit(2) || bit(3);
                assert_eq!(happened.fails_tests(), fails, "{happened:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 192);
    }
}
