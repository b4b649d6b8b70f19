//! What a subject says of itself before anything is asked.

use goldgate_tensor::dtype::DType;
use serde_json::Value;

/// The largest frame before hello is answered.
pub const FIRST_FRAME: u64 = 64 << 20;

/// The largest frame afterwards, where a subject does not say less.
pub const MAX_FRAME: u64 = 1 << 30;

/// The field that says whether `bench` takes a model.
pub const BENCH_MODEL: &str = "bench_model";

/// The field that says how many sequences `generate` takes side by side.
pub const SEQUENCES: &str = "sequences";

/// What a question about an op needs of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpNeeds<'q> {
    /// The op, by its name.
    pub op: &'q str,
    /// The type of activations.
    pub dtype: DType,
    /// The stored type of the operand that is a weight, for ops that have one.
    pub weight: Option<DType>,
}

/// A subject's answer to hello: the object as it came, read on demand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello(Value);

impl Hello {
    /// Reads the `ok` of an answer to hello.
    ///
    /// # Errors
    /// A required field that is not there, or another version of the wire.
    pub fn read(ok: &Value) -> Result<Hello, String> {
        if ok["wire"].as_u64() != Some(1) {
            return Err(format!("hello: wire is {}, wants 1", ok["wire"]));
        }
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

    /// The object as it came, for the report.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A text by JSON pointer; empty where it is absent.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// `cpu`, `cuda` …
    pub fn device_kind(&self) -> &str {
        self.text("/device/kind")
    }

    /// The card's name, or the kind of device where it gave none.
    pub fn device_name(&self) -> &str {
        match self.text("/device/name") {
            "" => self.device_kind(),
            name => name,
        }
    }

    /// Whether it offers a call.
    pub fn offers(&self, call: &str) -> bool {
        self.0["calls"].as_array().is_some_and(|calls| calls.iter().any(|c| c == call))
    }

    /// Whether `bench` tells the times of a model's decode step.
    pub fn times_models(&self) -> bool {
        self.offers("bench") && self.0[BENCH_MODEL] == true
    }

    /// How many sequences `generate` takes side by side: one, where it does not say.
    pub fn sequences(&self) -> u64 {
        self.0[SEQUENCES].as_u64().unwrap_or(1).max(1)
    }

    /// Whether it promised to answer a question about an op: the op, its dtype, its weight's type.
    pub fn promises<'q>(&self, question: impl Into<OpNeeds<'q>>) -> bool {
        let OpNeeds { op, dtype, weight } = question.into();
        let offer = &self.0["ops"][op];
        let lists = |key: &str, dtype: DType| {
            offer[key].as_array().is_some_and(|l| l.iter().any(|t| t == dtype.name()))
        };
        let weight = weight.is_none_or(|dtype| lists("weights", dtype));
        self.offers("op") && lists("dtypes", dtype) && weight
    }

    /// What of a question about an op it does not offer, by the ops, dtypes and weights that it
    /// listed. Such a question is not put to it.
    pub fn lacks<'q>(&self, question: impl Into<OpNeeds<'q>>) -> Option<String> {
        let OpNeeds { op, dtype, weight } = question.into();
        let ops = self.0["ops"].as_object()?;
        let Some(offer) = ops.get(op) else { return Some(format!("op {op}")) };
        let lists = |key: &str, dtype: DType| {
            offer[key].as_array().is_none_or(|l| l.iter().any(|t| t == dtype.name()))
        };
        if !lists("dtypes", dtype) {
            return Some(format!("{op} in {dtype}"));
        }
        // What is no weight type makes a malformed question, which a subject with the op must get.
        let weight = weight.filter(|w| DType::WEIGHTS.contains(w));
        let weight = weight.filter(|w| !lists("weights", *w))?;
        Some(format!("{op} with weights in {weight}"))
    }

    /// The largest frame that both sides take.
    pub fn max_frame(&self) -> u64 {
        self.0["max_frame"].as_u64().unwrap_or(MAX_FRAME).min(MAX_FRAME)
    }

    /// Whether it takes by file what a frame does not hold.
    pub fn attaches(&self) -> bool {
        self.0["attach"].as_bool().unwrap_or(false)
    }

    /// Its heartbeat in seconds, if it has one.
    pub fn heartbeat(&self) -> Option<f64> {
        self.0["heartbeat_s"].as_f64().filter(|h| h.is_finite() && *h > 0.0)
    }

    /// Whether only one copy of it may run.
    pub fn exclusive(&self) -> bool {
        self.0["exclusive"].as_bool().unwrap_or(false)
    }

    /// The memory of its device, bytes, if it said.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.0.pointer("/device/memory_bytes").and_then(Value::as_u64)
    }

    /// What must not differ between two workers of one subject: who it is and what it runs on.
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
