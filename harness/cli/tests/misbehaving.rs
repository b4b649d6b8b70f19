//! Subjects that misbehave, and files that are none, driven through the program: each costs its own
//! case, within its limit, and nothing that a subject writes reaches a terminal or breaks a report.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use goldgate_harness::line::{Row, Verdict};
use goldgate_harness::report::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

const SPEC: &str = "format: 1
op: residual
gate: 1
source: y = a + b
inputs:
  a: { shape: [rows, columns], fill: { normal: [0, 1] } }
  b: { shape: [rows, columns], fill: { normal: [0, 1] } }
dtypes: [f32]
tolerance: { rule: derived }
cases:
  - name: first
    why: a question on which the mock commits its fault
    source: 1 + 10, 2 + 20, 3 + 30, 4 - 4
    sizes: { rows: 1, columns: 4 }
    fill: { a: { values: [1, 2, 3, 4] }, b: { values: [10, 20, 30, -4] } }
    expect: { y: [11.000000, 22.000000, 33.000000, 0.000000] }
  - name: second
    why: a question on which the mock commits its fault
    source: 1 + 10, 2 + 20, 3 + 30, 4 - 4
    sizes: { rows: 1, columns: 4 }
    fill: { a: { values: [1, 2, 3, 4] }, b: { values: [10, 20, 30, -4] } }
    expect: { y: [11.000000, 22.000000, 33.000000, 0.000000] }
  - name: third
    why: a question on which the mock commits its fault
    source: 1 + 10, 2 + 20, 3 + 30, 4 - 4
    sizes: { rows: 1, columns: 4 }
    fill: { a: { values: [1, 2, 3, 4] }, b: { values: [10, 20, 30, -4] } }
    expect: { y: [11.000000, 22.000000, 33.000000, 0.000000] }
";

fn goldgate(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.args(words).current_dir(root());
    command
}

/// Its output and the time that it took.
fn timed(mut command: Command) -> (Output, Duration) {
    let start = Instant::now();
    let output = command.output().expect("our own program");
    (output, start.elapsed())
}

/// A run of a mock, and all that it left.
struct Run {
    code: Option<i32>,
    /// Both streams.
    said: String,
    took: Duration,
    report: Report,
    folder: tempfile::TempDir,
}

impl Run {
    fn row(&self, part: &str) -> &Row {
        let row = self.report.rows.iter().find(|row| row.name.contains(part));
        row.unwrap_or_else(|| panic!("no row {part}: {}", self.said))
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("report").join(file))
            .expect("a file of the report")
    }
}

/// Asks the mock three cases on which it commits its fault, and one more.
fn run(fault: &str, more: &[&str]) -> Run {
    let mock = env!("CARGO_BIN_EXE_goldgate-mock");
    run_of(&format!("mock={mock} {fault} residual"), more)
}

fn run_of(subject: &str, more: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let specs = folder.path().join("specs");
    std::fs::create_dir_all(specs.join("ops")).expect("a folder");
    std::fs::write(specs.join("ops/residual.yaml"), SPEC).expect("written");
    let swiglu = "ops/swiglu.yaml";
    std::fs::copy(root().join("specs").join(swiglu), specs.join(swiglu)).expect("copied");
    let filters = ["residual::*", "swiglu::silu_by_hand::f32"];
    let mut command = goldgate(&["run"]);
    command.args(filters).args(["--on", subject]).args(more).arg("--specs").arg(&specs);
    command.args(["--golden", "golden", "--reports"]).arg(folder.path().join("report"));
    let (output, took) = timed(command);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let report = Report::read(&folder.path().join("report"));
    let report = report.unwrap_or_else(|e| panic!("{subject}: {e}: {said}"));
    Run { code: output.status.code(), said, took, report, folder }
}

fn word(row: &Row) -> &'static str {
    row.verdict.word()
}

fn message(row: &Row) -> &str {
    match &row.verdict {
        Verdict::Fail { message, .. } | Verdict::NotRun { message, .. } => message,
        _ => "",
    }
}

/// What may reach a terminal or a report.
fn is_clean(text: &str) -> bool {
    let harmful = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{fffe}' | '\u{ffff}')
    };
    !text.contains(harmful)
}

