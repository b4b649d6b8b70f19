//! Documents as evidence: a page must exist, have its heading and name what is required, its
//! console blocks must print what the page shows, and its spec blocks must be valid specs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use goldgate_engine::ops;
use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign_text};

use crate::spec::gates::{DocumentEvidence, Evidence, GatesFile};

/// Set for the commands of a page.
const INSIDE: &str = "GOLDGATE_DOCUMENT";

/// Stands for any number of lines, or inside a line for any text.
const ANY: &str = "…";

/// A statement of a page that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum Untrue {
    /// The page cannot be read.
    #[error("{path}: {source}")]
    Absent {
        /// The page.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Required content is missing from the page.
    #[error("{path}: no {what}")]
    Lacks {
        /// The page.
        path: String,
        /// The missing content.
        what: String,
    },
    /// A command printed something else than the page shows.
    #[error("{path}:{line}: `{command}` printed\n{printed}\ninstead of\n{expected}")]
    Printed {
        /// The page.
        path: String,
        /// The line of the command, from 1.
        line: usize,
        /// The command.
        command: String,
        /// The actual output.
        printed: String,
        /// The output that the page shows.
        expected: String,
    },
}

/// A command of a console block with the output below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The line of the command, from 1.
    pub line: usize,
    /// The command, as a shell reads it.
    pub command: String,
    /// The lines that it prints according to the page.
    pub expected: Vec<String>,
}

/// The fenced blocks of a page in one language: the number of the first line inside, and the lines.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<(usize, Vec<&'t str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Vec<&str>)> = None;
    let mut other = false;
    for (i, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            // Blocks in other languages are tracked as well, or their closing fence would open a
            // block.
            Some("") if other => other = false,
            Some("") => blocks.extend(open.take()),
            Some(opened) if opened == language => open = Some((i + 2, Vec::new())),
            Some(_) => other = true,
            None => {
                if let Some((_, lines)) = &mut open {
                    lines.push(line);
                }
            }
        }
    }
    blocks
}

/// The commands of all console blocks of a page.
pub fn commands(text: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for (first, lines) in blocks(text, "console") {
        let mut inside = false;
        for (i, line) in lines.into_iter().enumerate() {
            if let Some(command) = line.strip_prefix("$ ") {
                let command = command.to_owned();
                shown.push(Shown { line: first + i, command, expected: Vec::new() });
                inside = true;
            } else if let Some(last) = shown.last_mut().filter(|_| inside) {
                last.expected.push(line.to_owned());
            }
        }
    }
    shown
}

/// Options whose value names a path that a command writes; `>` does so too.
const WRITES: &[&str] = &["--into", "--out", "--reports"];

/// The words of a command. Quotes and the `=` of an option are separators; a redirection is a word
/// that ends in `>`.
fn words(command: &str) -> Vec<&str> {
    // Where a shell ends a word too, so that a path is found in `--out=x` as well as in `>x`.
    let ends = |c: char| c.is_whitespace() || "'\"=<|;&()".contains(c);
    let words = command.split(ends).flat_map(|word| word.split_inclusive('>'));
    words.filter(|word| !word.is_empty()).collect()
}

/// The paths that a command writes.
fn written<'c>(words: &[&'c str]) -> Vec<&'c str> {
    let names = |word: &str| WRITES.contains(&word) || word.ends_with('>');
    words.windows(2).filter(|pair| names(pair[0])).map(|pair| pair[1]).collect()
}

