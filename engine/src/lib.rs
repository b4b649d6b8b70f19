//! The engine of goldgate: runs models on CUDA and, slowly and plainly, on the CPU.
//!
//! It has never heard of cases, goldens or verdicts. An [`ops::Op`] is one formula: its
//! [`ops::Signature`], its definition in `f64`, and its kernel launches as data.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use goldgate_engine::exec::cpu::{CallInputs, CpuModel, CpuSession};
//! use goldgate_engine::model::build::Types;
//! use goldgate_engine::model::gpt2::{Config, block, weights};
//! use goldgate_engine::ops::{self, Inputs, Question};
//! use goldgate_engine::program::Sizes;
//! use goldgate_engine::{DType, Tensor};
//!
//! // One op, by its definition.
//! let x = Tensor::from_f64(DType::F32, &[1, 5], &[-2.0, -1.0, 0.0, 1.0, 2.0]);
//! let op = ops::find("gelu").expect("an op of the vocabulary");
//! let operands = BTreeMap::from([("x".to_owned(), x.meta.clone())]);
//! let question = Question::new(op, DType::F32, &serde_json::Map::new(), &operands)?;
//! let y = ops::answer(op, &question, &Inputs::of([("x", &x)]))?;
//! assert!((y[0].to_f64()[3] - 0.8413447).abs() < 1e-7);
//!
//! // One block of GPT-2 as a Program: two calls, of three tokens and of one, over one cache.
//! let config = Config { hidden: 8, heads: 2, ffn: 16, context: 4, eps: 1e-5 };
//! let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
//! let weights: BTreeMap<String, Tensor> = weights(&config)
//!     .into_iter()
//!     .map(|(name, s)| (name.to_owned(), Tensor::from_f64(DType::F32, &s, &zeros(&s))))
//!     .collect();
//! let found = |name: &str| weights.get(name).map(|tensor| tensor.meta.clone());
//! let types = Types { dtype: DType::F32, kv: DType::F32 };
//! let program = block(&config, types, 1, found)?;
//! program.check(DType::F32, Sizes { n: 3, m: 0 })?;
//! let model = CpuModel::load(&program, DType::F32, &weights, &mut |_| ());
//! let mut session = CpuSession::open(&model);
//! for (start, tokens) in [(0, 3), (3, 1)] {
//!     let positions: Vec<i32> = (start..start + tokens as i32).collect();
//!     let inputs = CallInputs::from([
//!         ("x", Tensor::from_f64(DType::F32, &[tokens, 8], &vec![1.0; tokens * 8])),
//!         ("positions", Tensor::from_i32(&[tokens], &positions)),
//!     ]);
//!     let slots = session.call(&model, &inputs, &["out"])?;
//!     assert_eq!(slots["out"].meta.shape, [tokens, 8]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod batch;
pub mod cuda;
pub mod exec;
pub mod fuse;
pub mod generate;
pub mod json;
pub mod measure;
pub mod model;
pub mod ops;
pub mod program;
pub mod sample;
pub mod session;
pub mod several;
pub mod tokenizer;
pub mod weights;

pub use goldgate_tensor::{DType, Refusal, RefusalKind, Tensor};
pub use goldgate_tensor::{dtype, error, foreign, quant, shape, tensor};
