//! Checks of the harness itself: goldens and manifests are tampered with in a scratch folder, and
//! the harness must detect it. Each check is a trial `gate1::tamper::<name>::self::harness`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use goldgate_tensor::{DType, Tensor};

use crate::kinds::check::{HarnessCheck, Unnoticed};
use crate::kinds::op::case::Case;
use crate::kinds::op::golden;
use crate::kinds::op::oracle::{Asked, question};
use crate::spec::folder::read_file;
use crate::spec::{Specs, vocabulary};
use crate::store::manifest::NAME;
use crate::store::{Label, Store, Witness};

const fn tamper(
    case: &'static str,
    why: &'static str,
    run: fn() -> Result<(), Unnoticed>,
) -> HarnessCheck {
    HarnessCheck { gate: 1, stem: "tamper", case, why, run }
}

/// All checks of the harness, in alphabetical order.
pub const ALL: &[HarnessCheck] = &[
    tamper("golden_bit_flipped", "one bit of a golden flipped, at every 61st byte", bit_flipped),
    tamper("golden_constant", "a golden whose elements are all the same", || {
        refused_as("GOLDEN_WEAK", |g| g.put("y", DType::F64, &[3.5; 6]))
    }),
    tamper("golden_cut", "a golden without its last byte", || {
        refused_as("GOLDEN_SIZE", |g| {
            let bytes = fs::read(g.file())?;
            fs::write(g.file(), &bytes[..bytes.len() - 1])
        })
    }),
    tamper("golden_gone", "a golden that the manifest lists and nobody has", || {
        refused_as("GOLDEN_MISSING", |g| fs::remove_file(g.file()))
    }),
    tamper("golden_in_f32", "a golden in the precision that it judges", || {
        refused_as("GOLDEN_PRECISION", |g| g.put("y", DType::F32, &Y))
    }),
    tamper("golden_nan", "a NaN in a golden of finite inputs", || {
        refused_as("GOLDEN_NONFINITE", |g| {
            g.put("y", DType::F64, &[f64::NAN, 1.0, 2.0, 3.0, 4.0, 5.0])
        })
    }),
    tamper("golden_of_other_case", "a golden under another case's name", || {
        refused_as("GOLDEN_CASE", |g| g.relabel(|label| label.case = "ops/layernorm/two".into()))
    }),
    tamper("golden_of_other_inputs", "a golden made for other inputs", || {
        refused_as("INPUTS_HASH", |g| {
            g.relabel(|label| {
                label.inputs.insert("x".into(), "00".repeat(32));
            })
        })
    }),
    tamper("golden_of_other_question", "a golden made for another question", || {
        refused_as("GOLDEN_QUESTION", |g| g.relabel(|label| label.question = "00".repeat(32)))
    }),
    tamper("golden_of_the_engine", "a golden made by what it judges", || {
        refused_as("PROVENANCE_SELF", |g| {
            g.relabel(|label| label.witnesses[0].name = "goldgate-engine".into())
        })
    }),
    tamper("golden_without_witness", "a golden that nobody has computed", || {
        refused_as("PROVENANCE", |g| g.relabel(|label| label.witnesses.clear()))
    }),
    tamper("manifest_line_twice", "one golden in two lines of the manifest", || {
        refused_as("MANIFEST_DUP", |g| {
            let line = format!("\"{PATH}\": {{\"bytes\": 1, \"sha256\": \"00\"}}");
            g.manifest(format!("{{\"format\": 1, \"files\": {{{line}, {line}}}}}"))
        })
    }),
    tamper("manifest_short_hash", "a hash of 63 digits", || {
        refused_as("MANIFEST_FORM", |g| {
            let text = fs::read_to_string(g.folder.path().join(NAME))?;
            g.manifest(text.replacen("\"sha256\": \"", "\"sha256\": \"x", 1))
        })
    }),
    tamper("manifest_without_line", "a golden that the manifest does not list", || {
        refused_as("GOLDEN_MISSING", |g| g.manifest("{\"format\": 1, \"files\": {}}".into()))
    }),
];

const SPEC: &[u8] = b"format: 1
op: layernorm
gate: 1
source: a check of the harness
inputs:
  x: { shape: [n, h], fill: { normal: [0, 1] } }
  gamma: { shape: [h], fill: { constant: 1 } }
  beta: { shape: [h], fill: { constant: 0 } }
attributes: { eps: 1.0e-5 }
dtypes: [f32]
cases:
  - name: one
    why: a golden to tamper with
    sizes: { n: 2, h: 3 }
";

const PATH: &str = "ops/layernorm/one.safetensors";
const Y: [f64; 6] = [1.0, -1.0, 0.5, 0.25, 2.0, -2.0];

