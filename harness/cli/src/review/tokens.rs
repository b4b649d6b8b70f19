//! Checks tokenizers: missing files, ids beyond the vocabulary.

use std::path::Path;

use goldgate_engine::tokenizer::facts::Facts;
use goldgate_engine::weights::Gguf;
use goldgate_harness::kinds::tokens::case::TokenCase;
use goldgate_harness::spec::Specs;
use goldgate_harness::store::Store;
use goldgate_harness::yaml::Problem;
use goldgate_harness::yaml::place::{find, value};
use goldgate_harness::yaml::tree::{Kind, Node, parse};

use crate::review::models::no_file;
use crate::review::{distinct, once};

/// Dangling names in the files of tokenizers.
pub fn problems(specs: &Specs, store: &Store) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Once per form, because every case of a file asks all of its forms.
    let forms = specs.tokens.iter().map(|c| (c.stem.as_str(), c.variant.as_str(), c.path.as_str()));
    for (stem, label, path) in distinct(forms) {
        if specs.broken.has(stem) {
            continue;
        }
        let file = format!("tokenizers/{stem}.yaml");
        if !store.root.join(path).exists() {
            let way = [("forms", Some(label)), ("path", None)];
            problems.push(no_file(specs, store, (&file, &way), path));
            continue;
        }
        let Some(count) = vocabulary(&store.root.join(path)) else { continue };
        let own = |c: &&TokenCase| c.stem == stem && c.variant == label;
        let cases = specs.tokens.iter().filter(own);
        problems.extend(cases.filter_map(|case| beyond(specs, case, count)));
    }
    once(problems)
}

/// The number of tokens in a vocabulary; none if it does not open, which a run reports more
/// clearly.
fn vocabulary(path: &Path) -> Option<usize> {
    if path.extension().is_some_and(|e| e == "gguf") {
        let gguf = Gguf::open(path).ok()?;
        return Facts::of_gguf(&gguf).ok()?.map(|facts| facts.len());
    }
    Facts::of_json(path).ok().map(|facts| facts.len())
}

/// The first id of a case that its vocabulary does not have.
fn beyond(specs: &Specs, case: &TokenCase, count: usize) -> Option<Problem> {
    let ids = case.vectors.iter().flat_map(|v| &v.ids);
    let id = ids.copied().find(|id| *id as usize >= count)?.to_string();
    let source = specs.sources.get(&case.place.file)?;
    let node = parse(source).ok()?;
    let vectors = find(&node, &[("cases", Some(&case.name)), ("vectors", None)])?;
    // Looked up in the text, because a case does not keep the place of each of its ids.
    let at = written(vectors, &id).unwrap_or(vectors);
    let field = format!("cases.{}.vectors.ids", case.name);
    let expected = format!("an id below {count}, the vocabulary of {}", case.path);
    Some(source.problem("RANGE", at.line, at.column, &field, &id, &expected))
}

/// The first place in a list of vectors that has an id.
fn written<'n>(vectors: &'n Node, id: &str) -> Option<&'n Node> {
    let Kind::List(vectors) = &vectors.kind else { return None };
    let ids = vectors.iter().filter_map(|v| value(v, "ids"));
    let each = ids.filter_map(|ids| match &ids.kind {
        Kind::List(ids) => Some(ids),
        _ => None,
    });
    each.flatten().find(|n| n.bare() == Some(id))
}
