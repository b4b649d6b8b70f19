//! Texts as operands.

use goldgate_tensor::{DType, Tensor};

/// Bytes of a text as the tensor U8 [n].
pub fn bytes(bytes: Vec<u8>) -> Tensor {
    let shape = [bytes.len()];
    Tensor::new(DType::U8, &shape, bytes)
}
