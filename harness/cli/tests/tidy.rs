//! The laws of the house, as a test: sizes, headers, words, arrows between modules, lists in order,
//! one name for an op in every room, dependencies, and the pages that others name.

#[path = "tidy/foreign.rs"]
mod foreign;
#[path = "tidy/manifests.rs"]
mod manifests;
#[path = "tidy/pages.rs"]
mod pages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use goldgate_engine::ops;

/// Files over 500 lines, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions over 70 lines, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str, &str)] =
    &[("engine/tests/device.rs", "ask", "one arm an op: a table in the form of a match")];

/// Which crates of this workspace the sources of a crate may name, and which of its modules each
/// of its modules may name: arrows point one way.
const ARROWS: &[(&str, &[&str], Modules)] = &[
    ("engine/tensor/src/", &[], TENSOR),
    ("engine/src/", &["goldgate_tensor"], ENGINE),
    ("harness/wire/src/", &["goldgate_tensor"], WIRE),
    ("harness/worker/src/", &["goldgate_engine", "goldgate_wire"], WORKER),
    ("harness/src/", &["goldgate_engine", "goldgate_tensor", "goldgate_wire"], HARNESS),
];

/// What the harness may name of the engine, each with its reason: it judges any engine, so it has
/// no use for what runs models.
const OF_THE_ENGINE: &[(&str, &str)] = &[
    ("ops", "signatures check questions, definitions answer them, slack bounds errors"),
    ("weights::{Gguf, TensorInfo}", "a planted fault edits a file, whose offsets it must know"),
    ("weights::Gguf", "as above"),
    ("tokenizer::split::Split", "names of pre-tokenizers, which specs may name"),
    ("cuda::page::HEADERS", "a planted fault edits the text of a kernel"),
];

/// Each module of a crate, and the others that it may name.
type Modules = &'static [(&'static str, &'static [&'static str])];

const TENSOR: Modules = &[
    ("code", &[]),
    ("dtype", &[]),
    ("error", &[]),
    ("foreign", &[]),
    ("shape", &["dtype"]),
    ("quant", &["dtype"]),
    ("tensor", &["dtype", "quant", "shape"]),
];

const WIRE: Modules = &[
    ("globs", &[]),
    ("json", &[]),
    ("observed", &[]),
    ("words", &[]),
    ("arithmetic", &[]),
    ("hello", &["arithmetic", "words"]),
    ("frame", &["json"]),
    ("attach", &["frame"]),
    ("fields", &["frame"]),
    ("event", &["fields"]),
    ("answer", &["fields", "frame", "observed"]),
    ("call", &["fields", "frame", "hello", "observed", "words"]),
];

const WORKER: Modules = &[
    ("allocator", &[]),
    ("device", &[]),
    ("loaded", &[]),
    ("rows", &[]),
    ("text_so_far", &[]),
    ("checks", &["device"]),
    ("file_hash", &["device"]),
    ("tokenizers", &["device"]),
    ("load_plan", &["device"]),
    ("inspect", &["device", "load_plan"]),
    ("load", &["device", "file_hash", "load_plan", "loaded"]),
    ("generate", &["device", "loaded", "text_so_far"]),
    ("models", &["device", "generate", "load", "loaded", "rows"]),
    ("cpu", &["checks", "device", "models", "tokenizers"]),
    ("cuda", &["checks", "cpu", "device", "models", "tokenizers"]),
    ("serve", &["allocator", "cpu", "device", "inspect", "models"]),
];

const HARNESS: Modules = &[
    ("line", &[]),
    ("store", &["line", "yaml"]),
    ("yaml", &["line"]),
    ("fill", &["line", "yaml"]),
    ("subject", &["line"]),
    ("kinds", &["fill", "line", "store", "yaml"]),
    ("spec", &["kinds", "line", "yaml"]),
    ("golden", &["kinds", "line", "spec", "store", "yaml"]),
    ("tamper", &["kinds", "spec", "store"]),
    ("trials", &["kinds", "line", "spec", "tamper"]),
    ("mutants", &["fill", "golden", "kinds", "line", "spec", "subject"]),
    ("gate", &["kinds", "line", "spec", "trials", "yaml"]),
    ("report", &["gate", "kinds", "line", "spec", "store"]),
    ("run", &["golden", "kinds", "line", "spec", "store", "subject", "yaml"]),
    (
        "session",
        &[
            "gate", "golden", "kinds", "line", "mutants", "report", "run", "spec", "store",
            "subject", "trials", "yaml",
        ],
    ),
];

