//! Reads the file of a model (`specs/models/<stem>.yaml`).

mod draws;

use std::collections::BTreeMap;
use std::time::Duration;

use goldgate_tensor::DType;
use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::kinds::model::case::{
    Ask, At as Lies, Form, Generation, Load, ModelCase, Prompt, Refused, Way,
};
use crate::kinds::model::forms::{
    DrawsSpec, GenerationSpec, LoadSpec, LogitsSpec, PerplexitySpec, StageSpec,
};
use crate::kinds::model::hub::Hub;
use crate::line::{Part, Place};
use crate::yaml::fields::{gate, version};
use crate::yaml::near::guess;
use crate::yaml::read::{At, Fields, Reader};
use crate::yaml::tree::Node;

/// A model's forms and what is asked of them.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ModelFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The name: the stem of the file.
    #[schemars(with = "String")]
    pub model: At<String>,
    /// The gate that its cases belong to.
    pub gate: u8,
    /// Where architecture and weights come from.
    pub source: String,
    /// Label → form.
    pub files: BTreeMap<String, FileSpec>,
    /// Positions of a session.
    pub context: usize,
    /// Whether it loads, in which time and memory, or is refused.
    #[schemars(with = "Option<Vec<LoadSpec>>")]
    pub loads: Vec<CaseSpec>,
    /// The values of its slots.
    #[schemars(with = "Option<Vec<StageSpec>>")]
    pub stages: Vec<CaseSpec>,
    /// Logits.
    #[schemars(with = "Option<Vec<LogitsSpec>>")]
    pub logits: Vec<CaseSpec>,
    /// Text that goes on.
    #[schemars(with = "Option<Vec<GenerationSpec>>")]
    pub generation: Vec<CaseSpec>,
    /// The probability of a text.
    #[schemars(with = "Option<Vec<PerplexitySpec>>")]
    pub perplexity: Vec<CaseSpec>,
    /// Many short texts, whose distribution is judged.
    #[schemars(with = "Option<Vec<DrawsSpec>>")]
    pub draws: Vec<CaseSpec>,
}

/// One form of a model: `path`, or `hub`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FileSpec {
    /// A GGUF file, or a folder with config.json and safetensors, below golden/.
    pub path: Option<String>,
    /// A published checkpoint.
    pub hub: Option<HubSpec>,
    /// The form that holds the same numbers: its goldens serve both.
    #[schemars(with = "Option<String>")]
    pub weights: Option<At<String>>,
}

/// A published checkpoint.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HubSpec {
    /// `owner/name`.
    pub repo: String,
    /// A commit.
    pub revision: String,
    /// The file; without it the snapshot, a folder.
    pub file: Option<String>,
    /// Its SHA-256.
    pub sha256: Option<String>,
}

/// The fields that all cases have.
#[derive(Clone, Debug)]
pub struct CaseSpec {
    name: At<String>,
    why: String,
    gate: Option<u8>,
    files: Option<Vec<At<String>>>,
    activations: Vec<DType>,
    slow: bool,
    timeout_s: u32,
    ask: Ask,
}

