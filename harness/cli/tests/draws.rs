//! Subjects with a generator of their own, driven through the program: an honest one passes, by its
//! own logits and by the golden's, and one that draws the same token every time fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use goldgate_harness::line::{FailKind, Verdict};
use goldgate_harness::report::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// The rows of a mock with one way of drawing, and the exit code of the run.
fn run(drawing: &str, filter: &str) -> (Option<i32>, Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let mock = env!("CARGO_BIN_EXE_goldgate-mock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.args(["run", filter, "--on", &format!("mine={mock} {drawing} generate")]);
    command.arg("--reports").arg(folder.path().join("report")).current_dir(root());
    let output = command.output().expect("our own program");
    let report = Report::read(&folder.path().join("report"));
    let told = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), report.unwrap_or_else(|e| panic!("{drawing}: {e}: {told}")))
}

#[test]
fn an_honest_generator_passes_by_its_own_logits_and_by_the_goldens() {
    let noted = |report: &Report, note: &str| {
        report.rows.iter().any(|row| row.notes.iter().any(|n| n == note))
    };
    for (drawing, by_golden) in [("own_draws", false), ("own_draws_only", true)] {
        let (code, report) = run(drawing, "llama-tiny::drawn_twice::f16");
        assert_eq!(code, Some(0), "{drawing}: {:?}", report.rows);
        // One by its distribution, and one by the same text for the same seed.
        assert_eq!(report.rows.len(), 2, "{drawing}: {:?}", report.rows);
        assert!(report.rows.iter().all(|row| row.verdict == Verdict::Pass), "{drawing}");
        assert_eq!(noted(&report, "judged by the golden's logits"), by_golden, "{drawing}");
    }
}

#[test]
fn one_token_for_every_draw_fails() {
    for drawing in ["one_token", "one_token_only"] {
        let (code, report) = run(drawing, "llama-tiny::drawn_twice::f16");
        assert_eq!(code, Some(1), "{drawing}: {:?}", report.rows);
        let row = report.rows.iter().find(|row| !row.name.contains(".bits")).expect("a row");
        let Verdict::Fail { kind: FailKind::Bits, message } = &row.verdict else {
            panic!("{drawing}: {row:?}")
        };
        assert!(message.contains("seeds give one text"), "{message}");
    }
}
