//! Engines that round where ours does not, driven through the program: wrong where they say
//! nothing, right within what they declare, and wrong again by what no declaration covers.

use std::path::{Path, PathBuf};
use std::process::Command;

use goldgate_harness::line::{FailKind, Row, Verdict};
use goldgate_harness::report::Report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// A run of a mock that declares `arithmetic`, and what the program printed.
fn run(switch: &str, arithmetic: &str, filters: &[&str]) -> (Report, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let subject = folder.path().join("mine.yaml");
    let mock = env!("CARGO_BIN_EXE_goldgate-mock");
    let text = format!("format: 1\nsubject: mine\ncommand: [{mock}, {switch}, op]\n{arithmetic}");
    std::fs::write(&subject, text).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
    command.arg("run").args(filters).arg("--on").arg(&subject);
    command.arg("--reports").arg(folder.path().join("report")).current_dir(root());
    let output = command.output().expect("our own program");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = Report::read(&folder.path().join("report"));
    (report.unwrap_or_else(|e| panic!("{switch}: {e}: {output:?}")), said)
}

/// The numeric rows of answers: refusals say nothing of roundings.
fn answers(report: &Report) -> Vec<&Row> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.load.is_some()).collect();
    assert!(!rows.is_empty(), "{:?}", report.rows);
    rows
}

fn failed(rows: &[&Row], of: FailKind) -> usize {
    let fails = |row: &&&Row| matches!(&row.verdict, Verdict::Fail { kind, .. } if *kind == of);
    rows.iter().filter(fails).count()
}

const FLOATS: [&str; 3] = ["linear::*::f32-f32", "embedding::*::f32-f32", "ffn_swiglu::*::f32-f32"];
const BLOCKS: [&str; 2] = ["linear::every_block_type::f32-*", "ffn_gelu::every_block_type::f32-*"];

#[test]
fn weights_in_bf16_are_right_where_they_are_declared() {
    let (silent, _) = run("rounds_weights", "", &FLOATS);
    let rows = answers(&silent);
    // What the common grid holds is exact in bf16, so only the other cases show it.
    assert!(failed(&rows, FailKind::Load) >= 5, "{rows:?}");
    let (declared, said) = run("rounds_weights", "arithmetic: { weights: bf16 }\n", &FLOATS);
    for row in answers(&declared) {
        assert_eq!(row.verdict, Verdict::Pass, "{}", row.name);
    }
    assert!(said.contains("mine INCOMPLETE (declared: weights bf16)"), "{said}");
}

#[test]
fn a_factor_stays_visible_beside_declared_roundings() {
    let arithmetic = "arithmetic: { weights: bf16 }\n";
    let (report, _) = run("rounds_weights_and_scales", arithmetic, &["linear::*::f32-f32"]);
    let rows = answers(&report);
    // The elements are within what their weights allow; the answer as a whole is not.
    assert!(failed(&rows, FailKind::Gain) >= 3, "{rows:?}");
}

#[test]
fn int8_is_allowed_by_block_and_no_further() {
    let (silent, _) = run("quantises_x", "", &BLOCKS);
    assert!(failed(&answers(&silent), FailKind::Load) >= 10, "{:?}", silent.rows);
    for arithmetic in ["x: int8 per 32", "x: int8 per 256"] {
        let text = format!("arithmetic: {{ {arithmetic} }}\n");
        for row in answers(&run("quantises_x", &text, &BLOCKS).0) {
            assert_eq!(row.verdict, Verdict::Pass, "{}", row.name);
        }
    }
    // Another declaration excuses nothing.
    let (other, _) = run("quantises_x", "arithmetic: { weights: f16 }\n", &BLOCKS);
    assert!(failed(&answers(&other), FailKind::Load) >= 10, "{:?}", other.rows);
}
