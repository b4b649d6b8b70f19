//! Where specs and goldens are found.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hf_hub::Cache;

use crate::line::glob;
use crate::report::provenance::{FolderOrigin, folder_hash};
use crate::session::Failure;
use crate::session::suite::{self, Suite};
use crate::spec::{Specs, read_folder, vocabulary};
use crate::store::Store;
use crate::yaml::Problem;
use crate::yaml::near::nearest;

/// The folders that a command reads.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Folders {
    /// The specs folder; without it, the first specs/ from the current folder upwards. Named more
    /// than once, the cases of all folders count, and each folder has gates of its own.
    #[arg(long, value_name = "DIR")]
    pub specs: Vec<PathBuf>,
    /// The golden folder. By default it is the folder `golden` next to the specs folder. If there
    /// are several specs folders, give one golden folder for each, in the same order.
    #[arg(long, value_name = "DIR")]
    pub golden: Vec<PathBuf>,
    /// A folder of published checkpoints: what they ask counts then. Without it GOLDGATE_MODELS,
    /// and the cache of the hub.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}

/// A specs folder and the golden folder of its cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What tells it apart where several are read: the folder's name, or that of its parent where
    /// it is called specs.
    pub name: String,
    /// The specs folder.
    pub specs: PathBuf,
    /// The golden folder; it need not exist.
    pub golden: PathBuf,
}

impl Folders {
    /// Every specs folder with its golden folder, in the order of the command line.
    ///
    /// # Errors
    /// There is no specs folder, one is named twice, or golden folders are named for some of them.
    pub fn pairs(&self) -> Result<Vec<Pair>, Failure> {
        let specs = self.specs_dirs()?;
        if !self.golden.is_empty() && self.golden.len() != specs.len() {
            return Err(Failure::Usage(format!(
                "--golden: named {} times for {} specs folders; expected one each, in their order, \
                 or none: then each has the one beside it",
                self.golden.len(),
                specs.len()
            )));
        }
        let mut pairs: Vec<Pair> = Vec::new();
        for (at, specs) in specs.into_iter().enumerate() {
            let beside = || specs.parent().unwrap_or(Path::new(".")).join("golden");
            let golden = self.golden.get(at).cloned().unwrap_or_else(beside);
            let same = |pair: &Pair| pair.specs.canonicalize().ok() == specs.canonicalize().ok();
            // Every case of it would clash with itself, and hide the one mistake.
            if pairs.iter().any(same) {
                let name = specs.display();
                return Err(Failure::Usage(format!("--specs {name}: named more than once")));
            }
            let taken = |name: &str| pairs.iter().any(|pair| pair.name == name);
            let first = name_of(&specs);
            let numbered = (2..).map(|n| format!("{first}-{n}"));
            let name = std::iter::once(first.clone()).chain(numbered).find(|name| !taken(name));
            pairs.push(Pair { name: name.unwrap_or(first), specs, golden });
        }
        Ok(pairs)
    }

    /// The only pair of folders, for commands that write into it.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn only(&self) -> Result<Pair, Failure> {
        let mut pairs = self.pairs()?;
        match (pairs.pop(), pairs.is_empty()) {
            (Some(pair), true) => Ok(pair),
            _ => Err(Failure::Usage("--specs: this command takes one folder".to_owned())),
        }
    }

    fn specs_dirs(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(dir) = self.specs.iter().find(|dir| !dir.is_dir()) {
            return Err(Failure::Absent(format!("--specs {}: no such folder", dir.display())));
        }
        if !self.specs.is_empty() {
            return Ok(self.specs.clone());
        }
        let here = std::env::current_dir()?;
        // From any folder of the repository, as other tools find their root.
        let found = here.ancestors().map(|up| up.join("specs")).find(|dir| dir.is_dir());
        let found = found.ok_or_else(|| {
            Failure::Absent("no specs/ in this folder or above it; name one with --specs".into())
        });
        Ok(vec![found?])
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

    /// The suites of all folders, provided that none has a problem and no two share a trial.
    ///
    /// # Errors
    /// All problems of all files of all folders.
    pub fn read_all(&self) -> Result<Vec<Suite>, Failure> {
        let (mut suites, mut all) = (Vec::new(), Vec::new());
        for pair in self.pairs()? {
            let (specs, problems) = pair.read();
            all.extend(problems);
            match pair.store() {
                Ok(store) => suites.push(Suite::new(pair, specs, store)),
                Err(problems) => all.extend(problems),
            }
        }
        // Of a folder that could not be read some cases are unknown.
        if all.is_empty() {
            all = suite::between(&suites);
        }
        if all.is_empty() { Ok(suites) } else { Err(Failure::Problems(all)) }
    }
}

