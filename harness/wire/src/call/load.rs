//! The calls that load a model into memory and unload it.

use goldgate_tensor::DType;
use serde_json::{Map, Value};

use crate::call::{BadField, BadQuestion, Call, Tensors};
use crate::fields::{Body, Fields, nothing};
use crate::words::{Fusion, TraceMode, YarnRamp};

/// Asks to load a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// The file, or the folder of a checkpoint.
    pub path: String,
    /// How it is loaded.
    pub options: LoadOptions,
}

/// How a model is loaded. Absent options are left to the subject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// The number of positions of a session.
    pub context: Option<u64>,
    /// The type of activations.
    pub activations: Option<DType>,
    /// The hash of the only file with weights, as 64 hex digits; a different file is refused.
    pub sha256: Option<String>,
    /// Globs of the slots that are kept for `extend`.
    pub trace: Vec<String>,
    /// What is executed while slots are kept.
    pub trace_mode: Option<TraceMode>,
    /// The limit in bytes beyond which loading is refused, before anything is allocated.
    pub budget_bytes: Option<u64>,
    /// The type of the cache of keys and values.
    pub kv: Option<DType>,
    /// How many prompt tokens one call on the device processes.
    pub chunk: Option<u64>,
    /// For how many sequences `generate` has room at the same time.
    pub sequences: Option<u64>,
    /// How the ends of YaRN's ramp are computed, overriding the file.
    pub yarn: Option<YarnRamp>,
    /// Whether steps are fused.
    pub plan: Option<Fusion>,
    /// Whether decode steps are captured as a graph.
    pub graph: Option<bool>,
    /// Further fields, which override those above of the same name. They are for questions that no
    /// option can express, such as those that must be refused. They are never read.
    pub more: Map<String, Value>,
}

impl LoadOptions {
    pub(super) fn write(&self, body: &mut Body) {
        body.may("context", self.context);
        body.may("activations", self.activations.map(DType::name));
        body.may("sha256", self.sha256.as_deref());
        // An empty list would ask a subject that keeps no slots for something that it does not
        // offer.
        body.may("trace", (!self.trace.is_empty()).then(|| self.trace.clone()));
        body.may("trace_mode", self.trace_mode.map(TraceMode::name));
        body.may("budget_bytes", self.budget_bytes);
        body.may("kv", self.kv.map(DType::name));
        body.may("chunk", self.chunk);
        body.may("sequences", self.sequences);
        body.may("yarn", self.yarn.map(YarnRamp::name));
        body.may("plan", self.plan.map(Fusion::name));
        body.may("graph", self.graph);
        // Last, so that the fields of a case override all those above.
        body.append(&self.more);
    }

    /// Reads the options of a question.
    ///
    /// # Errors
    /// A field of another type, or with a word or number that no option has.
    pub fn read(question: &Value) -> Result<LoadOptions, String> {
        let fields = Fields(question);
        // No model can be loaded for a size of zero.
        let above_0 = |key: &str| {
            fields.may(key, "a whole number above 0", |v| v.as_u64().filter(|n| *n > 0))
        };
        Ok(LoadOptions {
            context: above_0("context")?,
            activations: fields.may_activations("activations")?,
            // No file has a hash of another form, and the refusal would blame the file for it.
            sha256: fields.may("sha256", "64 hex digits", |v| {
                let text = v.as_str().filter(|t| t.len() == 64)?;
                text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| text.to_owned())
            })?,
            trace: fields.texts("trace")?,
            trace_mode: fields.may_word("trace_mode", "as_run, unfused or local")?,
            // Here 0 is a fair question: a budget too small for the model must be refused as such.
            budget_bytes: fields.may_number("budget_bytes")?,
            kv: fields.may_activations("kv")?,
            chunk: above_0("chunk")?,
            sequences: above_0("sequences")?,
            yarn: fields.may_word("yarn", "reference or rounded")?,
            plan: fields.may_word("plan", "fused or plain")?,
            graph: fields.may_flag("graph")?,
            // Unknown fields are ignored on the wire, so none are kept.
            more: Map::new(),
        })
    }
}

