//! What a subject reports about itself before anything else is asked.

use goldgate_tensor::dtype::DType;
use serde_json::Value;

/// The largest frame before hello is answered.
pub const FIRST_FRAME: u64 = 64 << 20;

/// The largest frame after that, unless the subject sets a lower limit.
pub const MAX_FRAME: u64 = 1 << 30;

/// The field that states whether `bench` accepts a model.
pub const BENCH_MODEL: &str = "bench_model";

/// The field that states how many sequences `generate` accepts at the same time.
pub const SEQUENCES: &str = "sequences";

/// What a question about an op needs from a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpNeeds<'q> {
    /// The name of the op.
    pub op: &'q str,
    /// The type of activations.
    pub dtype: DType,
    /// The stored type of the operand that is a weight, if the op has one.
    pub weight: Option<DType>,
}

/// A subject's answer to hello: the object as received, which is read on demand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello(Value);

impl Hello {
    /// Reads the `ok` of an answer to hello.
    ///
    /// # Errors
    /// A required field is missing, or the version of the wire differs.
    pub fn read(ok: &Value) -> Result<Hello, String> {
        if ok["wire"].as_u64() != Some(1) {
            return Err(format!("hello: wire is {}, wants 1", ok["wire"]));
        }
        // Without these three nobody could say whose answers a report contains.
        for (pointer, what) in [
            ("/subject/name", "a name"),
            ("/subject/version", "a version"),
            ("/device/kind", "a kind of device"),
        ] {
            if ok.pointer(pointer).and_then(Value::as_str).is_none() {
                return Err(format!("hello: {} wants {what}", pointer[1..].replace('/', ".")));
            }
        }
        if !ok["calls"].is_array() {
            return Err("hello: calls wants a list".to_owned());
        }
        Ok(Hello(ok.clone()))
    }

    /// The object as received, for the report.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// The text at a JSON pointer; empty if absent.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The kind of device: `cpu`, `cuda` …
    pub fn device_kind(&self) -> &str {
        self.text("/device/kind")
    }

    /// Whether it computes on a card: every kind of device but `cpu` is one.
    pub fn on_card(&self) -> bool {
        self.device_kind() != "cpu"
    }

    /// The name of the device, or its kind if it reported no name.
    pub fn device_name(&self) -> &str {
        // A CPU need not have a name.
        match self.text("/device/name") {
            "" => self.device_kind(),
            name => name,
        }
    }

    /// Whether the subject offers a call.
    pub fn offers(&self, call: &str) -> bool {
        self.0["calls"].as_array().is_some_and(|calls| calls.iter().any(|c| c == call))
    }

    /// Whether `bench` can time a model's decode step.
    pub fn times_models(&self) -> bool {
        self.offers("bench") && self.0[BENCH_MODEL] == true
    }

    /// How many sequences `generate` accepts at the same time: one, if not reported.
    pub fn sequences(&self) -> u64 {
        self.0[SEQUENCES].as_u64().unwrap_or(1).max(1)
    }

