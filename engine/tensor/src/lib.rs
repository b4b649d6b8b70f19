//! Tensors in host memory as LLM inference stores them: element types, shapes, quantised blocks,
//! and the kinds of refusal that a malformed one leads to; and how a file of somebody else is
//! opened.
//!
//! The engine, its judge and any program that speaks the wire share these, so this crate knows no
//! device and no format of a file.
//!
//! ```
//! use goldgate_tensor::{DType, Tensor};
//!
//! let x = Tensor::from_f64(DType::F16, &[2, 2], &[1.0, 0.1, -2.5, 65504.0]);
//! assert_eq!(x.meta.to_string(), "f16 [2, 2]");
//! assert_eq!(x.bytes.len(), 8);
//! // Each number was rounded once to the nearest f16; widening is exact.
//! assert_eq!(x.to_f64(), [1.0, 0.0999755859375, -2.5, 65504.0]);
//! ```

pub mod code;
pub mod dtype;
pub mod error;
pub mod foreign;
pub mod quant;
pub mod shape;
pub mod tensor;

pub use code::Code;
pub use dtype::DType;
pub use error::{Refusal, RefusalKind};
pub use tensor::Tensor;