/// Fault, word, a part of the message.
const FAULTS: [(&str, &str, &str); 24] = [
    ("chatters", "protocol", "after its answer: spoke without being asked"),
    ("endless_heartbeat", "pass", ""),
    ("attach_pipe", "protocol", ": a pipe, not a regular file"),
    ("attach_link_to_pipe", "protocol", ": a link, not a regular file"),
    ("attach_zero", "protocol", ": a link, not a regular file"),
    ("attach_link", "protocol", ": a link, not a regular file"),
    ("attach_folder", "protocol", ": a folder, not a regular file"),
    ("attach_socket", "protocol", ": a socket or a device, not a regular file"),
    ("attach_sparse", "protocol", "3221225472 bytes, more than the 1073741824 allowed"),
    ("attach_path", "protocol", "wants a file name without `/`"),
    ("evil_message", "internal", r"a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r\u{0}\u{202e}b\u{fffe}"),
    ("evil_refusal", "wrong_refusal", r"a\u{1b}[2J"),
    ("evil_what", "protocol", r"a\u{1b}[2J"),
    ("evil_id", "protocol", r"a\\u{1b}[2J"),
    ("evil_tensor", "shape", r"a\u{1b}[2J"),
    ("evil_stderr", "crashed", "exit status 101"),
    ("long_message", "internal", "mmm… and 917504 bytes more"),
    ("forged_lines", "internal", "Gate 1: mock MET"),
    ("huge_message", "protocol", "header length"),
    ("surrogate", "protocol", "hex escape"),
    ("stderr_flood", "pass", ""),
    ("no_stdout", "crashed", "closed its stdout"),
    ("deaf", "timed_out", "within its limit of 2 s"),
    ("attach_grows", "", ""),
];

/// What is wrong after a run with this fault; nothing if all is as it must be.
fn wrong(fault: &str, want: &str, part: &str) -> Vec<String> {
    // A debug build takes a while to write 100 MB.
    let limit = if fault == "huge_message" { "30" } else { "2" };
    let run = run(fault, &["--timeout", limit]);
    let mut wrong = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            wrong.push(format!("{fault}: {what}"));
        }
    };
    let row = run.row("::first::");
    // What grows is too large, too late, or no buffer, by when it is looked at.
    let fair: &[&str] = if want.is_empty() { &["protocol", "timed_out"] } else { &[want] };
    hold(fair.contains(&word(row)), format!("{:?}", row.verdict));
    hold(message(row).contains(part), message(row).to_owned());
    let other = word(run.row("::silu_by_hand::"));
    hold(other == "pass" || fault == "deaf", format!("the next case: {other}"));
    hold(run.took < Duration::from_secs(60), format!("{:?}", run.took));
    hold(run.report.invalid.is_empty(), format!("{:?}", run.report.invalid));
    for text in [&run.said, &run.text("junit.xml"), &run.text("report.json")] {
        hold(is_clean(text), format!("{text:?}"));
    }
    hold(!run.said.lines().any(|line| line == "Gate 1: mock MET"), run.said.clone());
    let code = if want == "pass" { 0 } else { 1 };
    hold(run.code == Some(code), format!("exit code {:?}", run.code));
    wrong
}

#[test]
fn each_costs_its_own_case_and_no_report() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    // Most of the time is waiting for limits.
    let work = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let Some((fault, want, part)) = FAULTS.get(at) else { return found };
            found.extend(wrong(fault, want, part));
        }
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// In the group, in a session of its own, without the mark of its subject, without a parent, and
/// without any of these.
#[test]
fn a_process_that_is_left_behind_costs_its_own_case_and_is_killed() {
    for fault in ["leak", "leak_session", "leak_bare", "leak_daemon", "leak_hidden"] {
        let said = "still there after the answer: goldgate-mock (";
        assert_eq!(wrong(fault, "leak", said), Vec::<String>::new());
        assert_eq!(leftovers(), Vec::<String>::new(), "{fault}");
    }
    // One that is left behind at the very end is the last case's.
    let run = run("late_leak", &[]);
    assert_eq!(word(run.row("::silu_by_hand::")), "leak", "{}", run.said);
    assert_eq!(word(run.row("::third::")), "pass", "{}", run.said);
    assert_eq!((run.code, leftovers()), (Some(1), Vec::new()));
}

/// A wrapper's child is there before hello is answered, so it is a part of the subject.
#[test]
fn a_subject_may_consist_of_several_processes() {
    let mock = env!("CARGO_BIN_EXE_goldgate-mock");
    let run = run_of(&format!("mock=sh -c '{mock} perfect residual; true'"), &[]);
    assert_eq!(run.code, Some(0), "{}", run.said);
    assert!(run.report.incidents.is_empty(), "{:?}", run.report.incidents);
}