/// Reads a whole file.
pub fn model_file(r: &Reader<'_>, node: &Node) -> Option<ModelFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let model = f.need("model", Reader::id);
    let gate = f.need("gate", gate);
    let source = f.need("source", Reader::text);
    let files = f.need("files", |r, n, p| r.table(n, p, file));
    let context = f.need("context", |r, n, p| r.int(n, p, 1, 1 << 20));
    let loads = cases(&mut f, "loads", load);
    let stages = cases(&mut f, "stages", stage);
    let logits = cases(&mut f, "logits", logits);
    let generation = cases(&mut f, "generation", generation);
    let perplexity = cases(&mut f, "perplexity", perplexity);
    let draws = cases(&mut f, "draws", draws::draws);
    f.done();
    let (model, files) = (model?, files?);
    let all = [&loads, &stages, &logits, &generation, &perplexity, &draws].into_iter().flatten();
    let all: Vec<&CaseSpec> = all.collect();
    // Names are unique over all lists, because a trial's name does not contain its list.
    for (i, case) in all.iter().enumerate() {
        if all[..i].iter().any(|earlier| earlier.name.value == case.name.value) {
            r.note_value(&case.name, "ID_DUP", "name", &case.name.value, "each name once");
        }
        for label in case.files.iter().flatten() {
            if !files.iter().any(|(known, _)| known.value == label.value) {
                let near = guess(&label.value, files.iter().map(|(l, _)| l.value.as_str()));
                let expected = format!("a label of `files`{near}");
                r.note_value(label, "GATE_REF", "files", &label.value, &expected);
            }
        }
    }
    // Such a file would look as if the model were tested, and ask nothing.
    if files.is_empty() || all.is_empty() {
        r.note_value(&model, "GATE_EMPTY", "files", "none", "one file and one case at least");
    }
    for (label, file) in &files {
        let is_label = |known: &At<String>| files.iter().any(|(l, _)| l.value == known.value);
        if let Some(weights) = file.weights.as_ref().filter(|w| !is_label(w)) {
            let near = guess(&weights.value, files.iter().map(|(l, _)| l.value.as_str()));
            let field = format!("files.{}.weights", label.value);
            let expected = format!("a label of `files`{near}");
            r.note_value(weights, "GATE_REF", &field, &weights.value, &expected);
        }
    }
    let files = files.into_iter().map(|(label, file)| (label.value, file)).collect();
    Some(ModelFile {
        format: format?,
        model,
        gate: gate?,
        source: source?,
        files,
        context: context? as usize,
        loads,
        stages,
        logits,
        generation,
        perplexity,
        draws,
    })
}

type ReadAsk = fn(&mut Fields<'_, '_>) -> Option<Ask>;

fn cases(f: &mut Fields<'_, '_>, name: &'static str, ask: ReadAsk) -> Vec<CaseSpec> {
    f.may(name, |r, n, p| r.list(n, p, |r, n, p| case(r, n, p, ask))).unwrap_or_default()
}

fn case(r: &Reader<'_>, node: &Node, path: &str, ask: ReadAsk) -> Option<CaseSpec> {
    let types = DType::ACTIVATIONS.map(|t| (t.name(), t));
    let mut f = r.fields(node, path)?;
    let name = f.need("name", Reader::id);
    let why = f.need("why", Reader::text);
    let gate = f.may("gate", gate);
    let files = f.may("files", |r, n, p| r.list(n, p, Reader::id));
    let activations = f.may("activations", |r, n, p| r.list(n, p, |r, n, p| r.word(n, p, &types)));
    let slow = f.may("slow", Reader::flag).unwrap_or_default();
    let timeout = f.may("timeout_s", |r, n, p| Some(r.int(n, p, 1, 3600)? as u32));
    let ask = ask(&mut f);
    f.done();
    Some(CaseSpec {
        name: name?,
        why: why?,
        gate,
        files,
        activations: activations.unwrap_or_default(),
        slow,
        timeout_s: timeout.unwrap_or(60),
        ask: ask?,
    })
}

fn file(r: &Reader<'_>, node: &Node, path: &str) -> Option<FileSpec> {
    let mut f = r.fields(node, path)?;
    // Looked up before they are read, so that a malformed one does not count as absent.
    let given = (f.find("path").is_some(), f.find("hub").is_some());
    let below = f.may("path", below_golden);
    let hub = f.may("hub", hub);
    let weights = f.may("weights", Reader::id);
    f.done();
    match given {
        (true, false) => Some(FileSpec { path: Some(below?), hub: None, weights }),
        (false, true) => Some(FileSpec { path: None, hub: Some(hub?), weights }),
        _ => r.fail(node, "MISSING_FIELD", path, "exactly one of `path` and `hub`"),
    }
}

