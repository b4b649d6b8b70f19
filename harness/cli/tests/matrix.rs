//! Every kind of trial before every fault of a subject: one event has one word, whatever was
//! asked. The mock takes the place of our own program, so that kinds which only our own subjects
//! are asked stand trial too.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use goldgate_harness::kinds::mutant::Mutant;
use goldgate_harness::kinds::{Answers, Goldens, Ready, Trial, Withheld};
use goldgate_harness::line::{Caller, Day, Fate, Head, Judgement, Row, Verdict, Whom};
use goldgate_harness::session::{Folders, Request, RunOutcome, Session};

/// A kind: its name, one trial of it, the call or op on which the mock commits its fault, and the
/// subject.
struct Kind {
    name: &'static str,
    trial: &'static str,
    target: &'static str,
    on: &'static str,
}

const fn kind(
    name: &'static str,
    trial: &'static str,
    target: &'static str,
    on: &'static str,
) -> Kind {
    Kind { name, trial, target, on }
}

const KINDS: [Kind; 11] = [
    kind("op", "gate1::residual::by_hand::f32::cpu", "residual", "cpu"),
    kind("bench", "gate1::residual::timed::f32::cuda", "bench", "cuda:0"),
    kind("check", "gate1::fault::bad_id_is_refused::self::cpu", "check", "cpu"),
    kind("container", "gate2::gguf-metadata::a_whole_model::file::cpu", "inspect", "cpu"),
    kind("tokenizer", "gate2::gpt2-tokens::short::hf.encode::cpu", "tokenize", "cpu"),
    kind("load", "gate2::gpt2-tiny::fits::f16::cpu", "load", "cpu"),
    kind("stage", "gate2::gpt2-tiny::every_slot::f16-f32::cpu", "extend", "cpu"),
    kind("logits", "gate2::gpt2-tiny::both_ends::f16-f32::cpu", "extend", "cpu"),
    kind("generation", "gate2::gpt2-tiny::test_prompt::f16::cpu", "generate", "cpu"),
    kind("draws", "gate2::gpt2-tiny::drawn_by_chain::f16::cpu", "generate", "cpu"),
    kind("perplexity", "gate2::gpt2-tiny::held_out_chapter::f16-f32::cpu", "extend", "cpu"),
];

/// A fault of the mock and the word that a row must then have, whatever its kind.
const FAULTS: [(&str, &str); 20] = [
    ("perfect", "pass"),
    ("absent", "no_device"),
    ("leak", "leak"),
    ("two_answers", "protocol"),
    ("unasked", "protocol"),
    ("garbage", "protocol"),
    ("wrong_id", "protocol"),
    ("duplicate_key", "protocol"),
    ("changed", "crashed"),
    ("exit_0", "crashed"),
    ("exit_101", "crashed"),
    ("signal_SEGV", "crashed"),
    ("silent", "timed_out"),
    ("refuses", "wrong_refusal"),
    ("unsupported", "unsupported"),
    ("oom", "oom"),
    ("sticky", "device"),
    ("internal", "internal"),
    ("nondeterministic", "nondeterministic"),
    ("flaky", "flaky"),
];

/// hello lists ops, dtypes and weights, so an op that it lists is promised; nothing else is.
fn right(kind: &Kind, fault: &str, word: &'static str) -> &'static str {
    if kind.name == "op" && fault == "unsupported" { "protocol" } else { word }
}

const OP: &str = "format: 1
op: residual
gate: 1
source: y = a + b
inputs:
  a: { shape: [rows, columns], fill: { normal: [0, 1] } }
  b: { shape: [rows, columns], fill: { normal: [0, 1] } }
dtypes: [f32]
tolerance: { rule: derived }
cases:
  - name: by_hand
    why: the question on which the mock commits its fault
    source: 1 + 10, 2 + 20, 3 + 30, 4 - 4
    sizes: { rows: 1, columns: 4 }
    fill: { a: { values: [1, 2, 3, 4] }, b: { values: [10, 20, 30, -4] } }
    expect: { y: [11.000000, 22.000000, 33.000000, 0.000000] }
bench:
  - name: timed
    why: the question whose time the mock is asked
    sizes: { rows: 8, columns: 8 }
    against: copy
";

const TOKENS: &str = "format: 1
tokenizer: gpt2-tokens
gate: 2
source: golden/tokenizers
forms:
  hf: { path: tokenizers/gpt2-tokens/tokenizer.json }
cases:
  - name: short
    why: two words
    vectors:
      - { text: \"Hello world\", ids: [783, 645] }
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

/// One case of every kind, and nothing else.
fn specs(folder: &Path) {
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    };
    put("ops/residual.yaml", OP);
    put("tokenizers/gpt2-tokens.yaml", TOKENS);
    // With the model's mutants: a golden's question names the wrong formulas of its case.
    let shipped =
        ["containers/gguf-metadata.yaml", "models/gpt2-tiny.yaml", "mutants/gpt2-tiny.yaml"];
    for name in shipped {
        put(name, &fs::read_to_string(root().join("specs").join(name)).expect("a spec"));
    }
}

/// A program that is the mock wherever ours would be a subject.
fn program(folder: &Path, fault: &str, target: &str) -> PathBuf {
    let path = folder.join("goldgate");
    let (mock, own) = (env!("CARGO_BIN_EXE_goldgate-mock"), env!("CARGO_BIN_EXE_goldgate"));
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *golden*) exec {own} \"$@\";; esac\n\
         exec {mock} {fault} {target} \"$@\"\n"
    );
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

