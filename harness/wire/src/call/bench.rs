//! The call `bench` in its three forms: one op, the card itself, and a decode step of a model.

use goldgate_tensor::DType;
use serde_json::Value;

use crate::call::{BadField, BadQuestion, Call, Op, Tensors};
use crate::fields::{Body, Fields, result};

/// Asks for the times of one op on given operands.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchOp {
    /// The question to be timed.
    pub op: Op,
    /// How many runs are not counted; the subject's choice if absent.
    pub warmup: Option<u64>,
    /// How many runs are counted.
    pub iterations: Option<u64>,
    /// Whether the level-2 cache is flushed between runs.
    pub flush_l2: Option<bool>,
}

/// The measurements of [`BenchOp`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpTimes {
    /// The time of each counted run in µs, by device events.
    pub us: Vec<f64>,
    /// The least number of bytes that the op must move.
    pub bytes: Option<f64>,
    /// The least number of operations that it must perform.
    pub flops: Option<f64>,
}

impl Call for BenchOp {
    const NAME: &'static str = "bench";

    type Answer = OpTimes;

    fn question(&self) -> (Value, Tensors) {
        let mut body = self.op.body(Self::NAME);
        body.may("warmup", self.warmup);
        body.may("iterations", self.iterations);
        body.may("flush_l2", self.flush_l2);
        (body.json(), self.op.tensors.clone())
    }

    fn read(question: &Value, tensors: Tensors) -> Result<BenchOp, BadQuestion> {
        let fields = Fields(question);
        Ok(BenchOp {
            op: Op::read(question, tensors)?,
            warmup: fields.may_number("warmup")?,
            iterations: fields.may_number("iterations")?,
            flush_l2: fields.may_flag("flush_l2")?,
        })
    }

    fn write_answer(answer: OpTimes) -> (Value, Tensors) {
        let mut body = Body::default();
        body.may("bytes", answer.bytes);
        body.may("flops", answer.flops);
        let us = goldgate_tensor::Tensor::from_f64(DType::F32, &[answer.us.len()], &answer.us);
        (body.json(), Tensors::from([("us".to_owned(), us)]))
    }

    fn read_answer(body: Value, mut tensors: Tensors) -> Result<OpTimes, BadField> {
        let fields = Fields(&body);
        let us = result(&mut tensors, "us", DType::F32)?.to_f64();
        let (bytes, flops) = (fields.may_real("bytes")?, fields.may_real("flops")?);
        Ok(OpTimes { us, bytes, flops })
    }
}

/// Asks for the limits of the card itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchCopy {
    /// How many bytes are copied and read to measure them.
    pub bytes: u64,
}

/// The card's own limits. Absent means *not measured*.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Copying memory on the device in GB/s, with bytes read and written counted together.
    pub copy_gb_s: Option<f64>,
    /// Reading memory on the device in GB/s.
    pub read_gb_s: Option<f64>,
    /// Matrix products on tensor cores in TFLOP/s.
    pub mma_tflop_s: Option<f64>,
    /// The time in µs from the end of one launch of a graph to the start of the next.
    pub gap_us: Option<f64>,
}

impl Call for BenchCopy {
    const NAME: &'static str = "bench";

    type Answer = Limits;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("copy", self.bytes);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<BenchCopy, BadQuestion> {
        Ok(BenchCopy { bytes: Fields(question).number("copy")? })
    }

    fn write_answer(answer: Limits) -> (Value, Tensors) {
        let mut body = Body::default();
        // Left out where nothing was measured: a 0 would read as a card that moves no bytes.
        body.may("copy_gb_s", answer.copy_gb_s);
        body.may("read_gb_s", answer.read_gb_s);
        body.may("mma_tflop_s", answer.mma_tflop_s);
        body.may("gap_us", answer.gap_us);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<Limits, BadField> {
        let fields = Fields(&body);
        Ok(Limits {
            copy_gb_s: fields.may_real("copy_gb_s")?,
            read_gb_s: fields.may_real("read_gb_s")?,
            mma_tflop_s: fields.may_real("mma_tflop_s")?,
            gap_us: fields.may_real("gap_us")?,
        })
    }
}

/// Asks for the time of a decode step of a loaded model, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BenchModel {
    /// The handle of the model.
    pub model: u64,
    /// How many tokens each sequence has before the step.
    pub depth: u64,
    /// The number of sequences, each with one row in the step; 1 if absent.
    pub sequences: Option<u64>,
}

/// The measurements of [`BenchModel`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepTimes {
    /// The time of the whole step in µs.
    pub step_us: f64,
    /// Its parts.
    pub parts: Vec<StepPart>,
    /// The bytes of weights that the step must read.
    pub bytes_weights: u64,
    /// The bytes of keys and values that it must read.
    pub bytes_kv: u64,
}

/// The steps of one name in all layers, taken together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepPart {
    /// The name of the steps, without the layer.
    pub step: String,
    /// Their op.
    pub op: String,
    /// The number of these steps.
    pub steps: u64,
    /// The number of their launches.
    pub launches: u64,
    /// The kernel entries that they launch.
    pub entries: Vec<String>,
    /// Their time in µs, by device events.
    pub us: f64,
    /// The least number of bytes that they must move.
    pub bytes: f64,
    /// Whether their bytes fit into the level-2 cache, so that their rate says nothing about
    /// memory.
    pub cached: bool,
}

impl StepPart {
    fn json(&self) -> Value {
        let mut body = Body::default();
        body.put("step", self.step.as_str());
        body.put("op", self.op.as_str());
        body.put("steps", self.steps);
        body.put("launches", self.launches);
        body.put("entries", self.entries.clone());
        body.put("us", self.us);
        body.put("bytes", self.bytes);
        body.put("cached", self.cached);
        body.json()
    }

    fn read(part: &Value) -> Option<StepPart> {
        let text = |key: &str| part[key].as_str().map(str::to_owned);
        // A part without one of its figures makes the whole answer malformed.
        Some(StepPart {
            step: text("step")?,
            op: text("op")?,
            steps: part["steps"].as_u64()?,
            launches: part["launches"].as_u64()?,
            entries: Fields(part).texts("entries").ok()?,
            us: part["us"].as_f64()?,
            bytes: part["bytes"].as_f64()?,
            cached: part["cached"].as_bool()?,
        })
    }
}

impl Call for BenchModel {
    const NAME: &'static str = "bench";

    type Answer = StepTimes;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("model", self.model);
        body.put("depth", self.depth);
        body.may("sequences", self.sequences);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<BenchModel, BadQuestion> {
        let fields = Fields(question);
        Ok(BenchModel {
            model: fields.number("model")?,
            depth: fields.may_number("depth")?.unwrap_or(0),
            sequences: fields.may_number("sequences")?,
        })
    }

    fn write_answer(answer: StepTimes) -> (Value, Tensors) {
        let mut body = Body::default();
        body.put("step_us", answer.step_us);
        body.put("parts", answer.parts.iter().map(StepPart::json).collect::<Vec<_>>());
        body.put("bytes_weights", answer.bytes_weights);
        body.put("bytes_kv", answer.bytes_kv);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<StepTimes, BadField> {
        let fields = Fields(&body);
        let parts = fields.may_list("parts", "a list of parts of a step", StepPart::read)?;
        Ok(StepTimes {
            step_us: fields.real("step_us")?,
            parts: parts.unwrap_or_default(),
            bytes_weights: fields.number("bytes_weights")?,
            bytes_kv: fields.number("bytes_kv")?,
        })
    }
}
