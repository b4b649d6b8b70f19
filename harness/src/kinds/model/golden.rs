//! The golden of a case about a model: the results of the reference in double precision, and its
//! results under planted faults. The oracle of models computes it; its question is built here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign};
use goldgate_tensor::{DType, Tensor};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fill;
use crate::kinds::model::case::{Ask, At, Contexts, Generation, ModelCase, Prompt};
use crate::line::hex;
use crate::store::manifest::Manifest;
use crate::store::{Label, Store, Witness, canonical, read_bytes};
use crate::yaml::Problem;

/// Rows of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The length of a row.
    pub width: usize,
    /// The numbers, row-major.
    pub numbers: Vec<f64>,
}

impl Rows {
    /// The rows of a tensor, counted by its first axis.
    pub fn from_tensor(tensor: &Tensor) -> Rows {
        let count = tensor.meta.shape.first().copied().unwrap_or(1);
        let numbers = tensor.to_f64();
        Rows { width: numbers.len().checked_div(count).unwrap_or(0), numbers }
    }

    /// Iterates over the rows.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.numbers.chunks_exact(self.width.max(1))
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }
}

/// What is expected in one case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelGolden {
    /// The tokens that are fed.
    pub ids: Vec<i32>,
    /// Slot → its rows (*stage*).
    pub slots: BTreeMap<String, Rows>,
    /// The indices of the rows whose logits are expected (*logits*).
    pub rows: Vec<usize>,
    /// Their logits over the whole vocabulary (*logits*).
    pub logits: Rows,
    /// The first minus the second logit: of each row, of each chosen token, or of the row before
    /// each token of a text. For a token that is drawn: twice the largest shift of all logits that
    /// does not change the choice.
    pub margin: Vec<f64>,
    /// The standard deviation of the logits of the same rows.
    pub std: Vec<f64>,
    /// All chosen tokens (*generation*), including the one that ends the text.
    pub chosen: Vec<i32>,
    /// How many of them are handed out.
    pub handed_out: usize,
    /// The bytes that are handed out.
    pub text: Vec<u8>,
    /// Why it ended: `eos`, `stop`, `length` or `context`.
    pub stop: String,
    /// The log-probability of each chosen token, or of each token of a text.
    pub logprob: Vec<f64>,
    /// Other texts that a small margin could lead to, with their mean log-probabilities.
    pub branches: Vec<(Vec<i32>, f64)>,
    /// The most likely tokens behind each context (*draws* of two tokens), in the order of the
    /// contexts. The rows of `logits` are those of the contexts, and then of these tokens.
    pub next: Vec<i32>,
    /// Fault → tensor → its numbers.
    pub wrong: BTreeMap<String, BTreeMap<String, Rows>>,
    /// The programs that computed it.
    pub witnesses: Vec<Witness>,
}

/// A question to the oracle of models.
#[derive(Clone, Debug)]
pub struct Question {
    /// The JSON, without its id.
    pub json: Value,
    /// `ids`, if the prompt is given as ids.
    pub tensors: BTreeMap<String, Tensor>,
    /// The files below golden/ that it depends on, with their hashes.
    pub inputs: BTreeMap<String, String>,
    /// SHA-256 of the question, in which files appear by their hashes.
    pub hash: String,
}

/// The beginning of every question to the oracle of models. The call belongs to that oracle alone,
/// so it is not part of the wire.
#[derive(serde::Serialize)]
struct GoldenCall<'a> {
    call: &'static str,
    kind: &'static str,
    /// The faults whose answers are wanted as well.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    wrong: &'a [String],
}