/// A golden folder with one good golden.
struct Scratch {
    folder: tempfile::TempDir,
    case: Case,
    asked: Asked,
    label: Label,
    tensors: BTreeMap<String, Tensor>,
}

impl Scratch {
    fn new() -> Result<Scratch, Unnoticed> {
        let (mut specs, mut problems) = (Specs::default(), Vec::new());
        read_file("ops/layernorm.yaml", SPEC, &vocabulary, &mut specs, &mut problems);
        // A spec of its own, so that these checks do not depend on the specs folder.
        let Some(case) = specs.cases().next().cloned() else {
            return Err(Unnoticed::Good(format!("{problems:?}")));
        };
        let asked = question(&case, &[]);
        // Not the engine, or provenance would refuse the golden before any tampering shows.
        let witness = Witness {
            name: "formula".into(),
            version: "1".into(),
            script: String::new(),
            date: "2026-01-01".into(),
        };
        let label = Label {
            case: PATH.trim_end_matches(".safetensors").into(),
            question: asked.hash.clone(),
            inputs: asked.inputs.clone(),
            witnesses: vec![witness],
            exact: false,
        };
        let tensors = BTreeMap::from([
            ("y".to_owned(), Tensor::from_f64(DType::F64, &[2, 3], &Y)),
            ("y.slack".to_owned(), Tensor::from_f64(DType::F32, &[2, 3], &[1.0; 6])),
        ]);
        let mut scratch = Scratch { folder: tempfile::tempdir()?, case, asked, label, tensors };
        scratch.write()?;
        // Without a good start a check would pass because of some other mistake.
        match scratch.verdict() {
            Ok(()) => Ok(scratch),
            Err(code) => Err(Unnoticed::Good(code)),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(PATH)
    }

    fn write(&mut self) -> std::io::Result<()> {
        let mut store = Store {
            root: self.folder.path().to_owned(),
            manifest: crate::store::manifest::Manifest::default(),
        };
        store.write(PATH, &self.label, &self.tensors)?;
        store.manifest.write(self.folder.path())
    }

    fn put(&mut self, name: &str, dtype: DType, values: &[f64]) -> std::io::Result<()> {
        // Through the store, so that size and hash agree and only the content can be refused.
        self.tensors.insert(name.to_owned(), Tensor::from_f64(dtype, &[2, 3], values));
        self.write()
    }

    fn relabel(&mut self, change: impl FnOnce(&mut Label)) -> std::io::Result<()> {
        change(&mut self.label);
        self.write()
    }

    fn manifest(&self, text: String) -> std::io::Result<()> {
        // Past the store, which writes no malformed manifest.
        fs::write(self.folder.path().join(NAME), text)
    }

    /// The code that the current folder is refused with, if it is refused.
    fn verdict(&self) -> Result<(), String> {
        let store = Store::open(self.folder.path())
            .map_err(|problems| problems.first().map_or("", |p| p.code).to_owned())?;
        match golden::of_case(&store, &self.case, &self.asked) {
            Ok(_) => Ok(()),
            Err(problem) => Err(problem.code.to_owned()),
        }
    }

    fn must_say(&self, expected: &'static str) -> Result<(), Unnoticed> {
        match self.verdict() {
            // Another code would mean that the check under test was never reached.
            Err(code) if code == expected => Ok(()),
            Err(code) => Err(Unnoticed::OtherCode { reported: code, expected }),
            Ok(()) => Err(Unnoticed::OtherCode { reported: "nothing".into(), expected }),
        }
    }
}

fn refused_as(
    expected: &'static str,
    tamper: impl FnOnce(&mut Scratch) -> std::io::Result<()>,
) -> Result<(), Unnoticed> {
    let mut scratch = Scratch::new()?;
    tamper(&mut scratch)?;
    scratch.must_say(expected)
}

fn bit_flipped() -> Result<(), Unnoticed> {
    let scratch = Scratch::new()?;
    let good = fs::read(scratch.file())?;
    // A prime step, so that the flipped bits fall on every part of the file in time.
    for at in (0..good.len()).step_by(61) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(scratch.file(), &bytes)?;
        // The manifest still has the hash of the good bytes.
        scratch.must_say("GOLDEN_HASH")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::{SUBJECT_CHECKS, SubjectCheck};

    #[test]
    fn every_tampering_is_noticed() {
        for check in ALL {
            if let Err(e) = (check.run)() {
                panic!("{}: {} ({})", check.case, e, check.why);
            }
        }
    }

    #[test]
    fn the_lists_are_alphabetical() {
        assert!(ALL.windows(2).all(|w| w[0].case < w[1].case));
        let names = |c: &SubjectCheck| (c.stem, c.case);
        assert!(SUBJECT_CHECKS.windows(2).all(|w| names(&w[0]) < names(&w[1])));
    }
}
