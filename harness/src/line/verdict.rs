//! Verdicts: what a row is called, and how it counts.

use serde::{Deserialize, Serialize};

/// The judgement of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Verdict {
    /// Answered or refused as expected.
    Pass,
    /// A failure of the subject.
    Fail {
        /// The first rule that failed.
        kind: FailKind,
        /// In words, with the numbers.
        message: String,
    },
    /// Failed, then passed when rerun alone in a fresh process.
    Flaky {
        /// What failed first.
        kind: FailKind,
        /// In words.
        message: String,
    },
    /// A failure that known.yaml expects.
    Known {
        /// What failed.
        kind: FailKind,
        /// In words.
        message: String,
        /// Why it is known.
        reason: String,
        /// The day on which the entry expires.
        expires: String,
    },
    /// A pass where known.yaml expects a failure, or an entry that expired or matched nothing.
    Unexpected {
        /// In words.
        message: String,
    },
    /// The harness cannot judge.
    Broken {
        /// Why.
        kind: BrokenKind,
        /// In words.
        message: String,
    },
    /// Never asked, or impossible to answer here.
    NotRun {
        /// Why.
        kind: NotRun,
        /// In words.
        message: String,
    },
}

impl Verdict {
    /// The event in one word: the kind of a failure or the reason why nothing was judged.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail { kind, .. } | Verdict::Known { kind, .. } => kind.word(),
            Verdict::Flaky { .. } => "flaky",
            Verdict::Broken { kind, .. } => kind.word(),
            Verdict::NotRun { kind, .. } => kind.word(),
            Verdict::Unexpected { .. } => "unexpected",
        }
    }
}

// One list per type keeps the word of a report and the serialized name from drifting apart.
macro_rules! words {
    ($(#[$top:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)?
    }) => {
        $(#[$top])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// All of them, in the order of judging.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word used in reports and specs.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
    };
}

words! {
    /// The rule by which a row failed.
    FailKind {
        /// A different shape, type, count or set of results.
        Shape = "shape",
        /// NaN or infinity where the rounded golden is finite.
        Nonfinite = "nonfinite",
        /// Different bits than expected, or than the same question gave in another form.
        Bits = "bits",
        /// Beyond the allowance.
        Load = "load",
        /// The whole result is slightly too large or too small.
        Gain = "gain",
        /// Elements that were never written.
        Poison = "poison",
        /// Bytes written outside a result.
        Guard = "guard",
        /// An input that was modified.
        InputChanged = "input_changed",
        /// The work was not done by the kernel of the subject that should do it.
        Route = "route",
        /// Refused for another reason than expected.
        WrongRefusal = "wrong_refusal",
        /// Answered where it must refuse.
        NotRefused = "not_refused",
        /// The process ended.
        Crashed = "crashed",
        /// Exceeded its time limit.
        TimedOut = "timed_out",
        /// Out of memory.
        Oom = "oom",
        /// A device error.
        Device = "device",
        /// It tried and could not, for a reason of its own.
        Internal = "internal",
        /// Output that does not follow the wire protocol.
        Protocol = "protocol",
        /// A process, memory or a descriptor was left behind.
        Leak = "leak",
        /// Different bits in another run.
        Nondeterministic = "nondeterministic",
    }
}

words! {
    /// Why the harness cannot judge.
    BrokenKind {
        /// The golden's bytes do not match the manifest.
        GoldenHash = "golden_hash",
        /// A golden so weak that any answer would meet it.
        GoldenWeak = "golden_weak",
        /// The golden was made for other inputs.
        InputsHash = "inputs_hash",
        /// A file that should be in the repository is missing.
        FileMissing = "file_missing",
        /// The judge failed its own check.
        SelfCheck = "self_check",
        /// A fault of the harness.
        Harness = "harness",
    }
}

words! {
    /// Why a row did not run.
    NotRun {
        /// There is no such device here.
        NoDevice = "no_device",
        /// The model file is not here.
        NoModel = "no_model",
        /// No golden has been made yet.
        NoGolden = "no_golden",
        /// The subject does not offer it.
        Unsupported = "unsupported",
        /// Too few elements could be decided.
        Inconclusive = "inconclusive",
        /// It refused, and nothing of the kind was answered.
        NoControl = "no_control",
        /// Larger than a frame, or than the memory.
        TooBig = "too_big",
        /// The device went away.
        DeviceLost = "device_lost",
        /// The run ended before it was asked.
        Stopped = "stopped",
    }
}
