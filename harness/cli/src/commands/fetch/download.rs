//! The only place that uses the network, and only on explicit request.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use goldgate_engine::weights::Malformed;
use goldgate_engine::weights::refusal::shown;
use goldgate_harness::kinds::model::hub::{Hub, of_checkpoint};
use goldgate_harness::session::folders::{cache, variable};
use goldgate_tensor::Code;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use serde_json::{Value, json};

use super::{Outcome, by_hand, checked_hash, hash};
use crate::commands::{Failure, progress};

/// Downloads one form. A file with unexpected bytes is not kept.
pub(super) fn download(hub: &Hub, into: Option<&Path>) -> Result<Outcome, Failure> {
    let Hub { repo: name, revision, .. } = hub;
    let absent = |what: &str, error: &ApiError| {
        let why = shown(&error.to_string());
        let hand = by_hand(hub);
        Failure::Absent(format!("could not fetch {what} of {name} at {revision}: {why}; {hand}"))
    };
    let api = api(into)?.build().map_err(|e| absent("anything", &e))?;
    let repo = api.repo(hub.repository());
    if let Some(file) = &hub.file {
        let path =
            fetch_file(&api, &repo, file).map_err(|e| e.into_failure(|e| absent(file, e)))?;
        let sha256 = match &hub.sha256 {
            Some(expected) => checked_hash(&path, expected).inspect_err(|_| forget(&path))?,
            None => hash(&path)?,
        };
        return Ok(Outcome { path, fetched: true, sha256: Some(sha256) });
    }
    let info = repo.info().map_err(|e| absent("the files", &e))?;
    let files = of_checkpoint(info.siblings.iter().map(|file| file.rfilename.as_str()));
    let mut path = PathBuf::new();
    for file in &files {
        path = fetch_file(&api, &repo, file).map_err(|e| e.into_failure(|e| absent(file, e)))?;
    }
    // The configuration comes last, so with it everything else is there.
    match path.parent() {
        Some(folder) if path.ends_with("config.json") && files.len() > 1 => {
            Ok(Outcome { path: folder.to_owned(), fetched: true, sha256: None })
        }
        _ => Err(Failure::Absent(format!("{name} holds no safetensors with a config.json"))),
    }
}

/// The library's client, set up with our cache and the library's environment variables.
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

/// Why a file could not be fetched.
enum Missing {
    /// The hub or the connection failed.
    Hub(ApiError),
    /// A file arrived, but with the wrong content.
    Other(Failure),
}

impl Missing {
    fn into_failure(self, absent: impl FnOnce(&ApiError) -> Failure) -> Failure {
        match self {
            Missing::Hub(error) => absent(&error),
            Missing::Other(failure) => failure,
        }
    }
}

/// Fetches one file. It must have the length that the hub reports, and the hash that it is stored
/// under if that is a SHA-256.
fn fetch_file(api: &Api, repo: &ApiRepo, file: &str) -> Result<PathBuf, Missing> {
    let facts = api.metadata(&repo.url(file)).map_err(Missing::Hub)?;
    let path = progress::shown("fetching", |events| {
        repo.download_with_progress(file, DownloadProgress { events, done: 0, total: 0 })
    });
    let path = path.map_err(Missing::Hub)?;
    let other = |failure| {
        // A wrong file in the cache would be found and used by the next command.
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
    // Of large files the hub states the SHA-256 here, of others a hash of another kind.
    if etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit()) {
        checked_hash(&path, etag).map_err(other)?;
    }
    Ok(path)
}

/// Removes a wrong file, both its name and its bytes, so that nothing loads it later.
fn forget(path: &Path) {
    // The name in the cache is a link, so the bytes are removed through it first.
    if let Ok(bytes) = path.canonicalize() {
        let _ = fs::remove_file(bytes);
    }
    let _ = fs::remove_file(path);
}

/// Counts arriving bytes for the progress bar.
struct DownloadProgress {
    events: Sender<Value>,
    done: u64,
    total: u64,
}

impl DownloadProgress {
    fn tell(&self) {
        let event = json!({"event": "progress", "done": self.done, "total": self.total});
        // The receiver may be gone; the download continues without it.
        let _ = self.events.send(event);
    }
}

impl Progress for DownloadProgress {
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
