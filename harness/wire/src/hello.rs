//! What a subject reports about itself before anything else is asked.

use goldgate_tensor::dtype::DType;
use serde_json::Value;

use crate::arithmetic::Arithmetic;
use crate::words::{Claim, Logits, Texts};

/// The largest frame before hello is answered.
pub const FIRST_FRAME: u64 = 64 << 20;

/// The largest frame after that, unless the subject sets a lower limit.
pub const MAX_FRAME: u64 = 1 << 30;

/// The field that states whether `bench` accepts a model.
pub const BENCH_MODEL: &str = "bench_model";

/// The field that states how many sequences `generate` accepts at the same time.
pub const SEQUENCES: &str = "sequences";

/// What a question about an op needs from a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpNeeds<'q> {
    /// The name of the op.
    pub op: &'q str,
    /// The type of activations.
    pub dtype: DType,
    /// The stored type of the operand that is a weight, if the op has one.
    pub weight: Option<DType>,
    /// What the question uses of what it could leave out: optional operands, attributes with a
    /// default, and `alias` for the in-place form.
    pub features: Vec<&'q str>,
    /// The length of each axis, by its symbol in the signature; none for a malformed question.
    pub axes: Vec<(&'q str, usize)>,
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
        // Another version may give the same fields another meaning, so none of them is read.
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
        // Every question depends on this list: without it nothing could be asked or excused.
        if !ok["calls"].is_array() {
            return Err("hello: calls wants a list".to_owned());
        }
        // A word that nobody knows would be no declaration, and its owner would not learn of it.
        Arithmetic::read(&ok["arithmetic"]).map_err(|why| format!("hello: {why}"))?;
        Ok(Hello(ok.clone()))
    }

    /// Where the subject says that it rounds.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic::read(&self.0["arithmetic"]).unwrap_or_default()
    }

    /// The same answer with another declaration, as somebody else states it.
    pub fn with_arithmetic(&self, arithmetic: &Arithmetic) -> Hello {
        let mut hello = self.0.clone();
        hello["arithmetic"] = arithmetic.json();
        Hello(hello)
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
        // Every `generate` takes one prompt, so a subject that reports 0 is read as taking one.
        self.0[SEQUENCES].as_u64().unwrap_or(1).max(1)
    }

    /// Whether the subject claims a kind of determinism. What it does not claim is not held
    /// against it.
    pub fn claims(&self, claim: Claim) -> bool {
        self.0["claims"].as_array().is_some_and(|list| list.iter().any(|c| c == claim.name()))
    }

    /// The same answer with other claims, as somebody else states them.
    pub fn with_claims(&self, claims: &[Claim]) -> Hello {
        let mut hello = self.0.clone();
        hello["claims"] = claims.iter().map(|claim| claim.name()).collect();
        Hello(hello)
    }

    /// Whether `extend` returns logits in this form. A subject that lists no forms returns whole
    /// rows alone.
    pub fn returns(&self, logits: Logits) -> bool {
        // `compact` is a form of this wire alone, so no engine is expected to return it unless it
        // says so.
        let whole = matches!(logits, Logits::None | Logits::Last | Logits::All);
        match self.0["logits"].as_array() {
            Some(list) => list.iter().any(|form| form == logits.name()),
            None => whole,
        }
    }

    /// Whether the subject offers this treatment of texts: its call, and the word where it lists
    /// words.
    pub fn treats(&self, texts: Texts) -> bool {
        let call = if texts == Texts::Encode { "tokenize" } else { "detokenize" };
        let listed = |list: &Vec<Value>| list.iter().any(|word| word == texts.name());
        self.offers(call) && self.0["tokenizer"].as_array().is_none_or(listed)
    }

    /// Whether the subject reads files of a format. One that lists no formats is asked.
    pub fn reads(&self, format: &str) -> bool {
        self.0["formats"].as_array().is_none_or(|list| list.iter().any(|own| own == format))
    }

    /// What a question about an op needs and hello excludes: an op, a dtype, a weight type, a
    /// feature or a length that it does not list. Such a question is not asked. Everything else is
    /// promised.
    pub fn lacks<'q>(&self, question: impl Into<OpNeeds<'q>>) -> Option<String> {
        let OpNeeds { op, dtype, weight, features, axes } = question.into();
        // A subject that lists no ops excludes none.
        let ops = self.0["ops"].as_object()?;
        let Some(offer) = ops.get(op) else { return Some(format!("op {op}")) };
        let lists = |key: &str, word: &str| {
            // An absent list rules nothing out.
            offer[key].as_array().is_none_or(|list| list.iter().any(|own| own == word))
        };
        if !lists("dtypes", dtype.name()) {
            return Some(format!("{op} in {dtype}"));
        }
        // Anything else than a weight type makes a malformed question, and a subject with the op
        // must be asked to refuse it.
        let weight = weight.filter(|w| DType::WEIGHTS.contains(w));
        if let Some(weight) = weight.filter(|w| !lists("weights", w.name())) {
            return Some(format!("{op} with weights in {weight}"));
        }
        if let Some(feature) = features.into_iter().find(|feature| !lists("features", feature)) {
            return Some(format!("{op} with {feature}"));
        }
        let most = |axis: &str| offer["limits"][axis].as_u64();
        let beyond =
            |(axis, length): &(&str, usize)| most(axis).is_some_and(|most| *length as u64 > most);
        let (axis, length) = axes.into_iter().find(beyond)?;
        let most = most(axis).unwrap_or_default();
        Some(format!("{op} with {axis} = {length}: its limit is {most}"))
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
        // A report describes one program on one device, and the rows of another would not be about
        // it.
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
        OpNeeds { op, dtype, weight, features: Vec::new(), axes: Vec::new() }
    }

    #[test]
    fn what_is_excluded_is_named_and_the_rest_is_promised() {
        let hello = Hello::read(&offer()).expect("whole");
        let lacks = |op, dtype, weight| hello.lacks(needs(op, dtype, weight));
        assert_eq!(lacks("gelu", DType::F16, None), None);
        assert_eq!(lacks("gelu", DType::F32, None).as_deref(), Some("gelu in f32"));
        assert_eq!(lacks("rope", DType::F16, None).as_deref(), Some("op rope"));
        assert_eq!(lacks("linear", DType::F16, Some(DType::Q4K)), None);
        let q5 = lacks("linear", DType::F16, Some(DType::Q5K));
        assert_eq!(q5.as_deref(), Some("linear with weights in q5_k"));
        assert_eq!(lacks("linear", DType::F16, Some(DType::U8)), None);
        let mut ok = offer();
        ok["ops"]["gelu"]["features"] = json!(["scale"]);
        ok["ops"]["gelu"]["limits"] = json!({"h": 64});
        let hello = Hello::read(&ok).expect("whole");
        let ask = |features: &[&'static str], h: usize| {
            let (features, axes) = (features.to_vec(), vec![("h", h), ("n", 1 << 20)]);
            hello.lacks(OpNeeds { features, axes, ..needs("gelu", DType::F16, None) })
        };
        assert_eq!(ask(&["scale"], 64), None);
        assert_eq!(ask(&["alias"], 64).as_deref(), Some("gelu with alias"));
        assert_eq!(ask(&[], 65).as_deref(), Some("gelu with h = 65: its limit is 64"));
    }

    #[test]
    fn claims_forms_and_texts_are_by_word() {
        let bare = Hello::read(&offer()).expect("whole");
        assert!(!bare.claims(Claim::Run) && bare.returns(Logits::All) && bare.reads("gguf"));
        assert!(!bare.returns(Logits::Compact) && !bare.treats(Texts::Encode));
        let mut ok = offer();
        ok["claims"] = json!(["run"]);
        ok["logits"] = json!(["last"]);
        ok["formats"] = json!(["gguf"]);
        ok["calls"] = json!(["tokenize", "detokenize"]);
        ok["tokenizer"] = json!(["encode", "decode"]);
        let hello = Hello::read(&ok).expect("whole");
        assert!(hello.claims(Claim::Run) && !hello.claims(Claim::Batch));
        assert!(hello.returns(Logits::Last) && !hello.returns(Logits::All));
        assert!(hello.reads("gguf") && !hello.reads("safetensors"));
        assert!(hello.treats(Texts::Encode) && hello.treats(Texts::Decode));
        assert!(!hello.treats(Texts::Stream));
        assert!(hello.with_claims(&[Claim::Batch]).claims(Claim::Batch));
        assert!(!hello.with_claims(&[]).claims(Claim::Run));
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