/// The modules of goldgate-tensor have the same paths here.
const ENGINE: Modules = &[
    ("json", &[]),
    ("cuda", &["error"]),
    ("ops", &["cuda", "dtype", "error", "quant", "shape", "tensor", "DType"]),
    ("tokenizer", &["json", "weights"]),
    ("program", &["dtype", "error", "ops", "shape"]),
    ("fuse", &["ops", "program"]),
    ("weights", &["dtype", "quant"]),
    ("exec", &["cuda", "dtype", "error", "fuse", "ops", "program", "quant", "shape", "tensor"]),
    ("model", &["dtype", "exec", "program", "shape", "tensor", "weights"]),
    ("sample", &["dtype", "program"]),
    ("several", &["dtype", "program"]),
    ("session", &["cuda", "dtype", "exec", "fuse", "ops", "program", "several", "tensor"]),
    (
        "batch",
        &["cuda", "error", "exec", "ops", "program", "sample", "session", "several", "tensor"],
    ),
    (
        "measure",
        &[
            "batch", "cuda", "dtype", "error", "exec", "generate", "program", "sample", "session",
            "tensor",
        ],
    ),
    ("generate", &["batch", "cuda", "exec", "ops", "sample", "session", "tensor"]),
];

/// Ops that are the pages of other ops, one after the other, and have no page of their own.
const COMPOSED: &[&str] = &["ffn_gelu", "ffn_swiglu"];

/// Ops that share the page `sampling`.
const SAMPLING: &[&str] = &["min_p", "repetition_penalty", "temperature", "top_k", "top_p"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// Every file below `folder` with one of these endings: path from the root, and text.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                folders.push(path);
            } else if endings.contains(&ending) {
                let text = std::fs::read_to_string(&path).expect("text");
                let name = path.strip_prefix(root()).expect("below the root").to_path_buf();
                found.push((name.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let mut all = files("engine", &["rs"]);
    all.extend(files("harness", &["rs"]));
    all.extend(files("cuda", &["cu", "cuh"]));
    all.extend(files("golden/oracle", &["py"]));
    all
}

fn verdict(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn files_are_short_and_lines_fit() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        let excused = LONG_FILES.iter().any(|(file, _)| *file == name);
        if lines > 500 && !excused {
            broken.push(format!("{name}: {lines} lines, at most 500"));
        }
        for (i, line) in text.lines().enumerate() {
            if line.chars().count() > 100 {
                broken.push(format!("{name}:{}: {} columns", i + 1, line.chars().count()));
            }
            if line.ends_with(char::is_whitespace) {
                broken.push(format!("{name}:{}: trailing space", i + 1));
            }
        }
    }
    verdict(&broken);
}

/// `goldgate check` holds what stands between these lines; without them it would hold nothing.
#[test]
fn the_readme_has_a_place_for_the_gates() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("a README");
    for mark in [goldgate::commands::generated::BEGIN, goldgate::commands::generated::END] {
        assert_eq!(text.lines().filter(|l| *l == mark).count(), 1, "{mark}");
    }
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for (name, text) in sources().into_iter().filter(|(n, _)| n.ends_with(".rs")) {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(function) = function_name(line) else { continue };
            let indent = line.len() - line.trim_start().len();
            let close = format!("{}}}", " ".repeat(indent));
            let end = lines[i..].iter().position(|l| *l == close).unwrap_or(0);
            let excused = LONG_FUNCTIONS.iter().any(|(file, f, _)| *file == name && *f == function);
            if end + 1 > 70 && !excused {
                broken.push(format!("{name}:{}: fn {function} has {} lines", i + 1, end + 1));
            }
        }
    }
    verdict(&broken);
}

