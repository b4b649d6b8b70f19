//! Who answers changed questions: a worker of our engine on the CPU, and the oracle for wrong rules
//! of arithmetic. Both start when the first question needs them.

use goldgate_wire::Call;
use serde_json::Value;

use crate::golden::make::Oracle;
use crate::kinds::op::case::Case;
use crate::kinds::op::put;
use crate::kinds::op::question::OpQuestion;
use crate::line::caller::{Kept, LIMIT};
use crate::line::{Caller, Reply, Verdict};
use crate::mutants::generated::asked::{Answering, Results};
use crate::mutants::{Planting, cpu};
use crate::subject::Slot;

/// The worker and the oracle of one thread.
pub struct Worker<'p> {
    planting: &'p Planting<'p>,
    slot: Option<Slot>,
    kept: Kept,
    oracle: Option<Result<Oracle, String>>,
}

impl<'p> Worker<'p> {
    /// A worker that is not started yet.
    pub fn new(planting: &'p Planting<'p>) -> Worker<'p> {
        Worker { planting, slot: None, kept: Kept::default(), oracle: None }
    }

    /// Ends both processes.
    pub fn finish(mut self) {
        if let Some(slot) = self.slot.take() {
            slot.finish();
        }
    }

    fn start(&mut self) -> Result<(), String> {
        if self.slot.is_none() {
            self.slot = Some(cpu(self.planting)?);
        }
        Ok(())
    }

    fn oracle(&mut self) -> Result<&mut Oracle, String> {
        let folder = self.planting.goldens.folder();
        let start = || {
            let script = folder.join("oracle/wrong_sums.py");
            let script = script.to_str().ok_or("its path is no text")?;
            let script = shlex::try_quote(script).map_err(|e| e.to_string())?;
            Oracle::start(&format!("python3 {script}")).map_err(|e| e.to_string())
        };
        // A machine without Python is asked once, not once per fault.
        self.oracle.get_or_insert_with(start).as_mut().map_err(|why| why.clone())
    }
}

impl Answering for Worker<'_> {
    fn answer(&mut self, case: &Case, question: &OpQuestion) -> Result<Option<Results>, String> {
        let (scratch, timeout) = (self.planting.scratch, self.planting.timeout);
        self.start()?;
        let Some(slot) = &mut self.slot else {
            return Err("no worker".to_owned());
        };
        let mut caller = Caller::new(slot, &mut self.kept, scratch, timeout);
        caller.set_limit(case.timeout);
        match put(question, &mut caller) {
            Ok(Reply::Ok(answer)) => Ok(Some(answer.results)),
            Ok(Reply::Refused(_)) => Ok(None),
            Err(stopped) => Err(match stopped.verdict() {
                Verdict::Fail { kind, message } => format!("{}: {message}", kind.word()),
                Verdict::NotRun { message, .. } | Verdict::Broken { message, .. } => message,
                other => format!("{other:?}"),
            }),
        }
    }

    fn wrong(&mut self, question: &OpQuestion, rule: &str) -> Result<Option<Results>, String> {
        let (mut json, tensors) = question.call(LIMIT).question();
        json["rule"] = rule.into();
        let frame = match self.oracle()?.ask(json, tensors) {
            Ok(frame) => frame,
            Err(error) => {
                let why = error.to_string();
                // Its stream is in an unknown state, so nothing else is asked of it.
                self.oracle = Some(Err(why.clone()));
                return Err(why);
            }
        };
        if frame.json.get("ok").is_some() {
            return Ok(Some(frame.tensors));
        }
        match frame.json.pointer("/failed/message").and_then(Value::as_str) {
            Some(message) => Err(format!("the oracle: {message}")),
            None => Ok(None),
        }
    }
}
