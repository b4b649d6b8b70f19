//! `goldgate fetch`: the one place that asks the network, and only because somebody said so.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use goldgate_engine::weights::refusal::shown;
use goldgate_engine::weights::{Code, Malformed};
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::folders::{Folders, cache, variable};
use crate::cli::{Exit, Failure, bad_input, progress, say, say_json};
use crate::fill::hex;
use crate::models::hub::{Hub, of_checkpoint};
use crate::models::{At, ModelCase};

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

/// What became of one form.
struct Outcome {
    path: PathBuf,
    fetched: bool,
    sha256: Option<String>,
}

fn fetch(args: &Args) -> Result<Exit, Failure> {
    let specs = args.folders.read_all()?;
    let forms = asked(&specs.models, &args.model)?;
    let places = match &args.into {
        Some(folder) => vec![std::path::absolute(folder)?],
        None => args.folders.models_dirs()?,
    };
    let mut told = Vec::new();
    for (name, hub) in forms {
        let outcome = match places.iter().find_map(|folder| hub.find(folder)) {
            Some(path) => here(hub, path)?,
            None => download(hub, args.into.as_deref())?,
        };
        let word = if outcome.fetched { "fetched" } else { "here" };
        if !args.json {
            say(&format!("{word:<8} {name}  {}", outcome.path.display()))?;
        }
        told.push(json!({
            "form": name, "repo": hub.repo, "revision": hub.revision, "file": hub.file,
            "path": outcome.path.display().to_string(), "fetched": outcome.fetched,
            "sha256": outcome.sha256,
        }));
    }
    if args.json {
        say_json(&Value::Array(told))?;
    }
    Ok(Exit::Yes)
}

/// The published forms that the words name, by `STEM::FORM`.
fn asked<'c>(
    cases: &'c [ModelCase],
    words: &[String],
) -> Result<BTreeMap<String, &'c Hub>, Failure> {
    let published = cases.iter().filter_map(|case| match &case.form.at {
        At::Hub(hub) => Some((format!("{}::{}", case.stem, case.form.label), hub)),
        At::Golden(_) => None,
    });
    let published: BTreeMap<String, &Hub> = published.collect();
    let names = |word: &str, name: &str| {
        word == "all" || word == name || name.split_once("::").is_some_and(|(stem, _)| stem == word)
    };
    if let Some(word) = words.iter().find(|word| !published.keys().any(|name| names(word, name))) {
        let known: Vec<&str> = published.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return Err(Failure::Usage(format!("{word:?} is no published model; there are {known}")));
    }
    let wanted = |name: &str| words.iter().any(|word| names(word, name));
    Ok(published.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// What is there already, held to the hash that the spec gives.
fn here(hub: &Hub, path: PathBuf) -> Result<Outcome, Failure> {
    let sha256 = match &hub.sha256 {
        Some(expected) => Some(held(&path, expected)?),
        None => None,
    };
    Ok(Outcome { path, fetched: false, sha256 })
}

fn download(hub: &Hub, into: Option<&Path>) -> Result<Outcome, Failure> {
    let Hub { repo: name, revision, .. } = hub;
    let absent = |what: &str, error: &ApiError| {
        let why = shown(&error.to_string());
        let place = hub.file.as_ref().map_or_else(|| name.clone(), |file| format!("{name}/{file}"));
        let hand = format!("get it by hand as DIR/{place}, and name DIR with --models");
        Failure::Absent(format!("could not fetch {what} of {name} at {revision}: {why}; {hand}"))
    };
    let api = api(into)?.build().map_err(|e| absent("anything", &e))?;
    let repo = api.repo(hub.repository());
    if let Some(file) = &hub.file {
        let path = one(&api, &repo, file).map_err(|e| e.told(|e| absent(file, e)))?;
        let sha256 = match &hub.sha256 {
            Some(expected) => held(&path, expected).inspect_err(|_| forget(&path))?,
            None => hash(&path)?,
        };
        return Ok(Outcome { path, fetched: true, sha256: Some(sha256) });
    }
    let info = repo.info().map_err(|e| absent("the files", &e))?;
    let files = of_checkpoint(info.siblings.iter().map(|file| file.rfilename.as_str()));
    let mut path = PathBuf::new();
    for file in &files {
        path = one(&api, &repo, file).map_err(|e| e.told(|e| absent(file, e)))?;
    }
    match path.parent() {
        Some(folder) if path.ends_with("config.json") && files.len() > 1 => {
            Ok(Outcome { path: folder.to_owned(), fetched: true, sha256: None })
        }
        _ => Err(Failure::Absent(format!("{name} holds no safetensors with a config.json"))),
    }
}

/// The library, told of our cache and of what its environment says.
fn api(into: Option<&Path>) -> Result<ApiBuilder, Failure> {
    let own = cache().or_else(|| Some(hf_hub::Cache::new(into?.to_owned())));
    let none = || Failure::Usage("there is no home for a cache; name one with --into".into());
    let mut builder = ApiBuilder::from_cache(own.ok_or_else(none)?);
    if let Some(folder) = into {
        builder = builder.with_cache_dir(std::path::absolute(folder)?);
    }
    let text = |name| variable(name).and_then(|value| value.into_string().ok());
    if let Some(endpoint) = text("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(token) = text("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    Ok(builder)
}

/// Why a file did not come.
enum Missing {
    /// The hub, or the way to it.
    Hub(ApiError),
    /// It came, and is another.
    Other(Failure),
}

impl Missing {
    fn told(self, absent: impl FnOnce(&ApiError) -> Failure) -> Failure {
        match self {
            Missing::Hub(error) => absent(&error),
            Missing::Other(failure) => failure,
        }
    }
}

/// Fetches one file, which must be as long as the hub says, and of the hash that it is stored under
/// where that is one.
fn one(api: &Api, repo: &ApiRepo, file: &str) -> Result<PathBuf, Missing> {
    let facts = api.metadata(&repo.url(file)).map_err(Missing::Hub)?;
    let path = progress::shown("fetching", |events| {
        repo.download_with_progress(file, Told { events, done: 0, total: 0 })
    });
    let path = path.map_err(Missing::Hub)?;
    let other = |failure| {
        forget(&path);
        Missing::Other(failure)
    };
    let found = fs::metadata(&path).map_err(|e| other(e.into()))?.len();
    if found != facts.size() as u64 {
        let expected = format!("{} bytes", facts.size());
        let found = format!("{found} bytes");
        let refusal = Malformed::new(Code::Hash, &path, "length", found, expected);
        return Err(other(Failure::Malformed(Box::new(refusal))));
    }
    let etag = facts.etag();
    if etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit()) {
        held(&path, etag).map_err(other)?;
    }
    Ok(path)
}

/// The hash of a file, which must be that.
fn held(path: &Path, expected: &str) -> Result<String, Failure> {
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
    let mut file = fs::File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            n => digest.update(&buffer[..n]),
        }
    }
}

/// Removes what came and is wrong, both the name and the bytes: nobody shall find it.
fn forget(path: &Path) {
    if let Ok(bytes) = path.canonicalize() {
        let _ = fs::remove_file(bytes);
    }
    let _ = fs::remove_file(path);
}

/// Bytes as they come, for the bar.
struct Told {
    events: Sender<Value>,
    done: u64,
    total: u64,
}

impl Told {
    fn tell(&self) {
        let event = json!({"event": "progress", "done": self.done, "total": self.total});
        // Whoever listened may have gone; the file comes all the same.
        let _ = self.events.send(event);
    }
}

impl Progress for Told {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        self.tell();
    }

    fn finish(&mut self) {
        self.tell();
    }
}
