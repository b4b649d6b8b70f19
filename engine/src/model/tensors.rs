//! Which tensors a model has, by the names of its files, with shapes: what is missing, misshapen or
//! of a type that is not computed with is found at once, before anything is loaded.

mod names;

use crate::dtype::DType;
use crate::model::config::Config;
use crate::weights::refusal::begin;
use crate::weights::{Checkpoint, Code, Malformed, TensorInfo, Warnings};

/// A tensor that a model reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The name in the file.
    pub name: String,
    /// Row-major, as the file has it.
    pub shape: Vec<usize>,
    /// Which types it may have.
    pub role: Role,
    /// Whether the model is whole without it.
    pub optional: bool,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Norm weights, biases, sinks, divisors, learned positions: plain floats, widened at load.
    Vector,
    /// Anything that may be quantised.
    Matrix,
    /// Blocks or scales of an MXFP4 checkpoint, which are bytes.
    Packed,
}

impl Role {
    fn takes(self, dtype: Option<DType>) -> bool {
        let plain = matches!(dtype, Some(DType::F32 | DType::F16 | DType::BF16));
        match self {
            Role::Vector => plain,
            Role::Matrix => dtype.is_some_and(|t| DType::WEIGHTS.contains(&t)),
            Role::Packed => dtype == Some(DType::U8),
        }
    }

    fn types(self) -> &'static str {
        match self {
            Role::Vector => "f32, f16 or bf16",
            Role::Matrix => "a type of weights",
            Role::Packed => "u8",
        }
    }
}

/// Every tensor that a model of this configuration reads from such a checkpoint.
pub fn expected(config: &Config, checkpoint: &Checkpoint) -> Vec<Expected> {
    parts(config, checkpoint).flatten().collect()
}

/// Every tensor that a GGUF file of such a model has, optional ones too.
pub fn of_gguf(config: &Config) -> Vec<Expected> {
    let layers = std::iter::once(None).chain((0..config.layers).map(Some));
    layers.flat_map(|layer| names::gguf(config, layer)).collect()
}

/// The same, layer by layer: what a file only claims to have asks for no memory.
fn parts(config: &Config, checkpoint: &Checkpoint) -> impl Iterator<Item = Vec<Expected>> {
    let layers = std::iter::once(None).chain((0..config.layers).map(Some));
    layers.map(move |layer| match checkpoint {
        Checkpoint::Gguf(_) => names::gguf(config, layer),
        Checkpoint::Hf { tensors, .. } => names::hub(config, tensors, layer),
    })
}

/// Holds the tensors of a checkpoint to its configuration. Tensors that the model does not have are
/// told in the warnings.
///
/// # Errors
/// All that is missing, misshapen or mistyped, under the code of the first: `TENSOR_MISSING`,
/// `SHAPE`, `TYPE_FOR_USE`.
pub fn check(config: &Config, checkpoint: &Checkpoint) -> Result<Warnings, Malformed> {
    let mut faults = Faults::default();
    let mut known = vec![false; checkpoint.tensors().len()];
    for wanted in parts(config, checkpoint).flatten() {
        let place = checkpoint.position(&wanted.name);
        faults.add(Fault::of(&wanted, place.and_then(|at| checkpoint.tensors().get(at))));
        if let Some(known) = place.and_then(|place| known.get_mut(place)) {
            *known = true;
        }
    }
    faults.told(checkpoint)?;
    let mut warnings = Warnings::default();
    for (tensor, known) in checkpoint.tensors().iter().zip(known) {
        if !known && !names::is_buffer(&tensor.name) {
            warnings.add(format!("{} is no tensor of such a model", begin(&tensor.name)));
        }
    }
    Ok(warnings)
}

/// How many faults one line shows.
const SHOWN: usize = 16;

/// The first faults of a checkpoint, and how many there are.
#[derive(Default)]
struct Faults {
    shown: Vec<Fault>,
    count: usize,
}

impl Faults {
    fn add(&mut self, fault: Option<Fault>) {
        let Some(fault) = fault else { return };
        self.count += 1;
        // What is missing comes first: it explains the rest.
        let missing = |f: &Fault| f.code == Code::TensorMissing;
        let at = match missing(&fault) {
            true => self.shown.iter().take_while(|f| missing(f)).count(),
            false => self.shown.len(),
        };
        self.shown.insert(at, fault);
        self.shown.truncate(SHOWN);
    }

    fn told(&self, checkpoint: &Checkpoint) -> Result<(), Malformed> {
        let Some(first) = self.shown.first() else { return Ok(()) };
        let mut found = first.found.clone();
        for more in &self.shown[1..] {
            found.push_str(&format!("; {} {}: {}", more.code, more.name, more.found));
        }
        if self.count > self.shown.len() {
            found.push_str(&format!("; and {} more", self.count - self.shown.len()));
        }
        let file = checkpoint.described_by();
        let refusal = Malformed::new(first.code, &file, &first.name, found, &first.expected);
        Err(Malformed { offset: first.offset, ..refusal })
    }
}

struct Fault {
    code: Code,
    name: String,
    offset: Option<u64>,
    found: String,
    expected: String,
}

impl Fault {
    fn of(wanted: &Expected, found: Option<&TensorInfo>) -> Option<Fault> {
        let fault = |code, offset, found: String, expected: String| {
            Some(Fault { code, name: wanted.name.clone(), offset, found, expected })
        };
        let shape = format!("{:?}", wanted.shape);
        let Some(info) = found else {
            return match wanted.optional {
                true => None,
                false => fault(Code::TensorMissing, None, "nothing".to_owned(), shape),
            };
        };
        if info.shape != wanted.shape {
            return fault(Code::Shape, Some(info.offset), format!("{:?}", info.shape), shape);
        }
        if !wanted.role.takes(info.dtype.dtype()) {
            let expected = wanted.role.types().to_owned();
            return fault(Code::TypeForUse, Some(info.offset), info.dtype.to_string(), expected);
        }
        None
    }
}
