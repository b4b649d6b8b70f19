//! The kinds of trials: each defines its cases, its questions, and how answers are judged.

pub mod bench;
pub mod check;
pub mod container;
mod kind;
pub mod model;
pub mod mutant;
pub mod op;
pub mod tokens;

pub use kind::{
    Answers, CaseTrial, Defined, Goldens, Kind, Plant, Ready, Trial, Twist, Withheld, fate,
};
