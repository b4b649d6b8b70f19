//! Makes goldens: asks the oracle and stores its answers.

pub mod make;
pub mod make_models;
#[cfg(test)]
mod tests;
