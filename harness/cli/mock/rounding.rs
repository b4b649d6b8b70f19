//! Engines that round where ours does not: what they declare decides whether they are right.

use std::collections::BTreeMap;

use goldgate_tensor::{DType, Tensor};

/// The operands that are weights, and those that enter a product with one.
const WEIGHTS: [&str; 5] = ["w", "table", "w_gate", "w_up", "w_down"];

/// Elements under one scale.
const BLOCK: usize = 32;

/// Whether a switch is one of these: the type of weights, `int8` of activations, and a factor for
/// every result, which no declaration covers.
pub fn is_one(fault: &str) -> bool {
    matches!(fault, "rounds_weights" | "rounds_weights_and_scales" | "quantises_x")
}

/// The operands as the engine goes on with them. What is stored in 16 bits or in blocks stays.
pub fn rounded(fault: &str, tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let change = |(name, tensor): (&String, &Tensor)| {
        let of_weights = fault != "quantises_x";
        let meant = if of_weights { WEIGHTS.contains(&name.as_str()) } else { name == "x" };
        let width = tensor.meta.shape.last().copied().unwrap_or(0);
        let fits = of_weights || width > 0 && width.is_multiple_of(BLOCK);
        let changed = match tensor.meta.dtype {
            DType::F32 if meant && fits => {
                let values = tensor.to_f64();
                let values = match of_weights {
                    true => values.into_iter().map(|x| DType::BF16.round(x)).collect(),
                    false => values.chunks_exact(BLOCK).flat_map(int8).collect::<Vec<f64>>(),
                };
                Tensor::from_f64(DType::F32, &tensor.meta.shape, &values)
            }
            _ => tensor.clone(),
        };
        (name.clone(), changed)
    };
    tensors.iter().map(change).collect()
}

/// Whole numbers to ±127 under one scale, and back.
fn int8(block: &[f64]) -> Vec<f64> {
    let most = block.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
    block.iter().map(|x| (x / scale).round() * scale).collect()
}

/// The results, each multiplied by 1.002 where the switch says so.
pub fn scaled(fault: &str, results: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    if fault != "rounds_weights_and_scales" {
        return results;
    }
    let change = |(name, tensor): (String, Tensor)| {
        let scaled = match tensor.meta.dtype {
            DType::F32 => {
                let values: Vec<f64> = tensor.to_f64().iter().map(|x| x * 1.002).collect();
                Tensor::from_f64(DType::F32, &tensor.meta.shape, &values)
            }
            _ => tensor,
        };
        (name, scaled)
    };
    results.into_iter().map(change).collect()
}
