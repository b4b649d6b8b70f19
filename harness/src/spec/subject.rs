//! Subject files (`specs/subjects/<label>.yaml`, or any file that `--on` names): how an engine on
//! trial is started, what it claims, and which of its failures its owners know.

use std::collections::BTreeMap;
use std::path::Path;

use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign};
use goldgate_wire::arithmetic::{Arithmetic, Place, Rounding};
use goldgate_wire::words::Claim;
use schemars::JsonSchema;

use crate::line::Profile;
use crate::line::roles::{TAKEN, is_label};
use crate::spec::known::{KnownFailure, entry};
use crate::yaml::Problem;
use crate::yaml::fields::version;
use crate::yaml::read::{At, Reader};
use crate::yaml::tree::{Kind, Node, Source, parse};

/// The longest time to start, in seconds.
const LONGEST_START: i64 = 3600;

/// An engine on trial.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubjectFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The label: the stem of the file, and the last part of the names of its trials.
    #[schemars(with = "String")]
    pub subject: At<String>,
    /// The command, as words: nothing in them is expanded.
    pub command: Vec<String>,
    /// The profile that its owners measure it by. A run is measured by it only on request.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Profile>,
    /// Variables of its environment, besides those of the run.
    #[schemars(default)]
    pub environment: BTreeMap<String, String>,
    /// How many seconds it may take to answer hello.
    pub start_s: Option<u32>,
    /// The kinds of determinism that may be held against it, in place of those in its hello.
    #[schemars(with = "Option<Vec<String>>")]
    pub claims: Option<Vec<Claim>>,
    /// Where it rounds intermediate values. Replaces what its hello declares. Each place has a
    /// type: `D`, `f16`, `bf16` or `tf32`, and for x also `int8 per 32` or `int8 per 256`.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub arithmetic: Option<Arithmetic>,
    /// Its failures that are known.
    #[schemars(default)]
    pub known_failures: Vec<KnownFailure>,
}

/// Reads a file that is not part of a specs folder.
///
/// # Errors
/// It cannot be read, or is malformed.
pub fn read_subject(path: &Path) -> Result<SubjectFile, Vec<Problem>> {
    let name = path.display().to_string();
    let bytes = read_foreign(path, Bounds::of_user(LARGEST_TEXT))
        .map_err(|e| vec![Problem::of_file("IO", &name, e.to_string(), "a subject file")])?;
    let source = Source::new(&name, &bytes).map_err(|problem| vec![problem])?;
    let node = parse(&source).map_err(|problem| vec![problem])?;
    let reader = Reader::new(&source);
    let file = subject_file(&reader, &node);
    let problems = reader.finish();
    match file {
        Some(file) if problems.is_empty() => Ok(file),
        _ => Err(problems),
    }
}

/// Reads a whole file.
pub fn subject_file(r: &Reader<'_>, node: &Node) -> Option<SubjectFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let subject = f.need("subject", label);
    let command = f.need("command", command);
    let profile = f.may("profile", |r, n, p| {
        r.word(n, p, &Profile::ALL.map(|profile| (profile.word(), profile)))
    });
    let environment = f.may("environment", environment).unwrap_or_default();
    let start_s = f.may("start_s", |r, n, p| Some(r.int(n, p, 1, LONGEST_START)? as u32));
    let claims = f.may("claims", |r, n, p| {
        let words: Vec<_> = Claim::ALL.iter().map(|claim| (claim.name(), *claim)).collect();
        r.list(n, p, |r, n, p| r.word(n, p, &words))
    });
    let arithmetic = f.may("arithmetic", arithmetic);
    let known = f.may("known_failures", |r, n, p| r.list(n, p, entry)).unwrap_or_default();
    f.done();
    let subject = subject?;
    for failure in &known {
        // An entry of another subject would excuse a failure that this file knows nothing of.
        if failure.case.value.rsplit("::").next() != Some(subject.value.as_str()) {
            let expected = format!("a trial of {}", subject.value);
            let field = "known_failures.case";
            r.note_value(&failure.case, "GATE_REF", field, &failure.case.value, &expected);
        }
    }
    Some(SubjectFile {
        format: format?,
        subject,
        command: command?,
        profile,
        environment,
        start_s,
        claims,
        arithmetic,
        known_failures: known,
    })
}

fn label(r: &Reader<'_>, node: &Node, path: &str) -> Option<At<String>> {
    let text = r.text(node, path)?;
    if !is_label(&text) {
        return r.fail(node, "ID_FORM", path, "a small letter, then at most 30 of a-z, 0-9 and -");
    }
    // Trials of these labels are our own, and would have the same names as those of the subject.
    if TAKEN.contains(&text.as_str()) {
        let expected = format!("another label than {}", TAKEN.join(", "));
        return r.fail(node, "ENUM", path, &expected);
    }
    Some(At::new(node, text))
}

