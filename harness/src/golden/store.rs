//! The golden folder: every golden is read once, and the hash is that of the very bytes compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goldgate_engine::Tensor;
use goldgate_engine::dtype::DType;
use sha2::{Digest, Sha256};

use crate::case::{Case, Expect, Family, GoldenSource, Written};
use crate::fill;
use crate::golden::ask::{self, Asked};
use crate::golden::manifest::{self, Entry, Manifest};
use crate::golden::{Golden, GoldenResult, Numbers, Witness, strength};
use crate::models::ModelCase;
use crate::models::golden::{self as models, ModelGolden, Question};
use crate::spec::problem::Problem;
use crate::wire::frame;

/// A golden folder and what its manifest says.
#[derive(Clone, Debug)]
pub struct Store {
    /// The folder.
    pub root: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// What a golden file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The case's golden path, without its ending.
    pub case: String,
    /// The hash of the question.
    pub question: String,
    /// The hashes of the inputs.
    pub inputs: BTreeMap<String, String>,
    /// Who computed it.
    pub witnesses: Vec<Witness>,
    /// Whether every partial sum was exact.
    pub exact: bool,
}

impl Store {
    /// Opens a golden folder.
    ///
    /// # Errors
    /// A malformed manifest.
    pub fn open(root: &Path) -> Result<Store, Vec<Problem>> {
        Ok(Store { root: root.to_owned(), manifest: Manifest::read(root)? })
    }

    /// Manifest, folder and cases agree: nothing is missing, stale or unclaimed.
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

    /// Every golden file below the folder, but those in oracle/ and local/.
    pub fn files(&self) -> BTreeSet<String> {
        self.walk("", |path| path.ends_with(".safetensors") && !manifest::is_given(path))
    }

    /// Every file that is not a golden but what goldens are made with: models, vocabularies, texts.
    pub fn given_files(&self) -> BTreeSet<String> {
        manifest::GIVEN.iter().flat_map(|room| self.walk(room, |_| true)).collect()
    }

    /// Size and hash of a file as it is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn entry(&self, path: &str) -> io::Result<Entry> {
        let bytes = fs::read(self.root.join(path))?;
        Ok(Entry { bytes: bytes.len() as u64, sha256: fill::hex(&Sha256::digest(&bytes)) })
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

    /// Whether the case needs a golden that nobody has made.
    pub fn is_pending(&self, case: &Case) -> bool {
        ask::path(case).is_some_and(|path| !self.has(path))
    }

    /// Whether a golden is there: in the manifest, or on this machine alone.
    pub fn has(&self, path: &str) -> bool {
        match is_local(path) {
            true => self.root.join(path).is_file(),
            false => self.manifest.0.contains_key(path),
        }
    }

    /// The golden of a case about a model, held against the question that the case asks now.
    ///
    /// # Errors
    /// As [`Store::awaited`].
    pub fn of_model(
        &self,
        case: &ModelCase,
        path: &str,
        asked: &Question,
    ) -> Result<ModelGolden, Problem> {
        let (golden, label) = models::decode(path, &self.bytes(path)?, case.kind())?;
        models::agree(path, asked, &label)?;
        Ok(golden)
    }

    /// What a case awaits: read from its file, or made of the numbers in its spec.
    ///
    /// # Errors
    /// `GOLDEN_MISSING` where nobody has made it or the definition answers; everything that is
    /// wrong with the file, its provenance, or its agreement with the case.
    pub fn awaited(&self, case: &Case, asked: &Asked) -> Result<Golden, Problem> {
        let golden = match &case.expect {
            Expect::Answer { golden: GoldenSource::Written(written), .. } => {
                self::written(case, written)?
            }
            Expect::Answer { golden: GoldenSource::File(path), .. } => {
                let (golden, label) = self.read(path)?;
                agree(path, case, asked, &label)?;
                golden
            }
            _ => {
                let found = "the definition or a refusal";
                let name = case.full_name();
                return Err(Problem::of_file("GOLDEN_MISSING", &name, found, "a golden"));
            }
        };
        strength::check(case, asked, &golden)?;
        Ok(golden)
    }

    /// Reads one golden: size first, then the hash, then what the same bytes say.
    ///
    /// # Errors
    /// `GOLDEN_MISSING`, `GOLDEN_SIZE`, `GOLDEN_HASH`, `GOLDEN_FORM`, `PROVENANCE`.
    pub fn read(&self, path: &str) -> Result<(Golden, Label), Problem> {
        decode(path, &self.bytes(path)?)
    }

