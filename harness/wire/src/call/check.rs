//! The calls about a subject as a whole and about files: check, memory, inspect.

use serde_json::{Map, Value};

use crate::call::{BadField, BadQuestion, Call, LoadOptions, Tensors};
use crate::fields::{Body, Fields};
use crate::observed::Observed;

/// Asks the subject to check itself. Only our own subject offers this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The group of checks: `layer`, `fault`, `streams`.
    pub stem: String,
    /// The check within the group.
    pub case: String,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What does not hold; none if the check holds.
    pub fails: Option<String>,
}

impl Call for Check {
    const NAME: &'static str = "check";

    type Answer = Checked;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("stem", self.stem.as_str());
        body.put("case", self.case.as_str());
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Check, BadQuestion> {
        let fields = Fields(question);
        Ok(Check { stem: fields.text("stem")?, case: fields.text("case")? })
    }

    fn write_answer(answer: Checked) -> (Value, Tensors) {
        let mut body = Body::default();
        body.put("holds", answer.fails.is_none());
        body.may("why", answer.fails);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<Checked, BadField> {
        let fields = Fields(&body);
        let why = fields.may_text("why")?;
        // Read in any case, so that a malformed reason does not pass as success.
        Ok(match fields.truth("holds")? {
            true => Checked { fails: None },
            // A failure without a reason is still a failure.
            false => Checked { fails: Some(why.unwrap_or_else(|| "it says nothing".to_owned())) },
        })
    }
}

/// Asks for the memory in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory;

/// Memory in use in bytes. Absent means *unknown*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryAnswer {
    /// In use on the device, by all processes.
    pub device_used: Option<u64>,
    /// The total memory of the device.
    pub device_total: Option<u64>,
    /// The resident memory of the subject's process.
    pub host_rss: Option<u64>,
}

impl Call for Memory {
    const NAME: &'static str = "memory";

    type Answer = MemoryAnswer;

    fn question(&self) -> (Value, Tensors) {
        (Body::call(Self::NAME).json(), Tensors::new())
    }

    fn read(_: &Value, _: Tensors) -> Result<Memory, BadQuestion> {
        Ok(Memory)
    }

    fn write_answer(answer: MemoryAnswer) -> (Value, Tensors) {
        let mut body = Body::default();
        body.may("device_used", answer.device_used);
        body.may("device_total", answer.device_total);
        body.may("host_rss", answer.host_rss);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<MemoryAnswer, BadField> {
        let fields = Fields(&body);
        Ok(MemoryAnswer {
            device_used: fields.may_number("device_used")?,
            device_total: fields.may_number("device_total")?,
            host_rss: fields.may_number("host_rss")?,
        })
    }
}

/// Asks for the facts of a model file or a tokenizer.json, read without a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspect {
    /// The file or folder.
    pub path: String,
    /// How the model would be loaded. If a context is given, the answer includes what `load` would
    /// take.
    pub options: LoadOptions,
}

/// The facts of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspected {
    /// The facts as `goldgate inspect --json` prints them: format, architecture, config, tensors …
    pub facts: Map<String, Value>,
    /// What `load` would take: the options in force, and bytes; absent if not asked for.
    pub need: Option<Value>,
    /// What reading the file took.
    pub observed: Observed,
}

impl Inspected {
    /// Properties of the file that are legal but unusual.
    pub fn warnings(&self) -> Vec<&str> {
        let list = self.facts.get("warnings").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The bytes of all arenas that `load` would take, if the answer contains them.
    pub fn need_bytes(&self) -> Option<u64> {
        self.need.as_ref()?["bytes_arena"].as_u64()
    }
}

impl Call for Inspect {
    const NAME: &'static str = "inspect";

    type Answer = Inspected;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("path", self.path.as_str());
        // By the fields of `load`, so that the need is that of the load that follows.
        self.options.write(&mut body);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Inspect, BadQuestion> {
        let path = Fields(question).text("path")?;
        Ok(Inspect { path, options: LoadOptions::read(question)? })
    }

    fn write_answer(answer: Inspected) -> (Value, Tensors) {
        let mut body = Body::default();
        // First, so that no fact can replace what was observed.
        body.append(&answer.facts);
        body.may("need", answer.need);
        body.put("observed", answer.observed.json());
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<Inspected, BadField> {
        let observed = Observed::from_answer(&body).map_err(BadField::Mistyped)?;
        let Value::Object(mut facts) = body else {
            return Err(BadField::Mistyped("the answer is no object".to_owned()));
        };
        // What a subject observed of itself is no fact about the file.
        facts.remove("observed");
        // Nor is the need, which depends on how the model would be loaded.
        Ok(Inspected { need: facts.remove("need"), facts, observed })
    }
}
