//! `golden/MANIFEST.json`: size and SHA-256 of every golden, one line per file, sorted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use goldgate_tensor::foreign::{Bounds, ForeignError, LARGEST_TEXT, read_foreign_text};
use goldgate_wire::json;
use serde_json::Value;

use crate::yaml::Problem;

/// The manifest's name below golden/.
pub const NAME: &str = "MANIFEST.json";

/// Folders whose files are inputs and not answers: models, vocabularies and texts that goldens are
/// made from.
pub const GIVEN: [&str; 2] = ["models", "tokenizers"];

/// Whether a path below golden/ lies in one of these folders.
pub fn is_given(path: &str) -> bool {
    path.split_once('/').is_some_and(|(room, _)| GIVEN.contains(&room))
}

/// The manifest's entry for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// The manifest: path below golden/ → entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest(pub BTreeMap<String, Entry>);

impl Manifest {
    /// Reads the manifest of a golden folder. An absent manifest counts as empty.
    ///
    /// # Errors
    /// `MANIFEST_DUP`, `MANIFEST_FORM`, or `IO`.
    pub fn read(root: &Path) -> Result<Manifest, Vec<Problem>> {
        match read_foreign_text(&root.join(NAME), Bounds::of_user(LARGEST_TEXT)) {
            Ok(text) => Manifest::parse(&text),
            // A new folder has no manifest; every golden is then missing, which each case reports.
            Err(ForeignError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
                Ok(Manifest::default())
            }
            Err(e) => Err(vec![Problem::of_file("IO", NAME, e.to_string(), "a readable file")]),
        }
    }

    /// Parses the text of a manifest.
    ///
    /// # Errors
    /// `MANIFEST_DUP` for a repeated path, `MANIFEST_FORM` for everything else.
    pub fn parse(text: &str) -> Result<Manifest, Vec<Problem>> {
        let form = |found: String, expected: &str| {
            vec![Problem::of_file("MANIFEST_FORM", NAME, found, expected)]
        };
        let value = json::read(text).map_err(|e| {
            let message = e.to_string();
            // The JSON reader reports a key that occurs twice by its message alone.
            if message.contains("stands twice") {
                vec![Problem::of_file("MANIFEST_DUP", NAME, message, "each file once")]
            } else {
                form(message, "a JSON object")
            }
        })?;
        if value["format"] != 1 {
            return Err(form(value["format"].to_string(), "format 1"));
        }
        let Some(files) = value["files"].as_object() else {
            return Err(form("no files".into(), "an object of files"));
        };
        let mut entries = BTreeMap::new();
        let mut problems = Vec::new();
        for (path, entry) in files {
            match Entry::read(path, entry) {
                Ok(entry) => {
                    entries.insert(path.clone(), entry);
                }
                Err((found, expected)) => {
                    let mut problem = Problem::of_file("MANIFEST_FORM", NAME, found, expected);
                    problem.field = format!("files.{path}");
                    problems.push(problem);
                }
            }
        }
        if problems.is_empty() { Ok(Manifest(entries)) } else { Err(problems) }
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        // One line per file, so that a changed golden is a diff of one line.
        let line = |(path, entry): (&String, &Entry)| {
            format!(
                "{}: {{\"bytes\": {}, \"sha256\": \"{}\"}}",
                Value::from(path.as_str()),
                entry.bytes,
                entry.sha256
            )
        };
        let lines: Vec<String> = self.0.iter().map(line).collect();
        format!("{{\n\"format\": 1,\n\"files\": {{\n{}\n}}\n}}\n", lines.join(",\n"))
    }

    /// Writes the manifest of a golden folder by temporary file and rename.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        replace(&root.join(NAME), self.text().as_bytes())
    }
}

impl Entry {
    fn read(path: &str, value: &Value) -> Result<Entry, (String, String)> {
        // A path must not lead out of the golden folder.
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let known = path.ends_with(".safetensors") || is_given(path);
        if !known || !path.split('/').all(plain) || path.contains('\\') {
            return Err((path.to_owned(), "a .safetensors path or a model's below golden/".into()));
        }
        let sha256 = value["sha256"].as_str().unwrap_or_default();
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if sha256.len() != 64 || !sha256.bytes().all(hex) {
            let found = format!("sha256 {}", value["sha256"]);
            return Err((found, "64 digits of lower-case hex".into()));
        }
        let bytes = value["bytes"].as_u64().filter(|b| *b > 0);
        let bytes = bytes.ok_or_else(|| {
            (format!("bytes {}", value["bytes"]), "a whole number above 0".to_owned())
        })?;
        // An unknown key may be a misspelt one, so it is refused as in specs.
        if value.as_object().is_some_and(|o| o.len() != 2) {
            return Err((value.to_string(), "bytes and sha256, nothing else".into()));
        }
        Ok(Entry { bytes, sha256: sha256.to_owned() })
    }
}

/// Writes `bytes` next to `path` and then renames: readers see either the old file or the new one.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // In the same folder, because a rename is atomic only within one file system.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // Without it a crash of the machine may leave the new name with no content.
    file.as_file().sync_all()?;
    let persisted = file.persist(path).map_err(|e| e.error)?;
    readable(&persisted)
}

#[cfg(unix)]
fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Temporary files are private to their owner, which files of a repository must not be.
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> &'static str {
        Manifest::parse(text).expect_err("must be refused")[0].code
    }

    #[test]
    fn it_reads_what_it_writes_one_line_a_file() {
        let entry = Entry { bytes: 7, sha256: "0a".repeat(32) };
        let files = ["ops/b/x.safetensors", "ops/a/x y.safetensors"];
        let manifest = Manifest(files.map(|f| (f.to_owned(), entry.clone())).into());
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text).ok(), Some(manifest));
        assert_eq!(text.lines().count(), 7);
        assert!(text.find("ops/a") < text.find("ops/b"));
    }

    /// GO-04 and GO-05.
    #[test]
    fn a_malformed_manifest_is_refused() {
        let hash = "0a".repeat(32);
        let with = |path: &str, bytes: &str, sha: &str| {
            let entry = format!(r#"{{"bytes": {bytes}, "sha256": "{sha}"}}"#);
            format!(r#"{{"format": 1, "files": {{"{path}": {entry}}}}}"#)
        };
        let good = "ops/a/x.safetensors";
        assert!(Manifest::parse(&with(good, "1", &hash)).is_ok());
        for (path, bytes, sha) in [
            (good, "1", &hash[1..]),
            (good, "1", &format!("{hash}0")[..]),
            (good, "1", &hash.to_uppercase()[..]),
            (good, "1", "../../../etc/passwd"),
            (good, "0", &hash[..]),
            (good, "-1", &hash[..]),
            (good, "1.5", &hash[..]),
            ("../x.safetensors", "1", &hash[..]),
            ("/x.safetensors", "1", &hash[..]),
            ("ops/x.npy", "1", &hash[..]),
        ] {
            assert_eq!(code(&with(path, bytes, sha)), "MANIFEST_FORM", "{path} {bytes} {sha}");
        }
        let entry = format!(r#"{{"bytes": 1, "sha256": "{hash}"}}"#);
        let twice =
            format!(r#"{{"format": 1, "files": {{"{good}": {entry}, "{good}": {entry}}}}}"#);
        assert_eq!(code(&twice), "MANIFEST_DUP");
        assert_eq!(code("{"), "MANIFEST_FORM");
        assert_eq!(code(r#"{"format": 2, "files": {}}"#), "MANIFEST_FORM");
    }
}