/// A loaded model. Fields that a subject does not report are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The handle by which later calls refer to it.
    pub model: u64,
    /// Its architecture.
    pub architecture: Option<String>,
    /// Its configuration, under the names that `inspect` uses.
    pub config: Map<String, Value>,
    /// The type of activations.
    pub activations: Option<DType>,
    /// The type of the cache.
    pub kv: Option<DType>,
    /// The number of positions of a session.
    pub context: Option<u64>,
    /// For how many sequences `generate` has room.
    pub sequences: Option<u64>,
    /// How the ends of YaRN's ramp are computed; also absent for a model without YaRN.
    pub yarn: Option<YarnRamp>,
    /// How many prompt tokens one call on the device processes.
    pub chunk: Option<u64>,
    /// Whether steps are fused.
    pub plan: Option<Fusion>,
    /// Whether decode steps are captured as a graph.
    pub graph: Option<bool>,
    /// The slots that are kept.
    pub trace: Vec<String>,
    /// Bytes of weights on the device.
    pub bytes_weights: Option<u64>,
    /// The bytes of all arenas, sessions included.
    pub bytes_arena: Option<u64>,
    /// The bytes of the device that were in use before.
    pub bytes_driver: Option<u64>,
    /// How long loading took, in ms.
    pub load_ms: Option<f64>,
    /// Properties of the file that are legal but unusual.
    pub warnings: Vec<String>,
    /// The hash of the file, if the question gave one.
    pub sha256: Option<String>,
}

impl Call for Load {
    const NAME: &'static str = "load";

    type Answer = Loaded;

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("path", self.path.as_str());
        self.options.write(&mut body);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Load, BadQuestion> {
        let path = Fields(question).text("path")?;
        Ok(Load { path, options: LoadOptions::read(question)? })
    }

    fn write_answer(a: Loaded) -> (Value, Tensors) {
        let mut body = Body::default();
        body.put("model", a.model);
        body.put("architecture", a.architecture);
        body.put("config", a.config);
        body.put("activations", a.activations.map(DType::name));
        body.put("kv", a.kv.map(DType::name));
        body.put("context", a.context);
        body.put("sequences", a.sequences);
        body.put("yarn", a.yarn.map(YarnRamp::name));
        body.put("chunk", a.chunk);
        body.put("plan", a.plan.map(Fusion::name));
        body.put("graph", a.graph);
        body.put("trace", a.trace);
        body.put("bytes_weights", a.bytes_weights);
        body.put("bytes_arena", a.bytes_arena);
        body.put("bytes_driver", a.bytes_driver);
        body.put("load_ms", a.load_ms);
        body.put("warnings", a.warnings);
        body.put("sha256", a.sha256);
        (body.json(), Tensors::new())
    }

    fn read_answer(body: Value, _: Tensors) -> Result<Loaded, BadField> {
        let fields = Fields(&body);
        let config = fields.may("config", "an object", |v| v.as_object().cloned())?;
        Ok(Loaded {
            model: fields.number("model")?,
            architecture: fields.may_text("architecture")?,
            config: config.unwrap_or_default(),
            activations: fields.may_activations("activations")?,
            kv: fields.may_activations("kv")?,
            context: fields.may_number("context")?,
            sequences: fields.may_number("sequences")?,
            yarn: fields.may_word("yarn", "reference or rounded")?,
            chunk: fields.may_number("chunk")?,
            plan: fields.may_word("plan", "fused or plain")?,
            graph: fields.may_flag("graph")?,
            trace: fields.texts("trace")?,
            bytes_weights: fields.may_number("bytes_weights")?,
            bytes_arena: fields.may_number("bytes_arena")?,
            bytes_driver: fields.may_number("bytes_driver")?,
            load_ms: fields.may_real("load_ms")?,
            warnings: fields.texts("warnings")?,
            sha256: fields.may_text("sha256")?,
        })
    }
}

/// Asks to unload a model and its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unload {
    /// The handle of the model.
    pub model: u64,
}

impl Call for Unload {
    const NAME: &'static str = "unload";

    type Answer = ();

    fn question(&self) -> (Value, Tensors) {
        let mut body = Body::call(Self::NAME);
        body.put("model", self.model);
        (body.json(), Tensors::new())
    }

    fn read(question: &Value, _: Tensors) -> Result<Unload, BadQuestion> {
        Ok(Unload { model: Fields(question).number("model")? })
    }

    fn write_answer((): ()) -> (Value, Tensors) {
        (nothing(), Tensors::new())
    }

    fn read_answer(_: Value, _: Tensors) -> Result<(), BadField> {
        Ok(())
    }
}
