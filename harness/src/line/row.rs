//! A judgement as a row of the report.

use std::collections::BTreeMap;

use goldgate_wire::Observed;
use serde::{Deserialize, Serialize};

use crate::line::log::Log;
use crate::line::page::page;
use crate::line::{Family, Head, Judgement, Verdict, finite};

/// The row of a trial on a subject. `again` is the command that reruns it.
pub fn row(
    head: &Head,
    label: &str,
    again: &str,
    faults: (u32, u32),
    judgement: Judgement,
    log: &Log,
) -> Row {
    let name = head.on_subject(label);
    let page = page(head, &name, &judgement, again, &log.stderr);
    // Flaky and known rows get their verdict later, so a failure is still a failure here.
    let failed = matches!(judgement.verdict, Verdict::Fail { .. });
    Row {
        name,
        // Known where folders are: a trial is the same in whichever folder it stands.
        folder: String::new(),
        verdict: judgement.verdict,
        gate: head.gate,
        stem: head.stem.clone(),
        kind: head.kind.to_owned(),
        subject: label.to_owned(),
        family: head.family,
        load: judgement.load,
        compared: judgement.compared,
        faults,
        time_ms: log.time.as_secs_f64() * 1e3,
        observed: judgement.observed,
        page,
        // Kept for failures only: passing rows are the most, and must stay small.
        worst: judgement.worst.filter(|_| failed),
        figures: judgement.figures,
        notes: judgement.notes,
        // By the hash two reports can be compared bit for bit, without the answers themselves.
        bits: log.bits(),
    }
}

/// The row of a trial that was not asked.
pub fn unasked(head: &Head, label: &str, again: &str, verdict: Verdict) -> Row {
    row(head, label, again, (0, 0), Judgement::unmeasured(verdict), &Log::default())
}

/// How many neighbours of the worst element are kept on each side.
pub const AROUND: usize = 3;

/// The result of one trial: one line of rows.jsonl.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The trial's full name, subject last.
    pub name: String,
    /// The specs folder that it stands in; empty for the first one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub folder: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The number of its gate.
    pub gate: u8,
    /// The stem of the spec.
    pub stem: String,
    /// `op`, `bench`, `self` …
    pub kind: String,
    /// The subject's label.
    pub subject: String,
    /// Exact, rough or refused.
    pub family: Family,
    /// The largest load of any element; absent where nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "finite::maybe")]
    pub load: Option<f64>,
    /// How many elements were compared.
    pub compared: u64,
    /// How many faults were planted in this row's golden, and how many of them the judge detected.
    pub faults: (u32, u32),
    /// Wall time of the trial's questions in ms.
    #[serde(with = "finite::one")]
    pub time_ms: f64,
    /// What the subject reported about itself.
    #[serde(default)]
    pub observed: Observed,
    /// The failure page; absent on a pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page: Option<String>,
    /// The failing element's neighbourhood; absent on a pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worst: Option<Worst>,
    /// Measurements of benches; each name contains the unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default, with = "finite::map")]
    pub figures: BTreeMap<String, f64>,
    /// Remarks, such as: refused as X, undecided ids, judged by the definition.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// SHA-256 over the tensors of all answers, in order; absent where nothing was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bits: Option<String>,
}

/// The worst element and its neighbours along the last axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worst {
    /// The name of the result.
    pub result: String,
    /// The index, one number per axis.
    pub index: Vec<usize>,
    /// The flat index of the first neighbour shown.
    pub first: usize,
    /// The values received.
    #[serde(with = "finite::list")]
    pub got: Vec<f64>,
    /// The values expected, unrounded.
    #[serde(with = "finite::list")]
    pub want: Vec<f64>,
    /// The load of each.
    #[serde(with = "finite::list")]
    pub load: Vec<f64>,
    /// How many elements of the result exceed their limit.
    pub over: usize,
    /// How many elements the result has.
    pub total: usize,
}

impl Row {
    /// Whether it fails the run.
    pub fn is_red(&self) -> bool {
        // A known failure is not red: it is expected, has an end, and is listed apart.
        matches!(
            self.verdict,
            Verdict::Fail { .. }
                | Verdict::Flaky { .. }
                | Verdict::Unexpected { .. }
                | Verdict::Broken { .. }
        )
    }
}