fn command(r: &Reader<'_>, node: &Node, path: &str) -> Option<Vec<String>> {
    let words = r.list(node, path, Reader::text)?;
    // A subject without a program could only be absent.
    match words.is_empty() {
        true => r.fail(node, "MISSING_FIELD", path, "a program, then its arguments"),
        false => Some(words),
    }
}

fn arithmetic(r: &Reader<'_>, node: &Node, path: &str) -> Option<Arithmetic> {
    let mut f = r.fields(node, path)?;
    let mut all = Arithmetic::default();
    for place in Place::ALL {
        // Only what enters a product can be in int8: all else would be too coarse to judge.
        let int8 = |r: &Rounding| matches!(r, Rounding::Int8(_));
        let offered = Rounding::ALL.into_iter().filter(|r| place == Place::X || !int8(r));
        let words: Vec<(&str, Rounding)> = offered.map(|r| (r.name(), r)).collect();
        if let Some(rounding) = f.may(place.name(), |r, n, p| r.word(n, p, &words)) {
            all.declare(place, rounding).ok()?;
        }
    }
    f.done();
    Some(all)
}

fn environment(r: &Reader<'_>, node: &Node, path: &str) -> Option<BTreeMap<String, String>> {
    let Kind::Map(entries) = &node.kind else {
        return r.fail(node, "TYPE", path, "a mapping of names to texts");
    };
    let mut all = BTreeMap::new();
    for (key, value) in entries {
        let name = key.text().unwrap_or_default().to_owned();
        let field = format!("{path}.{name}");
        // No system accepts such a name, and the error would only appear when the subject is
        // started.
        if name.is_empty() || name.contains(['=', '\0']) {
            return r.fail(key, "ID_FORM", &field, "the name of a variable");
        }
        // The harness tells a subject by this prefix what it must know.
        if name.starts_with("GOLDGATE_") {
            return r.fail(key, "ENUM", &field, "a variable of the subject's own");
        }
        all.insert(name, r.text(value, &field)?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "format: 1
subject: mine
command: [python3, my_engine.py]
profile: kernels
environment: { OMP_NUM_THREADS: '1' }
start_s: 120
claims: [run]
arithmetic: { weights: D, x: int8 per 32 }
known_failures:
  - case: gate1::gelu::ragged::f16::mine
    fails: load
    at_most: 4
    device: '*'
    reason: tanh in half precision
    owner: us
    since: 2026-11-20
    expires: 2026-12-20
";

    fn read(text: &str) -> Result<SubjectFile, Vec<&'static str>> {
        let source = Source::new("mine.yaml", text.as_bytes()).expect("text");
        let node = parse(&source).map_err(|problem| vec![problem.code])?;
        let reader = Reader::new(&source);
        let file = subject_file(&reader, &node);
        let codes: Vec<&'static str> = reader.finish().iter().map(|p| p.code).collect();
        file.filter(|_| codes.is_empty()).ok_or(codes)
    }

    #[test]
    fn a_subject_is_read_whole() {
        let file = read(FILE).expect("a subject");
        assert_eq!(file.command, ["python3", "my_engine.py"]);
        assert_eq!((file.profile, file.start_s), (Some(Profile::Kernels), Some(120)));
        assert_eq!(file.claims, Some(vec![Claim::Run]));
        let declared = file.arithmetic.map(|a| a.to_string());
        assert_eq!(declared.as_deref(), Some("weights D, x int8 per 32"));
        assert_eq!(file.environment["OMP_NUM_THREADS"], "1");
        assert_eq!(file.known_failures.len(), 1);
        let bare = read("format: 1\nsubject: a\ncommand: [x]\n").expect("a subject");
        assert_eq!((bare.claims, bare.start_s), (None, None));
    }

    #[test]
    fn what_makes_no_subject_is_named() {
        for (from, to, code) in [
            ("subject: mine", "subject: Mine", "ID_FORM"),
            ("subject: mine", "subject: cpu", "ENUM"),
            ("command: [python3, my_engine.py]", "command: []", "MISSING_FIELD"),
            ("command: [python3, my_engine.py]", "comand: [python3]", "UNKNOWN_FIELD"),
            ("profile: kernels", "profile: kernel", "ENUM"),
            ("OMP_NUM_THREADS", "GOLDGATE_WIRE", "ENUM"),
            ("start_s: 120", "start_s: 0", "RANGE"),
            ("claims: [run]", "claims: [runs]", "ENUM"),
            ("x: int8 per 32", "x: int4 per 32", "ENUM"),
            ("weights: D", "weights: int8 per 32", "ENUM"),
            ("weights: D", "scale: D", "UNKNOWN_FIELD"),
            ("f16::mine", "f16::cpu", "GATE_REF"),
        ] {
            let text = FILE.replacen(from, to, 1);
            assert_ne!(text, FILE, "{from}");
            let codes = read(&text).expect_err(to);
            assert_eq!(codes.first(), Some(&code), "{to}: {codes:?}");
        }
    }
}