/// The question whose answer is the golden of a case; `wrong` names the faults of its mutants.
///
/// # Errors
/// A file is missing.
pub fn question(
    case: &ModelCase,
    wrong: &[String],
    manifest: &Manifest,
    root: &Path,
    models: &[PathBuf],
) -> Result<Question, String> {
    let mut tensors = BTreeMap::new();
    let mut ask = json!(GoldenCall { call: "golden", kind: case.kind(), wrong });
    let mut put = |ask: &mut Value, prompt: &Prompt| match prompt {
        Prompt::Text(text) => ask["text"] = text.as_str().into(),
        Prompt::Ids(ids) => {
            tensors.insert("ids".to_owned(), Tensor::from_i32(&[ids.len()], ids));
        }
    };
    let mut inputs = BTreeMap::new();
    // A form may be a folder, and then each of its files can change the answer.
    let mut given = |path: &str| {
        let below = format!("{path}/");
        let entries = manifest.0.iter().filter(|(p, _)| *p == path || p.starts_with(&below));
        inputs.extend(entries.map(|(p, entry)| (p.clone(), entry.sha256.clone())));
    };
    match &case.ask {
        Ask::Load(_) => {}
        Ask::Stage { prompt, slots } => {
            put(&mut ask, prompt);
            ask["slots"] = json!(slots);
        }
        Ask::Logits { prompt, rows, .. } => {
            put(&mut ask, prompt);
            ask["rows"] = rows.as_ref().map_or(json!("all"), |rows| json!(rows));
        }
        Ask::Generation(g) => {
            put(&mut ask, &g.prompt);
            ask["max_tokens"] = g.max_tokens.into();
            for (key, value) in named(g) {
                ask[key] = value;
            }
        }
        Ask::Perplexity { text, tokens, window, .. } => {
            given(text);
            ask["text"] = whole_text(root, text)?.into();
            ask["tokens"] = (*tokens).into();
            ask["window"] = (*window).into();
        }
        Ask::Draws(draws) => {
            given(&draws.contexts.text);
            put_contexts(&mut ask, &draws.contexts, root)?;
        }
    }
    match &case.form.at {
        At::Golden(path) => given(path),
        At::Hub(hub) => {
            // A checkpoint is in no manifest, so its repository, revision and hash identify it.
            let name = format!("{}@{}", hub.repo, hub.revision);
            inputs.insert(name, hub.sha256.clone().unwrap_or_default());
        }
    }
    let ids = tensors.values().map(fill::hash).collect::<Vec<_>>();
    // Two forms with the same files must not share an answer by accident.
    let form = case.golden.as_deref().unwrap_or_default();
    let canonical = canonical(&json!({"question": ask, "inputs": inputs, "ids": ids, "of": form}));
    let hash = hex(&Sha256::digest(canonical.to_string().as_bytes()));
    // Paths differ from machine to machine, so they are not part of the hash.
    put_paths(&mut ask, case, root, models)?;
    Ok(Question { json: ask, tensors, inputs, hash })
}

/// Adds where the form is stored, and the publisher's form of the same model.
fn put_paths(
    ask: &mut Value,
    case: &ModelCase,
    root: &Path,
    models: &[PathBuf],
) -> Result<(), String> {
    ask["path"] = case.form.find(root, models)?.display().to_string().into();
    if let Some(hf) = &case.form.hf {
        let folder = root.join(hf);
        let folder = folder.canonicalize().map_err(|e| format!("{hf}: {e}"))?;
        ask["hf"] = folder.display().to_string().into();
    }
    Ok(())
}

/// Adds contexts, without the settings of the draws: cases that differ in nothing else share their
/// golden.
fn put_contexts(ask: &mut Value, contexts: &Contexts, root: &Path) -> Result<(), String> {
    let Contexts { text, count, length, follow } = contexts;
    ask["text"] = whole_text(root, text)?.into();
    ask["contexts"] = (*count).into();
    ask["length"] = (*length).into();
    ask["follow"] = (*follow).into();
    Ok(())
}

