//! Compares what a run reads with what its program was built with, where no git has the commit: a
//! release build of a clean tree has the hashes of that tree's specs and goldens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::report::provenance::{file_hash, files};
use crate::report::tree::{NOT_GOLDENS, Unknown, outside};
use crate::store::manifest::Manifest;

/// `SHA-256 PATH`, a line for each file of specs/ and golden/ but the goldens that the manifest
/// has; empty in other builds.
const LISTED: &str = include_str!(concat!(env!("OUT_DIR"), "/tree.txt"));

/// The files below `folders` (a specs folder and its golden folder, then others) that are not those
/// that the program was built with, sorted.
///
/// # Errors
/// The program has no hashes to compare with, or a folder cannot be read.
pub fn edited(folders: &[PathBuf]) -> Result<Vec<String>, Unknown> {
    compared(LISTED, folders)
}

fn compared(listed: &str, folders: &[PathBuf]) -> Result<Vec<String>, Unknown> {
    let lines = listed.lines().filter_map(|line| line.split_once(' '));
    let mut built: BTreeMap<String, String> =
        lines.map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect();
    let ([specs, golden, others @ ..], false) = (folders, built.is_empty()) else {
        return Err(Unknown);
    };
    // The manifest that is here, whose own hash is among those above: one that differs is named.
    for (path, entry) in Manifest::read(golden).unwrap_or_default().0 {
        built.entry(format!("golden/{path}")).or_insert(entry.sha256);
    }
    let mut edited: BTreeSet<String> = others.iter().map(|folder| outside(folder)).collect();
    for (room, folder) in [("specs", specs), ("golden", golden)] {
        for path in files(folder).map_err(|_| Unknown)? {
            let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            let name = format!("{room}/{below}");
            let known = built.remove(&name);
            let is_golden = !NOT_GOLDENS.iter().any(|part| below.starts_with(part));
            // What cannot be read is not what the program was built with either.
            if known.is_some() && known == file_hash(&path).ok() {
                continue;
            }
            if known.is_some() || room == "specs" || is_golden {
                edited.insert(name);
            }
        }
    }
    // Files that are gone.
    edited.extend(built.into_keys());
    Ok(edited.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::line::hex;
    use sha2::{Digest, Sha256};

    fn sha(text: &str) -> String {
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// A manifest with one golden of this content.
    fn manifest(content: &str) -> String {
        let (bytes, sha256) = (content.len(), sha(content));
        format!(
            "{{\"format\": 1, \"files\": {{\"ops/a.safetensors\": {{\"bytes\": {bytes}, \
             \"sha256\": \"{sha256}\"}}}}}}"
        )
    }

    const SPEC: &str = "specs/ops/a.yaml";
    const GOLDEN: &str = "golden/ops/a.safetensors";
    const ORACLE: &str = "golden/oracle/ops.py";

    /// A tree as it was built, and its list.
    fn tree() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), GOLDEN, "golden");
        let manifest = manifest("golden");
        let files = [(SPEC, "a"), (ORACLE, "formula"), ("golden/MANIFEST.json", &manifest)];
        let mut listed = String::new();
        for (name, text) in files {
            write(folder.path(), name, text);
            listed.push_str(&format!("{} {name}\n", sha(text)));
        }
        (folder, listed)
    }

    fn write(top: &Path, name: &str, text: &str) {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    fn found(top: &Path, listed: &str) -> Result<Vec<String>, Unknown> {
        compared(listed, &[top.join("specs"), top.join("golden")])
    }

    #[test]
    fn what_the_program_was_built_with_is_clean() {
        let (folder, listed) = tree();
        assert_eq!(found(folder.path(), &listed), Ok(vec![]));
        // Neither compiled Python nor what is not shipped is a golden.
        write(folder.path(), "golden/oracle/__pycache__/ops.pyc", "1");
        write(folder.path(), "golden/local/a.safetensors", "1");
        assert_eq!(found(folder.path(), &listed), Ok(vec![]));
        assert_eq!(found(folder.path(), ""), Err(Unknown), "a build without hashes says nothing");
    }

    #[test]
    fn what_differs_is_missing_or_was_added_is_named() {
        for (name, text) in [(SPEC, "b"), (GOLDEN, "other"), (ORACLE, "other")] {
            let (folder, listed) = tree();
            write(folder.path(), name, text);
            assert_eq!(found(folder.path(), &listed), Ok(vec![name.to_owned()]));
            std::fs::remove_file(folder.path().join(name)).expect("removed");
            assert_eq!(found(folder.path(), &listed), Ok(vec![name.to_owned()]));
        }
        for name in ["specs/known.yaml", "golden/ops/b.safetensors"] {
            let (folder, listed) = tree();
            write(folder.path(), name, "1");
            assert_eq!(found(folder.path(), &listed), Ok(vec![name.to_owned()]));
        }
        // A golden that was edited together with its line in the manifest.
        let (folder, listed) = tree();
        write(folder.path(), GOLDEN, "other");
        write(folder.path(), "golden/MANIFEST.json", &manifest("other"));
        assert_eq!(found(folder.path(), &listed), Ok(vec!["golden/MANIFEST.json".to_owned()]));
    }

    #[test]
    fn further_folders_are_none_of_the_build() {
        let (folder, listed) = tree();
        write(folder.path(), "mine/specs/ops/a.yaml", "1");
        let folders = ["specs", "golden", "mine/specs"].map(|name| folder.path().join(name));
        let want = vec!["mine/specs/ is outside of the tree".to_owned()];
        assert_eq!(compared(&listed, &folders), Ok(want));
    }
}
