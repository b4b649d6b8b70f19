//! Where specs and goldens are found.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hf_hub::Cache;

use crate::line::glob;
use crate::session::Failure;
use crate::spec::{Specs, read_folder, vocabulary};
use crate::store::Store;
use crate::yaml::Problem;
use crate::yaml::near::nearest;

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
    /// There is none.
    pub fn specs_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.specs {
            return match dir.is_dir() {
                true => Ok(dir.clone()),
                false => Err(Failure::Absent(format!("--specs {}: no such folder", dir.display()))),
            };
        }
        let here = std::env::current_dir()?;
        // From any folder of the repository, as other tools find their root.
        let found = here.ancestors().map(|up| up.join("specs")).find(|dir| dir.is_dir());
        found.ok_or_else(|| {
            Failure::Absent("no specs/ in this folder or above it; name one with --specs".into())
        })
    }

    /// The golden folder; it need not exist.
    ///
    /// # Errors
    /// There is no specs folder to derive it from.
    pub fn golden_dir(&self) -> Result<PathBuf, Failure> {
        match &self.golden {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.specs_dir()?.parent().unwrap_or(Path::new(".")).join("golden")),
        }
    }

    /// The checkpoint folder that the user named, by option or by `GOLDGATE_MODELS`.
    ///
    /// # Errors
    /// The folder does not exist.
    pub fn named_models(&self) -> Result<Option<PathBuf>, Failure> {
        let named = || variable("GOLDGATE_MODELS").map(PathBuf::from);
        let named = self.models.clone().or_else(named);
        match named {
            // With a misspelt folder every checkpoint would be NOT RUN, which looks like a choice.
            Some(folder) if !folder.is_dir() => {
                let name = folder.display();
                Err(Failure::Absent(format!("--models {name}: no such folder")))
            }
            named => Ok(named),
        }
    }

    /// Where published checkpoints are searched: first the folder that the user named, then the
    /// cache of the hub (`HF_HUB_CACHE`, `HF_HOME`, the home folder).
    ///
    /// # Errors
    /// The folder that the user named does not exist.
    pub fn models_dirs(&self) -> Result<Vec<PathBuf>, Failure> {
        let cache = cache().map(|cache| cache.path().clone());
        // The named folder comes first, because it was chosen for this command.
        Ok(self.named_models()?.into_iter().chain(cache).collect())
    }

    /// The specs, with all problems found in them.
    ///
    /// # Errors
    /// There is no specs folder.
    pub fn read(&self) -> Result<(Specs, Vec<Problem>), Failure> {
        let (specs, problems) = read_folder(&self.specs_dir()?, &vocabulary);
        Ok((specs, self.of_specs(problems)?))
    }

    /// The specs, provided that they have no problems.
    ///
    /// # Errors
    /// All problems of all files.
    pub fn read_all(&self) -> Result<Specs, Failure> {
        let (specs, problems) = self.read()?;
        if problems.is_empty() { Ok(specs) } else { Err(Failure::Problems(problems)) }
    }

    /// Opens the golden folder.
    ///
    /// # Errors
    /// The manifest is malformed.
    pub fn store(&self) -> Result<Store, Failure> {
        match Store::open(&self.golden_dir()?) {
            Ok(store) => Ok(store),
            Err(problems) => Err(Failure::Problems(self.of_golden(problems)?)),
        }
    }

    /// Problems of files in the specs folder, with paths that a terminal can open from the current
    /// folder.
    ///
    /// # Errors
    /// There is no specs folder.
    pub fn of_specs(&self, problems: Vec<Problem>) -> Result<Vec<Problem>, Failure> {
        Ok(below(&self.specs_dir()?, problems))
    }

    /// Like [`Folders::of_specs`], for problems of specs and goldens together: specs are the YAML
    /// files.
    ///
    /// # Errors
    /// There is no specs folder.
    pub fn of_either(&self, problems: Vec<Problem>) -> Result<Vec<Problem>, Failure> {
        let is_spec = |p: &Problem| p.place.file.ends_with(".yaml");
        let (specs, golden): (Vec<_>, Vec<_>) = problems.into_iter().partition(is_spec);
        Ok([self.of_specs(specs)?, self.of_golden(golden)?].concat())
    }

    /// Like [`Folders::of_specs`], for the golden folder.
    ///
    /// # Errors
    /// There is no specs folder to derive it from.
    pub fn of_golden(&self, problems: Vec<Problem>) -> Result<Vec<Problem>, Failure> {
        Ok(below(&self.golden_dir()?, problems))
    }
}