    /// The bytes of a golden: size first, then the hash. What lies on this machine alone has no
    /// line in the manifest to be held against.
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
            return fs::read(&file).map_err(|e| missing(e.to_string()));
        }
        let Some(entry) = self.manifest.0.get(path) else {
            return Err(missing("no line in the manifest".into()));
        };
        let size = fs::metadata(&file)
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|m| m.len())
            .ok_or_else(|| problem("GOLDEN_MISSING", "no file".into(), "a file".into()))?;
        if size != entry.bytes {
            let (have, want) = (format!("{size} bytes"), format!("{} bytes", entry.bytes));
            return Err(problem("GOLDEN_SIZE", have, want));
        }
        let bytes = fs::read(&file)
            .map_err(|e| problem("GOLDEN_MISSING", e.to_string(), "a readable file".into()))?;
        let have = fill::hex(&Sha256::digest(&bytes));
        if have != entry.sha256 {
            return Err(problem("GOLDEN_HASH", have, entry.sha256.clone()));
        }
        Ok(bytes)
    }

    /// Writes one golden by rename and notes it in the manifest, which is not written yet.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(
        &mut self,
        path: &str,
        label: &Label,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::io::Result<()> {
        let bytes = frame::encode(&label.metadata(), tensors);
        crate::golden::manifest::replace(&self.root.join(path), &bytes)?;
        if !is_local(path) {
            let sha256 = fill::hex(&Sha256::digest(&bytes));
            let entry = Entry { bytes: bytes.len() as u64, sha256 };
            self.manifest.0.insert(path.to_owned(), entry);
        }
        Ok(())
    }
}

/// The file belongs to this case and was made for these inputs.
fn agree(path: &str, case: &Case, asked: &Asked, label: &Label) -> Result<(), Problem> {
    let differ = |code, field: &str, found: &str, expected: &str| {
        let mut problem = Problem::of_file(code, path, found, expected);
        problem.field = field.to_owned();
        Err(problem)
    };
    let own = path.trim_end_matches(".safetensors");
    if label.case != own {
        return differ("GOLDEN_CASE", "case", &label.case, own);
    }
    for (name, hash) in &asked.inputs {
        let field = format!("inputs.{name}");
        match label.inputs.get(name) {
            Some(have) if have == hash => {}
            Some(have) => return differ("INPUTS_HASH", &field, have, hash),
            None => return differ("INPUTS_HASH", &field, "nothing", hash),
        }
    }
    if label.question != asked.hash {
        let place = format!("{} as {} asks", asked.hash, case.full_name());
        return differ("GOLDEN_QUESTION", "question", &label.question, &place);
    }
    Ok(())
}

impl Label {
    /// The metadata of its file.
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
        let complete = |w: &Witness| !w.name.is_empty() && !w.version.is_empty();
        if witnesses.is_empty() || !witnesses.iter().all(complete) {
            return Err(("witnesses", get("witnesses")?.clone()));
        }
        Ok(Label {
            case: get("case")?.clone(),
            question: get("question")?.clone(),
            inputs: serde_json::from_str(get("inputs")?).map_err(|e| ("inputs", e.to_string()))?,
            witnesses,
            exact: match get("exact")?.as_str() {
                "true" => true,
                "false" => false,
                other => return Err(("exact", other.to_owned())),
            },
        })
    }
}

/// Golden and label of a file's bytes.
///
/// # Errors
/// `GOLDEN_FORM`, `GOLDEN_PRECISION`, `GOLDEN_SHAPE`, `PROVENANCE`, `PROVENANCE_SELF`.
pub fn decode(path: &str, bytes: &[u8]) -> Result<(Golden, Label), Problem> {
    let (label, tensors) = read_bytes(path, bytes)?;
    let mut golden = golden_of(tensors).map_err(|(code, field, found)| {
        let mut p = Problem::of_file(code, path, found, "what `golden make` writes");
        p.field = field;
        p
    })?;
    golden.exact = label.exact;
    golden.witnesses = label.witnesses.clone();
    Ok((golden, label))
}

/// Whether a golden stays on this machine: that of a checkpoint which is not shipped.
fn is_local(path: &str) -> bool {
    path.starts_with("local/")
}

/// Label and tensors of a file's bytes; nobody is his own witness.
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
    let itself = |w: &&Witness| matches!(w.name.as_str(), "goldgate-engine" | "definition");
    if let Some(witness) = label.witnesses.iter().find(itself) {
        let (found, expected) = (witness.name.clone(), "somebody else than the engine");
        return Err(Problem::of_file("PROVENANCE_SELF", path, found, expected));
    }
    Ok((label, tensors))
}

