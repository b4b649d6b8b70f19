//! Compares what a run reads, and what its program was built of, with the commit that the program
//! names.
//!
//! The state of the tree at build time proves nothing about a later run: specs and goldens are read
//! when it runs. Files are hashed instead of asking `git status`, which does not report files that
//! are marked `assume-unchanged` or `skip-worktree`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::report::provenance::files;

/// What the program is built of, apart from the pages of kernels, which are compared as compiled
/// in.
const SOURCES: [&str; 6] = [".cargo/", "Cargo.lock", "Cargo.toml", "cuda/", "engine/", "harness/"];

/// Folders below golden/ whose untracked files the judge does not read as goldens of this tree:
/// compiled Python, and answers about checkpoints that are not shipped.
pub(super) const NOT_GOLDENS: [&str; 2] = ["oracle/", "local/"];

/// Why a tree cannot be compared with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// The files that are not those of `commit`, sorted: files of `folders` (specs and goldens, a specs
/// folder first) as they are now, kernels as they were compiled in (name and text), and sources as
/// they are now.
///
/// # Errors
/// There is no git, no tree of it around the first folder, or no such commit in it.
pub fn edited(
    commit: &str,
    folders: &[PathBuf],
    kernels: &BTreeMap<String, String>,
) -> Result<Vec<String>, Unknown> {
    // git prints the top of its tree with links resolved, and only then one path is part of the
    // other.
    let first = folders.first().ok_or(Unknown)?.canonicalize().map_err(|_| Unknown)?;
    let top = text(&git(&first, &["rev-parse", "--show-toplevel"], b"")?)?;
    let top = Path::new(top.trim_end()).canonicalize().map_err(|_| Unknown)?;
    let committed = committed(&top, commit)?;
    let mut edited = BTreeSet::new();
    let mut now: Vec<(String, PathBuf)> = Vec::new();
    let mut read: Vec<String> = SOURCES.map(str::to_owned).to_vec();
    for folder in folders {
        let folder = &folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let Ok(prefix) = folder.strip_prefix(&top) else {
            edited.insert(outside(folder));
            continue;
        };
        let prefix = format!("{}/", prefix.to_string_lossy());
        for path in files(folder).map_err(|_| Unknown)? {
            let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            let name = format!("{prefix}{below}");
            let other = NOT_GOLDENS.iter().any(|part| below.starts_with(part));
            // A committed file in one of these folders may have been edited, so it is compared as
            // well.
            if committed.contains_key(&name) || !other {
                now.push((name, path));
            }
        }
        read.push(prefix);
    }
    let is_read = |name: &String| read.iter().any(|part| name.starts_with(part.as_str()));
    let present: BTreeSet<String> = now.iter().map(|(name, _)| name.clone()).collect();
    let sources = committed.keys().filter(|name| is_read(name) && !present.contains(*name));
    for name in sources {
        match top.join(name) {
            path if path.is_file() => now.push((name.clone(), path)),
            // A removed file is an edit too: the program may have been built without it.
            _ => drop(edited.insert(name.clone())),
        }
    }
    // git hashes files, and the kernels on disk may have changed since they were compiled in.
    let scratch = tempfile::tempdir().map_err(|_| Unknown)?;
    for (name, text) in kernels {
        let path = scratch.path().join(now.len().to_string());
        std::fs::write(&path, text).map_err(|_| Unknown)?;
        now.push((format!("cuda/{name}"), path));
    }
    let hashes = hashes(&top, &now)?;
    let other = now
        .iter()
        .zip(&hashes)
        .filter(|((name, _), hash)| committed.get(name).is_none_or(|committed| committed != *hash));
    edited.extend(other.map(|((name, _), _)| name.clone()));
    edited.extend(untracked(&top)?);
    Ok(edited.into_iter().collect())
}

/// The entry for a folder outside the tree: a commit says nothing about its files, so none of them
/// counts as unchanged.
pub(super) fn outside(folder: &Path) -> String {
    // The last two names: most such folders are called specs.
    let names: Vec<_> = folder.iter().rev().take(2).collect();
    let name: PathBuf = names.into_iter().rev().collect();
    format!("{}/ is outside of the tree", name.display())
}

/// Path → hash of every file of a commit. Links are left out: what they name is not in the tree.
fn committed(top: &Path, commit: &str) -> Result<BTreeMap<String, String>, Unknown> {
    // A name that is no hash could be a branch, which moves, or an option.
    if commit.len() < 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Unknown);
    }
    let list = text(&git(top, &["ls-tree", "-r", "-z", "--full-tree", commit], b"")?)?;
    let entry = |line: &str| {
        let (facts, path) = line.split_once('\t')?;
        let mut facts = facts.split(' ');
        let (mode, _, hash) = (facts.next()?, facts.next()?, facts.next()?);
        mode.starts_with("100").then(|| (path.to_owned(), hash.to_owned()))
    };
    Ok(list.split('\0').filter_map(entry).collect())
}

