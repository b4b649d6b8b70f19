//! A verdict with everything that was measured on the way to it.

use std::collections::BTreeMap;

use goldgate_wire::Observed;

use crate::line::{FailKind, Verdict, Worst};

/// Who was asked, as far as judging goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Our engine's definitions.
    Cpu,
    /// Our engine on a device: it must say which kernels ran.
    Cuda,
    /// Somebody else's engine, with the kind of device that it named.
    Foreign(String),
}

impl Whom {
    /// Whether it is an engine of ours, which must say more of itself than the wire asks.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Whom::Foreign(_))
    }
}

/// What a kind's judge makes of the answers to one trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What the row is called.
    pub verdict: Verdict,
    /// The largest distance as a share of its limit; none where nothing was measured.
    pub load: Option<f64>,
    /// Numbers, ids, bytes or files that were compared.
    pub compared: u64,
    /// The failing element's neighbourhood.
    pub worst: Option<Worst>,
    /// What was measured: unit in the name.
    pub figures: BTreeMap<String, f64>,
    /// What else a reader of the row must know.
    pub notes: Vec<String>,
    /// What the subject said about itself.
    pub observed: Observed,
    /// The first slot that diverges, where slots were compared.
    pub first: Option<String>,
    /// Lines of the failure page between what failed and where the case was written: name of the
    /// field, and its text.
    pub detail: Vec<(&'static str, String)>,
}

impl Judgement {
    /// A verdict with nothing measured.
    pub fn of(verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            load: None,
            compared: 0,
            worst: None,
            figures: BTreeMap::new(),
            notes: Vec::new(),
            observed: Observed::default(),
            first: None,
            detail: Vec::new(),
        }
    }

    /// A failure with nothing measured.
    pub fn fail(kind: FailKind, message: impl Into<String>) -> Judgement {
        Judgement::of(Verdict::Fail { kind, message: message.into() })
    }

    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}