fn run(specs: &Path, kind: &Kind, fault: &str, stop: bool) -> (Session, RunOutcome) {
    let folder = tempfile::tempdir().expect("a folder");
    let session = open(specs, kind, fault, folder.path());
    let outcome = session.run(Arc::new(AtomicBool::new(stop)), &mut |_| ()).expect("told");
    (session, outcome)
}

/// A session of one trial, before a mock in `folder`.
fn open(specs: &Path, kind: &Kind, fault: &str, folder: &Path) -> Session {
    let request = Request {
        filters: vec![kind.trial.to_owned()],
        on: vec![kind.on.to_owned()],
        folders: Folders {
            specs: vec![specs.to_path_buf()],
            golden: vec![root().join("golden")],
            models: None,
        },
        jobs: 1,
        slow: true,
        timeout: (fault == "silent").then_some(Duration::from_secs(2)),
        benches_alone: kind.name == "bench",
        program: program(folder, fault, kind.target),
        ..Request::default()
    };
    let mut session = Session::open(request).expect("a session");
    session.plant_no_mutants();
    assert_eq!(session.plan.names(), [kind.trial], "{}", kind.name);
    session
}

fn word(row: &Row) -> &'static str {
    match &row.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail { kind, .. } => kind.word(),
        Verdict::Flaky { .. } => "flaky",
        Verdict::Known { .. } => "known",
        Verdict::Unexpected { .. } => "unexpected",
        Verdict::Broken { kind, .. } => kind.word(),
        Verdict::NotRun { kind, .. } => kind.word(),
    }
}

/// What is wrong with a cell; nothing where all is as it must be.
fn cell(specs: &Path, kind: &Kind, fault: &str, want: &'static str) -> Vec<String> {
    let (session, outcome) = run(specs, kind, fault, false);
    let mut wrong = Vec::new();
    let mut hold = |what: &str, got: &str, want: &str| {
        if got != want {
            wrong.push(format!("{:<12} {fault:<18} {what}: {got}, must be {want}", kind.name));
        }
    };
    let row = outcome.report.rows.first().expect("a row");
    hold("word", word(row), right(kind, fault, want));
    let label = if kind.name == "bench" { "cuda" } else { "cpu" };
    let known = outcome.report.provenance.subjects.contains_key(label);
    hold("hello in the report", &known.to_string(), &(fault != "absent").to_string());
    let missing = !session.missing(&outcome.report).is_empty();
    hold("said to be missing", &missing.to_string(), &(fault == "absent").to_string());
    let invalid = !outcome.report.invalid.is_empty();
    hold("report is invalid", &invalid.to_string(), &(fault == "changed").to_string());
    let incident = !outcome.report.incidents.is_empty();
    hold("incident", &incident.to_string(), &(fault == "leak").to_string());
    let failed = matches!(row.verdict, Verdict::Fail { .. } | Verdict::Flaky { .. });
    let page = row.page.as_deref().unwrap_or_default();
    let again = page.contains(&format!("again    goldgate run {}", kind.trial));
    let paged = failed == again && failed == page.contains("\n  why      ");
    hold("failure page", &paged.to_string(), "true");
    wrong
}

#[test]
fn one_event_has_one_word_in_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    specs(folder.path());
    let cells: Vec<(&Kind, &str, &'static str)> = KINDS
        .iter()
        .flat_map(|kind| FAULTS.iter().map(move |(fault, want)| (kind, *fault, *want)))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let Some((kind, fault, want)) = cells.get(at) else { return wrong };
            let found = cell(folder.path(), kind, fault, want);
            wrong.push((at, found));
        }
    };
    let mut found: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
    });
    found.sort();
    let wrong: Vec<String> = found.iter().flat_map(|(_, lines)| lines.clone()).collect();
    let differing = found.iter().filter(|(_, lines)| !lines.is_empty()).count();
    assert!(
        wrong.is_empty(),
        "{differing} of {} cells have another word:\n{}",
        cells.len(),
        wrong.join("\n")
    );
}

/// A trial of any kind whose judge panics.
struct Panics(Arc<dyn Trial>);

struct ReadyToPanic(Box<dyn Ready>);

