//! How `goldgate run` ends, as a shell sees it: each way of being green where nothing was shown has
//! its code, and says why.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use goldgate_harness::report::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

fn command(reports: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.arg("run").args(words).arg("--reports").arg(reports).current_dir(root());
    command
}

/// Exit code, stdout and the report.
fn run(words: &[&str]) -> (Option<i32>, String, Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let output: Output = command(folder.path(), words).output().expect("our own program");
    let report = Report::read(folder.path()).expect("a report");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), report)
}

#[test]
fn a_subject_that_was_named_and_is_not_there_is_an_error_whatever_was_asked() {
    for filter in ["gpt2-tiny::budget_too_small", "gelu::ragged", "gguf-header::magic_alone"] {
        let (code, said, report) = run(&[filter, "--on", "mine=/nonexistent/engine --fast"]);
        assert_eq!(code, Some(4), "{filter}: {said}");
        assert!(said.contains("mine is not there: "), "{said}");
        assert!(report.absent["mine"].contains("/nonexistent/engine"), "{:?}", report.absent);
        let (code, said, _) = run(&[filter, "--on", "cpu", "--require", "elsewhere"]);
        assert_eq!(code, Some(4), "{filter}: {said}");
    }
}

#[test]
fn a_subject_that_answers_is_in_the_report_whatever_was_asked() {
    for filter in ["gpt2-tiny::budget_too_small", "gguf-header::magic_alone"] {
        let (code, said, report) = run(&[filter, "--on", "cpu"]);
        assert_eq!(code, Some(0), "{filter}: {said}");
        assert_eq!(report.provenance.subjects["cpu"]["subject"]["name"], "goldgate-engine");
        assert!(report.rows.iter().all(|row| row.bits.is_some()), "{filter}");
    }
}

#[test]
fn a_run_in_which_nothing_was_judged_is_not_green_and_says_why() {
    let (code, said, _) = run(&["gpt2-124m", "--on", "cpu", "--slow"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("NOT RUN ") && said.contains("no_model "), "{said}");
    assert!(said.contains("is neither below --models nor in the hub's cache"), "{said}");
}

const ZEROS: &str = "format: 1
op: residual
gate: 1
source: y = a + b
inputs:
  a: { shape: [rows, columns], fill: { normal: [0, 1] } }
  b: { shape: [rows, columns], fill: { normal: [0, 1] } }
dtypes: [f32]
tolerance: { rule: derived }
cases:
  - name: zeros
    why: a sum that leaves b out is the same here
    source: 1 + 0, 2 + 0, 3 + 0, 4 + 0
    sizes: { rows: 1, columns: 4 }
    fill: { a: { values: [1, 2, 3, 4] }, b: { values: [0, 0, 0, 0] } }
    expect: { y: [1.000000, 2.000000, 3.000000, 4.000000] }
";

const UNNOTICED: &str = "format: 1
mutants: residual
list:
  - { id: M-1, fault: b left out, ask: { zero: b }, killed_by: zeros }
";

const GATES: &str = "format: 1
founding:
  - { id: \"1.1\", requirement: G1.01 }
  - { id: \"1.2\", requirement: G1.02 }
gates:
  - gate: 1
    title: One op and one page
    requirements:
      - id: G1.01
        asked: an op
        from: this test
        on: [engine]
        evidence:
          - cases: { select: [residual], at_least: 1 }
      - id: G1.02
        asked: a page whose commands run
        from: this test
        on: [repository]
        evidence:
          - document: { path: docs/page.md, runs: true }
";

/// The second command would contradict the page, if it were run on what an older run left.
const PAGE: &str = "A page.

```console
$ python3 adapter.py >made.gguf
$ goldgate inspect made.gguf
what an adapter made
$ goldgate --version
goldgate …
```
";

/// A folder with these files, each by its path.
fn folder_of(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    folder
}

#[test]
fn a_mutant_that_survives_is_no_success_and_the_last_lines_name_it() {
    let files = [("specs/ops/residual.yaml", ZEROS), ("specs/mutants/residual.yaml", UNNOTICED)];
    for (files, code) in [(&files[..1], 0), (&files[..], 1)] {
        let folder = folder_of(files);
        let specs = folder.path().join("specs").display().to_string();
        let golden = root().join("golden").display().to_string();
        let (found, said, report) =
            run(&["residual", "--on", "cpu", "--specs", &specs, "--golden", &golden]);
        assert_eq!(found, Some(code), "{said}");
        // The rows themselves are green in both.
        assert!(report.rows.iter().all(|row| !row.is_red()), "{said}");
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        let named = last.iter().any(|line| line.starts_with("SURVIVED residual M-1: b left out"));
        let counted = last.iter().any(|line| line.ends_with("killed            0 of 1"));
        assert_eq!((named, counted), (code == 1, code == 1), "{said}");
    }
}

/// A python3 that finds no packages, first on the path: nobody has to take numpy away for this.
#[test]
fn a_page_whose_command_needs_numpy_is_not_looked_at_where_there_is_none() {
    let files = [
        ("specs/ops/residual.yaml", ZEROS),
        ("specs/gates.yaml", GATES),
        ("docs/page.md", PAGE),
        ("bin/python3", "#!/bin/sh\nexec \"$GOLDGATE_TEST_PYTHON\" -S \"$@\"\n"),
    ];
    let folder = folder_of(&files);
    let bin = folder.path().join("bin");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("python3"), executable).expect("executable");
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join("python3"));
    // Where there is no python3 at all, the wrapper fails too, and nothing else is to be said.
    let python = folders.into_iter().find(|file| file.exists()).unwrap_or_default();
    let reports = tempfile::tempdir().expect("a folder");
    let specs = folder.path().join("specs").display().to_string();
    let golden = root().join("golden").display().to_string();
    let words = ["--gate", "1", "--on", "cpu", "--specs", &specs, "--golden", &golden];
    let output = command(reports.path(), &words)
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("GOLDGATE_TEST_PYTHON", python)
        .env_remove("PYTHONPATH")
        .output()
        .expect("our own program");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}{errors}");
    assert!(said.contains("repository INCOMPLETE"), "{said}");
    let why = "not run: docs/page.md:4: `python3 adapter.py >made.gguf`: no python3 with numpy";
    assert!(errors.contains(why), "{errors}");
    // A command that rests on the skipped one was run neither for the page nor against it.
    assert!(!errors.contains("instead of"), "{errors}");
    let report = Report::read(reports.path()).expect("a report");
    assert!(report.documents.is_empty(), "{:?}", report.documents);
    let page = std::fs::read_to_string(reports.path().join("gate-1.md")).expect("a page");
    assert!(page.contains("docs/page.md was not looked at"), "{page}");
}