#[test]
fn a_subject_that_no_longer_starts_is_given_up_after_two_tries() {
    let run = run("hangs_after_crash", &["--timeout", "2"]);
    assert_eq!(word(run.row("::first::")), "crashed", "{}", run.said);
    for name in ["::second::", "::third::", "::silu_by_hand::"] {
        let row = run.row(name);
        assert_eq!(word(row), "device_lost", "{name}: {:?}", row.verdict);
        assert!(message(row).contains("said no hello within 2 s"), "{}", message(row));
    }
    let last = message(run.row("::silu_by_hand::"));
    assert!(last.starts_with("did not start 2 times in a row: "), "{last}");
    // Two starts of two seconds, and none for what is left or for asking again.
    assert!(run.took < Duration::from_secs(12), "{:?}", run.took);
    // The first start has the limit of every question too.
    let begun = Instant::now();
    let run = run_of("mock=sleep 600", &["--timeout", "1"]);
    assert_eq!(run.code, Some(4), "{}", run.said);
    assert!(run.said.contains("mock is not there: said no hello within 1 s"), "{}", run.said);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_a_subject_writes_is_shown_and_does_nothing() {
    let page = run("evil_stderr", &[]).row("::first::").page.clone().expect("a page");
    let shown = r"stderr   a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r\u{0}\u{202e}b\u{fffe}\u{ffff}c";
    assert!(page.contains(shown), "{page}");
    let run = run("evil_hello", &[]);
    let version = &run.report.provenance.subjects["mock"]["subject"]["version"];
    assert!(version.as_str().is_some_and(|v| v.starts_with(r"a\u{1b}[2J") && is_clean(v)));
    for page in ["junit.xml", "report.json", "report.html"] {
        assert!(is_clean(&run.text(page)), "{page}");
    }
    // The reason why a subject is not there is the last line that it wrote.
    let run = run_of("mock=sh -c 'printf \"\\033[2Jnone\" >&2; exit 3'", &[]);
    assert_eq!(run.code, Some(4), "{}", run.said);
    assert!(run.said.contains(r"mock is not there: exit status 3: \u{1b}[2Jnone"), "{}", run.said);
}

/// Each kind of thing that is no file, by its name in a folder.
fn things(folder: &Path) -> Vec<PathBuf> {
    let at = |name: &str| folder.join(name);
    let made = Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo");
    assert!(made.success());
    symlink(at("pipe"), at("link_to_pipe")).expect("a link");
    symlink("/dev/zero", at("link_to_zero")).expect("a link");
    symlink(at("circle"), at("circle")).expect("a link");
    std::mem::forget(std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket"));
    ["pipe", "link_to_pipe", "link_to_zero", "circle", "socket"].map(at).to_vec()
}

/// Commands with `FILE` where the thing goes, and the code that they must end with.
const COMMANDS: [(&str, i32); 16] = [
    ("tokenize --model FILE --text a", 3),
    ("tokenize --model golden/tokenizers/gpt2-tokens/tokenizer.json --file FILE", 3),
    ("inspect FILE", 3),
    ("inspect --json FILE", 3),
    ("generate --model FILE --prompt a", 3),
    ("logits --model FILE --ids 1 --out FOLDER/out", 3),
    ("perplexity --model FILE --file golden/README.md", 3),
    ("perplexity --model golden/models/gpt2-tiny/f16.gguf --file FILE", 3),
    ("op residual --in FILE --out FOLDER/out", 3),
    ("report verify FILE", 4),
    ("report show FILE", 4),
    ("report diff FILE FILE", 4),
    ("report merge FILE --out FOLDER/merged", 4),
    ("golden verify --golden FOLDER/golden", 3),
    ("run gelu::ragged::f32 --on cpu --golden FOLDER/golden --reports FOLDER/r", 3),
    ("tokenize --model FOLDER/model --text a", 3),
];

#[test]
fn what_is_no_file_is_refused_at_once_by_every_command_that_takes_one() {
    let mut wrong = Vec::new();
    let folder = tempfile::tempdir().expect("a folder");
    for thing in things(folder.path()) {
        for (name, inside) in [("golden", "MANIFEST.json"), ("model", "tokenizer.json")] {
            let room = folder.path().join(name);
            let _ = std::fs::remove_dir_all(&room);
            std::fs::create_dir(&room).expect("a folder");
            symlink(&thing, room.join(inside)).expect("a link");
        }
        for (words, code) in COMMANDS {
            let place = |word: &str| {
                let word = word.replace("FILE", &thing.display().to_string());
                word.replace("FOLDER", &folder.path().display().to_string())
            };
            let words: Vec<String> = words.split(' ').map(place).collect();
            let mut command = Command::new("timeout");
            command.arg("20").arg(env!("CARGO_BIN_EXE_goldgate")).args(&words);
            let (output, took) = timed({
                command.current_dir(root());
                command
            });
            if output.status.code() != Some(code) || took > Duration::from_secs(10) {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                wrong.push(format!("{words:?}: {:?} after {took:?}: {said}", output.status.code()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Model folders of the hub consist of links.
#[test]
fn a_link_to_a_file_is_a_file_where_the_user_chose_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("tokenizer.json");
    symlink(root().join("golden/tokenizers/gpt2-tokens/tokenizer.json"), &link).expect("a link");
    let model = link.display().to_string();
    let (output, _) = timed(goldgate(&["tokenize", "--model", &model, "--text", "Hello world"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "783 645\n");
}

/// Processes that a mock left behind on request and that are still running.
fn leftovers() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("Linux").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("goldgate-mock stays ") {
            found.push(line);
        }
    }
    found
}
