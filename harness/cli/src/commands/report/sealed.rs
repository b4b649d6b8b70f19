//! `goldgate report merge`, `verify` and `attest`: reports that hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldgate_harness::line::Day;
use goldgate_harness::report::attestation;
use goldgate_harness::report::pages::{self, Checked, Required};
use goldgate_harness::report::provenance::{file_hash, folder_hash, together};
use goldgate_harness::report::publish::{gate_lines, publish};
use goldgate_harness::report::summary::{GateSummary, conclude};
use goldgate_harness::report::text::line;
use goldgate_harness::report::verify::{Expected, Finding, verify};
use goldgate_harness::report::{Report as Document, merge};
use goldgate_harness::session::folders::Folders;
use goldgate_harness::session::{Suite, Suites, compare_with_last};
use serde_json::{Value, json};

use crate::commands::report::read;
use crate::commands::{Exit, Failure, say, say_json};

#[derive(Debug, clap::Args)]
pub struct Merge {
    /// The shards' reports.
    #[arg(required = true)]
    shards: Vec<PathBuf>,
    /// Which pages each shard must have in addition to its report.json.
    #[arg(long, value_enum, default_value_t)]
    pages: Required,
    /// The folder that the whole report goes to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    folders: Folders,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Attest {
    /// The report.
    path: PathBuf,
    /// The SSH key to sign with; a public key is signed for by the agent.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Which pages must be there.
    #[arg(long, value_enum, default_value_t)]
    pages: Required,
}

#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The report.
    path: PathBuf,
    /// Which pages must be there; those that are there must hold in any case.
    #[arg(long, value_enum, default_value_t)]
    pages: Required,
    /// The hash that was signed off on the gate's page.
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The commit that it must be of, with nothing edited since.
    #[arg(long)]
    commit: Option<String>,
    /// The program that it must be of.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The specs folder that it must be of, or all of them in the order of the run; the gates are
    /// weighed again by them.
    #[arg(long, value_name = "DIR")]
    specs: Vec<PathBuf>,
    /// The golden folder that it must be of, or all of them.
    #[arg(long, value_name = "DIR")]
    golden: Vec<PathBuf>,
    /// Who may have signed it, as `ssh-keygen` reads allowed signers: `NAME KEY-TYPE KEY`, one a
    /// line.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// The most days that may have passed since its run ended.
    #[arg(long, value_name = "DAYS")]
    max_age: Option<u32>,
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

