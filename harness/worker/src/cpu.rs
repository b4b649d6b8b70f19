//! Our engine on the CPU behind the wire, and the stand-in for a card that is missing.

use goldgate_engine::DType;
use goldgate_engine::ops;
use goldgate_engine::session::Place;
use goldgate_wire::Tensors;
use goldgate_wire::call::{
    Check, Checked, Detokenize, Detokenized, MemoryAnswer, Op, OpAnswer, Tokenize, Tokenized,
};
use goldgate_wire::hello::{MAX_FRAME, SEQUENCES};
use goldgate_wire::words::{Claim, Logits, Texts};
use serde_json::{Map, Value, json};

use crate::checks;
use crate::device::{Answer, Device, NoAnswer, Tell, Trouble};
use crate::models::{self, Models};
use crate::tokenizers::Tokenizers;

/// The fields of hello that all our workers share; `build` states how the program was built.
pub fn hello_of_ours(build: &str, device: &Value, calls: &[&str], observes: &[&str]) -> Value {
    json!({
        "wire": 1,
        "subject": {
            "name": "goldgate-engine",
            "version": env!("CARGO_PKG_VERSION"),
            "build": build,
        },
        "device": device,
        "calls": calls,
        "ops": offers(),
        "max_frame": MAX_FRAME,
        "attach": true,
        "formats": ["gguf", "safetensors", "tokenizer.json"],
        "architectures": ["gpt2", "llama", "qwen2"],
        "trace_mode": ["as_run", "unfused", "local"],
        (SEQUENCES): goldgate_engine::batch::MOST,
        "claims": Claim::ALL.iter().map(|c| c.name()).collect::<Vec<_>>(),
        "logits": Logits::ALL.iter().map(|l| l.name()).collect::<Vec<_>>(),
        "tokenizer": Texts::ALL.iter().map(|t| t.name()).collect::<Vec<_>>(),
        "observes": observes,
    })
}

/// What the CPU answers.
const CALLS: &[&str] = &["check", "detokenize", "inspect", "memory", "op", "tokenize"];

/// The ops of our engine, as hello lists them.
fn offers() -> Value {
    let names = |list: &[DType]| list.iter().map(|t| t.name().into()).collect::<Vec<Value>>();
    let mut offers = Map::new();
    for op in ops::ALL {
        let signature = op.signature();
        let mut offer = json!({"dtypes": names(&DType::ACTIVATIONS)});
        if signature.weight().is_some() {
            offer["weights"] = names(&DType::WEIGHTS).into();
        }
        offers.insert(signature.name.to_owned(), offer);
    }
    offers.into()
}

/// The definitions of our engine.
#[derive(Debug, Default)]
pub struct Cpu {
    build: String,
    tokenizers: Tokenizers,
    models: Models,
}

impl Cpu {
    /// An engine without models; `build` is passed on to hello.
    pub fn new(build: &str) -> Cpu {
        Cpu { build: build.to_owned(), ..Cpu::default() }
    }
}

impl Device for Cpu {
    fn hello(&self) -> Result<Value, Trouble> {
        let calls = [CALLS, models::CALLS].concat();
        Ok(hello_of_ours(&self.build, &json!({"kind": "cpu"}), &calls, &["memory"]))
    }

    fn op(&mut self, question: &Op) -> Result<OpAnswer, NoAnswer> {
        let Op { op, dtype, attributes, tensors, .. } = question;
        let Some(op) = ops::find(op) else {
            return Err(NoAnswer::Unsupported(format!("op {op}")));
        };
        let results = ops::evaluate(op, *dtype, attributes, tensors)?;
        Ok(OpAnswer { results, ..OpAnswer::default() })
    }

    fn check(&mut self, check: &Check) -> Result<Checked, NoAnswer> {
        let fails = match &*check.stem {
            "fault" => checks::faults(self, &check.case).err(),
            "layer" => checks::on_cpu(&check.case).err(),
            stem => return Err(NoAnswer::Unsupported(format!("check {stem}::{}", check.case))),
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
        self.models.answer(&mut Place::Cpu, question, tensors, tell)
    }

    fn memory(&self) -> Option<MemoryAnswer> {
        Some(MemoryAnswer { host_rss: Some(resident()?), ..MemoryAnswer::default() })
    }
}

/// The resident memory of this process in bytes, if the system reports it.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    // The system writes kB and means 1024 bytes.
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|k| k << 10)
}

/// A missing card, whose hello reports the reason.
#[derive(Clone, Debug)]
pub struct NoDevice(pub String);

impl Device for NoDevice {
    fn hello(&self) -> Result<Value, Trouble> {
        // Said in answer to hello, so that the rows can tell why no card was asked.
        Err(Trouble { class: "device", sticky: true, message: self.0.clone() })
    }

    fn op(&mut self, _question: &Op) -> Result<OpAnswer, NoAnswer> {
        self.hello().map(|_| OpAnswer::default()).map_err(NoAnswer::Failed)
    }
}