/// Marks problems as belonging to files below `folder`.
fn below(folder: &Path, mut problems: Vec<Problem>) -> Vec<Problem> {
    let here = std::env::current_dir().unwrap_or_default();
    let folder = from(&here, folder);
    problems.iter_mut().for_each(|p| p.folder.clone_from(&folder));
    problems
}

/// A folder as seen from `here`; unchanged if the two have no ancestor in common.
fn from(here: &Path, folder: &Path) -> PathBuf {
    if folder.is_relative() {
        return folder.to_owned();
    }
    // The root is no useful common ancestor: `../../..` to it reads worse than an absolute path.
    for (up, above) in here.ancestors().enumerate().filter(|(_, a)| a.parent().is_some()) {
        if let Ok(rest) = folder.strip_prefix(above) {
            let up: PathBuf = std::iter::repeat_n("..", up).collect();
            return up.join(rest);
        }
    }
    folder.to_owned()
}

/// The cache of the hub, by the conventions of its library; none without a home folder.
pub fn cache() -> Option<Cache> {
    let folder = variable("HF_HUB_CACHE").map(|path| Cache::new(PathBuf::from(path)));
    // The library ends the process if neither is set.
    let home = variable("HF_HOME").or_else(|| match std::env::var_os("HF_HOME") {
        Some(_) => None,
        None => variable("HOME"),
    });
    folder.or_else(|| home.map(|_| Cache::from_env()))
}

/// An environment variable, unless it is empty.
pub fn variable(name: &str) -> Option<OsString> {
    // Shells set a variable to nothing where they mean that it is not set.
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether one of the filters selects `name`; without filters, everything is selected.
pub fn selects(filters: &[String], name: &str) -> bool {
    filters.is_empty() || filters.iter().any(|filter| glob::filters(filter, name))
}

/// The failure for filters that select none of `names`, with a suggestion of what was meant.
pub fn nothing<'n>(filters: &[String], names: impl IntoIterator<Item = &'n str>) -> Failure {
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        // Parts and whole names, because a filter may be either.
        known.extend(name.split("::").chain([name]));
    }
    let near = filters.iter().find_map(|filter| {
        let parts = filter.split("::").map(|part| near_part(part, &known));
        let meant = parts.collect::<Vec<_>>().join("::");
        (meant != *filter).then_some(meant)
    });
    let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    let filters = filters.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
    Failure::Usage(format!("{filters} selects nothing{meant}"))
}

fn near_part<'p>(part: &'p str, known: &BTreeSet<&'p str>) -> &'p str {
    match part.contains('*') || known.contains(part) {
        true => part,
        false => nearest(part, known.iter().copied()).unwrap_or(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_seen_from_the_current_one() {
        let seen = |here: &str, folder: &str| from(Path::new(here), Path::new(folder));
        assert_eq!(seen("/a/b", "/a/b/specs"), Path::new("specs"));
        assert_eq!(seen("/a/b/c/d", "/a/b/specs"), Path::new("../../specs"));
        assert_eq!(seen("/a/b", "/x/specs"), Path::new("/x/specs"));
        assert_eq!(seen("/a/b", "x/specs"), Path::new("x/specs"));
    }

    #[test]
    fn a_filter_that_selects_nothing_names_what_was_meant() {
        let names = ["gate1::layernorm::ragged::f16", "gate1::gelu::wide::f32"];
        let message = |filter: &str| nothing(&[filter.to_owned()], names).to_string();
        assert_eq!(message("layernrom"), "\"layernrom\" selects nothing; did you mean layernorm?");
        assert!(message("layernrom::raged").ends_with("; did you mean layernorm::ragged?"));
        assert_eq!(message("qqqqqq"), "\"qqqqqq\" selects nothing");
        assert!(selects(&[], "x"));
        assert!(selects(&["q".into(), "ayer".into()], "layernorm"));
        assert!(!selects(&["ayer*".into()], "layernorm"));
    }
}
