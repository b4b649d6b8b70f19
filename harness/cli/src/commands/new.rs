//! `goldgate new`

mod model;

use std::path::Path;

use goldgate_engine::ops;
use goldgate_harness::line::roles::{TAKEN, is_label};
use goldgate_harness::session::folders::{Folders, Pair};
use goldgate_harness::store::manifest::replace;
use goldgate_harness::yaml::read::is_id;
use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign_text};

use crate::commands::{Exit, Failure, say};

/// Examples: goldgate new op layernorm; goldgate new vectors gpt2-tokens::greeting
#[derive(Debug, clap::Args)]
pub struct Args {
    /// op, container, tokenizer, model and subject write a commented file; case, bench, mutant,
    /// vectors, stage, logits, generation, perplexity and draws append to one.
    #[arg(value_enum)]
    kind: Kind,
    /// The op's name, or STEM::NAME for what is appended.
    name: String,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Op,
    Container,
    Tokenizer,
    Subject,
    Case,
    Bench,
    Mutant,
    Vectors,
    Model,
    Stage,
    Logits,
    Generation,
    Perplexity,
    Draws,
}

impl Kind {
    /// The kind's word, if it is a case of a model.
    fn of_model(self) -> Option<&'static str> {
        match self {
            Kind::Stage => Some("stage"),
            Kind::Logits => Some("logits"),
            Kind::Generation => Some("generation"),
            Kind::Perplexity => Some("perplexity"),
            Kind::Draws => Some("draws"),
            _ => None,
        }
    }
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Pair { specs: root, golden, .. } = args.folders.only()?;
    let folder = match args.kind {
        Kind::Op => Some("ops"),
        Kind::Container => Some("containers"),
        Kind::Tokenizer => Some("tokenizers"),
        Kind::Model => Some("models"),
        Kind::Subject => Some("subjects"),
        _ => None,
    };
    if let Some(folder) = folder {
        let path = root.join(folder).join(format!("{}.yaml", args.name));
        // A template must never replace a file that has cases.
        if path.exists() {
            return Err(Failure::Usage(format!("{} is there already", path.display())));
        }
        if args.kind == Kind::Subject && (!is_label(&args.name) || TAKEN.contains(&&*args.name)) {
            let taken = TAKEN.join(", ");
            return Err(Failure::Usage(format!(
                "{:?} is no label: a small letter, then at most 30 of a-z, 0-9 and -, and none of \
                 {taken}",
                args.name
            )));
        }
        let text = match args.kind {
            Kind::Subject => subject_file(&args.name),
            Kind::Container => container_file(&args.name)?,
            Kind::Model => model::file(&args.name, &golden)?,
            Kind::Tokenizer => tokenizer_file(&args.name, &golden)?,
            _ => op_file(&args.name)?,
        };
        std::fs::create_dir_all(root.join(folder))?;
        replace(&path, text.as_bytes())?;
        say(&format!("written {}", path.display()))?;
        return Ok(Exit::Yes);
    }
    let Some((stem, name)) = args.name.split_once("::") else {
        return Err(Failure::Usage(format!("{:?} is not STEM::NAME", args.name)));
    };
    // Ids of mutants have a capital letter, which no other name may have.
    let fits = if args.kind == Kind::Mutant { name.starts_with("M-") } else { is_id(name) };
    if !is_id(stem) || !fits {
        return Err(Failure::Usage(format!("{:?} is no name of that kind", args.name)));
    }
    append(&root, args.kind, stem, name)
}

fn append(root: &Path, kind: Kind, stem: &str, name: &str) -> Result<Exit, Failure> {
    let of_model = kind.of_model().and_then(|word| model::case(word, name));
    let is_of_model = of_model.is_some();
    let (folder, list, text) = match kind {
        Kind::Mutant => ("mutants", "list:", mutant_text(name)),
        Kind::Bench => ("ops", "bench:", bench_text(name)),
        Kind::Vectors => ("tokenizers", "cases:", vectors_text(name)),
        _ if root.join("containers").join(format!("{stem}.yaml")).exists() => {
            ("containers", "cases:", file_case_text(name))
        }
        _ if is_of_model => {
            let (list, text) = of_model.unwrap_or_default();
            ("models", list, text)
        }
        _ => ("ops", "cases:", case_text(name)),
    };
    let path = root.join(folder).join(format!("{stem}.yaml"));
    let old = match read_foreign_text(&path, Bounds::of_user(LARGEST_TEXT)) {
        Ok(old) => old,
        // A file of mutants has a head that follows from its name; others need one that a person
        // writes.
        Err(_) if kind == Kind::Mutant => format!("format: 1\nmutants: {stem}\n"),
        Err(_) => {
            let of = match kind {
                Kind::Vectors => "tokenizer",
                _ if is_of_model => "model",
                _ => "op",
            };
            return Err(Failure::Absent(format!("{}: goldgate new {of} {stem}", path.display())));
        }
    };
    replace(&path, insert(&old, list, &text).as_bytes())?;
    say(&format!("appended {name} to {}; goldgate check says what is missing", path.display()))?;
    Ok(Exit::Yes)
}