fn hub(r: &Reader<'_>, node: &Node, path: &str) -> Option<HubSpec> {
    let mut f = r.fields(node, path)?;
    let repo = f.need("repo", |r, n, p| {
        let text = r.text(n, p)?;
        match text.split('/').count() {
            2 => Some(text),
            _ => r.fail(n, "ID_FORM", p, "owner/name"),
        }
    });
    let revision = f.need("revision", Reader::text);
    let file = f.may("file", Reader::text);
    let sha256 = f.may("sha256", |r, n, p| {
        let text = r.text(n, p)?;
        match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Some(text),
            false => r.fail(n, "ID_FORM", p, "64 hex digits"),
        }
    });
    f.done();
    // A hash is that of one file, and a snapshot has many.
    if let (None, Some(_)) = (&file, &sha256) {
        r.note(node, "MISSING_FIELD", path, "the `file` whose hash `sha256` is");
    }
    Some(HubSpec { repo: repo?, revision: revision?, file, sha256 })
}

/// A path that stays below golden/.
fn below_golden(r: &Reader<'_>, node: &Node, path: &str) -> Option<String> {
    let text = r.text(node, path)?;
    // Nothing outside golden/ may be named, since the manifest has no hash of it.
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    match text.split('/').all(plain) && !text.contains('\\') {
        true => Some(text),
        false => r.fail(node, "PATH", path, "a path below golden/"),
    }
}

fn object(r: &Reader<'_>, node: &Node, path: &str) -> Option<Map<String, Value>> {
    match r.json(node, path)? {
        Value::Object(map) => Some(map),
        _ => r.fail(node, "TYPE", path, "a mapping"),
    }
}

fn prompt(r: &Reader<'_>, node: &Node, path: &str) -> Option<Prompt> {
    let mut f = r.fields(node, path)?;
    let ids = f.may("ids", |r, n, p| r.list(n, p, id));
    let text = f.may("text", Reader::text);
    f.done();
    match (ids, text) {
        (Some(ids), None) if !ids.is_empty() => Some(Prompt::Ids(ids)),
        (None, Some(text)) => Some(Prompt::Text(text)),
        _ => r.fail(node, "MISSING_FIELD", path, "exactly one of `ids` and `text`, not empty"),
    }
}

fn load(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let path = f.may("path", below_golden);
    let with = f.may("with", object).unwrap_or_default();
    let refuses = f.may("refuses", |r, n, p| {
        let mut f = r.fields(n, p)?;
        let kind = f.need("kind", Reader::text);
        let operand = f.need("operand", Reader::text);
        f.done();
        Some(Refused { kind: kind?, operand: operand? })
    });
    let within_s = f.may("within_s", |r, n, p| r.number_in(n, p, (0.0, false, 3600.0)));
    let memory = f.may("memory", Reader::flag).unwrap_or_default();
    let foretold = f.may("foretold", Reader::flag).unwrap_or_default();
    Some(Ask::Load(Load { path, with, refuses, within_s, memory, foretold }))
}

fn stage(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let prompt = f.need("prompt", prompt);
    let slots = f.need("slots", |r, n, p| {
        let list = r.list(n, p, Reader::text)?;
        match list.is_empty() {
            true => r.fail(n, "RANGE", p, "one slot at least"),
            false => Some(list),
        }
    });
    Some(Ask::Stage { prompt: prompt?, slots: slots? })
}

fn logits(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let prompt = f.need("prompt", prompt);
    let rows = f.may("rows", |r, n, p| {
        let rows = r.list(n, p, |r, n, p| Some(r.int(n, p, 0, 1 << 20)? as usize))?;
        // The rows of several calls are joined in the order of the tokens, so they can come in no
        // other.
        match rows.is_sorted_by(|a, b| a < b) && !rows.is_empty() {
            true => Some(rows),
            false => r.fail(n, "RANGE", p, "rows in rising order, one at least"),
        }
    });
    let ways = f.may("ways", |r, n, p| r.list(n, p, way)).unwrap_or_else(|| vec![Way::Whole]);
    Some(Ask::Logits { prompt: prompt?, rows, ways })
}

