//! `goldgate schema`

use goldgate_harness::spec::schema;

use crate::commands::{Exit, Failure, say};

/// Example: goldgate schema > specs/schema.json
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<Exit, Failure> {
    say(schema::text().trim_end())?;
    Ok(Exit::Yes)
}
