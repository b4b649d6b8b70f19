//! Attestations: a statement about a sealed report in the form of in-toto, and its signature.
//!
//! The signature is one of OpenSSH, made and verified by `ssh-keygen`: most users have it, and keys
//! in agents and on hardware tokens work with it. It proves what its runner says. That the runner
//! was honest is proved by a second run, which the verifier makes.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, Links, open_foreign, read_foreign};
use serde_json::{Value, json};

use crate::gate::State;
use crate::report::Report;
use crate::report::markdown::not_for_release;
use crate::report::pages::RENDERER;
use crate::report::provenance::file_hash;
use crate::report::verify::Finding;

/// The statement's file, in the folder of report.json.
pub const STATEMENT: &str = "attestation.json";

/// The detached signature's file.
pub const SIGNATURE: &str = "attestation.json.sig";

/// Both files.
pub const FILES: [&str; 2] = [STATEMENT, SIGNATURE];

/// What the signature is for: one made for something else does not verify.
pub const NAMESPACE: &str = "goldgate-report";

/// An attestation that could not be made or verified.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// A file cannot be read or written.
    #[error("could not attest: {0}")]
    Io(#[from] io::Error),
    /// There is no ssh-keygen.
    #[error("could not start ssh-keygen, which signs and verifies: {0}")]
    NoProgram(io::Error),
    /// It refuses to sign.
    #[error("ssh-keygen does not sign: {0}")]
    Unsigned(String),
}

/// The statement about a report: its SHA-256, that of its file, where it comes from, and the
/// verdicts of its gates.
pub fn statement(report: &Report, file_sha256: &str) -> String {
    let p = &report.provenance;
    let sha256 = |name: &str, hash: &str| json!({"name": name, "digest": {"sha256": hash}});
    let [passed, warned, failed] = tests(report);
    let release = report.gates.iter().all(|gate| not_for_release(report, gate).is_empty());
    // In a report without gates nothing has failed, and yet nothing has passed either.
    let whole = release && report.incomplete.is_none() && !report.gates.is_empty();
    let result = match (report.invalid.is_empty() && failed.is_empty(), whole && warned.is_empty())
    {
        (false, _) => "FAILED",
        (true, false) => "WARNED",
        (true, true) => "PASSED",
    };
    let value = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            sha256("report in canonical form", &report.sha256),
            sha256("report.json", file_sha256),
        ],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": result,
            "configuration": [
                {"name": "commit", "digest": {"gitCommit": p.commit}},
                sha256("program", &p.program_sha256),
                sha256("specs", &p.specs_sha256),
                sha256("goldens", &p.golden_sha256),
                sha256("kernels", &p.kernels_sha256),
            ],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    });
    format!("{value:#}\n")
}

/// The gates of each subject that are met, that say nothing yet, and that are not met.
fn tests(report: &Report) -> [Vec<String>; 3] {
    let mut tests: [Vec<String>; 3] = Default::default();
    for gate in &report.gates {
        for (subject, state) in &gate.subjects {
            let list = match state {
                State::Met => 0,
                State::NotMet => 2,
                // A gate that does not concern a subject is no test of it.
                State::NotAsked => continue,
                State::Incomplete | State::NotOffered | State::NotRun => 1,
            };
            tests[list].push(format!("gate {} on {subject}", gate.number()));
        }
    }
    tests
}