impl Trial for Panics {
    fn head(&self) -> &Head {
        self.0.head()
    }

    fn cost(&self) -> u64 {
        self.0.cost()
    }

    fn shares(&self) -> Option<String> {
        self.0.shares()
    }

    fn prepare(&self, from: &dyn Goldens) -> Result<Box<dyn Ready>, Withheld> {
        Ok(Box::new(ReadyToPanic(self.0.prepare(from)?)))
    }

    fn plant(&self, from: &dyn Goldens, mutant: &Mutant) -> Result<Box<dyn Ready>, Fate> {
        self.0.plant(from, mutant)
    }

    fn fate(&self, mutant: &Mutant, judgement: &Judgement) -> Fate {
        self.0.fate(mutant, judgement)
    }

    fn answers(&self, _: &dyn Goldens) -> Option<Answers> {
        None
    }

    fn withheld(&self, why: Withheld) -> Judgement {
        self.0.withheld(why)
    }
}

impl Ready for ReadyToPanic {
    fn held(&self) -> u64 {
        self.0.held()
    }

    fn faults(&self) -> (u32, u32) {
        self.0.faults()
    }

    fn ask(&self, _: &mut Caller<'_>, _: &Whom) -> Judgement {
        panic!("the judge's own fault")
    }
}

#[test]
fn a_judge_that_panics_costs_one_row_in_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    specs(folder.path());
    for kind in &KINDS {
        let scripts = tempfile::tempdir().expect("a folder");
        let mut session = open(folder.path(), kind, "perfect", scripts.path());
        for entry in &mut session.plan.trials {
            entry.trial = Arc::new(Panics(Arc::clone(&entry.trial)));
        }
        let outcome = session.run(Arc::default(), &mut |_| ()).expect("told");
        let row = &outcome.report.rows[0];
        assert_eq!(word(row), "harness", "{}: {:?}", kind.name, row.verdict);
        let page = row.page.as_deref().unwrap_or_default();
        assert!(page.contains("judging it panicked: the judge's own fault"), "{page}");
    }
}

#[test]
fn a_run_that_is_stopped_says_so_in_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    specs(folder.path());
    for kind in &KINDS {
        let (_, outcome) = run(folder.path(), kind, "perfect", true);
        assert_eq!(word(&outcome.report.rows[0]), "stopped", "{}", kind.name);
        assert!(outcome.report.incomplete.is_some(), "{}", kind.name);
    }
}

/// By then the gate runner of `cargo test` has already reported that this test passed.
#[test]
fn a_leak_after_the_last_question_turns_the_row_red_and_fails_cargo_test() {
    let folder = tempfile::tempdir().expect("a folder");
    specs(folder.path());
    for (fault, fails) in [("late_leak", true), ("perfect", false)] {
        let scripts = tempfile::tempdir().expect("a folder");
        let session = open(folder.path(), &KINDS[0], fault, scripts.path());
        let mut told = Vec::new();
        let outcome = session.run(Arc::default(), &mut |row| told.push(word(row))).expect("told");
        assert_eq!(told.first(), Some(&"pass"), "{fault}: {told:?}");
        assert_eq!(told.last(), Some(&if fails { "leak" } else { "pass" }), "{fault}: {told:?}");
        assert_eq!(session.happened(&outcome, None).fails_tests(), fails, "{fault}");
    }
}

#[test]
fn a_known_failure_is_known_in_every_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    specs(folder.path());
    let day = |days: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        Day::of_seconds(now + days * 86_400)
    };
    let (since, expires) = (day(0), day(30));
    let entry = |kind: &Kind, fails: &str| {
        let lines = [
            format!("  - case: {}", kind.trial),
            format!("    fails: {fails}"),
            "    device: \"*\"".to_owned(),
            "    reason: the mock's wish".to_owned(),
            "    owner: the matrix".to_owned(),
            format!("    since: {since}"),
            format!("    expires: {expires}\n"),
        ];
        lines.join("\n")
    };
    let entries = |fails: &str| KINDS.iter().map(|kind| entry(kind, fails)).collect::<String>();
    let mut wrong = Vec::new();
    // A crash is the row's own; a leak is found after the row was judged.
    for (fails, fault) in [("crashed", "exit_101"), ("leak", "leak")] {
        let text = format!("format: 1\nknown:\n{}", entries(fails));
        fs::write(folder.path().join("known.yaml"), text).expect("written");
        for kind in &KINDS {
            let (_, outcome) = run(folder.path(), kind, fault, false);
            let row =
                outcome.report.rows.iter().find(|row| row.name == kind.trial).expect("its row");
            if word(row) != "known" {
                wrong.push(format!("{} {fails}: {}", kind.name, word(row)));
            }
        }
    }
    assert!(wrong.is_empty(), "not known: {}", wrong.join(", "));
}
