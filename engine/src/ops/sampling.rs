//! What the sampling chain shares: the face of an op that removes logits, and its launch.

use crate::cuda::{Arg, Args, Field, Launch, Layout, Lowered, Page, Requires};
use crate::error::{Refusal, RefusalKind};
use crate::ops::{Class, Operand, Question, ResultSlot};

/// One row of logits.
pub(crate) const LOGITS: Operand = Operand::new("logits", Class::F32, &["v"]);

/// The logits after the step; what was removed is minus infinity.
pub(crate) const RESULT: ResultSlot = ResultSlot::sharing("logits", Class::F32, &["v"], "logits");

pub(crate) static ARGS: Layout = Layout {
    name: "SamplingArgs",
    fields: &[
        ("logits", Field::Ptr),
        ("seen", Field::Ptr),
        ("fault", Field::Ptr),
        ("count", Field::I32),
        ("value", Field::F32),
        ("k", Field::I32),
    ],
};

pub(crate) static PAGE: Page = Page {
    name: "sampling",
    text: include_str!("../../../cuda/sampling.cu"),
    requires: Requires::Sm80,
    layouts: &[&ARGS],
    variants: &[],
};

/// The launch of one step of the chain: one block over the row, in place.
pub(crate) fn lower(entry: &str, question: &Question, value: f32, k: i32) -> Lowered {
    let seen = if question.has("seen") { Arg::Slot("seen", 0) } else { Arg::Null };
    let args = Args::new(
        &ARGS,
        [
            ("logits", Arg::Slot("logits", 0)),
            ("seen", seen),
            ("fault", Arg::Slot("fault", 0)),
            ("count", Arg::I32(question.dims.get("v") as i32)),
            ("value", Arg::F32(value)),
            ("k", Arg::I32(k)),
        ],
    );
    let launch = Launch::new(&PAGE, entry.to_owned(), 1, 1024, args);
    Lowered { faults: vec![(RefusalKind::NotANumber, "logits")], ..Lowered::one(launch) }
}

/// Refuses a NaN among logits that must be put in order.
pub(crate) fn no_nan(logits: &[f64]) -> Result<(), Refusal> {
    match logits.iter().position(|l| l.is_nan()) {
        None => Ok(()),
        Some(at) => {
            Err(Refusal::new(RefusalKind::NotANumber, "logits", format!("element {at} is NaN")))
        }
    }
}

/// Ids by falling logit; of equals the lower id first.
pub(crate) fn by_falling_logit(logits: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap_or(std::cmp::Ordering::Equal));
    order
}

/// The logits with all but `kept` removed.
pub(crate) fn keep(logits: &[f64], kept: &[usize]) -> Vec<f64> {
    let mut y = vec![f64::NEG_INFINITY; logits.len()];
    kept.iter().for_each(|&i| y[i] = logits[i]);
    y
}