    /// Whether hello explicitly lists everything that a question about an op needs: the op, its
    /// dtype, its weight type.
    pub fn promises<'q>(&self, question: impl Into<OpNeeds<'q>>) -> bool {
        let OpNeeds { op, dtype, weight } = question.into();
        let offer = &self.0["ops"][op];
        let lists = |key: &str, dtype: DType| {
            // An absent list promises nothing.
            offer[key].as_array().is_some_and(|l| l.iter().any(|t| t == dtype.name()))
        };
        // An op without weights needs no promise about them.
        let weight = weight.is_none_or(|dtype| lists("weights", dtype));
        self.offers("op") && lists("dtypes", dtype) && weight
    }

    /// Which need of a question about an op is not among the ops, dtypes and weights that hello
    /// lists. Such a question is not asked.
    pub fn lacks<'q>(&self, question: impl Into<OpNeeds<'q>>) -> Option<String> {
        let OpNeeds { op, dtype, weight } = question.into();
        // A subject that lists no ops may support any, so it is asked.
        let ops = self.0["ops"].as_object()?;
        let Some(offer) = ops.get(op) else { return Some(format!("op {op}")) };
        let lists = |key: &str, dtype: DType| {
            // An absent list rules nothing out.
            offer[key].as_array().is_none_or(|l| l.iter().any(|t| t == dtype.name()))
        };
        if !lists("dtypes", dtype) {
            return Some(format!("{op} in {dtype}"));
        }
        // Anything else than a weight type makes a malformed question, and a subject with the op
        // must be asked to refuse it.
        let weight = weight.filter(|w| DType::WEIGHTS.contains(w));
        let weight = weight.filter(|w| !lists("weights", *w))?;
        Some(format!("{op} with weights in {weight}"))
    }

    /// The largest frame that both sides accept.
    pub fn max_frame(&self) -> u64 {
        // Neither side is sent more than it said that it takes.
        self.0["max_frame"].as_u64().unwrap_or(MAX_FRAME).min(MAX_FRAME)
    }

    /// Whether it accepts attachments for what does not fit into a frame.
    pub fn attaches(&self) -> bool {
        self.0["attach"].as_bool().unwrap_or(false)
    }

    /// Its heartbeat in seconds, if it has one.
    pub fn heartbeat(&self) -> Option<f64> {
        // A heartbeat of zero or below would let every subject time out at once.
        self.0["heartbeat_s"].as_f64().filter(|h| h.is_finite() && *h > 0.0)
    }

    /// Whether only one copy of it may run.
    pub fn exclusive(&self) -> bool {
        self.0["exclusive"].as_bool().unwrap_or(false)
    }

    /// The memory of its device in bytes, if reported.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.0.pointer("/device/memory_bytes").and_then(Value::as_u64)
    }

    /// What must be the same for all workers of one subject: the program, and its device.
    pub fn identity(&self) -> (Value, Value) {
        (self.0["subject"].clone(), self.0["device"].clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offer() -> Value {
        json!({"wire": 1, "subject": {"name": "s", "version": "1"}, "device": {"kind": "cuda"},
               "calls": ["op"], "ops": {"gelu": {"dtypes": ["f16"]},
               "linear": {"dtypes": ["f16"], "weights": ["q4_k"]}}})
    }

    fn needs(op: &str, dtype: DType, weight: Option<DType>) -> OpNeeds<'_> {
        OpNeeds { op, dtype, weight }
    }

    #[test]
    fn promises_are_by_op_dtype_and_weight() {
        let hello = Hello::read(&offer()).expect("whole");
        assert!(hello.promises(needs("gelu", DType::F16, None)));
        assert!(!hello.promises(needs("gelu", DType::F32, None)));
        assert!(!hello.promises(needs("rope", DType::F16, None)));
        assert!(hello.promises(needs("linear", DType::F16, Some(DType::Q4K))));
        assert!(!hello.promises(needs("linear", DType::F16, Some(DType::Q5K))));
        let lacks = |op, dtype, weight| hello.lacks(needs(op, dtype, weight));
        assert_eq!(lacks("gelu", DType::F16, None), None);
        assert_eq!(lacks("gelu", DType::F32, None).as_deref(), Some("gelu in f32"));
        assert_eq!(lacks("rope", DType::F16, None).as_deref(), Some("op rope"));
        let q5 = lacks("linear", DType::F16, Some(DType::Q5K));
        assert_eq!(q5.as_deref(), Some("linear with weights in q5_k"));
        assert_eq!(lacks("linear", DType::F16, Some(DType::U8)), None);
    }

    #[test]
    fn what_is_required_is_named() {
        for (pointer, said) in [
            ("wire", "hello: wire is null, wants 1"),
            ("subject", "hello: subject.name wants a name"),
            ("device", "hello: device.kind wants a kind of device"),
            ("calls", "hello: calls wants a list"),
        ] {
            let mut ok = offer();
            ok.as_object_mut().expect("an object").remove(pointer);
            assert_eq!(Hello::read(&ok), Err(said.to_owned()));
        }
    }
}