fn way(r: &Reader<'_>, node: &Node, path: &str) -> Option<Way> {
    let text = r.text(node, path)?;
    let count = |prefix: &str| {
        text.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0)
    };
    match text.as_str() {
        "whole" => Some(Way::Whole),
        "one_by_one" => Some(Way::OneByOne),
        _ => match (count("chunks_of_"), count("cached_prefix_of_")) {
            (Some(n), _) => Some(Way::Chunks(n)),
            (_, Some(n)) => Some(Way::Prefix(n)),
            _ => {
                let expected = "whole, one_by_one, chunks_of_N or cached_prefix_of_N";
                r.fail(node, "ENUM", path, expected)
            }
        },
    }
}

fn generation(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let prompt = f.need("prompt", prompt);
    let max_tokens = f.need("max_tokens", |r, n, p| r.int(n, p, 1, 4096));
    let repeat = f.may("repeat", |r, n, p| Some(r.int(n, p, 1, 10_000)? as u32));
    let sampling = f.may("sampling", sampling).unwrap_or_default();
    let stop = f.may("stop", |r, n, p| r.list(n, p, Reader::text)).unwrap_or_default();
    let stop_ids = f.may("stop_ids", |r, n, p| r.list(n, p, id)).unwrap_or_default();
    let context = f.may("context", |r, n, p| Some(r.int(n, p, 2, 1 << 20)? as usize));
    // A drawn text may be judged by its repetition alone, so zero is allowed.
    let drawn = sampling.contains_key("temperature");
    let decided = f.may("decided_at_least", |r, n, p| r.number_in(n, p, (0.0, drawn, 1.0)));
    let beside = f.may("beside", |r, n, p| Some(r.int(n, p, 1, 7)? as usize)).unwrap_or_default();
    Some(Ask::Generation(Generation {
        prompt: prompt?,
        max_tokens: max_tokens? as usize,
        decided_at_least: decided.unwrap_or(0.5),
        repeat: repeat.unwrap_or(1),
        sampling,
        stop,
        stop_ids,
        context,
        beside,
    }))
}

/// Settings of the sampling chain, by the names that `generate` uses.
fn sampling(r: &Reader<'_>, node: &Node, path: &str) -> Option<Map<String, Value>> {
    let mut f = r.fields(node, path)?;
    let mut settings = Map::new();
    let ranges = [
        ("temperature", (0.0, true, 2.0)),
        ("top_p", (0.0, true, 1.0)),
        ("min_p", (0.0, true, 1.0)),
        ("repetition_penalty", (0.0, false, 2.0)),
    ];
    for (key, range) in ranges {
        if let Some(x) = f.may(key, |r, n, p| r.number_in(n, p, range)) {
            settings.insert(key.to_owned(), x.into());
        }
    }
    // JSON numbers beyond 2^53 are not exact in every language, so a seed must stay below.
    for (key, most) in [("top_k", 1 << 20), ("seed", (1 << 53) - 1)] {
        if let Some(x) = f.may(key, |r, n, p| r.int(n, p, 0, most)) {
            settings.insert(key.to_owned(), x.into());
        }
    }
    f.done();
    Some(settings)
}

fn id(r: &Reader<'_>, node: &Node, path: &str) -> Option<i32> {
    i32::try_from(r.int(node, path, 0, i64::from(i32::MAX))?).ok()
}

fn perplexity(f: &mut Fields<'_, '_>) -> Option<Ask> {
    let text = f.need("text", below_golden);
    // The first token of a window is given, so it takes two for one to be predicted.
    let tokens = f.need("tokens", |r, n, p| r.int(n, p, 2, 1 << 20));
    let window = f.may("window", |r, n, p| Some(r.int(n, p, 2, 1 << 20)? as usize));
    let within = f.need("within", |r, n, p| {
        let mut f = r.fields(n, p)?;
        let relative = f.need("relative", |r, n, p| r.number_in(n, p, (0.0, false, 0.5)));
        let because = f.need("because", Reader::text);
        f.done();
        Some((relative?, because?))
    });
    let (relative, because) = within?;
    // By default the whole context, whose length `expand` knows.
    let window = window.unwrap_or(usize::MAX);
    Some(Ask::Perplexity { text: text?, tokens: tokens? as usize, window, relative, because })
}

