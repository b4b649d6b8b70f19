//! Making goldens: the oracle is asked, and its answers are stored.

pub mod make;
pub mod make_models;
#[cfg(test)]
mod tests;
