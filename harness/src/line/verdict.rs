//! Verdicts: what a row is called, and how it counts.

use serde::{Deserialize, Serialize};

/// The judgement of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Verdict {
    /// Answered or refused as awaited.
    Pass,
    /// The subject's doing.
    Fail {
        /// Which rule failed first.
        kind: FailKind,
        /// In words, with the numbers.
        message: String,
    },
    /// Failed, then passed alone in a fresh process.
    Flaky {
        /// What failed first.
        kind: FailKind,
        /// In words.
        message: String,
    },
    /// A failure that known.yaml awaits.
    Known {
        /// What failed.
        kind: FailKind,
        /// In words.
        message: String,
        /// Why it is known.
        reason: String,
        /// Day on which the entry ends.
        expires: String,
    },
    /// A pass that known.yaml did not await, or an entry that expired or matched nothing.
    Unexpected {
        /// In words.
        message: String,
    },
    /// Nobody can be judged.
    Broken {
        /// Why.
        kind: BrokenKind,
        /// In words.
        message: String,
    },
    /// Never asked, or not answerable here.
    NotRun {
        /// Why.
        kind: NotRun,
        /// In words.
        message: String,
    },
}

macro_rules! words {
    ($(#[$top:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal),* $(,)?
    }) => {
        $(#[$top])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant),* }

        impl $name {
            /// Every one, in the order of judging.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The word in reports and specs.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
    };
}

words! {
    /// What a failing row failed by.
    FailKind {
        /// Another shape, type, count or set of results.
        Shape = "shape",
        /// NaN or infinity where the golden, rounded, is finite.
        Nonfinite = "nonfinite",
        /// Other bits than awaited, or than the same row asked differently.
        Bits = "bits",
        /// Beyond the allowance.
        Load = "load",
        /// Everything a little too large or too small.
        Gain = "gain",
        /// Elements never written.
        Poison = "poison",
        /// Written outside a result.
        Guard = "guard",
        /// An input changed.
        InputChanged = "input_changed",
        /// Something else than the subject's kernel did the work.
        Route = "route",
        /// Refused as something else than awaited.
        WrongRefusal = "wrong_refusal",
        /// Answered what must be refused.
        NotRefused = "not_refused",
        /// The process ended.
        Crashed = "crashed",
        /// Past its limit.
        TimedOut = "timed_out",
        /// Out of memory.
        Oom = "oom",
        /// A device error.
        Device = "device",
        /// It tried and could not, for a reason of its own.
        Internal = "internal",
        /// Something that is not the wire.
        Protocol = "protocol",
        /// A process, memory or a descriptor left behind.
        Leak = "leak",
        /// Other bits in another run.
        Nondeterministic = "nondeterministic",
    }
}

words! {
    /// Why nobody can be judged.
    BrokenKind {
        /// The golden's bytes are not those of the manifest.
        GoldenHash = "golden_hash",
        /// A golden that any answer would meet.
        GoldenWeak = "golden_weak",
        /// The golden was made for other inputs.
        InputsHash = "inputs_hash",
        /// A file that is shipped is not here.
        FileMissing = "file_missing",
        /// The judge failed its own trial.
        SelfCheck = "self_check",
        /// Our own fault.
        Harness = "harness",
    }
}

words! {
    /// Why a row did not run.
    NotRun {
        /// No such device here.
        NoDevice = "no_device",
        /// The model file is not here.
        NoModel = "no_model",
        /// Nobody has answered it yet.
        NoGolden = "no_golden",
        /// The subject does not offer it.
        Unsupported = "unsupported",
        /// Too little could be decided.
        Inconclusive = "inconclusive",
        /// Larger than a frame, or than the memory.
        TooBig = "too_big",
        /// The device went away.
        DeviceLost = "device_lost",
        /// The run ended before.
        Stopped = "stopped",
    }
}