type Bad = (&'static str, String, String);

/// The results and wrong answers of a golden's tensors.
///
/// # Errors
/// Code, tensor and what is wrong with it.
pub fn golden_of(tensors: BTreeMap<String, Tensor>) -> Result<Golden, Bad> {
    let mut golden = Golden::default();
    for (name, tensor) in &tensors {
        if !name.contains('.') {
            golden.results.insert(name.clone(), result(name, tensor, &tensors)?);
        }
    }
    for (name, tensor) in &tensors {
        let mut parts = name.splitn(3, '.');
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        let known = match (first, second, third) {
            (Some(_), None, None) => true,
            (Some("wrong"), Some(formula), Some(result)) => {
                let numbers = numbers(name, tensor)?;
                let right = golden.results.get(result).map(|r| r.numbers.len());
                if right != Some(numbers.len()) {
                    let found = format!("{} elements", numbers.len());
                    return Err(("GOLDEN_SHAPE", name.clone(), found));
                }
                let formulas = golden.wrong.entry(formula.to_owned()).or_default();
                formulas.insert(result.to_owned(), numbers);
                true
            }
            (Some(result), Some("slack" | "decided"), None)
            | (Some(result), Some("keeps"), Some(_)) => golden.results.contains_key(result),
            _ => false,
        };
        if !known {
            return Err(("GOLDEN_FORM", name.clone(), "a tensor of no meaning".into()));
        }
    }
    Ok(golden)
}

fn result(
    name: &str,
    tensor: &Tensor,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<GoldenResult, Bad> {
    let numbers = numbers(name, tensor)?;
    let count = numbers.len();
    let floats = |key: &str| -> Result<Vec<f32>, Bad> {
        let Some(t) = tensors.get(key) else { return Ok(Vec::new()) };
        if t.meta.dtype != DType::F32 || t.meta.volume() != Some(count) {
            return Err(("GOLDEN_SHAPE", key.to_owned(), t.meta.to_string()));
        }
        let values: Vec<f32> = t.to_f64().iter().map(|&x| x as f32).collect();
        match values.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            None => Ok(values),
            Some(i) => Err(("GOLDEN_NONFINITE", key.to_owned(), format!("{} at {i}", values[i]))),
        }
    };
    let mut keeps = BTreeMap::new();
    for key in tensors.keys() {
        if let Some(kept) = key.strip_prefix(&format!("{name}.keeps.")) {
            keeps.insert(kept.to_owned(), floats(key)?);
        }
    }
    let slack = floats(&format!("{name}.slack"))?;
    if slack.is_empty() && matches!(numbers, Numbers::Real(_)) && count > 0 {
        return Err(("GOLDEN_FORM", format!("{name}.slack"), "nothing".into()));
    }
    let decided = match tensors.get(&format!("{name}.decided")) {
        None => Vec::new(),
        Some(t) if t.meta.dtype == DType::U8 && t.meta.volume() == Some(count) => {
            t.bytes.iter().map(|&b| b == 1).collect()
        }
        Some(t) => return Err(("GOLDEN_SHAPE", format!("{name}.decided"), t.meta.to_string())),
    };
    let shape = tensor.meta.shape.clone();
    Ok(GoldenResult { shape, numbers, slack, keeps, absolute: Vec::new(), decided })
}

fn numbers(name: &str, tensor: &Tensor) -> Result<Numbers, Bad> {
    match tensor.meta.dtype {
        DType::F64 => Ok(Numbers::Real(tensor.to_f64())),
        DType::I32 => Ok(Numbers::Ids(tensor.to_i32())),
        other => Err(("GOLDEN_PRECISION", name.to_owned(), other.to_string())),
    }
}

/// The golden of numbers that stand in the spec.
///
/// # Errors
/// `GOLDEN_SHAPE` where their count is not the result's, and the op's own refusal.
pub fn written(case: &Case, written: &BTreeMap<String, Vec<Written>>) -> Result<Golden, Problem> {
    let at = |code, found: String, expected: String| {
        let mut p = Problem::of_file(code, &case.place.file, found, expected);
        p.place = case.place.clone();
        p.field = format!("{}.expect", case.name);
        p
    };
    let metas = ask::results(case)
        .map_err(|e| at("QUESTION", e.to_string(), "a question that the op takes".into()))?;
    let mut golden = Golden::default();
    for (name, meta) in metas {
        let Some(numbers) = written.get(name) else {
            return Err(at("GOLDEN_SHAPE", "nothing".into(), format!("numbers of {name}")));
        };
        if meta.volume() != Some(numbers.len()) {
            let found = format!("{} numbers", numbers.len());
            return Err(at("GOLDEN_SHAPE", found, format!("{name} is {meta}")));
        }
        let ids = meta.dtype == DType::I32;
        let values = numbers.iter().map(|w| w.value);
        golden.results.insert(
            name.to_owned(),
            GoldenResult {
                shape: meta.shape,
                numbers: if ids {
                    Numbers::Ids(values.map(|x| x as i32).collect())
                } else {
                    Numbers::Real(values.collect())
                },
                slack: Vec::new(),
                keeps: BTreeMap::new(),
                absolute: numbers.iter().map(|w| w.half_unit).collect(),
                decided: Vec::new(),
            },
        );
    }
    golden.witnesses.push(Witness {
        name: "written".into(),
        version: case.source.clone(),
        script: String::new(),
        date: String::new(),
    });
    Ok(golden)
}

/// The family that counts: exact only where whoever made the golden has verified it.
pub fn family(case: &Case, golden: &Golden) -> Family {
    let from_file = ask::path(case).is_some();
    match case.family {
        Family::Exact if from_file && !golden.exact => Family::Rough,
        family => family,
    }
}