/// The reasons why commands of a page cannot run, one entry per command; `lacks` names what a
/// command lacks on this machine. A command that uses a path which a skipped command would have
/// written would fail, or read what an older run left, so it is skipped as well.
pub fn skipped(page: &[Shown], lacks: impl Fn(&str) -> Option<String>) -> Vec<Option<String>> {
    let mut absent: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reasons = Vec::new();
    for shown in page {
        let words = words(&shown.command);
        let written = written(&words);
        let below = |word: &str, path: &str| {
            word.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let rests = absent.iter().find(|(path, _)| {
            words.iter().any(|word| below(word, path) && !written.contains(word))
        });
        let rests = rests.map(|(path, line)| format!("line {line}, skipped, writes {path}"));
        // The reason of the command itself is more useful than that of a command before it.
        let reason = lacks(&shown.command).or(rests);
        for path in written {
            match reason {
                Some(_) => absent.insert(path, shown.line),
                // This command writes the path after all, so later commands can use it.
                None => absent.remove(path),
            };
        }
        reasons.push(reason);
    }
    reasons
}

/// Whether printed lines match the expected ones: a line `…` stands for any lines, and `…` inside a
/// line for any text.
pub fn agrees(expected: &[String], printed: &[&str]) -> bool {
    let blank = |line: &str| line.trim().is_empty();
    let Some((first, rest)) = expected.split_first() else {
        return printed.iter().all(|l| blank(l));
    };
    // Blank lines at the end are invisible on a page, so they never decide.
    if expected.iter().all(|l| blank(l)) && printed.iter().all(|l| blank(l)) {
        return true;
    }
    if first.trim() == ANY {
        return (0..=printed.len()).any(|n| agrees(rest, &printed[n..]));
    }
    match printed.split_first() {
        Some((line, after)) => line_agrees(first, line) && agrees(rest, after),
        None => false,
    }
}

fn line_agrees(expected: &str, line: &str) -> bool {
    let mut parts = expected.trim_end().split(ANY);
    let line = line.trim_end();
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The reason why a command of a page cannot run on this machine: subjects in Python need numpy.
pub fn lacks_python(command: &str) -> Option<String> {
    // Starting Python takes time, and its answer stays the same within a run.
    static NUMPY: OnceLock<bool> = OnceLock::new();
    let numpy = || {
        let output = Command::new("python3").args(["-c", "import numpy"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    // The subject files that ship start Python too.
    let starts = command.contains("python3 ") || command.contains("specs/subjects/");
    let lacks = starts && !NUMPY.get_or_init(numpy);
    lacks.then(|| "no python3 with numpy here".to_owned())
}

/// The commands of a page that ran, and the first one that could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// How many ran and printed what the page shows.
    pub count: usize,
    /// The first command that could not run, and why.
    pub skipped: Option<String>,
}

/// Runs all commands of a page that begin with `goldgate` or `python3`, in `root`, with the folder
/// of `program` first on the path.
///
/// # Errors
/// The first command whose output differs.
pub fn run(root: &Path, path: &str, program: &Path) -> Result<Ran, Untrue> {
    let text = read(root, path)?;
    let mut ran = Ran::default();
    let mut page = commands(&text);
    // Other commands build or install, and are not about what goldgate prints.
    page.retain(|s| ["goldgate ", "python3 "].iter().any(|p| s.command.starts_with(p)));
    let reasons = skipped(&page, lacks_python);
    for (shown, reason) in page.into_iter().zip(reasons) {
        if let Some(reason) = reason {
            // A command that cannot run proves nothing about the page, for or against it.
            let line = shown.line;
            ran.skipped.get_or_insert(format!("{path}:{line}: `{}`: {reason}", shown.command));
            continue;
        }
        ran.count += 1;
        let printed = output(root, &shown.command, program);
        let lines: Vec<&str> = printed.lines().collect();
        if !agrees(&shown.expected, &lines) {
            return Err(Untrue::Printed {
                path: path.to_owned(),
                line: shown.line,
                command: shown.command,
                expected: shown.expected.join("\n"),
                printed,
            });
        }
    }
    Ok(ran)
}

/// The output of a shell command, both streams together.
fn output(root: &Path, command: &str, program: &Path) -> String {
    let folder = program.parent().unwrap_or(Path::new("."));
    let path = std::env::var("PATH").unwrap_or_default();
    let child = Command::new("sh")
        // Both streams go into one, as a terminal shows them in order.
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(root)
        .env("PATH", format!("{}:{path}", folder.display()))
        // Escape codes for colours would never match the text of a page.
        .env("NO_COLOR", "1")
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output();
    match child {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("could not run: {error}"),
    }
}

fn read(root: &Path, path: &str) -> Result<String, Untrue> {
    read_foreign_text(&root.join(path), Bounds::of_user(LARGEST_TEXT))
        .map_err(|error| Untrue::Absent { path: path.to_owned(), source: error.into() })
}

/// The spec blocks of a page: blocks in yaml that begin with `format:`.
pub fn specs(text: &str) -> Vec<String> {
    let blocks = blocks(text, "yaml").into_iter().map(|(_, lines)| lines.join("\n") + "\n");
    blocks.filter(|b| b.starts_with("format:") || b.starts_with("# yaml-language-server")).collect()
}

/// Checks a page against what a requirement demands of it. Returns the first command that could not
/// run here, if one could not.
///
/// # Errors
/// The first demand that is not met.
pub fn check(
    root: &Path,
    asked: &DocumentEvidence,
    program: &Path,
) -> Result<Option<String>, Untrue> {
    let text = read(root, &asked.path)?;
    let lacks = |what: String| Err(Untrue::Lacks { path: asked.path.clone(), what });
    // At any level, because a page may be divided as its author likes.
    if let Some(heading) = &asked.heading {
        let is =
            |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
        if !text.lines().any(is) {
            return lacks(format!("heading {heading}"));
        }
    }
    // As code, because names such as `linear` are also ordinary words.
    if asked.names_every.as_deref() == Some("op") {
        let names = ops::ALL.iter().map(|op| op.signature().name);
        let missing: Vec<&str> =
            names.filter(|name| !text.contains(&format!("`{name}`"))).collect();
        if !missing.is_empty() {
            return lacks(format!("`{}`", missing.join("`, `")));
        }
    }
    let ran = if asked.runs { run(root, &asked.path, program)? } else { Ran::default() };
    // A page that must run but has nothing to run would hold without proving anything.
    if asked.runs && ran == Ran::default() && specs(&text).is_empty() {
        return lacks("block that can be run".to_owned());
    }
    Ok(ran.skipped)
}

/// The documents that the selected gates rest on: path → whether it holds. A page with a command
/// that cannot run here is left out: it counts as not looked at. The reasons go to `report`.
pub fn all(
    gates: &GatesFile,
    selected: impl Fn(u8) -> bool,
    root: &Path,
    program: &Path,
    report: &mut dyn FnMut(&str),
) -> BTreeMap<String, bool> {
    // A page may show how a gate is run. Its command must not run the pages again, without end.
    if std::env::var_os(INSIDE).is_some() {
        return BTreeMap::new();
    }
    let mut found: BTreeMap<String, Option<bool>> = BTreeMap::new();
    let gates = gates.gates.iter().filter(|gate| selected(gate.gate.value));
    let requirements = gates.flat_map(|gate| &gate.requirements);
    for evidence in requirements.flat_map(|r| &r.evidence) {
        let Evidence::Document(asked) = &evidence.value else { continue };
        let holds = match check(root, asked, program) {
            Ok(None) => Some(true),
            Ok(Some(skipped)) => {
                report(&format!("not run: {skipped}"));
                None
            }
            Err(untrue) => {
                report(&untrue.to_string());
                Some(false)
            }
        };
        // What is wrong outweighs what could not be run, which outweighs what holds.
        let known = found.entry(asked.path.clone()).or_insert(Some(true));
        *known = match (*known, holds) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, _) | (_, None) => None,
            (Some(true), Some(true)) => Some(true),
        };
    }
    found.into_iter().filter_map(|(path, holds)| Some((path, holds?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn dots_stand_for_lines_and_for_text() {
        assert!(agrees(&lines("a\n…\nd"), &["a", "b", "c", "d"]));
        assert!(agrees(&lines("took … ms"), &["took 12.5 ms"]));
        assert!(!agrees(&lines("took … ms"), &["took 12.5 s"]));
        assert!(!agrees(&lines("a\nb"), &["a"]));
        assert!(agrees(&lines("…"), &[]));
        assert!(!agrees(&[], &["something"]));
    }

    #[test]
    fn commands_keep_their_lines_and_output() {
        let text = "x\n```console\n$ goldgate check\n30 ops\n$ ls\n```\n```yaml\nformat: 1\n```\n";
        let shown = commands(text);
        assert_eq!(shown.len(), 2);
        assert_eq!((shown[0].line, shown[0].expected.as_slice()), (3, &["30 ops".to_owned()][..]));
        assert_eq!(specs(text), ["format: 1\n"]);
    }

    #[test]
    fn what_rests_on_a_skipped_command_is_skipped() {
        let page = "```console\n\
            $ goldgate run a --on 'mine=python3 x.py' --reports target/mine\n\
            $ goldgate report show target/mine a\n\
            $ goldgate report diff target/mine/report.json target/b --out=target/c\n\
            $ goldgate report show target/c\n\
            $ goldgate report show target/mine-too docs\n\
            $ goldgate run b --reports target/mine\n\
            $ goldgate report verify target/mine\n\
            $ python3 x.py >target/d\n\
            $ goldgate inspect target/d; echo $?\n```\n";
        let python = |c: &str| c.contains("python3 ").then(|| "no python3".to_owned());
        let reasons = skipped(&commands(page), python);
        let reasons: Vec<&str> = reasons.iter().map(|r| r.as_deref().unwrap_or("runs")).collect();
        assert_eq!(
            reasons,
            [
                "no python3",
                "line 2, skipped, writes target/mine",
                "line 2, skipped, writes target/mine",
                "line 4, skipped, writes target/c",
                "runs",
                "runs",
                "runs",
                "no python3",
                "line 9, skipped, writes target/d",
            ]
        );
        assert!(skipped(&commands(page), |_| None).iter().all(Option::is_none));
    }
}
