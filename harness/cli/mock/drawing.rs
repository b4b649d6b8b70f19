//! Subjects that draw texts with a generator of their own: honest ones, and one that draws nothing.

use goldgate_tensor::Tensor;
use goldgate_wire::frame::Frame;
use serde_json::{Value, json};

/// The token of a subject that draws nothing.
const ONE: i32 = 5;

/// Whether a fault is one of these.
pub fn is_one(fault: &str) -> bool {
    fault.starts_with("own_draws") || fault.starts_with("one_token")
}

/// Takes out of hello that the generator is the wire's, and the sessions of a subject that only
/// completes texts.
pub fn disown(fault: &str, hello: &mut Value) {
    hello["ops"].as_object_mut().map(|ops| ops.remove("sample"));
    if fault.ends_with("_only")
        && let Some(calls) = hello["calls"].as_array_mut()
    {
        calls.retain(|call| !matches!(call.as_str(), Some("open" | "extend" | "close" | "fork")));
    }
}

/// The question with other seeds. The worker then draws from its own logits what another generator
/// would: numbers that nobody can foretell from the seeds that were asked.
pub fn reseed(frame: &Frame) -> Frame {
    let mut json = frame.json.clone();
    if let Some(seed) = json["seed"].as_u64() {
        json["seed"] = json!(mixed(seed));
    }
    if let Some(seeds) = json["seeds"].as_array_mut() {
        seeds.iter_mut().for_each(|seed| *seed = json!(mixed(seed.as_u64().unwrap_or(0))));
    }
    Frame::with(json, frame.tensors.clone())
}

/// The finaliser of SplitMix64, cut to the integers that JSON keeps.
fn mixed(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ x >> 31) >> 11
}

/// The answer with the same token wherever one was drawn.
pub fn flatten((name, tensor): (String, Tensor)) -> (String, Tensor) {
    if name != "ids" {
        return (name, tensor);
    }
    let count = tensor.to_i32().len();
    (name, Tensor::from_i32(&[count], &vec![ONE; count]))
}