/// Inserts `text` at the end of the list that begins with the line `list`, which is added if it is
/// missing.
fn insert(old: &str, list: &str, text: &str) -> String {
    let lines: Vec<&str> = old.lines().collect();
    let Some(start) = lines.iter().position(|line| *line == list) else {
        return format!("{}\n\n{list}\n{text}", old.trim_end());
    };
    // The list ends at the first line that is neither indented nor an item, a comment or empty.
    let inside = |line: &&str| line.is_empty() || line.starts_with([' ', '-', '#']);
    let end = start + 1 + lines[start + 1..].iter().take_while(|line| inside(line)).count();
    // Empty lines after a list belong to the gap before the next one.
    let end = lines[..end].iter().rposition(|line| !line.is_empty()).map_or(end, |i| i + 1);
    let (head, tail) = (lines[..end].join("\n"), lines[end..].join("\n"));
    let tail = if tail.trim().is_empty() { String::new() } else { format!("{tail}\n") };
    format!("{head}\n{text}{tail}")
}

fn case_text(name: &str) -> String {
    format!(
        "  - name: {name}\n    # why: what goes wrong where this case is missing\n    \
         # sizes: {{ a number for each axis }}\n    \
         # fill: {{ an operand: {{ normal: [0, 1] }} }}, where it is not the file's\n"
    )
}

fn file_case_text(name: &str) -> String {
    format!(
        "  - name: {name}\n    # What goes wrong in a reader that lets it through.\n    \
         why: an example, of a version that does not exist\n    \
         edits: [{{ field: version, u32: 4 }}]\n    \
         refuses: {{ code: VERSION, offset: 4, field: version }}\n"
    )
}

fn container_file(name: &str) -> Result<String, Failure> {
    if !is_id(name) {
        return Err(Failure::Usage(format!("{name:?} is no name of a file of cases")));
    }
    Ok(format!(
        "# yaml-language-server: $schema=../schema.json\nformat: 1\ncontainer: {name}\ngate: 2\n\
         source: GGUF version 3, docs/gguf.md of ggml\n\n# The file before the edits. For \
         safetensors: config and tensors; for one JSON file: file and json.\nbase:\n  \
         metadata:\n    - {{ key: general.architecture, string: llama }}\n  tensors:\n    \
         - {{ name: token_embd.weight, type: f32, shape: [4, 3], fill: {{ ramp: [0, 1] }} }}\n\n\
         cases:\n{}",
        file_case_text("another_version")
    ))
}

fn vectors_text(name: &str) -> String {
    format!(
        "  - name: {name}\n    # What goes wrong where these texts are missing.\n    \
         why: an example, nothing has no ids\n    # Ids by somebody else than what is judged: say \
         who in the file's source.\n    vectors:\n      - {{ text: \"\", ids: [] }}\n"
    )
}

/// A tokenizer's file. Its forms are those below golden/ with its name, or else a tokenizer that
/// ships.
fn tokenizer_file(name: &str, golden: &Path) -> Result<String, Failure> {
    if !is_id(name) {
        return Err(Failure::Usage(format!("{name:?} is no name of a file of cases")));
    }
    let own = |file: &str| golden.join("tokenizers").join(name).join(file).is_file();
    // Without files of its own the new text names a vocabulary that ships, so that it can be run.
    let stem = if own("tokenizer.json") || own("vocab.gguf") { name } else { "gpt2-tokens" };
    let there = |file: &str| golden.join("tokenizers").join(stem).join(file).is_file();
    let mut forms = String::new();
    for (label, file) in [("hf", "tokenizer.json"), ("gguf", "vocab.gguf")] {
        if there(file) {
            forms += &format!("  {label}: {{ path: tokenizers/{stem}/{file} }}\n");
        }
    }
    Ok(format!(
        "# yaml-language-server: $schema=../schema.json\nformat: 1\ntokenizer: {name}\ngate: 2\n\
         source: who published vocabulary and pattern, and who computed the ids\n\n# A file each, \
         below golden/; every case is asked in all of them.\nforms:\n{forms}\ncases:\n{}",
        vectors_text("nothing")
    ))
}