/// The folder of a report, which holds its pages. They have names of their own, so a report that
/// was given another name has none.
fn folder_of(path: &Path) -> Option<&Path> {
    if path.is_dir() {
        return Some(path);
    }
    path.file_name().filter(|name| *name == "report.json")?;
    let folder = path.parent()?;
    // The parent of a bare `report.json` is an empty path, which no system opens as a folder.
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// A report with everything that was found about it and its pages.
fn verified(
    path: &Path,
    expected: &Expected,
    required: Required,
) -> Result<(Document, Checked), Failure> {
    let report = read(path)?;
    let findings = verify(&report, expected).map_err(std::io::Error::from)?;
    let holds = findings.is_empty();
    let mut checked = if let Some(folder) = folder_of(path) {
        pages::verify(folder, &report, required, holds)?
    } else {
        let note = "pages were not verified: the file is not named report.json".to_owned();
        Checked { notes: vec![note], ..Checked::default() }
    };
    // Those about the report come first: what is found about pages may only follow from them.
    checked.findings.splice(0..0, findings);
    Ok((report, checked))
}

/// The path of a shard, and what does not hold in it.
type Refusal = (String, Finding);

/// Reads the shards and verifies each: a verdict that was turned would go into the merged report,
/// which is sealed anew and would hold. Gives what does not hold, with the file that says it.
fn shards(args: &Merge) -> Result<(Vec<Document>, Vec<Refusal>), Failure> {
    let mut shards = Vec::new();
    let mut refused = Vec::new();
    for path in &args.shards {
        let (report, checked) = verified(path, &Expected::default(), args.pages)?;
        let found = checked.findings.into_iter();
        refused.extend(found.map(|finding| (path.display().to_string(), finding)));
        shards.push(report);
    }
    Ok((shards, refused))
}

pub fn merge_all(args: &Merge) -> Result<Exit, Failure> {
    let (shards, refused) = shards(args)?;
    if !refused.is_empty() {
        if args.json {
            let refused = refused.iter().map(|(path, f)| json!({"path": path, "found": f}));
            say_json(&json!({ "refused": refused.collect::<Vec<_>>() }))?;
        } else {
            for (path, finding) in &refused {
                say(&format!("{}: {finding}", line(path)))?;
            }
            say("refused: a shard is not as it was written")?;
        }
        return Ok(Exit::No);
    }
    let mut whole = merge::merge(&shards).map_err(|e| Failure::Usage(e.to_string()))?;
    // An INVALID report has no gates, so it can be merged without the specs that they are weighed
    // by.
    if whole.invalid.is_empty() {
        let here: Vec<PathBuf> = args.folders.pairs()?.into_iter().map(|pair| pair.specs).collect();
        // Other specs would weigh the rows by requirements that the run did not know.
        if hash_together(&here)? != whole.provenance.specs_sha256 {
            let commit = line(&whole.provenance.commit);
            return Err(Failure::Absent(format!(
                "the specs of the shards are not those here: take --specs from commit {commit}"
            )));
        }
        let suites = as_recorded(args.folders.read_all()?, &whole);
        conclude(&mut whole, &suites.gates());
        compare_with_last(&mut whole, &suites)?;
    }
    publish(&args.out, &mut whole)?;
    if args.json {
        say_json(&json!({
            "invalid": whole.invalid, "incomplete": whole.incomplete, "gates": whole.gates,
            "rows": whole.rows.len(), "sha256": whole.sha256,
        }))?;
    } else {
        if let Some(why) = &whole.incomplete {
            say(&format!("INCOMPLETE: {}", line(why)))?;
        }
        for text in gate_lines(&whole) {
            say(&text)?;
        }
    }
    let good = whole.invalid.is_empty() && whole.incomplete.is_none();
    Ok(if good { Exit::Yes } else { Exit::No })
}

pub fn verify_report(args: &Verify) -> Result<Exit, Failure> {
    let file = |path: &PathBuf| match path.is_file() {
        true => Ok(file_hash(path)?),
        false => Err(Failure::Absent(format!("{}: no such file", path.display()))),
    };
    let folders = |paths: &[PathBuf]| match paths.iter().find(|path| !path.is_dir()) {
        Some(path) => Err(Failure::Absent(format!("{}: no such folder", path.display()))),
        None if paths.is_empty() => Ok(None),
        None => Ok(Some(hash_together(paths)?)),
    };
    let expected = Expected {
        sha256: args.sha256.clone(),
        commit: args.commit.clone(),
        program_sha256: args.program.as_ref().map(file).transpose()?,
        specs_sha256: folders(&args.specs)?,
        golden_sha256: folders(&args.golden)?,
        not_before: args.max_age.map(days_ago),
    };
    let (report, mut checked) = verified(&args.path, &expected, args.pages)?;
    // Edited rows weigh otherwise in any case, and each difference would be one more finding.
    if !args.specs.is_empty() && checked.findings.is_empty() {
        checked.findings.extend(weighed_again(&report, &args.specs)?);
    }
    let signers = args.signers.as_deref();
    if let Some(missing) = signers.filter(|path| !path.is_file()) {
        return Err(Failure::Absent(format!("{}: no such file", missing.display())));
    }
    if let Some(folder) = folder_of(&args.path) {
        let (findings, notes) = attestation::verify(folder, &report, signers)?;
        checked.findings.extend(findings);
        checked.notes.extend(notes);
    }
    let Checked { findings, held, notes } = checked;
    if args.json {
        let found: Value = serde_json::to_value(&findings).map_err(std::io::Error::from)?;
        say_json(&json!({
            "holds": findings.is_empty(),
            "incomplete": report.incomplete,
            "sha256": report.sha256,
            "pages": held,
            "notes": notes,
            "found": found,
        }))?;
    } else {
        for finding in &findings {
            say(&finding.to_string())?;
        }
        for note in &notes {
            say(&format!("note: {note}"))?;
        }
        if findings.is_empty() {
            let rows = report.rows.len();
            let sha256 = line(&report.sha256);
            say(&format!("holds: {rows} rows, {held} pages, sha256 {sha256}"))?;
            if let Some(why) = &report.incomplete {
                say(&format!("INCOMPLETE: {}", line(why)))?;
            }
        }
    }
    Ok(match (findings.is_empty(), &report.incomplete) {
        (false, _) => Exit::No,
        // A release must not mistake a part of a run for a whole one, however well it is sealed.
        (true, Some(_)) => Exit::Incomplete,
        (true, None) => Exit::Yes,
    })
}

/// The hash of several folders, as reports have it.
fn hash_together(folders: &[PathBuf]) -> std::io::Result<String> {
    let each = folders.iter().map(|folder| folder_hash(folder));
    Ok(together(&each.collect::<std::io::Result<Vec<_>>>()?))
}

/// Folders under the names that they had in a run: they may lie elsewhere now.
fn as_recorded(mut suites: Vec<Suite>, report: &Document) -> Suites {
    for (suite, origin) in suites.iter_mut().zip(&report.provenance.folders) {
        suite.pair.name.clone_from(&origin.name);
    }
    Suites(suites.into_iter().map(Arc::new).collect())
}

/// Weighs the rows by the specs that the report rests on: its gates must be what that gives.
fn weighed_again(report: &Document, specs: &[PathBuf]) -> Result<Vec<Finding>, Failure> {
    let folders = Folders { specs: specs.to_vec(), ..Folders::default() };
    let suites = as_recorded(folders.read_all()?, report);
    let mut again = Document { invalid: Vec::new(), ..report.clone() };
    // What was INVALID for other reasons than its gates shows none.
    if !report.invalid.is_empty() {
        return Ok(Vec::new());
    }
    conclude(&mut again, &suites.gates());
    let mut findings = Vec::new();
    let mut add = |field: String, found: String, expected: String| {
        findings.push(Finding { code: "GATES", field, found, expected });
    };
    for reason in again.invalid {
        add("invalid".to_owned(), "nothing".to_owned(), reason);
    }
    for gate in &again.gates {
        let same = |told: &&GateSummary| (&told.folder, told.gate) == (&gate.folder, gate.gate);
        let Some(told) = report.gates.iter().find(same) else {
            add(
                format!("gate {}", gate.number()),
                "nothing".to_owned(),
                gate.state.word().to_owned(),
            );
            continue;
        };
        if told.state != gate.state {
            let (told, state) = (told.state.word().to_owned(), gate.state.word().to_owned());
            add(format!("gate {}", gate.number()), told, state);
        }
        for (told, r) in told.requirements.iter().zip(&gate.requirements).filter(|(a, b)| a != b) {
            let text = |r| serde_json::to_string(r).map_err(std::io::Error::from);
            add(r.id.clone(), text(told)?, text(r)?);
        }
        let same = told == gate || told.state != gate.state;
        if !same && told.requirements == gate.requirements {
            let field = format!("gate {}", gate.number());
            add(
                field,
                "other subjects or requirements".to_owned(),
                "those of the specs".to_owned(),
            );
        }
    }
    if again.gates.len() != report.gates.len() {
        let (found, expected) = (report.gates.len(), again.gates.len());
        add("gates".to_owned(), format!("{found} gates"), format!("{expected} gates"));
    }
    Ok(findings)
}

/// Signs a report that holds: a statement about one that does not would be worth nothing.
pub fn attest_report(args: &Attest) -> Result<Exit, Failure> {
    let (report, checked) = verified(&args.path, &Expected::default(), args.pages)?;
    for finding in &checked.findings {
        say(&finding.to_string())?;
    }
    if !checked.findings.is_empty() {
        say("refused: the report is not as it was written")?;
        return Ok(Exit::No);
    }
    let Some(folder) = folder_of(&args.path) else {
        let path = args.path.display();
        return Err(Failure::Usage(format!("{path}: expected a folder, or report.json in one")));
    };
    if !args.key.is_file() {
        return Err(Failure::Absent(format!("--key {}: no such file", args.key.display())));
    }
    attestation::attest(folder, &report, &args.key)?;
    say(&format!("signed: {} and {}", attestation::STATEMENT, attestation::SIGNATURE))?;
    Ok(Exit::Yes)
}

/// The beginning of the day that lies this many days in the past.
fn days_ago(days: u32) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |d| d.as_secs());
    // From midnight on, so that the verdict does not depend on the hour of the check.
    format!("{}T00:00:00Z", Day::of_seconds(now.saturating_sub(u64::from(days) * 86_400)))
}
