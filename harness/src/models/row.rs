//! A case about a model as a row: the judge on trial, the question, the judgement, the page.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::case::Family;
use crate::execution::Observed;
use crate::judge::Asked;
use crate::models::ask::Asker;
use crate::models::golden::ModelGolden;
use crate::models::judge::{Judgement, judge};
use crate::models::page::page;
use crate::models::selfcheck::self_check;
use crate::models::{Ask, ModelCase};
use crate::report::Row;
use crate::run::Withheld;
use crate::verdict::{BrokenKind, Verdict};

/// The family of a case: a model that must be refused, or numbers.
pub fn family(case: &ModelCase) -> Family {
    match &case.ask {
        Ask::Load(load) if load.refuses.is_some() => Family::Refused,
        _ => Family::Rough,
    }
}

/// A row with nothing measured.
pub fn row(case: &ModelCase, label: &str, verdict: Verdict) -> Row {
    Row {
        name: format!("{}::{label}", case.full_name()),
        verdict,
        gate: case.gate,
        stem: case.stem.clone(),
        kind: case.kind().to_owned(),
        subject: label.to_owned(),
        family: family(case),
        load: None,
        compared: 0,
        faults: (0, 0),
        time_ms: 0.0,
        observed: Observed::default(),
        page: None,
        worst: None,
        figures: BTreeMap::new(),
        notes: Vec::new(),
    }
}

/// Asks one case and judges the answer; `asked` is who answers.
pub fn ask(
    case: &ModelCase,
    (label, asked): (&str, &Asked),
    golden: Result<ModelGolden, Withheld>,
    asker: &mut Asker<'_>,
) -> Row {
    let golden = match golden {
        Ok(golden) => golden,
        Err(Withheld::Broken(kind, message)) => {
            return row(case, label, Verdict::Broken { kind, message });
        }
        Err(Withheld::NotRun(kind, message)) => {
            return row(case, label, Verdict::NotRun { kind, message });
        }
    };
    let faults = match self_check(case, &golden) {
        Ok(faults) => faults,
        Err(message) => {
            return row(case, label, Verdict::Broken { kind: BrokenKind::SelfCheck, message });
        }
    };
    let start = Instant::now();
    let answer = asker.ask(case, &golden);
    let time_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut observed = Observed::default();
    let (verdict, judged) = match answer {
        Err(verdict) => (verdict, Judgement::default()),
        Ok(answer) => {
            let mut judged = judge(case, &golden, &answer);
            judged.routed(asked, &answer.route);
            judged.told(asked);
            let entries: Vec<String> = answer.route.entries.into_iter().collect();
            observed.route = (!entries.is_empty()).then_some(entries);
            (judged.verdict(), judged)
        }
    };
    let failed = matches!(verdict, Verdict::Fail { .. });
    let mut told = row(case, label, verdict);
    told.faults = faults;
    told.time_ms = time_ms;
    told.compared = judged.compared;
    told.load = (judged.compared > 0).then_some(judged.load);
    told.notes = judged.notes();
    told.observed = observed;
    told.page = failed.then(|| page(case, &told, &golden, &judged));
    told.figures = judged.figures;
    told
}
