//! A verdict together with everything that was measured to reach it.

use std::collections::BTreeMap;

use goldgate_wire::Observed;
use goldgate_wire::arithmetic::Arithmetic;

use crate::line::{FailKind, Verdict, Worst};

/// The subject, as far as judging depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Our engine's definitions on the CPU.
    Cpu,
    /// Our engine on a device, which must report the kernels that ran.
    Cuda,
    /// Another engine.
    Foreign {
        /// Whether its hello says that it computes on a card.
        card: bool,
        /// Where it declares that it rounds.
        declared: Arithmetic,
    },
}

impl Whom {
    /// Whether it is our own engine, which must report more about itself than the wire demands.
    pub fn is_ours(&self) -> bool {
        // Both our subjects run one engine, so both are held to its claims.
        !matches!(self, Whom::Foreign { .. })
    }

    /// Another engine that declares nothing of its arithmetic.
    pub fn foreign(card: bool) -> Whom {
        Whom::Foreign { card, declared: Arithmetic::default() }
    }

    /// Where it declares that it rounds; none if nowhere.
    pub fn declared(&self) -> Option<&Arithmetic> {
        match self {
            Whom::Foreign { declared, .. } if !declared.is_empty() => Some(declared),
            _ => None,
        }
    }
}

/// The result of judging the answers to one trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict of the row.
    pub verdict: Verdict,
    /// The largest distance as a fraction of its limit; none where nothing was measured.
    pub load: Option<f64>,
    /// How many numbers, ids, bytes or files were compared.
    pub compared: u64,
    /// The neighbourhood of the failing element.
    pub worst: Option<Worst>,
    /// Measurements; each name contains the unit.
    pub figures: BTreeMap<String, f64>,
    /// Further remarks for readers of the row.
    pub notes: Vec<String>,
    /// What the subject reported about itself.
    pub observed: Observed,
    /// The first slot that diverges, where slots were compared.
    pub first: Option<String>,
    /// Lines of the failure page between the failure and the place of its case: field name and
    /// text.
    pub detail: Vec<(&'static str, String)>,
}

impl Judgement {
    /// A verdict without measurements.
    pub fn unmeasured(verdict: Verdict) -> Judgement {
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

    /// A failure without measurements.
    pub fn fail(kind: FailKind, message: impl Into<String>) -> Judgement {
        Judgement::unmeasured(Verdict::Fail { kind, message: message.into() })
    }

    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}
