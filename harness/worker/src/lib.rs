//! Our engine behind the wire: the code of `goldgate worker`.
//!
//! A worker reads questions as the types of goldgate-wire, passes them to the engine on the CPU or
//! on a card, and answers. It knows neither cases nor goldens.

pub mod allocator;
pub mod checks;
pub mod cpu;
pub mod cuda;
pub mod device;
mod file_hash;
mod generate;
pub mod inspect;
mod load;
pub mod load_plan;
mod loaded;
pub mod models;
mod rows;
pub mod serve;
mod text_so_far;
mod tokenizers;

pub use cpu::{Cpu, NoDevice};
pub use cuda::Cuda;
pub use device::{Device, NoAnswer, Trouble};
pub use inspect::Inspected;
pub use serve::serve;
