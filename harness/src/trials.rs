//! All trials: what a run asks, and what gates weigh.

use std::sync::Arc;

use crate::kinds::model::case::ModelCase;
use crate::kinds::op::case::Case;
use crate::kinds::{CaseTrial, Kind, Trial, bench, check, container, model, op, tokens};
use crate::line::Head;
use crate::spec::Specs;

/// Every trial of the specs and every check, in the order in which a subject is asked: ops, checks,
/// files, texts, models (adjacent if they load the same file in the same way), and benches last.
pub fn all(specs: &Specs) -> Vec<Arc<dyn Trial>> {
    fn trial<K: Kind>(kind: K, case: K::Case) -> Arc<dyn Trial>
    where
        K::Got: Send,
    {
        Arc::new(CaseTrial::new(kind, Arc::new(case)))
    }
    let mut ops: Vec<&Case> = specs.cases().collect();
    ops.sort_by_cached_key(|case| (case.gate, case.full_name()));
    let mut models: Vec<&ModelCase> = specs.models.iter().collect();
    // Loading is the slow part, so cases that can share a loaded model follow each other.
    models.sort_by_key(|c| (&c.stem, &c.form.label, c.activations, c.kind(), &c.name));
    let mut all: Vec<Arc<dyn Trial>> = Vec::new();
    for case in ops {
        all.push(trial(op::Op, case.controlled(specs.cases().filter(|c| c.stem == case.stem))));
        // Directly behind, while its operands are still in the caches of the machine.
        all.extend(case.bits().map(|bits| trial(op::Op, bits)));
    }
    all.extend(crate::tamper::ALL.iter().map(|check| trial(check::Own, *check)));
    all.extend(check::SUBJECT_CHECKS.iter().map(|check| trial(check::OfSubject, *check)));
    all.extend(specs.files().map(|case| trial(container::Container, case.clone())));
    let each = specs.tokens.iter().flat_map(tokens::TokenCase::each);
    all.extend(each.map(|case| trial(tokens::Tokenizer, case)));
    for case in models {
        all.push(trial(model::Model, case.clone()));
        all.extend(case.bits().map(|bits| trial(model::Model, bits)));
    }
    all.extend(specs.benches().map(|bench| trial(bench::Timed, bench.clone())));
    all
}

/// The heads of all trials, sorted by name, as gates, records and locks use them.
pub fn heads(specs: &Specs) -> Vec<Head> {
    let mut heads: Vec<Head> = all(specs).iter().map(|trial| trial.head().clone()).collect();
    // By name, so that locks and records do not change with the order of asking.
    heads.sort_by(|a, b| a.name.cmp(&b.name));
    heads
}