fn function_name(line: &str) -> Option<&str> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("pub(crate) ").or(rest.strip_prefix("pub ")).unwrap_or(rest);
    let rest = rest.strip_prefix("const ").unwrap_or(rest);
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[test]
fn files_say_what_they_are_and_hide_nothing() {
    // Spelled in parts, so that this file does not hold what it forbids.
    let words: Vec<String> = [["to", "do!("], ["unimpl", "emented!("], ["TO", "DO"], ["FIX", "ME"]]
        .iter()
        .map(|parts| parts.concat())
        .collect();
    let allow = ["#[al", "low("].concat();
    let mut broken = Vec::new();
    for (name, text) in sources() {
        if name.ends_with(".rs") && !text.starts_with("//!") {
            broken.push(format!("{name}: begins without //!"));
        }
        for (i, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|w| line.contains(*w)) {
                broken.push(format!("{name}:{}: {word}", i + 1));
            }
            if line.contains(&allow) {
                broken.push(format!("{name}:{}: expect with a reason, not allow", i + 1));
            }
        }
    }
    verdict(&broken);
}

#[test]
fn no_table_of_arrows_has_a_circle() {
    let mut broken = Vec::new();
    for (folder, _, modules) in ARROWS {
        let mut left: Vec<&str> = modules.iter().map(|(module, _)| *module).collect();
        loop {
            // Modules that name nothing which is left are in no circle.
            let of = |m: &str| modules.iter().find(|(module, _)| *module == m).map(|(_, may)| *may);
            let held = |m: &&str| of(m).unwrap_or_default().iter().any(|may| left.contains(may));
            let rest: Vec<&str> = left.iter().copied().filter(held).collect();
            if rest.len() == left.len() {
                break;
            }
            left = rest;
        }
        if !left.is_empty() {
            broken.push(format!("{folder}: a circle among {}", left.join(", ")));
        }
    }
    verdict(&broken);
}

#[test]
fn arrows_point_one_way() {
    let mut broken = Vec::new();
    for (folder, crates, modules) in ARROWS {
        for (name, text) in files(folder, &["rs"]) {
            let module = name[folder.len()..].split(['/', '.']).next().unwrap_or_default();
            // Tests stand above what they test: a literal spec makes the case of a judge.
            if name.ends_with("/tests.rs") {
                continue;
            }
            let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
            for line in code {
                for target in named(line, "goldgate_").filter(|c| !crates.contains(&c.as_str())) {
                    broken.push(format!("{name}: this crate may not name {target}: {line}"));
                }
                let Some((_, may)) = modules.iter().find(|(m, _)| *m == module) else {
                    if module != "lib" {
                        broken.push(format!("{name}: no arrows are written down for {module}"));
                    }
                    break;
                };
                for target in named(line, "crate::") {
                    let target = target.trim_start_matches("crate::");
                    if target != module && !may.contains(&target) {
                        broken.push(format!("{name}: {module} may not name {target}: {line}"));
                    }
                }
            }
            if text.contains("goldgate::") {
                broken.push(format!("{name}: this crate does not know its judge"));
            }
        }
    }
    verdict(&broken);
}

#[test]
fn the_harness_knows_little_of_the_engine() {
    let mut broken = Vec::new();
    for (name, text) in files("harness/src", &["rs"]) {
        for (at, _) in text.match_indices("goldgate_engine::") {
            let path = &text[at + "goldgate_engine::".len()..];
            if !OF_THE_ENGINE.iter().any(|(known, _)| path.starts_with(known)) {
                let path = path.split([';', '\n']).next().unwrap_or_default();
                broken.push(format!("{name}: goldgate_engine::{path} is not in the list"));
            }
        }
    }
    verdict(&broken);
}

/// A kind of trial knows no other one, but for benches, which time questions about ops.
#[test]
fn kinds_do_not_name_each_other() {
    let kinds = ["bench", "check", "container", "model", "op", "tokens"];
    let mut broken = Vec::new();
    for (name, text) in files("harness/src/kinds", &["rs"]) {
        let own = name["harness/src/kinds/".len()..].split(['/', '.']).next().unwrap_or_default();
        if !kinds.contains(&own) {
            continue;
        }
        for other in kinds.iter().filter(|k| **k != own && (own, **k) != ("bench", "op")) {
            if text.contains(&format!("crate::kinds::{other}")) {
                broken.push(format!("{name}: {own} names {other}"));
            }
        }
    }
    verdict(&broken);
}

/// Names that say nothing of what is in a file.
const EMPTY_NAMES: &[&str] = &[
    "again", "common", "extra", "handed", "helpers", "meant", "misc", "own", "same", "util",
    "utils", "want",
];

