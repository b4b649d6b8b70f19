//! `goldgate schema`

use crate::cli::{Exit, Failure, say};
use crate::spec::schema;

/// Example: goldgate schema > specs/schema.json
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<Exit, Failure> {
    say(schema::text().trim_end())?;
    Ok(Exit::Yes)
}
