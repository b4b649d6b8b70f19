//! Pages that a comment, a page or a spec names are there.

use std::path::Path;

use super::{files, root, verdict};

/// Names that stand for pages which are not in the repository, each with its reason.
const ELSEWHERE: &[(&str, &str)] = &[
    ("docs/gguf.md", "a page of ggml"),
    ("gate-1.md", "a page of a report"),
    ("gate-1-mine.md", "a page of a report"),
    ("gate-N.md", "a page of a report"),
    ("gate-mine-1.md", "a page of a report"),
    ("throughput.md", "a page of a record"),
];

/// Names of pages and specs in a text. Parts of a pattern such as `<op>.yaml` are none.
fn named(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./<>{}*:".contains(c);
    let words = text.split(|c: char| !part(c)).map(|word| word.trim_end_matches(['.', ':']));
    let name = |word: &str| {
        let stem = word.strip_suffix(".md").or_else(|| word.strip_suffix(".yaml"));
        stem.is_some_and(|stem| !stem.is_empty() && !stem.contains(['<', '>', '{', '}', '*', ':']))
    };
    words.filter(|word| name(word)).collect()
}

/// What of a line is read: of code its comment, of everything else the whole.
fn prose<'t>(file: &str, line: &'t str) -> &'t str {
    let code = file.ends_with(".rs") || file.ends_with(".cu") || file.ends_with(".cuh");
    match (code, line.trim_start().starts_with("//"), line.find(" //")) {
        (true, false, Some(at)) => &line[at..],
        (true, false, None) => "",
        _ => line,
    }
}

/// Whether a page that `file` names is there: from the root, from the file's folder, from specs/.
fn is_there(file: &str, name: &str) -> bool {
    let own = Path::new(file).parent().unwrap_or(Path::new("."));
    let places = [Path::new("."), own, Path::new("specs")];
    ELSEWHERE.iter().any(|(page, _)| *page == name)
        || places.iter().any(|place| root().join(place).join(name).exists())
}

#[test]
fn every_page_that_is_named_is_there() {
    let mut all = Vec::new();
    for folder in ["engine", "harness", "cuda", "golden", "specs", "docs", ".ci"] {
        all.extend(files(folder, &["rs", "cu", "cuh", "py", "yaml", "md", "toml"]));
    }
    let at_root = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "Cargo.toml"];
    for name in at_root.into_iter().chain(["deny.toml", "reports/README.md"]) {
        let text = std::fs::read_to_string(root().join(name)).expect("text");
        all.push((name.to_owned(), text));
    }
    let (mut broken, mut found) = (Vec::new(), 0);
    for (file, text) in &all {
        for (i, line) in text.lines().enumerate() {
            for name in named(prose(file, line)) {
                found += 1;
                if !is_there(file, name) {
                    broken.push(format!("{file}:{}: {name} is not there", i + 1));
                }
            }
        }
    }
    assert!(found > 100, "only {found} names");
    verdict(&broken);
}

#[test]
fn a_name_is_a_whole_path_and_no_pattern() {
    let text =
        "see (docs/a.md), `b.yaml`: specs/ops/<op>.yaml, *.yaml, file://c.md. [x](../d.md#e) .md";
    assert_eq!(named(text), ["docs/a.md", "b.yaml", "../d.md"]);
    assert_eq!(prose("a.rs", concat!("let x = \"a.md\"; /", "/ b.md")), concat!(" /", "/ b.md"));
    assert_eq!(prose("a.rs", "let x = \"file://a.md\";"), "");
    assert!(is_there("docs/wire.md", "kernels.md") && !is_there("docs/wire.md", "absent.md"));
}
