//! Our engine on a card, behind the wire. Only a worker process opens it.

use std::collections::BTreeMap;

use goldgate_engine::cuda::{Card as Properties, Device as Card, DeviceError, Settings};
use goldgate_engine::exec::bench;
use goldgate_engine::exec::op::{self, OpError};
use goldgate_engine::ops;
use goldgate_engine::session::Place;
use goldgate_engine::{DType, Tensor};
use serde_json::{Map, Value, json};

use crate::execution::Observed;
use crate::subject::hello::BENCH_MODEL;
use crate::subject::models::{self, Models, Tell};
use crate::subject::serve::{Answer, Bench, Device, NoAnswer, Trouble, hello_of_ours, resident};
use crate::subject::text::Shelf;
use crate::subject::{OpQuestion, layers, perfect};

/// What our worker observes of itself on a card.
const OBSERVES: [&str; 5] = ["guards", "inputs", "poison", "route", "memory"];

/// An open card.
#[derive(Debug)]
pub struct Cuda {
    models: Models,
    shelf: Shelf,
    card: Card,
    settings: Settings,
}

impl Cuda {
    /// Opens card `index`.
    ///
    /// # Errors
    /// No driver, no such card, no compiler.
    pub fn open(settings: &Settings, index: usize) -> Result<Cuda, DeviceError> {
        let card = Card::open(settings, index)?;
        // With many cores every page is compiled at once, into the cache, so that no case waits
        // for the compiler; with few, each page when it is first needed.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if cores >= 8 {
            card.warm(&ops::pages())?;
        }
        let (models, shelf) = (Models::default(), Shelf::default());
        Ok(Cuda { models, shelf, card, settings: settings.clone() })
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
        let calls = ["op", "memory", "bench", "check", "inspect", "tokenize", "detokenize"];
        let calls = [&calls[..], models::CALLS].concat();
        let mut hello = hello_of_ours(&device, &calls, &OBSERVES);
        hello[BENCH_MODEL] = true.into();
        Ok(hello)
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
            cpu_us: None,
        };
        Ok(Answer { results, observed, ..Answer::default() })
    }

    fn bench(&mut self, question: &OpQuestion, settings: &Bench) -> Result<Answer, NoAnswer> {
        let mut fields = Map::new();
        if settings.copy.is_some() {
            let limits = bench::limits(&mut self.card).map_err(|e| no_answer(e.into()))?;
            fields.insert("copy_gb_s".into(), limits.copy_gb_s.into());
            fields.insert("read_gb_s".into(), limits.read_gb_s.into());
            fields.insert("mma_tflop_s".into(), limits.mma_tflop_s.into());
            fields.insert("gap_us".into(), limits.gap_us.into());
            return Ok(Answer { fields, ..Answer::default() });
        }
        let Some(op) = ops::find(&question.op) else {
            return Err(NoAnswer::Unsupported(format!("op {}", question.op)));
        };
        let checked = perfect::check(question, op)?;
        let replays = settings.iterations.clamp(1, 50) as usize;
        let us = bench::time(&mut self.card, op, &checked, &question.tensors, replays)
            .map_err(|e| no_answer(e.into()))?;
        let cost = op.cost(&checked);
        fields.insert("bytes".into(), cost.bytes.into());
        fields.insert("flops".into(), cost.operations.into());
        let us = Tensor::from_f64(DType::F32, &[us.len()], &us);
        let results = std::iter::once(("us".to_owned(), us)).collect();
        Ok(Answer { results, fields, ..Answer::default() })
    }

    fn check(&mut self, stem: &str, case: &str) -> Result<Option<String>, NoAnswer> {
        match stem {
            "fault" => Ok(layers::faults(self, case).err()),
            "layer" => Ok(layers::on_card(&mut self.card, case).err()),
            "streams" => Ok(layers::streams(&self.settings, self.card.card().index).err()),
            _ => Err(NoAnswer::Unsupported(format!("check {stem}::{case}"))),
        }
    }

    fn text(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Answer, NoAnswer> {
        self.shelf.answer(ask, tensors)
    }

    fn model(
        &mut self,
        ask: &Value,
        tensors: &BTreeMap<String, Tensor>,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        self.models.answer(&mut Place::Cuda(&mut self.card), ask, tensors, tell)
    }

    fn card(&self) -> Properties {
        self.card.card().clone()
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
