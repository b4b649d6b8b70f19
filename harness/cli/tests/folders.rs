//! Several specs folders in one command, as a shell sees them: somebody's own cases and gates
//! alongside others, without a fork.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use goldgate_harness::report::Report;
use tempfile::TempDir;

/// A file of one case whose answer is written by hand.
fn op(case: &str, answer: &str) -> String {
    format!(
        "format: 1
op: residual
gate: 1
source: y = a + b
inputs:
  a: {{ shape: [rows, columns], fill: {{ normal: [0, 1] }} }}
  b: {{ shape: [rows, columns], fill: {{ normal: [0, 1] }} }}
dtypes: [f32]
cases:
  - name: {case}
    why: somebody's own numbers
    source: 1 + 4 and 2 + 3, by hand
    sizes: {{ rows: 1, columns: 2 }}
    fill: {{ a: {{ values: [1, 2] }}, b: {{ values: [4, 3] }} }}
    expect: {{ y: [{answer}] }}
"
    )
}

/// A gate with the number 1 that rests on the cases of the op.
fn gates(title: &str) -> String {
    format!(
        "format: 1
gates:
  - gate: 1
    title: {title}
    requirements:
      - id: K1.01
        asked: sums
        from: this test
        on: [engine]
        evidence:
          - cases: {{ select: [residual], at_least: 1 }}
          - faults: {{ kill: [M-1] }}
"
    )
}

const MUTANTS: &str = "format: 1
mutants: residual
list:
  - { id: M-1, fault: b left out, ask: { zero: b }, killed_by: CASE }
";

/// The specs folders `ours` and `mine`, side by side: each with a case, a fault and a gate.
struct Two(TempDir);

impl Two {
    fn new() -> Two {
        let two = Two(tempfile::tempdir().expect("a folder"));
        for (name, case, answer) in [("ours", "first", "5, 5"), ("mine", "second", "5, 5")] {
            two.write(name, "ops/residual.yaml", &op(case, answer));
            two.write(name, "mutants/residual.yaml", &MUTANTS.replace("CASE", case));
            two.write(name, "gates.yaml", &gates(&format!("Sums of {name}")));
        }
        two
    }

    fn specs(&self, name: &str) -> PathBuf {
        self.0.path().join(name).join("specs")
    }

    fn write(&self, name: &str, file: &str, text: &str) {
        let path = self.specs(name).join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, name: &str, file: &str) {
        fs::remove_file(self.specs(name).join(file)).expect("removed");
    }

