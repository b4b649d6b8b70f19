//! The golden folder. Every golden is read once, so that the hash that is checked is that of the
//! very bytes that are compared.

pub mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use goldgate_tensor::Tensor;
use goldgate_tensor::foreign::{Bounds, LARGEST_WHOLE, Links, open_foreign, read_foreign};
use goldgate_wire::frame;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::line::hex;
use crate::store::manifest::{Entry, Manifest};
use crate::yaml::Problem;

/// A golden, or what one is made from.
const GOLDEN: Bounds = Bounds::of_user(LARGEST_WHOLE);

/// A golden folder with its manifest.
#[derive(Clone, Debug)]
pub struct Store {
    /// The folder.
    pub root: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// What a golden file states about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The path of the case's golden, without its extension.
    pub case: String,
    /// The hash of the question that was answered.
    pub question: String,
    /// The hashes of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// The programs that computed it.
    pub witnesses: Vec<Witness>,
    /// Whether every partial sum was exact.
    pub exact: bool,
}

impl Store {
    /// Opens a golden folder.
    ///
    /// # Errors
    /// The manifest is malformed.
    pub fn open(root: &Path) -> Result<Store, Vec<Problem>> {
        Ok(Store { root: root.to_owned(), manifest: Manifest::read(root)? })
    }

    /// A golden folder without any golden, in place of one whose manifest is malformed.
    pub fn empty(root: &Path) -> Store {
        Store { root: root.to_owned(), manifest: Manifest::default() }
    }

    /// Checks that manifest, folder and cases agree: no file is missing, stale or unclaimed.
    pub fn check_files(&self, asked: &BTreeSet<&str>) -> Vec<Problem> {
        let files = self.files();
        let mut problems = Vec::new();
        let mut note = |code, path: &str, found: &str, expected: &str| {
            problems.push(Problem::of_file(code, path, found, expected));
        };
        for file in &files {
            if !self.manifest.0.contains_key(file) {
                note("MANIFEST_MISSING", file, "no line", "a line in MANIFEST.json");
            } else if !asked.contains(file.as_str()) {
                note("UNCLAIMED", file, "no case", "a case that asks for it");
            }
        }
        // No golden reads these files, so their hashes are compared here.
        let given = self.given_files();
        for file in &given {
            match (self.manifest.0.get(file), self.entry(file)) {
                (None, _) => note("MANIFEST_MISSING", file, "no line", "a line in MANIFEST.json"),
                (Some(line), Ok(entry)) if *line == entry => {}
                (Some(line), Ok(entry)) => {
                    note("GOLDEN_HASH", file, &entry.sha256, &line.sha256);
                }
                (_, Err(e)) => note("IO", file, &e.to_string(), "a readable file"),
            }
        }
        let there = |path: &&String| !files.contains(*path) && !given.contains(*path);
        for path in self.manifest.0.keys().filter(there) {
            note("MANIFEST_STALE", path, "no file", "the file that MANIFEST.json lists");
        }
        problems
    }

    /// All golden files below the folder, except those in oracle/ and local/.
    pub fn files(&self) -> BTreeSet<String> {
        self.walk("", |path| path.ends_with(".safetensors") && !manifest::is_given(path))
    }

    /// All files that are not goldens but inputs of goldens: models, vocabularies and texts.
    pub fn given_files(&self) -> BTreeSet<String> {
        manifest::GIVEN.iter().flat_map(|room| self.walk(room, |_| true)).collect()
    }

    /// The size and hash of a file as it is now.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn entry(&self, path: &str) -> io::Result<Entry> {
        let bytes = read_foreign(&self.root.join(path), GOLDEN)?;
        Ok(Entry { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)) })
    }

    fn walk(&self, from: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        let mut folders = vec![from.to_owned()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(self.root.join(&folder)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match entry.file_type() {
                    // oracle/ holds scripts, and local/ what is not shipped: neither belongs into
                    // the manifest.
                    Ok(t) if t.is_dir() && !matches!(path.as_str(), "oracle" | "local") => {
                        folders.push(path);
                    }
                    Ok(_) if wanted(&path) => {
                        files.insert(path);
                    }
                    _ => {}
                }
            }
        }
        files
    }

    /// Whether a golden exists: in the manifest, or on this machine only.
    pub fn has(&self, path: &str) -> bool {
        match is_local(path) {
            // Goldens of checkpoints that are not shipped are in no manifest.
            true => self.root.join(path).is_file(),
            false => self.manifest.0.contains_key(path),
        }
    }

    /// The bytes of a golden, after checking its size and hash. Goldens that exist on this machine
    /// only have no line in the manifest to be checked against.
    ///
    /// # Errors
    /// `GOLDEN_MISSING`, `GOLDEN_SIZE`, `GOLDEN_HASH`.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Problem> {
        let problem =
            |code, found: String, expected: String| Problem::of_file(code, path, found, expected);
        let missing = |found: String| {
            problem("GOLDEN_MISSING", found, "a golden: goldgate golden make".into())
        };
        let file = self.root.join(path);
        if is_local(path) {
            return read_foreign(&file, GOLDEN).map_err(|e| missing(e.to_string()));
        }
        let Some(entry) = self.manifest.0.get(path) else {
            return Err(missing("no line in the manifest".into()));
        };
        // The size first: it names a truncated file more clearly than a hash, and costs no reading.
        let opened = open_foreign(&file, Links::Followed);
        let size = opened
            .and_then(|opened| Ok(opened.metadata()?.len()))
            .map_err(|e| problem("GOLDEN_MISSING", e.to_string(), "a file".into()))?;
        if size != entry.bytes {
            let (have, want) = (format!("{size} bytes"), format!("{} bytes", entry.bytes));
            return Err(problem("GOLDEN_SIZE", have, want));
        }
        let bytes = read_foreign(&file, GOLDEN)
            .map_err(|e| problem("GOLDEN_MISSING", e.to_string(), "a readable file".into()))?;
        let have = hex(&Sha256::digest(&bytes));
        if have != entry.sha256 {
            return Err(problem("GOLDEN_HASH", have, entry.sha256.clone()));
        }
        Ok(bytes)
    }

    /// Writes one golden by rename and enters it into the manifest, which is not written yet.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(
        &mut self,
        path: &str,
        label: &Label,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::io::Result<()> {
        let bytes = frame::encode(&label.metadata(), tensors);
        manifest::replace(&self.root.join(path), &bytes)?;
        if !is_local(path) {
            let sha256 = hex(&Sha256::digest(&bytes));
            let entry = Entry { bytes: bytes.len() as u64, sha256 };
            self.manifest.0.insert(path.to_owned(), entry);
        }
        Ok(())
    }
}

