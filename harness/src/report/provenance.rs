//! Provenance: what was run, by which program, on which machine. It holds everything that is needed
//! to repeat the run.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use goldgate_tensor::foreign::{Links, open_foreign};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::line::hex;
use crate::report::{built, tree};

/// The commit that this program was built from; `unknown` outside git.
pub const COMMIT: &str = env!("GOLDGATE_COMMIT");

/// The state of that commit's tree: `clean`, `dirty` or `unknown`.
pub const TREE: &str = env!("GOLDGATE_TREE");

/// The version of the compiler.
pub const RUSTC: &str = env!("GOLDGATE_RUSTC");

/// Commit, tree and compiler in one line, as hello reports them.
pub fn build() -> String {
    format!("{COMMIT}, {TREE}, {RUSTC}")
}

/// What a report records about its origin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The version of goldgate.
    pub version: String,
    /// The commit that the program was built from.
    pub commit: String,
    /// Whether the run is of that commit: `clean`, `dirty` (the tree was, when the program was
    /// built), `edited` (files differ from the commit), or `unknown`.
    pub tree: String,
    /// `build` where no git has the commit here: specs and goldens were compared with the hashes
    /// that the program was built with. Absent where they were compared with the commit, or not at
    /// all.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub compared_with: String,
    /// The files that differ from the commit: specs and goldens as read, kernels as compiled in,
    /// sources as they were when the run began.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub edited: Vec<String>,
    /// The version of the compiler.
    pub rustc: String,
    /// SHA-256 of the program itself.
    pub program_sha256: String,
    /// SHA-256 over the spec files as read; of several folders, over their hashes.
    pub specs_sha256: String,
    /// SHA-256 over the golden files as read; of several folders, over their hashes.
    pub golden_sha256: String,
    /// Each specs folder in the order of the command line, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub folders: Vec<FolderOrigin>,
    /// SHA-256 over the kernel sources, compiled in or overlaid.
    pub kernels_sha256: String,
    /// The host's operating system and architecture.
    pub host: String,
    /// When the run began, UTC, RFC 3339.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// Subject → its hello.
    pub subjects: BTreeMap<String, Value>,
    /// SHA-256 over the names of all planned trials.
    pub plan_sha256: String,
}

/// One of several specs folders of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderOrigin {
    /// Its name. Rows and gates of the first folder go without it.
    pub name: String,
    /// The folder as it was named on the command line.
    pub path: String,
    /// SHA-256 over its spec files as read.
    pub specs_sha256: String,
    /// SHA-256 over its golden files as read.
    pub golden_sha256: String,
}

impl Provenance {
    /// The options that name the specs folders of the run again; empty for a run of one folder.
    pub fn specs_option(&self) -> String {
        self.folders.iter().map(|folder| specs_option(&folder.path)).collect()
    }

    /// The option that names the specs folder of a row or gate; empty for a run of one folder.
    pub fn specs_of(&self, folder: &str) -> String {
        let named = self.folders.iter().find(|origin| origin.name == folder);
        let first = self.folders.first().filter(|_| folder.is_empty());
        first.or(named).map(|origin| specs_option(&origin.path)).unwrap_or_default()
    }

    /// What is known about the program itself.
    pub fn of_program(program: &Path) -> Provenance {
        Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.to_owned(),
            tree: TREE.to_owned(),
            rustc: RUSTC.to_owned(),
            // A program that cannot be read must not stop a run; the report shows that the hash is
            // missing.
            program_sha256: file_hash(program).unwrap_or_else(|_| "unknown".to_owned()),
            kernels_sha256: kernels_hash(),
            host: host(),
            ..Provenance::default()
        }
    }

    /// Compares the folders that are read, and the program, with the commit that it names.
    pub fn hold_to_commit(&mut self, folders: &[PathBuf]) {
        match tree::edited(&self.commit, folders, &kernels()) {
            Ok(edited) if edited.is_empty() => {}
            Ok(edited) => {
                "edited".clone_into(&mut self.tree);
                self.edited = edited;
            }
            Err(tree::Unknown) => self.hold_to_build(built::edited(folders)),
        }
    }

    /// Takes what a comparison with the build found, where there was none with the commit.
    fn hold_to_build(&mut self, found: Result<Vec<String>, tree::Unknown>) {
        match (found, self.tree.as_str()) {
            // A tree that was dirty when the program was built is known to be none of the commit.
            (_, "dirty") => {}
            (Ok(edited), "clean") => {
                "build".clone_into(&mut self.compared_with);
                if !edited.is_empty() {
                    "edited".clone_into(&mut self.tree);
                    self.edited = edited;
                }
            }
            _ => "unknown".clone_into(&mut self.tree),
        }
    }

    /// The state of the tree in words, and what it was compared with where that was not the commit.
    pub fn tree_in_words(&self) -> String {
        match self.compared_with.as_str() {
            "" => self.tree.clone(),
            with => format!("{}, compared with the {with}", self.tree),
        }
    }
}