/// Expands every case over its forms and types of activations.
pub fn expand(file: &ModelFile, name: &str) -> Vec<ModelCase> {
    let lists = [&file.loads, &file.stages, &file.logits, &file.generation, &file.perplexity];
    let mut cases = Vec::new();
    for spec in lists.into_iter().chain([&file.draws]).flatten() {
        for (label, form) in &file.files {
            let asked = |list: &Vec<At<String>>| list.iter().any(|l| l.value == *label);
            if !spec.files.as_ref().is_none_or(asked) {
                continue;
            }
            let case = |activations: Option<DType>| {
                model_case(file, name, spec, (label, form), activations)
            };
            match spec.activations.as_slice() {
                [] => cases.push(case(None)),
                types => cases.extend(types.iter().map(|t| case(Some(*t)))),
            }
        }
    }
    cases
}

fn model_case(
    file: &ModelFile,
    name: &str,
    spec: &CaseSpec,
    (label, form): (&String, &FileSpec),
    activations: Option<DType>,
) -> ModelCase {
    let stem = &file.model.value;
    // Forms with the same numbers share a golden, which is named after the form that has them
    // first.
    let weights = form.weights.as_ref().map_or(label, |at| &at.value);
    let golden = match &spec.ask {
        Ask::Load(_) => None,
        _ => {
            // A checkpoint that is not shipped has goldens that are not shipped either.
            let room = if form.hub.is_some() { "local" } else { "stages" };
            let name = match &spec.ask {
                Ask::Draws(draws) => draws.contexts.name(),
                _ => spec.name.value.clone(),
            };
            Some(format!("{room}/{stem}/{name}.{weights}.safetensors"))
        }
    };
    let lies = match (&form.path, &form.hub) {
        (_, Some(hub)) => Lies::Hub(Hub {
            repo: hub.repo.clone(),
            revision: hub.revision.clone(),
            file: hub.file.clone(),
            sha256: hub.sha256.clone(),
        }),
        (path, None) => Lies::Golden(path.clone().unwrap_or_default()),
    };
    let folder = |spec: &&FileSpec| spec.path.as_ref().is_some_and(|p| !p.ends_with(".gguf"));
    // transformers reads the publisher's form alone, which is the folder among the forms.
    let hf = file.files.values().find(folder).and_then(|spec| spec.path.clone());
    ModelCase {
        gate: spec.gate.unwrap_or(file.gate),
        stem: stem.clone(),
        name: spec.name.value.clone(),
        variant: match activations {
            Some(dtype) => format!("{label}-{dtype}"),
            None => label.clone(),
        },
        why: spec.why.clone(),
        source: file.source.clone(),
        place: Place { file: name.to_owned(), line: spec.name.line, column: spec.name.column },
        form: Form { label: label.clone(), at: lies, hf },
        context: match &spec.ask {
            Ask::Generation(Generation { context: Some(own), .. }) => *own,
            // Thousands of short sessions: no more memory each than a text needs.
            Ask::Draws(draws) => draws.contexts.length + draws.contexts.tokens(),
            _ => file.context,
        },
        activations,
        ask: within(spec.ask.clone(), file.context),
        golden,
        slow: spec.slow,
        timeout: Duration::from_secs(u64::from(spec.timeout_s)),
        part: Part::default(),
    }
}

/// Limits a window to the context.
fn within(mut ask: Ask, context: usize) -> Ask {
    if let Ask::Perplexity { window, .. } = &mut ask {
        // A session cannot take more tokens than its context.
        *window = context.min(*window);
    }
    ask
}