/// Writes the statement about the report in `folder`, and its signature by the SSH key in `key`.
///
/// # Errors
/// The folder cannot be written, or ssh-keygen does not sign.
pub fn attest(folder: &Path, report: &Report, key: &Path) -> Result<(), AttestError> {
    let statement = statement(report, &file_hash(&folder.join("report.json"))?);
    // ssh-keygen asks before it replaces a signature, and a statement must not keep an old one.
    match fs::remove_file(folder.join(SIGNATURE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    crate::report::writer::replace(&folder.join(STATEMENT), statement.as_bytes())?;
    let words = ["-q", "-Y", "sign", "-n", NAMESPACE, "-f"];
    let mut command = Command::new("ssh-keygen");
    command.args(words).arg(key).arg(folder.join(STATEMENT)).stdin(Stdio::null());
    let output = command.output().map_err(AttestError::NoProgram)?;
    if output.status.success() && folder.join(SIGNATURE).is_file() {
        return Ok(());
    }
    // Left without a signature, the statement would fail every later verification of the folder.
    fs::remove_file(folder.join(STATEMENT))?;
    Err(AttestError::Unsigned(said(&output)))
}

/// Verifies the attestation in `folder`: that its statement is about this report and, given a file
/// of allowed signers as `ssh-keygen` reads it, that one of them signed it. Notes who did.
///
/// # Errors
/// A file cannot be read, or there is no ssh-keygen.
pub fn verify(
    folder: &Path,
    report: &Report,
    signers: Option<&Path>,
) -> Result<(Vec<Finding>, Vec<String>), AttestError> {
    let (mut findings, mut notes) = (Vec::new(), Vec::new());
    let mut add = |code, field: &str, found: &str, expected: &str| {
        let (field, found, expected) = (field.to_owned(), found.to_owned(), expected.to_owned());
        findings.push(Finding { code, field, found, expected });
    };
    let present = FILES.map(|name| folder.join(name).is_file());
    match (present, signers) {
        ([false, false], None) => {}
        ([true, true], _) => {
            let expected = statement(report, &file_hash(&folder.join("report.json"))?);
            if !is_about(&read_statement(folder)?, &expected, report) {
                add("ATTESTATION", STATEMENT, "another statement", "one about this report");
            }
            match signers.map(|signers| signed_by(folder, signers)).transpose()? {
                Some(Ok(who)) => notes.push(format!("signed by {who}")),
                Some(Err(why)) => add("SIGNATURE", SIGNATURE, &why, "that of an allowed signer"),
                None => notes.push("signed; name the allowed signers with --signers".to_owned()),
            }
        }
        // Half an attestation is damaged, and none at all fails a caller who named allowed signers.
        _ => add("ATTESTATION", STATEMENT, "no signed statement", "a statement and its signature"),
    }
    Ok((findings, notes))
}

fn read_statement(folder: &Path) -> io::Result<Vec<u8>> {
    let bounds = Bounds { links: Links::Refused, ..Bounds::of_user(LARGEST_TEXT) };
    Ok(read_foreign(&folder.join(STATEMENT), bounds)?)
}

/// Whether a statement is the one that this report gives. Another version of goldgate may word it
/// in another way, but not name other hashes.
fn is_about(found: &[u8], expected: &str, report: &Report) -> bool {
    let subject = |text: &[u8]| {
        let value: Value = serde_json::from_slice(text).ok()?;
        Some((value["predicateType"].clone(), value["subject"].clone()))
    };
    let other = report.renderer != RENDERER && subject(found) == subject(expected.as_bytes());
    found == expected.as_bytes() || other
}

/// Who of the allowed signers signed the statement; else what ssh-keygen says.
fn signed_by(folder: &Path, signers: &Path) -> Result<Result<String, String>, AttestError> {
    let keygen = |words: &[&str]| -> Result<Output, AttestError> {
        let mut command = Command::new("ssh-keygen");
        command.args(words).arg("-f").arg(signers).arg("-s").arg(folder.join(SIGNATURE));
        let statement = open_foreign(&folder.join(STATEMENT), Links::Refused);
        command.stdin(statement.map_err(io::Error::from)?);
        command.output().map_err(AttestError::NoProgram)
    };
    let found = keygen(&["-Y", "find-principals"])?;
    if !found.status.success() {
        return Ok(Err(said(&found)));
    }
    let mut why = String::new();
    // One key may be listed under several names, of which some may have expired, so each is tried.
    for who in String::from_utf8_lossy(&found.stdout).lines() {
        let checked = keygen(&["-Y", "verify", "-n", NAMESPACE, "-I", who])?;
        if checked.status.success() {
            return Ok(Ok(who.to_owned()));
        }
        why = said(&checked);
    }
    Ok(Err(why))
}

/// What a program said, in one line.
fn said(output: &Output) -> String {
    let both = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&both);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn result(edit: fn(&mut Report)) -> (String, Value) {
        let mut report = samples::report();
        edit(&mut report);
        let text = statement(&report, "");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        (value["predicate"]["result"].as_str().expect("a word").to_owned(), value)
    }

    #[test]
    fn a_statement_says_no_better_than_the_gates() {
        let (word, value) = result(|_| {});
        assert_eq!(word, "FAILED");
        assert_eq!(value["predicate"]["failedTests"], json!(["gate 1 on cpu"]));
        assert_eq!(value["predicate"]["warnedTests"], json!(["gate 1 on cuda"]));
        let met = |report: &mut Report| {
            report.gates[0].subjects.values_mut().for_each(|state| *state = State::Met);
        };
        assert_eq!(result(met).0, "PASSED");
        let dirty = |report: &mut Report| {
            report.gates[0].subjects.values_mut().for_each(|state| *state = State::Met);
            report.provenance.tree = "dirty".into();
        };
        assert_eq!(result(dirty).0, "WARNED");
        let invalid = |report: &mut Report| {
            report.gates.clear();
            report.invalid = vec!["x".into()];
        };
        assert_eq!(result(invalid).0, "FAILED");
        assert_eq!(result(|report| report.gates.clear()).0, "WARNED");
    }
}
