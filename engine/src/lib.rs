//! The engine of goldgate: runs models on CUDA and, slowly and plainly, on the CPU.
//!
//! It has never heard of cases, goldens or verdicts. An [`ops::Op`] is one formula: its
//! [`ops::Signature`], its definition in `f64`, and its kernel launches as data.

pub mod cuda;
pub mod dtype;
pub mod error;
pub mod exec;
pub mod fuse;
pub mod model;
pub mod ops;
pub mod program;
pub mod quant;
pub mod shape;
pub mod tensor;

pub use dtype::DType;
pub use error::{Refusal, RefusalKind};
pub use tensor::Tensor;