/// The option that names a specs folder, as a shell reads it.
pub fn specs_option(path: &str) -> String {
    let path = shlex::try_quote(path).map_or_else(|_| path.to_owned(), |word| word.into_owned());
    format!(" --specs {path}")
}

/// The hash over several folders, given that of each; that of a single folder is its own.
pub fn together(hashes: &[String]) -> String {
    match hashes {
        [one] => one.clone(),
        several => hash_of(several.iter().map(|hash| ("folder", hash.as_bytes()))),
    }
}

fn host() -> String {
    // Only Linux has this file; elsewhere the host is described without a release.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let words = [std::env::consts::OS, release.trim(), std::env::consts::ARCH];
    words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The SHA-256 of a file's bytes, in hex.
///
/// # Errors
/// The file cannot be read.
pub fn file_hash(path: &Path) -> std::io::Result<String> {
    let mut file = open_foreign(path, Links::Followed)?;
    let mut hash = Sha256::new();
    // Read in pieces, because only the hash is kept and a file may be large.
    let mut bytes = vec![0; 1 << 16];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&bytes[..n]),
        }
    }
}

/// SHA-256 over names and contents, each preceded by its length, in the order given.
pub fn hash_of<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in parts {
        for part in [name.as_bytes(), bytes] {
            // Each part has its length before it, so that the end of one cannot pass for the start
            // of the next.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

/// The kernel pages and their headers, compiled into this program: file name → text.
fn kernels() -> BTreeMap<String, String> {
    let pages = goldgate_engine::ops::ALL.iter().flat_map(|op| op.pages());
    let pages = pages.map(|page| (format!("{}.cu", page.name), page.text.to_owned()));
    let headers = goldgate_engine::cuda::page::HEADERS.iter();
    pages.chain(headers.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))).collect()
}

/// SHA-256 over the kernel pages and headers compiled into this program.
pub fn kernels_hash() -> String {
    hash_of(kernels().iter().map(|(name, text)| (name.as_str(), text.as_bytes())))
}

/// SHA-256 over all files of a folder, by path. A folder that does not exist counts as empty.
///
/// # Errors
/// A file cannot be read.
pub fn folder_hash(root: &Path) -> std::io::Result<String> {
    let mut all = Sha256::new();
    for path in files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        // The name is hashed too, so that two files which exchange their contents are noticed.
        all.update(format!("{name}\n{}\n", file_hash(&path)?));
    }
    Ok(hex(&all.finalize()))
}

/// All files of a folder and those in it, sorted. A folder that does not exist has none.
///
/// # Errors
/// A folder cannot be read.
pub fn files(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    // Folders list their entries in no fixed order, and a hash over them must not depend on it.
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_do_not_run_into_each_other() {
        let a = hash_of([("ab", &b"c"[..])]);
        let b = hash_of([("a", &b"bc"[..])]);
        assert_ne!(a, b);
        assert_eq!(a.len(), 64);
    }

    #[test]
    fn without_the_commit_a_clean_build_is_what_is_compared() {
        let held = |tree: &str, found: Result<Vec<String>, tree::Unknown>| {
            let mut provenance = Provenance { tree: tree.into(), ..Provenance::default() };
            provenance.hold_to_build(found);
            (provenance.tree_in_words(), provenance.edited.len())
        };
        let clean = "clean, compared with the build".to_owned();
        assert_eq!(held("clean", Ok(vec![])), (clean, 0));
        let edited = "edited, compared with the build".to_owned();
        assert_eq!(held("clean", Ok(vec!["specs/a".into()])), (edited, 1));
        assert_eq!(held("clean", Err(tree::Unknown)), ("unknown".to_owned(), 0));
        assert_eq!(held("unknown", Ok(vec![])), ("unknown".to_owned(), 0));
        assert_eq!(held("dirty", Ok(vec![])), ("dirty".to_owned(), 0));
    }

    #[test]
    fn a_folder_is_hashed_by_path_and_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let hash = || folder_hash(folder.path()).expect("readable");
        let empty = hash();
        std::fs::write(folder.path().join("a"), "1").expect("writable");
        let one = hash();
        std::fs::rename(folder.path().join("a"), folder.path().join("b")).expect("writable");
        assert!(empty != one && one != hash());
    }
}
