//! `goldgate fetch`: downloads published checkpoints into the cache of the hub. Files that are
//! already there need no network; only `download` uses it, in a build with the feature `hub`.

#[cfg(feature = "hub")]
mod download;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use goldgate_engine::weights::Malformed;
use goldgate_harness::kinds::model::case::{At, ModelCase};
use goldgate_harness::kinds::model::hub::Hub;
use goldgate_harness::line::hex;
use goldgate_harness::session::Folders;
use goldgate_tensor::Code;
use goldgate_tensor::foreign::{Links, open_foreign};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::commands::{Exit, Failure, bad_input, say, say_json};

/// Example: goldgate fetch qwen2.5-0.5b-instruct::q4_k_m
#[derive(Debug, clap::Args)]
#[command(after_help = "Into the hub's cache, unless it is there; what was cut off goes on. \
    Example:\n  goldgate fetch qwen2.5-0.5b-instruct::q4_k_m --into checkpoints")]
pub struct Args {
    /// Models of the specs, `STEM` or `STEM::FORM`, or `all`.
    #[arg(required = true)]
    model: Vec<String>,
    /// The cache that they go into, in place of the hub's own: what --models names later.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    bad_input(fetch(args), args.json)
}

/// The outcome for one form.
struct Outcome {
    path: PathBuf,
    fetched: bool,
    sha256: Option<String>,
}

fn fetch(args: &Args) -> Result<Exit, Failure> {
    let suites = args.folders.read_all()?;
    let models: Vec<ModelCase> = suites.into_iter().flat_map(|suite| suite.specs.models).collect();
    let forms = asked(&models, &args.model)?;
    // With --into only that folder counts: a file elsewhere would leave it without the model.
    let places = match &args.into {
        Some(folder) => vec![std::path::absolute(folder)?],
        None => args.folders.models_dirs()?,
    };
    let mut facts = Vec::new();
    for (name, hub) in forms {
        let outcome = match places.iter().find_map(|folder| hub.find(folder)) {
            // What is here is not fetched again, so the command works without a network too.
            Some(path) => here(hub, path)?,
            None => download(hub, args.into.as_deref())?,
        };
        let word = if outcome.fetched { "fetched" } else { "here" };
        if !args.json {
            say(&format!("{word:<8} {name}  {}", outcome.path.display()))?;
        }
        facts.push(json!({
            "form": name, "repo": hub.repo, "revision": hub.revision, "file": hub.file,
            "path": outcome.path.display().to_string(), "fetched": outcome.fetched,
            "sha256": outcome.sha256,
        }));
    }
    if args.json {
        say_json(&Value::Array(facts))?;
    }
    Ok(Exit::Yes)
}

/// The published forms that the words select, by `STEM::FORM`.
fn asked<'c>(
    cases: &'c [ModelCase],
    words: &[String],
) -> Result<BTreeMap<String, &'c Hub>, Failure> {
    let published = cases.iter().filter_map(|case| match &case.form.at {
        At::Hub(hub) => Some((format!("{}::{}", case.stem, case.form.label), hub)),
        At::Golden(_) => None,
    });
    // By form and not by case, because many cases ask the same form.
    let published: BTreeMap<String, &Hub> = published.collect();
    let names = |word: &str, name: &str| {
        word == "all" || word == name || name.split_once("::").is_some_and(|(stem, _)| stem == word)
    };
    // All words are checked before the first download.
    if let Some(word) = words.iter().find(|word| !published.keys().any(|name| names(word, name))) {
        let known: Vec<&str> = published.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return Err(Failure::Usage(format!("{word:?} is no published model; there are {known}")));
    }
    let wanted = |name: &str| words.iter().any(|word| names(word, name));
    Ok(published.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// Checks the hash of a file that is already present, if the spec gives one.
fn here(hub: &Hub, path: PathBuf) -> Result<Outcome, Failure> {
    let sha256 = match &hub.sha256 {
        // Hashed although it is here, because a file in a cache may have been changed.
        Some(expected) => Some(checked_hash(&path, expected)?),
        None => None,
    };
    Ok(Outcome { path, fetched: false, sha256 })
}

#[cfg(feature = "hub")]
use download::download;

/// A build without a client for HTTP and TLS explains how to get one, and how to do without.
#[cfg(not(feature = "hub"))]
fn download(hub: &Hub, _: Option<&Path>) -> Result<Outcome, Failure> {
    Err(Failure::Absent(format!(
        "this goldgate was built without downloads: `cargo run --features hub -- fetch …` has \
         them; or {}",
        by_hand(hub)
    )))
}

/// Instructions for someone who has the file from elsewhere.
fn by_hand(hub: &Hub) -> String {
    let place = hub.file.as_ref().map_or_else(|| hub.repo.clone(), |f| format!("{}/{f}", hub.repo));
    format!("get it by hand as DIR/{place}, and name DIR with --models")
}

/// The hash of a file, checked against the expected one.
fn checked_hash(path: &Path, expected: &str) -> Result<String, Failure> {
    let found = hash(path)?;
    match found.eq_ignore_ascii_case(expected) {
        true => Ok(found),
        false => {
            let refusal = Malformed::new(Code::Hash, path, "sha256", found, expected);
            Err(Failure::Malformed(Box::new(refusal)))
        }
    }
}

fn hash(path: &Path) -> Result<String, Failure> {
    let mut file = open_foreign(path, Links::Followed).map_err(std::io::Error::from)?;
    // In pieces, because a checkpoint may be larger than the memory.
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}
