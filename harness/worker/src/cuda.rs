//! Our engine on a card behind the wire. Only a worker process opens it, so that a fault of the
//! driver cannot end the harness.

use goldgate_engine::cuda::{Card as Properties, Device as Card, DeviceError, Settings};
use goldgate_engine::exec::bench;
use goldgate_engine::exec::op::{self, OpError};
use goldgate_engine::ops::{self, Question};
use goldgate_engine::session::Place;
use goldgate_wire::call::{
    BenchCopy, BenchOp, Check, Checked, Detokenize, Detokenized, Limits, MemoryAnswer, Op,
    OpAnswer, OpTimes, Tokenize, Tokenized,
};
use goldgate_wire::hello::BENCH_MODEL;
use goldgate_wire::{Observed, Tensors};
use serde_json::{Value, json};

use crate::checks;
use crate::cpu::{hello_of_ours, resident};
use crate::device::{Answer, Device, NoAnswer, Tell, Trouble};
use crate::models::{self, Models};
use crate::tokenizers::Tokenizers;

/// What our worker observes about itself on a card.
const OBSERVES: [&str; 5] = ["guards", "inputs", "poison", "route", "memory"];

/// An open card.
#[derive(Debug)]
pub struct Cuda {
    models: Models,
    tokenizers: Tokenizers,
    card: Card,
    settings: Settings,
    build: String,
}

impl Cuda {
    /// Opens card `index`; `build` is passed on to hello.
    ///
    /// # Errors
    /// There is no driver, no such card, or no compiler.
    pub fn open(settings: &Settings, index: usize, build: &str) -> Result<Cuda, DeviceError> {
        let card = Card::open(settings, index)?;
        // With many cores all pages are compiled into the cache at once, so that no case waits for
        // the compiler; with few, each page is compiled when first needed.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if cores >= 8 {
            card.warm(&ops::pages())?;
        }
        let (models, tokenizers) = (Models::default(), Tokenizers::default());
        let (settings, build) = (settings.clone(), build.to_owned());
        Ok(Cuda { models, tokenizers, card, settings, build })
    }
}

impl Device for Cuda {
    fn hello(&self) -> Result<Value, Trouble> {
        let card = self.card.card();
        let (major, minor) = self.card.nvrtc_version();
        // CUDA numbers a version as 1000 times the major part and 10 times the minor.
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
        let mut hello = hello_of_ours(&self.build, &device, &calls, &OBSERVES);
        // Only a card has a clock of its own for the parts of a step.
        hello[BENCH_MODEL] = true.into();
        Ok(hello)
    }

    fn op(&mut self, question: &Op) -> Result<OpAnswer, NoAnswer> {
        let (op, checked) = checked(question)?;
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
        Ok(OpAnswer { results, observed })
    }

    fn bench(&mut self, question: &BenchOp) -> Result<OpTimes, NoAnswer> {
        let (op, checked) = checked(&question.op)?;
        let replays = question.iterations.unwrap_or(REPLAYS).clamp(1, 50) as usize;
        let us = bench::time(&mut self.card, op, &checked, &question.op.tensors, replays)
            .map_err(|e| no_answer(e.into()))?;
        let cost = op.cost(&checked);
        Ok(OpTimes { us, bytes: Some(cost.bytes), flops: Some(cost.operations) })
    }

    fn limits(&mut self, _: &BenchCopy) -> Result<Limits, NoAnswer> {
        let limits = bench::limits(&mut self.card).map_err(|e| no_answer(e.into()))?;
        Ok(Limits {
            copy_gb_s: Some(limits.copy_gb_s),
            read_gb_s: Some(limits.read_gb_s),
            mma_tflop_s: Some(limits.mma_tflop_s),
            gap_us: Some(limits.gap_us),
        })
    }

    fn check(&mut self, check: &Check) -> Result<Checked, NoAnswer> {
        let Check { stem, case } = check;
        let fails = match &**stem {
            "fault" => checks::faults(self, case).err(),
            "layer" => checks::on_card(&mut self.card, case).err(),
            "streams" => {
                let (settings, index) = (&self.settings, self.card.card().index);
                let open = || Cuda::open(settings, index, "").map_err(|e| e.to_string());
                checks::streams(open).err()
            }
            _ => return Err(NoAnswer::Unsupported(format!("check {stem}::{case}"))),
        };
        Ok(Checked { fails })
    }

    fn tokenize(&mut self, question: &Tokenize) -> Result<Tokenized, NoAnswer> {
        self.tokenizers.tokenize(question, |handle| self.models.tokenizer(handle))
    }

    fn detokenize(&mut self, question: &Detokenize) -> Result<Detokenized, NoAnswer> {
        self.tokenizers.detokenize(question, |handle| self.models.tokenizer(handle))
    }

    fn model(
        &mut self,
        question: &Value,
        tensors: &Tensors,
        tell: Tell<'_>,
    ) -> Result<Answer, NoAnswer> {
        self.models.answer(&mut Place::Cuda(&mut self.card), question, tensors, tell)
    }

    fn card(&self) -> Properties {
        self.card.card().clone()
    }

    fn memory(&self) -> Option<MemoryAnswer> {
        let (free, total) = self.card.memory_info().ok()?;
        Some(MemoryAnswer {
            device_used: Some((total - free) as u64),
            device_total: Some(total as u64),
            host_rss: resident(),
        })
    }
}

/// The number of replays of a bench, if the question gives none.
const REPLAYS: u64 = 20;

/// The op of a question, and the question checked against its signature.
fn checked(question: &Op) -> Result<(&'static dyn ops::Op, Question), NoAnswer> {
    let Op { op, dtype, attributes, tensors, .. } = question;
    let Some(op) = ops::find(op) else {
        return Err(NoAnswer::Unsupported(format!("op {op}")));
    };
    Ok((op, Question::of_tensors(op, *dtype, attributes, tensors)?))
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
