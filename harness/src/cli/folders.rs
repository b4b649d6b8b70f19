//! Where specs and goldens are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hf_hub::Cache;

use crate::cli::Failure;
use crate::gate::plan::glob;
use crate::golden::store::Store;
use crate::spec::{Problem, Specs, read_folder, vocabulary};

/// The folders that a command reads.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Folders {
    /// The specs folder; without it, the first specs/ from the current folder upwards.
    #[arg(long, value_name = "DIR")]
    pub specs: Option<PathBuf>,
    /// The golden folder; without it, the one beside the specs folder.
    #[arg(long, value_name = "DIR")]
    pub golden: Option<PathBuf>,
    /// A folder of published checkpoints: what they ask counts then. Without it GOLDGATE_MODELS,
    /// and the cache of the hub.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}

impl Folders {
    /// The specs folder.
    ///
    /// # Errors
    /// Where there is none.
    pub fn specs_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.specs {
            return match dir.is_dir() {
                true => Ok(dir.clone()),
                false => Err(Failure::Absent(format!("--specs {}: no such folder", dir.display()))),
            };
        }
        let here = std::env::current_dir()?;
        let found = here.ancestors().map(|up| up.join("specs")).find(|dir| dir.is_dir());
        found.ok_or_else(|| {
            Failure::Absent("no specs/ in this folder or above it; name one with --specs".into())
        })
    }

    /// The golden folder, which need not be there.
    ///
    /// # Errors
    /// Where there is no specs folder to find it beside.
    pub fn golden_dir(&self) -> Result<PathBuf, Failure> {
        match &self.golden {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.specs_dir()?.parent().unwrap_or(Path::new(".")).join("golden")),
        }
    }

    /// The folder of checkpoints that was named, by the option or by `GOLDGATE_MODELS`.
    ///
    /// # Errors
    /// A folder that is not there.
    pub fn named_models(&self) -> Result<Option<PathBuf>, Failure> {
        let named = || variable("GOLDGATE_MODELS").map(PathBuf::from);
        let named = self.models.clone().or_else(named);
        match named {
            Some(folder) if !folder.is_dir() => {
                let name = folder.display();
                Err(Failure::Absent(format!("--models {name}: no such folder")))
            }
            named => Ok(named),
        }
    }

    /// Where published checkpoints are looked for: the folder that was named, then the cache of
    /// the hub (`HF_HUB_CACHE`, `HF_HOME`, the home folder).
    ///
    /// # Errors
    /// A folder that was named and is not there.
    pub fn models_dirs(&self) -> Result<Vec<PathBuf>, Failure> {
        let cache = cache().map(|cache| cache.path().clone());
        Ok(self.named_models()?.into_iter().chain(cache).collect())
    }

    /// The specs and every problem in them.
    ///
    /// # Errors
    /// Where there are none.
    pub fn read(&self) -> Result<(Specs, Vec<Problem>), Failure> {
        Ok(read_folder(&self.specs_dir()?, &vocabulary))
    }

    /// The specs, if they have no problem.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn read_all(&self) -> Result<Specs, Failure> {
        let (specs, problems) = self.read()?;
        if problems.is_empty() { Ok(specs) } else { Err(Failure::Problems(problems)) }
    }

    /// The golden folder, opened.
    ///
    /// # Errors
    /// A malformed manifest.
    pub fn store(&self) -> Result<Store, Failure> {
        Store::open(&self.golden_dir()?).map_err(Failure::Problems)
    }
}

/// The hub's cache, by the conventions of its library; none without a home.
pub fn cache() -> Option<Cache> {
    let folder = variable("HF_HUB_CACHE").map(|path| Cache::new(PathBuf::from(path)));
    // The library wants one of them, and ends the process without.
    let home = variable("HF_HOME").or_else(|| match std::env::var_os("HF_HOME") {
        Some(_) => None,
        None => variable("HOME"),
    });
    folder.or_else(|| home.map(|_| Cache::from_env()))
}

/// A variable of the environment that says something.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether `name` is selected: a whole name selects itself, `*` makes a glob on whole names,
/// anything else is a substring; several are joined by or, none selects everything.
pub fn selects(filters: &[String], name: &str) -> bool {
    filters.is_empty()
        || filters.iter().any(|filter| match filter.contains('*') {
            true => glob(filter, name),
            false => name.contains(filter.as_str()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, want) in [
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("*", "", true),
            ("a**b", "ab", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*bc*d", "aXbcYbcd", true),
            ("aa*a", "aa", false),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} {name}");
        }
        assert!(selects(&[], "x"));
        assert!(selects(&["q".into(), "ayer".into()], "layernorm"));
        assert!(!selects(&["ayer*".into()], "layernorm"));
    }
}