fn bench_text(name: &str) -> String {
    format!(
        "  - name: {name}\n    # why: what this time decides\n    \
         # sizes: {{ a number for each axis }}\n    dtypes: [f16]\n    against: copy\n"
    )
}

fn mutant_text(name: &str) -> String {
    format!(
        "  - id: {name}\n    # fault: what is wrong, in a few words\n    \
         # one of ask, wrong, kernel\n    # killed_by: the case that must notice it\n"
    )
}

fn subject_file(name: &str) -> String {
    format!(
        "# yaml-language-server: $schema=../schema.json\nformat: 1\nsubject: {name}\n\n\
         # The program and its arguments, from the folder in which goldgate is run. It speaks the\n\
         # wire (docs/wire.md); docs/adapters has examples.\ncommand: [python3, my_engine.py]\n\n\
         # full, kernels, files, tokenizer, logits or text: what its owners measure it by.\n\
         # profile: kernels\n\n\
         # Variables of its environment, and how many seconds it may take to answer hello.\n\
         # environment: {{ OMP_NUM_THREADS: \"1\" }}\n# start_s: 60\n\n\
         # What may be held against it, in place of what its hello claims.\n\
         # claims: [run, process, batch, chunk, prefix]\n\n\
         # Where it rounds intermediate values: weights, x, norm, rope, activation, p, logits.\n\
         # arithmetic: {{ weights: D, x: int8 per 32 }}\n\n\
         # Failures that are known, each with an end.\n# known_failures:\n\
         #   - case: gate1::gelu::ragged::f16::{name}\n#     fails: load\n#     at_most: 4\n\
         #     device: \"*\"\n#     reason: why\n#     owner: who mends it\n\
         #     since: 2026-11-20\n#     expires: 2026-12-20\n"
    )
}

fn op_file(name: &str) -> Result<String, Failure> {
    let Some(op) = ops::find(name) else {
        let known: Vec<_> = ops::ALL.iter().map(|op| op.signature().name).collect();
        let guess = goldgate_harness::yaml::near::nearest(name, known.iter().copied());
        let guess = guess.map(|g| format!("; did you mean {g}?")).unwrap_or_default();
        return Err(Failure::Usage(format!("{name:?} is no op of the vocabulary{guess}")));
    };
    let signature = op.signature();
    let mut text = format!(
        "# yaml-language-server: $schema=../schema.json\nformat: 1\nop: {name}\ngate: 1\n\
         source: {:?}\n\n# An operand each: its axes by name, and how it is filled.\ninputs:\n",
        signature.source
    );
    for operand in signature.operands {
        // Marks of optional axes belong to signatures and are no part of a name.
        let axes: Vec<_> = operand.shape.iter().map(|a| a.trim_end_matches(['?', '.'])).collect();
        let fill = match operand.class {
            ops::Class::Ids => "ids: [0, 1]",
            _ => "normal: [0, 1]",
        };
        let optional = if operand.optional { " # may be omitted by a case" } else { "" };
        text += &format!(
            "  {}: {{ shape: [{}], fill: {{ {fill} }} }}{optional}\n",
            operand.name,
            axes.join(", ")
        );
    }
    text += "dtypes: [f32, f16, bf16]\ntolerance: { rule: derived }\n\ncases:\n";
    Ok(text + &case_text("smallest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_lands_at_the_end_of_its_list() {
        let old = "op: x\ncases:\n  - name: a\n    why: b\n\nbench:\n  - name: c\n";
        let new = insert(old, "cases:", "  - name: d\n");
        assert_eq!(
            new,
            "op: x\ncases:\n  - name: a\n    why: b\n  - name: d\n\nbench:\n  - name: c\n"
        );
        assert_eq!(insert("op: x\n", "cases:", "  - name: d\n"), "op: x\n\ncases:\n  - name: d\n");
        let last = insert(old, "bench:", "  - name: e\n");
        assert!(last.ends_with("  - name: c\n  - name: e\n"), "{last}");
    }
}