/// A text below golden/.
fn whole_text(root: &Path, text: &str) -> Result<String, String> {
    let bytes = read_foreign(&root.join(text), Bounds::of_user(LARGEST_TEXT));
    let bytes = bytes.map_err(|e| format!("{text}: {e}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The optional parts of a question about generation. Absent parts are left out, so that questions
/// from before these parts existed keep their hashes.
fn named(g: &Generation) -> impl Iterator<Item = (&'static str, Value)> {
    let all = [
        ("sampling", !g.sampling.is_empty(), json!(g.sampling)),
        ("stop", !g.stop.is_empty(), json!(g.stop)),
        ("stop_ids", !g.stop_ids.is_empty(), json!(g.stop_ids)),
        ("context", g.context.is_some(), json!(g.context)),
    ];
    all.into_iter().filter(|(_, there, _)| *there).map(|(key, _, value)| (key, value))
}

/// Parses the golden in the bytes of a file.
///
/// # Errors
/// `GOLDEN_FORM`, `GOLDEN_NONFINITE`, `PROVENANCE`, `PROVENANCE_SELF`.
pub fn decode(path: &str, bytes: &[u8], kind: &str) -> Result<(ModelGolden, Label), Problem> {
    let (label, tensors) = read_bytes(path, bytes)?;
    let mut golden = from_tensors(&tensors, kind).map_err(|(field, found)| {
        let expected = "what `golden make` writes";
        let mut problem = Problem::of_file("GOLDEN_FORM", path, found, expected);
        problem.field = field;
        problem
    })?;
    golden.witnesses = label.witnesses.clone();
    Ok((golden, label))
}

/// A tensor, and what is wrong with it.
type Wrong = (String, String);

fn bad(name: &str, found: &str) -> Wrong {
    (name.to_owned(), found.to_owned())
}

fn ids(tensors: &BTreeMap<String, Tensor>, name: &str) -> Result<Vec<i32>, Wrong> {
    match tensors.get(name) {
        Some(t) if t.meta.dtype == DType::I32 => Ok(t.to_i32()),
        Some(t) => Err(bad(name, &t.meta.to_string())),
        None => Err(bad(name, "nothing")),
    }
}

fn reals(tensors: &BTreeMap<String, Tensor>, name: &str) -> Result<Vec<f64>, Wrong> {
    match tensors.get(name) {
        Some(t) if t.meta.dtype.is_float() => {
            let numbers = t.to_f64();
            // One NaN would make every distance NaN, and every subject would fail the case.
            match numbers.iter().all(|x| x.is_finite()) {
                true => Ok(numbers),
                false => Err(bad(name, "a number that is not finite")),
            }
        }
        Some(t) => Err(bad(name, &t.meta.to_string())),
        None => Err(bad(name, "nothing")),
    }
}

/// Interprets the tensors of a golden.
///
/// # Errors
/// The tensor, and what is wrong with it.
pub fn from_tensors(tensors: &BTreeMap<String, Tensor>, kind: &str) -> Result<ModelGolden, Wrong> {
    let rows = |name: &str| {
        reals(tensors, name)?;
        Ok::<_, Wrong>(Rows::from_tensor(&tensors[name]))
    };
    let mut golden = ModelGolden { ids: ids(tensors, "ids")?, ..ModelGolden::default() };
    // Stages compare values, so they need no margin.
    if kind != "stage" {
        (golden.margin, golden.std) = (reals(tensors, "margin")?, reals(tensors, "std")?);
    }
    match kind {
        "stage" => {
            let slots = tensors.keys().filter(|n| *n != "ids" && !n.starts_with("wrong."));
            for name in slots {
                golden.slots.insert(name.clone(), rows(name)?);
            }
            // Any answer would meet a golden without slots.
            if golden.slots.is_empty() {
                return Err(bad("slots", "nothing"));
            }
        }
        "logits" => {
            let full = ids(tensors, "full_rows")?;
            golden.rows = full.iter().filter_map(|r| usize::try_from(*r).ok()).collect();
            golden.logits = rows("logits")?;
            let same = [golden.logits.count(), golden.margin.len(), golden.std.len()];
            if golden.rows.is_empty() || same.iter().any(|n| *n != golden.rows.len()) {
                return Err(bad("full_rows", "another count than the logits'"));
            }
        }
        "generation" => text(&mut golden, tensors)?,
        "draws" => {
            golden.logits = rows("logits")?;
            let all = golden.logits.count();
            if all == 0 || golden.std.len() != all || golden.margin.len() != all {
                return Err(bad("logits", "another count than the deviations'"));
            }
            if tensors.contains_key("next") {
                golden.next = ids(tensors, "next")?;
            }
            if golden.next.len() >= all {
                return Err(bad("next", "more than there are rows of logits"));
            }
        }
        _ => {
            golden.logprob = reals(tensors, "logprob")?;
            if golden.logprob.len() != golden.ids.len() || golden.ids.is_empty() {
                return Err(bad("logprob", "another count than the ids'"));
            }
        }
    }
    golden.wrong = wrong(tensors)?;
    Ok(golden)
}

/// Reads a text: a greedy one without an end comes with its branches, a drawn or ended one with the
/// number of tokens that are handed out.
fn text(golden: &mut ModelGolden, tensors: &BTreeMap<String, Tensor>) -> Result<(), Wrong> {
    let greedy = tensors.contains_key("greedy");
    golden.chosen = ids(tensors, if greedy { "greedy" } else { "chosen" })?;
    let bytes = |name: &str| tensors.get(name).map(|t| t.bytes.clone());
    golden.text = bytes("text").unwrap_or_default();
    // A greedy text that nothing ends hands out everything that was chosen.
    golden.handed_out = golden.chosen.len();
    golden.stop = "length".to_owned();
    if !greedy {
        let handed_out = ids(tensors, "told")?.first().and_then(|n| usize::try_from(*n).ok());
        let handed_out = handed_out.filter(|n| *n <= golden.chosen.len());
        golden.handed_out = handed_out.ok_or_else(|| bad("told", "more than was chosen"))?;
        let stop = String::from_utf8(bytes("stop").unwrap_or_default());
        golden.stop = stop.map_err(|_| bad("stop", "no word"))?;
    }
    golden.logprob = reals(tensors, "logprob")?;
    let means = reals(tensors, "branch.logprob").unwrap_or_default();
    let texts = ids(tensors, "branch.ids").unwrap_or_default();
    let texts = texts.chunks(golden.chosen.len().max(1)).map(<[i32]>::to_vec);
    golden.branches = texts.zip(means).collect();
    let same = [golden.margin.len(), golden.std.len(), golden.logprob.len()];
    if golden.chosen.is_empty() || same.iter().any(|n| *n != golden.chosen.len()) {
        return Err(bad("chosen", "another count than the margins'"));
    }
    Ok(())
}

type Faults = BTreeMap<String, BTreeMap<String, Rows>>;

/// The results of the reference under each fault: `wrong.<fault>.<tensor>`.
fn wrong(tensors: &BTreeMap<String, Tensor>) -> Result<Faults, Wrong> {
    let mut wrong = Faults::new();
    for (name, tensor) in tensors.iter().filter(|(n, _)| n.starts_with("wrong.")) {
        let mut parts = name.splitn(3, '.').skip(1);
        let (Some(fault), Some(slot)) = (parts.next(), parts.next()) else {
            return Err((name.clone(), "a tensor of no meaning".to_owned()));
        };
        wrong
            .entry(fault.to_owned())
            .or_default()
            .insert(slot.to_owned(), Rows::from_tensor(tensor));
    }
    Ok(wrong)
}

/// Checks that a golden answers the question that its case asks now.
///
/// # Errors
/// The first difference.
pub fn agree(path: &str, asked: &Question, label: &Label) -> Result<(), Problem> {
    let differ = |code, field: &str, found: &str, expected: &str| {
        let mut problem = Problem::of_file(code, path, found, expected);
        problem.field = field.to_owned();
        Err(problem)
    };
    let own = path.trim_end_matches(".safetensors");
    if label.case != own {
        return differ("GOLDEN_CASE", "case", &label.case, own);
    }
    // Inputs before the question: their hashes are part of the question's, and name the cause.
    if label.inputs != asked.inputs {
        let changed =
            asked.inputs.iter().find(|(name, hash)| label.inputs.get(*name) != Some(hash));
        let (name, hash) = changed.map_or(("inputs", "others"), |(n, h)| (n.as_str(), h.as_str()));
        let have = label.inputs.get(name).map_or("nothing", String::as_str);
        return differ("INPUTS_HASH", name, have, hash);
    }
    if label.question != asked.hash {
        return differ("GOLDEN_QUESTION", "question", &label.question, &asked.hash);
    }
    Ok(())
}

/// The golden of a case about a model, checked against the question that the case asks now.
///
/// # Errors
/// `GOLDEN_MISSING` if none has been made; anything wrong with the file, its provenance, or its
/// agreement with the case.
pub fn of_case(
    store: &Store,
    case: &ModelCase,
    path: &str,
    asked: &Question,
) -> Result<ModelGolden, Problem> {
    let (golden, label) = decode(path, &store.bytes(path)?, case.kind())?;
    agree(path, asked, &label)?;
    Ok(golden)
}
