//! Executors: one op's question, or a Program, on the CPU or on a device.

pub mod ahead;
pub mod bench;
pub mod cpu;
pub mod cuda;
pub mod local;
pub mod op;
pub mod plan;
pub mod room;
mod route;
pub mod stage;
pub mod times;
