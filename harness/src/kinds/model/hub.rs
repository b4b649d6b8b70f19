//! Published checkpoints: finds one in a folder, by its name or in the layout of the hub's cache.
//! That layout is left to the hub's own library.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

/// A file of a repository of models, or the whole repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The repository, such as `Qwen/Qwen2.5-0.5B-Instruct-GGUF`.
    pub repo: String,
    /// A commit, or a branch.
    pub revision: String,
    /// The file; none for the whole snapshot, which is a folder.
    pub file: Option<String>,
    /// SHA-256 of the file, in hex.
    pub sha256: Option<String>,
}

impl Hub {
    /// The repository at its revision, in the library's terms.
    pub fn repository(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    /// Its path below a folder: by its name, by repository and name, or in the layout of the hub's
    /// cache.
    pub fn find(&self, folder: &Path) -> Option<PathBuf> {
        let own = folder.join(&self.repo);
        let places = match &self.file {
            Some(file) => [folder.join(file), own.join(file)],
            None => [folder.join(self.repo.rsplit('/').next().unwrap_or(&self.repo)), own],
        };
        places.into_iter().find(|place| place.exists()).or_else(|| self.cached(folder))
    }

    /// Its path in a cache. A snapshot is complete if its configuration exists, because that is
    /// fetched last.
    fn cached(&self, folder: &Path) -> Option<PathBuf> {
        let cache = Cache::new(folder.to_owned()).repo(self.repository());
        // Some tools that fetch a commit do not record it as a revision.
        let commit = |file| Some(cache.pointer_path(&self.revision).join(file));
        let look = |file| cache.get(file).or_else(|| commit(file).filter(|path| path.exists()));
        match &self.file {
            Some(file) => look(file),
            None => look(CONFIGURATION)?.parent().map(Path::to_owned),
        }
    }
}

/// The file name of a snapshot's configuration.
const CONFIGURATION: &str = "config.json";

/// The files of a repository that make up a checkpoint, with the configuration last.
pub fn of_checkpoint<'f>(files: impl IntoIterator<Item = &'f str>) -> Vec<&'f str> {
    let companions = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"];
    let weights = |name: &str| {
        let ends = name.ends_with(".safetensors") || name == "model.safetensors.index.json";
        name.starts_with("model") && ends && !name.contains('/')
    };
    let files: Vec<&str> = files.into_iter().collect();
    let mut wanted: Vec<&str> =
        files.iter().copied().filter(|name| weights(name) || companions.contains(name)).collect();
    wanted.sort_unstable();
    // Last, so that an interrupted download does not look complete.
    wanted.extend(files.contains(&CONFIGURATION).then_some(CONFIGURATION));
    wanted
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn hub(revision: &str, file: Option<&str>) -> Hub {
        let file = file.map(str::to_owned);
        Hub { repo: "some/model".into(), revision: revision.into(), file, sha256: None }
    }

    #[test]
    fn found_by_name_by_repository_and_in_the_cache() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, text).expect("written");
            path
        };
        let gguf = hub("main", Some("m.gguf"));
        let (whole, pinned) = (hub("main", None), hub("0123abcd", None));
        assert_eq!((gguf.find(root), whole.find(root), pinned.find(root)), (None, None, None));
        let cached = put("models--some--model/snapshots/0123abcd/m.gguf", "x");
        // A branch is the name of a file that holds its commit.
        assert_eq!(gguf.find(root), None);
        put("models--some--model/refs/main", "0123abcd");
        assert_eq!(gguf.find(root), Some(cached.clone()));
        // Without its configuration a snapshot is not whole.
        assert_eq!(whole.find(root), None);
        put("models--some--model/snapshots/0123abcd/config.json", "{}");
        let snapshot = cached.parent().map(Path::to_owned);
        assert_eq!((whole.find(root), pinned.find(root)), (snapshot.clone(), snapshot));
        let own = put("some/model/m.gguf", "x");
        assert_eq!(gguf.find(root), Some(own));
        let named = put("m.gguf", "x");
        assert_eq!(gguf.find(root), Some(named));
        assert_eq!(hub("main", Some("other.gguf")).find(root), None);
    }

    #[test]
    fn a_checkpoint_is_its_weights_vocabulary_and_at_last_its_configuration() {
        let files = [
            ".gitattributes",
            "config.json",
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "model.bin",
        ];
        let wanted = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "config.json",
        ];
        assert_eq!(of_checkpoint(files), wanted);
        assert!(of_checkpoint(["README.md"]).is_empty());
    }
}