impl Label {
    /// The metadata of the file.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("format".to_owned(), "1".to_owned()),
            ("case".to_owned(), self.case.clone()),
            ("question".to_owned(), self.question.clone()),
            ("inputs".to_owned(), serde_json::json!(self.inputs).to_string()),
            ("witnesses".to_owned(), serde_json::json!(self.witnesses).to_string()),
            ("exact".to_owned(), self.exact.to_string()),
        ])
    }

    fn read(metadata: &BTreeMap<String, String>) -> Result<Label, (&'static str, String)> {
        let get = |key: &'static str| metadata.get(key).ok_or((key, "nothing".to_owned()));
        if get("format")? != "1" {
            return Err(("format", get("format")?.clone()));
        }
        let witnesses: Vec<Witness> =
            serde_json::from_str(get("witnesses")?).map_err(|e| ("witnesses", e.to_string()))?;
        // A witness without name or version could not be asked again.
        let complete = |w: &Witness| !w.name.is_empty() && !w.version.is_empty();
        if witnesses.is_empty() || !witnesses.iter().all(complete) {
            return Err(("witnesses", get("witnesses")?.clone()));
        }
        Ok(Label {
            case: get("case")?.clone(),
            question: get("question")?.clone(),
            inputs: serde_json::from_str(get("inputs")?).map_err(|e| ("inputs", e.to_string()))?,
            witnesses,
            // Any other word taken for false would silently turn an exact case into a rough one.
            exact: match get("exact")?.as_str() {
                "true" => true,
                "false" => false,
                other => return Err(("exact", other.to_owned())),
            },
        })
    }
}

/// Whether a golden stays on this machine, because it belongs to a checkpoint that is not shipped.
fn is_local(path: &str) -> bool {
    path.starts_with("local/")
}

/// Parses label and tensors of a golden file. The program under test must not be its own witness.
///
/// # Errors
/// `GOLDEN_FORM`, `PROVENANCE`, `PROVENANCE_SELF`.
pub fn read_bytes(path: &str, bytes: &[u8]) -> Result<(Label, BTreeMap<String, Tensor>), Problem> {
    let (metadata, tensors) = frame::decode(bytes)
        .map_err(|e| Problem::of_file("GOLDEN_FORM", path, e.to_string(), "a safetensors file"))?;
    let label = Label::read(&metadata).map_err(|(field, found)| {
        let mut p = Problem::of_file("PROVENANCE", path, found, "what `golden make` writes");
        p.field = field.to_owned();
        p
    })?;
    // A golden that our engine computed would agree with it by construction.
    let itself = |w: &&Witness| matches!(w.name.as_str(), "goldgate-engine" | "definition");
    if let Some(witness) = label.witnesses.iter().find(itself) {
        let (found, expected) = (witness.name.clone(), "somebody else than the engine");
        return Err(Problem::of_file("PROVENANCE_SELF", path, found, expected));
    }
    Ok((label, tensors))
}

/// Sorts the keys of objects, so that one question has one hash.
pub fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> =
                map.iter().map(|(k, v)| (k, canonical(v))).collect();
            let pairs = sorted.into_iter().map(|(k, v)| (k.clone(), v));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// An independent program that computed a golden.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Witness {
    /// Its name: `formula`, `torch` …
    pub name: String,
    /// The versions of the libraries that it rests on.
    pub version: String,
    /// SHA-256 of its script; empty if it has none.
    #[serde(default)]
    pub script: String,
    /// The day on which it answered, ISO 8601.
    #[serde(default)]
    pub date: String,
}
