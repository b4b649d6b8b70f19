//! Once per run the judge meets a golden subject and a broken one over the real wire, so that a
//! transport which lost or changed answers is not mistaken for a correct subject.

use std::collections::BTreeMap;

use goldgate_wire::Tensors;
use goldgate_wire::frame::encode;

use crate::kinds::{Answers, Trial};
use crate::line::caller::Kept;
use crate::line::{Caller, Whom};
use crate::run::Context;
use crate::subject::{Launch, Slot, SubjectSpec};

/// Asks the first trial whose right answer is known. Returns what went wrong, if anything.
pub(super) fn judge_on_the_wire(context: &Context<'_>) -> Option<String> {
    let trials = context.plan.trials.iter().map(|entry| &*entry.trial);
    let (trial, Answers { right, wrong }) = trials
        .take_while(|_| !context.stopped())
        .find_map(|trial| Some((trial, trial.answers(&context.goldens)?)))?;
    for (answer, must_pass) in [(right, true), (wrong, false)] {
        // A judge that accepts everything, or nothing, would show in no other row.
        match passes(context, trial, &answer) {
            Ok(passed) if passed == must_pass => {}
            Ok(_) => {
                let who = if must_pass { "golden subject fails" } else { "broken subject passes" };
                return Some(format!("self_check: the {who} {}", trial.head().name));
            }
            Err(why) => return Some(format!("self_check: no golden subject: {why}")),
        }
    }
    None
}

fn passes(context: &Context<'_>, trial: &dyn Trial, answer: &Tensors) -> Result<bool, String> {
    let path = context.scratch.join("answers.safetensors");
    std::fs::write(&path, encode(&BTreeMap::new(), answer)).map_err(|e| e.to_string())?;
    let spec = SubjectSpec::parse("cpu").map_err(|e| e.to_string())?;
    let words = ["--on", "golden", "--answers", &path.display().to_string()].map(str::to_owned);
    let program = context.options.program.clone();
    let launch = Launch {
        arguments: Some(words.to_vec()),
        ..Launch::new(program, spec, context.scratch.clone()).capped(context.options.timeout)
    };
    let mut slot = Slot::open(launch).map_err(|absent| absent.message)?;
    let ready = trial.prepare(&context.goldens).map_err(|why| why.message())?;
    let mut kept = Kept::default();
    let capped = context.options.timeout;
    let mut caller = Caller::new(&mut slot, &mut kept, &context.scratch, capped);
    // Judged as a foreign subject: the golden subject only replays answers and observes nothing.
    let passed = ready.ask(&mut caller, &Whom::foreign(false)).passed();
    slot.finish();
    Ok(passed)
}