#[test]
fn an_empty_shard_is_a_report() {
    let shards = ["1/2", "2/2"].map(|shard| {
        let (code, said, report) =
            run(&["residual::by_hand::f32", "--on", "cpu", "--shard", shard]);
        assert_eq!(code, Some(0), "{shard}: {said}");
        report.rows.len()
    });
    assert_eq!(shards.iter().sum::<usize>(), 1, "{shards:?}");
}

#[test]
fn the_last_lines_say_where_the_report_is_and_how_long_it_took() {
    let (code, said, _) = run(&["gelu::ragged", "--on", "cpu"]);
    assert_eq!(code, Some(0), "{said}");
    let begins = |word: &str| said.lines().any(|line| line.starts_with(word));
    assert!(begins("report       ") && begins("time         "), "{said}");
    assert!(said.contains(" equivalent") || begins("mutants      killed "), "{said}");
}

#[test]
fn one_run_writes_a_folder_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = std::fs::File::open(folder.path()).expect("a folder");
    held.lock().expect("locked");
    let second = command(folder.path(), &["gelu::ragged", "--on", "cpu"]).output();
    let second = second.expect("our own program");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(5), "{said}");
    assert!(said.contains("another run is writing there"), "{said}");
}

#[test]
fn a_run_that_is_stopped_ends_at_once_with_the_code_of_its_signal() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = command(folder.path(), &["--on", "cpu", "--jobs", "2"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().expect("our own program");
        let rows = folder.path().join("rows.jsonl");
        let begun = || std::fs::metadata(&rows).is_ok_and(|file| file.len() > 0);
        let patience = Instant::now();
        while !begun() && patience.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let sent = Instant::now();
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.is_ok_and(|status| status.success()), "{signal}");
        let output = child.wait_with_output().expect("it ends");
        let (took, said) = (sent.elapsed(), String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{signal}: {said}");
        assert!(said.contains("STOPPED "), "{said}");
        // Two seconds are promised; a busy machine gets some more.
        assert!(took < Duration::from_secs(5), "{signal}: {took:?}");
        let report = Report::read(folder.path()).expect("a report");
        assert!(report.incomplete.is_some());
        let verify = ["report", "verify", &folder.path().display().to_string()].map(str::to_owned);
        let verify = Command::new(env!("CARGO_BIN_EXE_goldgate")).args(verify).output();
        let verify = verify.expect("our own program");
        let said = String::from_utf8_lossy(&verify.stdout);
        assert_eq!(verify.status.code(), Some(6), "{said}");
        assert!(said.contains("INCOMPLETE: "), "{said}");
    }
}
