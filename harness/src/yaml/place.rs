//! Finds where a value was written by the names that lead to it, for problems that are found after
//! the tree is gone.

use crate::yaml::tree::{Kind, Node, Source, parse};

/// One step down: a key and, in the list below it, the item with that name.
pub type Step<'a> = (&'a str, Option<&'a str>);

/// Keys that can name an item of a list.
const NAMES: [&str; 4] = ["name", "id", "case", "bench"];

/// The value of a key in a mapping.
pub fn value<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
}

/// The node at the end of `path`.
pub fn find<'n>(node: &'n Node, path: &[Step<'_>]) -> Option<&'n Node> {
    let Some(((key, item), rest)) = path.split_first() else { return Some(node) };
    let below = value(node, key)?;
    let below = match (item, &below.kind) {
        (None, _) => below,
        (Some(item), Kind::List(items)) => {
            let named = |n: &&Node| {
                let name = |key: &&str| value(n, key).and_then(Node::text) == Some(item);
                n.text() == Some(item) || NAMES.iter().any(name)
            };
            items.iter().find(named)?
        }
        // Where one or more are allowed, a single one may be written without a list.
        (Some(item), _) if below.text() == Some(item) => below,
        (Some(item), _) => value(below, item)?,
    };
    find(below, rest)
}

/// Line and column of the value at the end of `path`.
pub fn entry(node: &Node, path: &[Step<'_>]) -> Option<(u32, u32)> {
    find(node, path).map(|n| (n.line, n.column))
}

/// Line and column of the value at the end of the first path that exists.
pub fn first(source: &Source, paths: &[&[Step<'_>]]) -> Option<(u32, u32)> {
    // Parsed again, because trees are not kept: problems are rare and files are small.
    let node = parse(source).ok()?;
    paths.iter().find_map(|path| entry(&node, path))
}

/// The path as messages show it, such as `stages.first_block.slots`.
pub fn dotted(path: &[Step<'_>]) -> String {
    let parts = path.iter().flat_map(|(key, item)| [Some(*key), *item]).flatten();
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_the_names_on_the_way() {
        let text = "files:\n  f16: { path: a }\nstages:\n  - name: one\n    slots: [x, \"y.*\"]\n";
        let source = Source::new("x.yaml", text.as_bytes()).expect("text");
        let at = |path: &[Step<'_>]| first(&source, &[path]);
        assert_eq!(at(&[("files", Some("f16")), ("path", None)]), Some((2, 16)));
        assert_eq!(at(&[("stages", Some("one")), ("slots", Some("y.*"))]), Some((5, 16)));
        assert_eq!(at(&[("stages", Some("two"))]), None);
        assert_eq!(dotted(&[("stages", Some("one")), ("slots", None)]), "stages.one.slots");
    }
}