/// The hash of each file, as git would store its bytes.
fn hashes(top: &Path, files: &[(String, PathBuf)]) -> Result<Vec<String>, Unknown> {
    let mut paths = Vec::new();
    for (_, path) in files {
        let path = path.to_string_lossy();
        // git reads one path per line.
        if path.contains('\n') {
            return Err(Unknown);
        }
        paths.extend_from_slice(path.as_bytes());
        paths.push(b'\n');
    }
    // Without filters, since attributes of the tree could give an edited file the committed hash.
    let list = text(&git(top, &["hash-object", "--no-filters", "--stdin-paths"], &paths)?)?;
    let hashes: Vec<String> = list.lines().map(str::to_owned).collect();
    // Hashes are matched by position, so one line too few would shift all those after it.
    if hashes.len() == files.len() { Ok(hashes) } else { Err(Unknown) }
}

/// Files among the sources that git does not know, and does not ignore.
fn untracked(top: &Path) -> Result<Vec<String>, Unknown> {
    let mut words = vec!["ls-files", "--others", "--exclude-standard", "-z", "--"];
    words.extend(SOURCES);
    let list = text(&git(top, &words, b"")?)?;
    Ok(list.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn text(bytes: &[u8]) -> Result<String, Unknown> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Unknown)
}

/// What git prints, given `input` on its stdin.
fn git(folder: &Path, words: &[&str], input: &[u8]) -> Result<Vec<u8>, Unknown> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(words);
    // A hook sets variables that name another tree or index, and objects can be replaced by others.
    let own = |name: &OsString| name.to_string_lossy().starts_with("GIT_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    command.env("GIT_NO_REPLACE_OBJECTS", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|_| Unknown)?;
    let stdin = child.stdin.take();
    let (written, output) = std::thread::scope(|scope| {
        // On a thread of its own: git may wait for its output to be read before it reads on.
        let writer = scope.spawn(|| stdin.map_or(Ok(()), |mut to| to.write_all(input)));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    match (written, output) {
        (Ok(Ok(())), Ok(output)) if output.status.success() => Ok(output.stdout),
        _ => Err(Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    /// A tree with one commit, and its hash.
    fn tree() -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().expect("a folder");
        let top = root.path();
        for name in ["specs/ops/a.yaml", "golden/ops/a.bin", "cuda/a.cu", "engine/src/lib.rs"] {
            write(top, name, "1");
        }
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
        let run = |words: &[&str]| git(top, words, b"").expect("git");
        run(&["init", "-q"]);
        run(&["add", "."]);
        run(&[&identity[..], &["commit", "-q", "-m", "a"]].concat());
        let commit = text(&run(&["rev-parse", "HEAD"])).expect("text").trim().to_owned();
        (root, commit)
    }

    fn found(top: &Path, commit: &str, kernel: &str) -> Result<Vec<String>, Unknown> {
        let kernels = BTreeMap::from([("a.cu".to_owned(), kernel.to_owned())]);
        edited(commit, &[top.join("specs"), top.join("golden")], &kernels)
    }

    #[test]
    fn every_file_that_is_not_of_the_commit_is_named() {
        let (root, commit) = tree();
        let top = root.path();
        assert_eq!(found(top, &commit, "1"), Ok(vec![]));
        assert_eq!(found(top, &commit, "2"), Ok(vec!["cuda/a.cu".to_owned()]));
        write(top, "golden/oracle/__pycache__/x.pyc", "1");
        write(top, "docs/a.md", "1");
        assert_eq!(found(top, &commit, "1"), Ok(vec![]));
        write(top, "specs/ops/a.yaml", "2");
        write(top, "specs/ops/b.yaml", "1");
        write(top, "engine/src/more.rs", "1");
        std::fs::remove_file(top.join("golden/ops/a.bin")).expect("removed");
        let names =
            ["engine/src/more.rs", "golden/ops/a.bin", "specs/ops/a.yaml", "specs/ops/b.yaml"];
        assert_eq!(found(top, &commit, "1"), Ok(names.map(str::to_owned).to_vec()));
    }

    #[test]
    fn an_index_that_overlooks_a_file_changes_nothing() {
        let (root, commit) = tree();
        git(root.path(), &["update-index", "--assume-unchanged", "specs/ops/a.yaml"], b"")
            .expect("git");
        write(root.path(), ".git/info/exclude", "specs/ops/c.yaml\n");
        write(root.path(), "specs/ops/a.yaml", "2");
        write(root.path(), "specs/ops/c.yaml", "2");
        let names = ["specs/ops/a.yaml", "specs/ops/c.yaml"];
        assert_eq!(found(root.path(), &commit, "1"), Ok(names.map(str::to_owned).to_vec()));
    }

    #[test]
    fn without_a_tree_or_its_commit_it_is_unknown() {
        let (root, commit) = tree();
        assert_eq!(found(root.path(), "unknown", "1"), Err(Unknown));
        assert_eq!(found(root.path(), &"0".repeat(40), "1"), Err(Unknown));
        let outside = tempfile::tempdir().expect("a folder");
        write(outside.path(), "specs/a.yaml", "1");
        assert_eq!(found(outside.path(), &commit, "1"), Err(Unknown));
        // Goldens from elsewhere are not those of the commit, whatever they hold.
        let folders = [root.path().join("specs"), outside.path().to_path_buf()];
        let elsewhere = edited(&commit, &folders, &BTreeMap::new());
        assert!(elsewhere.expect("compared")[0].ends_with("is outside of the tree"));
    }
}