#[test]
fn files_are_called_after_what_they_hold() {
    let stem = |name: &str| {
        Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let broken = sources().into_iter().map(|(name, _)| name).filter(|n| n.ends_with(".rs"));
    let broken: Vec<String> =
        broken.filter(|name| EMPTY_NAMES.contains(&stem(name).as_str())).collect();
    verdict(&broken);
}

/// The words of a line that begin with `prefix`, prefix and all.
fn named<'l>(line: &'l str, prefix: &'static str) -> impl Iterator<Item = String> + 'l {
    line.match_indices(prefix).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        format!("{prefix}{}", &rest[..end])
    })
}

/// The blocks of `unsafe` outside of engine::cuda, each with its reason.
const UNSAFE: &[(&str, usize, &str)] = &[
    ("engine/src/weights/file.rs", 1, "a map of a file has no safe constructor"),
    ("harness/worker/src/allocator.rs", 4, "an allocator is a trait of unsafe functions"),
];

#[test]
fn only_the_device_is_unsafe() {
    let unsafe_block = ["unsafe ", "{"].concat();
    let mut broken = Vec::new();
    for (name, text) in files("engine", &["rs"]).into_iter().chain(files("harness", &["rs"])) {
        let blocks = text.matches(&unsafe_block).count();
        let named = UNSAFE.iter().find(|(file, ..)| *file == name).map_or(0, |(_, n, _)| *n);
        if blocks != named && !name.starts_with("engine/src/cuda/") {
            broken.push(format!("{name}: {blocks} blocks of unsafe, {named} are named"));
        }
    }
    verdict(&broken);
}

#[test]
fn only_fetch_asks_the_network() {
    let ways = ["hf_hub::api", "std::net", "ureq"];
    let mut broken = Vec::new();
    let ours = files("engine", &["rs"]).into_iter().chain(files("harness/wire", &["rs"]));
    let ours = ours.chain(files("harness/worker", &["rs"])).chain(files("harness/src", &["rs"]));
    let ours = ours.chain(files("harness/cli/src", &["rs"]));
    for (name, text) in
        ours.filter(|(name, _)| name != "harness/cli/src/commands/fetch/download.rs")
    {
        let found = ways.iter().filter(|way| text.contains(**way));
        broken.extend(found.map(|way| format!("{name}: {way}")));
    }
    verdict(&broken);
}

#[test]
fn an_op_has_one_name_in_every_room() {
    let names: Vec<&str> = ops::ALL.iter().map(|op| op.signature().name).collect();
    let sorted: Vec<&str> = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(names, sorted, "the list of ops is alphabetical, each once");
    let mut broken = Vec::new();
    for name in &names {
        let page = match SAMPLING.contains(name) {
            true => "cuda/sampling.cu".to_owned(),
            false => format!("cuda/{name}.cu"),
        };
        let mut rooms = vec![format!("engine/src/ops/{name}.rs"), format!("specs/ops/{name}.yaml")];
        if !COMPOSED.contains(name) {
            rooms.push(page);
        }
        rooms.push(format!("golden/ops/{name}"));
        broken.extend(
            rooms.iter().filter(|r| !root().join(r).exists()).map(|r| format!("{name}: no {r}")),
        );
    }
    verdict(&broken);
}

#[test]
fn a_kernel_page_has_its_header_and_is_used() {
    let fields = ["Formula", "Shapes", "Requires", "Launch", "Numerics", "Cost", "Host", "Cases"];
    let used: BTreeSet<&str> = ops::pages().iter().map(|(p, _)| p.name).collect();
    let mut broken = Vec::new();
    for (name, text) in files("cuda", &["cu"]) {
        let stem = name.trim_start_matches("cuda/").trim_end_matches(".cu");
        for field in fields {
            if !text.lines().any(|l| l.starts_with(&format!("// {field}"))) {
                broken.push(format!("{name}: no field {field} in the header"));
            }
        }
        if !used.contains(stem) && !["limits", "report"].contains(&stem) {
            broken.push(format!("{name}: no op names this page"));
        }
        for banned in ["--use_fast_math", "__ldg(", "__restrict__"] {
            if text.contains(banned) {
                broken.push(format!("{name}: {banned}"));
            }
        }
    }
    verdict(&broken);
}
