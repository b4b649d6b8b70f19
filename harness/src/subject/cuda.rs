//! Our engine on a card, behind the wire. Only a worker process opens it.

use goldgate_engine::cuda::{Device as Card, DeviceError, Settings};
use goldgate_engine::exec::op::{self, OpError};
use goldgate_engine::ops;
use serde_json::{Value, json};

use crate::execution::Observed;
use crate::subject::serve::{Answer, Device, NoAnswer, Trouble, hello_of_ours, resident};
use crate::subject::{OpQuestion, perfect};

/// What our worker observes of itself on a card.
const OBSERVES: [&str; 5] = ["guards", "inputs", "poison", "route", "memory"];

/// An open card.
#[derive(Debug)]
pub struct Cuda {
    card: Card,
}

impl Cuda {
    /// Opens card `index`.
    ///
    /// # Errors
    /// No driver, no such card, no compiler.
    pub fn open(settings: &Settings, index: usize) -> Result<Cuda, DeviceError> {
        Ok(Cuda { card: Card::open(settings, index)? })
    }
}

impl Device for Cuda {
    fn hello(&self) -> Result<Value, Trouble> {
        let card = self.card.card();
        let (major, minor) = self.card.nvrtc_version();
        let driver = format!("{}.{}", card.driver / 1000, card.driver % 1000 / 10);
        let device = json!({
            "kind": "cuda",
            "name": card.name,
            "index": card.index,
            "compute": format!("{}.{}", card.compute.0, card.compute.1),
            "memory_bytes": card.memory_bytes,
            "driver": format!("CUDA {driver}"),
            "runtime": format!("NVRTC {major}.{minor}"),
        });
        Ok(hello_of_ours(&device, &["op", "memory"], &OBSERVES))
    }

    fn op(&mut self, question: &OpQuestion) -> Result<Answer, NoAnswer> {
        let Some(op) = ops::find(&question.op) else {
            return Err(NoAnswer::Unsupported(format!("op {}", question.op)));
        };
        let checked = perfect::check(question, op)?;
        let answer = op::run(&mut self.card, op, &checked, &question.tensors, &question.alias);
        let (results, seen) = answer.map_err(no_answer)?;
        let observed = Observed {
            guards: Some(seen.guards),
            inputs: Some(seen.inputs),
            poison: Some(seen.poison),
            route: Some(seen.route),
            peak_bytes: Some(seen.peak_bytes),
            largest_request: None,
        };
        Ok(Answer { results, observed, ..Answer::default() })
    }

    fn memory(&self) -> Option<Value> {
        let (free, total) = self.card.memory_info().ok()?;
        Some(json!({
            "device_used": total - free, "device_total": total, "host_rss": resident() }))
    }
}

fn no_answer(error: OpError) -> NoAnswer {
    match error {
        OpError::Refused(refusal) => NoAnswer::Refused(refusal),
        OpError::Device(e) => NoAnswer::Failed(Trouble {
            class: e.class(),
            sticky: e.is_sticky(),
            message: e.to_string(),
        }),
        OpError::Nondeterministic(_) => NoAnswer::Failed(Trouble {
            class: "nondeterministic",
            sticky: false,
            message: error.to_string(),
        }),
    }
}