impl Pair {
    /// The specs, with all problems found in them.
    pub fn read(&self) -> (Specs, Vec<Problem>) {
        let (specs, problems) = read_folder(&self.specs, &vocabulary);
        (specs, self.of_specs(problems))
    }

    /// Opens the golden folder.
    ///
    /// # Errors
    /// The manifest is malformed.
    pub fn store(&self) -> Result<Store, Vec<Problem>> {
        Store::open(&self.golden).map_err(|problems| self.of_golden(problems))
    }

    /// Problems of files in the specs folder, with paths that a terminal can open from the current
    /// folder.
    pub fn of_specs(&self, problems: Vec<Problem>) -> Vec<Problem> {
        below(&self.specs, problems)
    }

    /// Like [`Pair::of_specs`], for problems of specs and goldens together: specs are the YAML
    /// files.
    pub fn of_either(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let is_spec = |p: &Problem| p.place.file.ends_with(".yaml");
        let (specs, golden): (Vec<_>, Vec<_>) = problems.into_iter().partition(is_spec);
        [self.of_specs(specs), self.of_golden(golden)].concat()
    }

    /// Like [`Pair::of_specs`], for the golden folder.
    pub fn of_golden(&self, problems: Vec<Problem>) -> Vec<Problem> {
        below(&self.golden, problems)
    }

    /// The folders as a report names them.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn origin(&self) -> std::io::Result<FolderOrigin> {
        Ok(FolderOrigin {
            name: self.name.clone(),
            path: self.specs.display().to_string(),
            specs_sha256: folder_hash(&self.specs)?,
            golden_sha256: folder_hash(&self.golden)?,
        })
    }

    /// The folder that contains the specs folder: that of the pages and records that belong to it.
    ///
    /// # Errors
    /// The specs folder is gone.
    pub fn root(&self) -> std::io::Result<PathBuf> {
        let specs = self.specs.canonicalize()?;
        Ok(specs.parent().unwrap_or(&specs).to_path_buf())
    }
}

/// The name of a specs folder on pages and in names of files.
fn name_of(specs: &Path) -> String {
    let whole = specs.canonicalize().unwrap_or_else(|_| specs.to_path_buf());
    let own = |path: &Path| path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    // Most are called specs, which would tell none of them apart.
    let name = match own(&whole) {
        Some(name) if name == "specs" => whole.parent().and_then(own).unwrap_or(name),
        name => name.unwrap_or_default(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    // A letter first, since a number would read as that of a gate.
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => name,
        false => format!("specs-{name}"),
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
    fn each_specs_folder_has_a_golden_folder_and_a_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let [ours, mine, other] = ["ours/specs", "Mine_1/specs", "other/mine-1"].map(|name| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        });
        let specs = vec![ours.clone(), mine.clone(), other];
        let pairs = Folders { specs, ..Folders::default() }.pairs().expect("pairs");
        let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!(names, ["ours", "mine-1", "mine-1-2"]);
        assert_eq!(pairs[1].golden, folder.path().join("Mine_1/golden"));
        let usage = |specs: &[&PathBuf], golden: &[&str]| {
            let specs = specs.iter().map(|path| (*path).clone()).collect();
            let golden = golden.iter().map(PathBuf::from).collect();
            let pairs = Folders { specs, golden, models: None }.pairs();
            pairs.expect_err("refused").to_string()
        };
        assert!(usage(&[&ours, &ours], &[]).ends_with("ours/specs: named more than once"));
        assert!(usage(&[&ours, &mine], &["a"]).starts_with("--golden: named 1 times for 2 specs"));
        assert!(Folders { specs: vec![ours, mine], ..Folders::default() }.only().is_err());
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