    fn reports(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Exit code and output of a command about both folders.
    fn goldgate(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goldgate"));
        command.args(words).current_dir(self.0.path());
        for name in ["ours", "mine"] {
            command.arg("--specs").arg(Path::new(name).join("specs"));
        }
        let output = command.output().expect("our own program");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// A run of all cases on the CPU, and its report.
    fn run(&self, words: &[&str]) -> (Option<i32>, String, Report) {
        let reports = self.reports("report");
        let all = [&["run", "residual", "--on", "cpu", "--reports", &reports], words].concat();
        let (code, said) = self.goldgate(&all);
        let report = Report::read(Path::new(&reports)).unwrap_or_else(|_| panic!("{said}"));
        (code, said, report)
    }
}

#[test]
fn each_folder_has_its_own_cases_faults_and_gates() {
    let two = Two::new();
    let (code, said) = two.goldgate(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 ops, 0 containers, 2 cases, 0 benches, 2 mutants, 2 req"), "{said}");
    let (code, said) = two.goldgate(&["list", "residual"]);
    assert_eq!((code, said.matches("gate1::residual::").count()), (Some(0), 2), "{said}");
    let (code, said) = two.goldgate(&["show", "residual::second"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = two.goldgate(&["mutate", "residual"]);
    assert_eq!((code, said.contains("killed 2 of 2")), (Some(0), true), "{said}");

    let (code, said, report) = two.run(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\nGate 1: cpu ") && said.contains("\nGate 1 of mine: cpu "), "{said}");
    let gates: Vec<(&str, &str)> =
        report.gates.iter().map(|g| (g.folder.as_str(), g.title.as_str())).collect();
    assert_eq!(gates, [("", "Sums of ours"), ("mine", "Sums of mine")]);
    // Each rests on its own case and fault, and not on those of the other.
    for gate in &report.gates {
        let cpu = &gate.requirements[0].on["cpu"];
        assert_eq!((cpu.planned, cpu.passed, cpu.killed, cpu.listed), (1, 1, 1, 1));
    }
    let rows: Vec<(&str, &str)> =
        report.rows.iter().map(|row| (row.name.as_str(), row.folder.as_str())).collect();
    let names = ["gate1::residual::first::f32::cpu", "gate1::residual::second::f32::cpu"];
    assert_eq!(rows, [(names[0], ""), (names[1], "mine")]);
    let folders = &report.provenance.folders;
    let names: Vec<&str> = folders.iter().map(|folder| folder.name.as_str()).collect();
    assert_eq!(names, ["ours", "mine"]);
    assert_ne!(folders[0].specs_sha256, folders[1].specs_sha256);
    let page = |name: &str| fs::read_to_string(Path::new(&two.reports("report")).join(name));
    let page = page("gate-mine-1.md").expect("a page of its own");
    assert!(page.starts_with("# Gate 1 of mine: Sums of mine\n"), "{page}");
    assert!(page.contains("1 trials of 1 ops"), "{page}");
    assert!(page.contains("goldgate run --gate 1 --specs ours/specs --specs mine/specs"), "{page}");
    let path = two.reports("report");
    let (code, said) = two.goldgate(&["report", "verify", &path]);
    assert_eq!(code, Some(0), "{said}");
    // Other specs than those of the run do not hold.
    two.write("mine", "gates.yaml", &self::gates("Other sums"));
    let (code, said) = two.goldgate(&["report", "verify", &path]);
    assert_eq!((code, said.contains("provenance.specs_sha256")), (Some(1), true), "{said}");
}

#[test]
fn a_folder_without_gates_adds_cases_that_no_gate_weighs() {
    let two = Two::new();
    two.remove("mine", "gates.yaml");
    let (code, said) = two.goldgate(&["check"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said, report) = two.run(&[]);
    assert_eq!((code, report.rows.len(), report.gates.len()), (Some(0), 2, 1), "{said}");
    assert_eq!(report.gates[0].requirements[0].on["cpu"].planned, 1);
    // A wrong answer of it is red all the same, and its page says where to ask again.
    two.write("mine", "ops/residual.yaml", &op("second", "5, 6"));
    two.remove("mine", "mutants/residual.yaml");
    let (code, said, report) = two.run(&[]);
    assert_eq!(code, Some(1), "{said}");
    let again = "goldgate run gate1::residual::second::f32::cpu --specs mine/specs";
    assert!(said.contains(again), "{said}");
    assert!(report.rows[0].verdict == goldgate_harness::line::Verdict::Pass, "{said}");
}

#[test]
fn a_case_that_two_folders_have_is_one_error_that_names_both() {
    let two = Two::new();
    two.write("mine", "ops/residual.yaml", &op("first", "5, 5"));
    two.write("mine", "mutants/residual.yaml", &MUTANTS.replace("CASE", "first"));
    for words in [&["check"][..], &["run"], &["list"]] {
        let (code, said) = two.goldgate(words);
        assert_eq!((code, said.matches("error[").count()), (Some(3), 1), "{words:?}: {said}");
        let place = "mine/specs/ops/residual.yaml:10:11: error[ID_DUP]: name: \
                     found gate1::residual::first, ";
        assert!(said.contains(place), "{said}");
        assert!(said.contains("ours/specs/ops/residual.yaml:10 has it"), "{said}");
    }
}

#[test]
fn a_broken_folder_is_named_and_nothing_is_asked() {
    let two = Two::new();
    two.write("mine", "ops/residual.yaml", &op("second", "5, 5").replace("source: y", "sauce: y"));
    for words in [&["check"][..], &["run"], &["golden", "verify"]] {
        let (code, said) = two.goldgate(words);
        assert_eq!(code, Some(3), "{said}");
        let first = said.lines().find(|line| line.contains("error[")).unwrap_or_default();
        assert!(first.starts_with("mine/specs/ops/residual.yaml:"), "{said}");
        assert!(!said.contains("ours/specs"), "{said}");
    }
    let (code, said) = two.goldgate(&["run", "--specs", "ours/specs"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--specs ours/specs: named more than once"), "{said}");
    let (code, said) = two.goldgate(&["list", "--golden", "golden"]);
    assert_eq!((code, said.contains("--golden: named 1 times")), (Some(2), true), "{said}");
}

#[test]
fn locks_and_known_failures_belong_to_their_folder() {
    let two = Two::new();
    let (code, said) = two.goldgate(&["check", "--lock"]);
    assert_eq!(code, Some(0), "{said}");
    for (name, case) in [("ours", "first"), ("mine", "second")] {
        let lock = fs::read_to_string(two.specs(name).join("gates.lock")).expect("a lock");
        assert!(lock.ends_with(&format!("\nK1.01 gate1::residual::{case} f32\n")), "{lock}");
    }
    // What goes away is missed where it was locked.
    two.write("mine", "ops/residual.yaml", &op("third", "5, 5"));
    two.write("mine", "mutants/residual.yaml", &MUTANTS.replace("CASE", "third"));
    let (code, said) = two.goldgate(&["check"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("mine/specs/gates.lock:2:1: error[LOCK]: "), "{said}");
    let known = |case: &str| {
        format!(
            "format: 1\nknown:\n  - {{ case: gate1::residual::{case}::f32::cpu, fails: load, \
             at_most: 4, \
             device: \"*\",\n      reason: r, owner: o, since: 2026-11-20, expires: 2027-01-20 }}\n"
        )
    };
    two.write("mine", "known.yaml", &known("third"));
    let (code, said, report) = two.run(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("UNEXPECTED gate1::residual::third::f32::cpu"), "{said}");
    assert!(report.rows[0].verdict == goldgate_harness::line::Verdict::Pass, "{said}");
    // An entry about another folder's case would change what that folder's gates say.
    two.write("mine", "known.yaml", &known("first"));
    let (code, said) = two.goldgate(&["run"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("mine/specs/known.yaml:3:"), "{said}");
    assert!(said.contains("a trial of this folder; it is one of ours/specs"), "{said}");
}

#[test]
fn shards_of_several_folders_are_the_whole() {
    let two = Two::new();
    let parts = ["1/2", "2/2"].map(|shard| {
        let path = two.reports(&shard.replace('/', "-"));
        let words = ["run", "residual", "--on", "cpu", "--shard", shard, "--reports", &path];
        let (code, said) = two.goldgate(&words);
        assert_eq!(code, Some(0), "{said}");
        path
    });
    let out = two.reports("whole");
    let (code, said) = two.goldgate(&["report", "merge", &parts[0], &parts[1], "--out", &out]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Gate 1 of mine: cpu "), "{said}");
    let whole = Report::read(Path::new(&out)).expect("a report");
    assert_eq!((whole.rows.len(), whole.provenance.folders.len()), (2, 2));
    let (code, said) = two.goldgate(&["report", "verify", &out]);
    assert_eq!(code, Some(0), "{said}");
}
