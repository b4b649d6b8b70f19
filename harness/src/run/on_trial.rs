//! Once a run the judge meets a golden subject and a broken one over the real wire.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;

use crate::case::{Case, Expect, GoldenSource};
use crate::distance::Ruler;
use crate::fill::fill;
use crate::judge::{Asked, judge, rulers};
use crate::run::{Context, trial};
use crate::selfcheck::Fault;
use crate::subject::pool::Slot;
use crate::subject::replay::Replay;
use crate::subject::{Launch, OpQuestion, Subject, SubjectSpec};

/// Asks the first case that has a golden; what went wrong, if anything.
pub(super) fn judge_on_the_wire(context: &Context<'_>) -> Option<String> {
    let stored = |case: &&Case| match &case.expect {
        Expect::Answer { golden, .. } => *golden != GoldenSource::Definition,
        Expect::Refusal { .. } => false,
    };
    let mut cases = context.plan.trials.iter().map(|t| &*t.case).filter(stored);
    let (case, golden) = cases.find_map(|case| Some((case, context.goldens.golden(case).ok()?)))?;
    let rulers = rulers(case, &golden);
    let shown = rulers.iter().flat_map(|r| r.want.iter()).any(|w| w.is_finite() && *w != 0.0);
    if !shown {
        return None;
    }
    let perfect = answer(&rulers, None);
    let broken = answer(&rulers, Some(Fault::Sign));
    for (results, must_pass) in [(perfect, true), (broken, false)] {
        match passes(context, case, &rulers, &results) {
            Ok(passed) if passed == must_pass => {}
            Ok(_) => {
                let who = if must_pass { "golden subject fails" } else { "broken subject passes" };
                return Some(format!("self_check: the {who} {}", case.full_name()));
            }
            Err(why) => return Some(format!("self_check: no golden subject: {why}")),
        }
    }
    None
}

/// The rounded golden, or with a fault in every result.
fn answer(rulers: &[Ruler], fault: Option<Fault>) -> BTreeMap<String, Tensor> {
    let element = |r: &Ruler, i: usize| fault.map_or(r.want[i], |f| f.plant(r, i));
    let tensor = |r: &Ruler| {
        let values: Vec<f64> = (0..r.len()).map(|i| element(r, i)).collect();
        let tensor = match r.meta.dtype {
            // Ids have another sign too; -0 is shown as 1.
            DType::I32 => {
                let id = |x: &f64| if fault.is_some() && *x == 0.0 { 1 } else { *x as i32 };
                Tensor::from_i32(&r.meta.shape, &values.iter().map(id).collect::<Vec<_>>())
            }
            dtype => Tensor::from_f64(dtype, &r.meta.shape, &values),
        };
        (r.name.clone(), tensor)
    };
    rulers.iter().map(tensor).collect()
}

fn passes(
    context: &Context<'_>,
    case: &Case,
    rulers: &[Ruler],
    results: &BTreeMap<String, Tensor>,
) -> Result<bool, String> {
    let path: &Path = &context.scratch.join("answers.safetensors");
    Replay::write(path, results).map_err(|e| e.to_string())?;
    let spec = SubjectSpec::parse("cpu").map_err(|e| e.to_string())?;
    let words = ["--on", "golden", "--answers", &path.display().to_string()].map(str::to_owned);
    let program = context.options.program.clone();
    let launch = Launch {
        arguments: Some(words.to_vec()),
        ..Launch::new(program, spec, context.scratch.clone())
    };
    let mut slot = Slot::open(launch).map_err(|absent| absent.message)?;
    let execution = slot.op(&OpQuestion::of(case, fill), trial::limit(context, case));
    slot.finish();
    let foreign = Asked::Foreign("cpu".to_owned());
    Ok(judge(&case.expect, rulers, &execution.outcome, &foreign).passed())
}
