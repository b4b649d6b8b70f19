//! The wire on trial: each fault of the mock has one verdict, and the next case is unharmed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use goldgate_harness::fill::{Fill, Grid, Input, fill};
use goldgate_harness::kinds::op::case::{
    Accumulate, Case, Expect, GoldenSource, OpAsk, SameBits, Tolerance, ToleranceRule,
};
use goldgate_harness::kinds::op::golden::{Golden, GoldenResult, Numbers};
use goldgate_harness::kinds::op::question::OpQuestion;
use goldgate_harness::kinds::op::{Op, question as perfect};
use goldgate_harness::kinds::{CaseTrial, Goldens, Trial, Withheld};
use goldgate_harness::line::{BrokenKind, Family, Place, Row, Verdict};
use goldgate_harness::report::{Provenance, Report};
use goldgate_harness::run::{Options, Plan, run};
use goldgate_harness::session::Recorder;
use goldgate_harness::subject::SubjectSpec;
use goldgate_tensor::shape::Meta;
use goldgate_tensor::{DType, RefusalKind};
use serde_json::Map;

fn input(case: &str, name: &str, shape: &[usize]) -> Input {
    Input {
        name: name.into(),
        meta: Meta::new(DType::F32, shape),
        fill: Fill::Normal(0.0, 1.0),
        grid: Grid::Common,
        key: ["residual".into(), case.into(), name.into()],
    }
}

fn case(op: &str, name: &str, operands: Vec<Input>, expect: Expect) -> Case {
    Case {
        gate: 1,
        stem: op.into(),
        name: name.into(),
        variant: "f32".into(),
        why: "the wire's own test".into(),
        source: "definition".into(),
        place: Place { file: format!("ops/{op}.yaml"), line: 1, column: 1 },
        ask: OpAsk {
            op: op.into(),
            dtype: DType::F32,
            attributes: Map::new(),
            operands,
            alias: BTreeMap::new(),
        },
        expect,
        family: Family::Rough,
        repeat: 1,
        same_bits: None,
        timeout: Duration::from_secs(20),
        memory_mib: 0,
        slow: false,
        part: Default::default(),
        control: None,
        constant_golden: None,
    }
}

fn answer() -> Expect {
    Expect::Answer {
        golden: GoldenSource::File("in memory".into()),
        tolerance: Tolerance {
            rule: ToleranceRule::Derived,
            accumulate: Accumulate::F32,
            linear_sum: false,
            keeps: BTreeMap::new(),
            because: None,
        },
    }
}

/// The case on which the mock commits its fault.
fn faulty() -> Case {
    let name = "faulty";
    let operands = ["a", "b"].map(|o| input(name, o, &[5, 7]));
    case("residual", name, operands.to_vec(), answer())
}

/// The case after it, of another op; names sort by stem.
fn next() -> Case {
    case("swiglu", "next", ["gate", "up"].map(|o| input("next", o, &[3, 11])).to_vec(), answer())
}

/// Goldens by the definition, with a little slack.
struct Defined;

impl Goldens for Defined {
    fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
        let results = perfect::define(&OpQuestion::from_case(case, fill))
            .and_then(Result::ok)
            .ok_or_else(|| Withheld::Broken(BrokenKind::Harness, "no definition".into()))?;
        let result = |(name, tensor): (String, goldgate_tensor::Tensor)| {
            let values = tensor.to_f64();
            let result = GoldenResult {
                shape: tensor.meta.shape,
                slack: vec![4.0; values.len()],
                numbers: Numbers::Real(values),
                keeps: BTreeMap::new(),
                absolute: Vec::new(),
                decided: Vec::new(),
                declared: BTreeMap::new(),
                shaky: BTreeMap::new(),
            };
            (name, result)
        };
        Ok(Golden { results: results.into_iter().map(result).collect(), ..Golden::default() })
    }
}

fn options() -> Options {
    Options {
        program: env!("CARGO_BIN_EXE_goldgate").into(),
        jobs: 1,
        timeout: None,
        named: Vec::new(),
        fail_fast: false,
        overlay: None,
        reruns: 0,
        stop: Arc::new(AtomicBool::new(false)),
    }
}

fn mock(fault: &str) -> SubjectSpec {
    let mock = env!("CARGO_BIN_EXE_goldgate-mock");
    SubjectSpec::parse(&format!("mock={mock} {fault} residual")).expect("a subject")
}

fn trials(cases: Vec<Case>) -> Vec<Arc<dyn Trial>> {
    let of = |case| Arc::new(CaseTrial::new(Op, Arc::new(case))) as Arc<dyn Trial>;
    cases.into_iter().map(of).collect()
}

fn reported(cases: Vec<Case>, subject: SubjectSpec, options: &Options) -> Report {
    recorded(cases, subject, options, None)
}

fn recorded(
    cases: Vec<Case>,
    subject: SubjectSpec,
    options: &Options,
    folder: Option<&Path>,
) -> Report {
    let plan = Plan::new(&trials(cases), vec![subject]);
    let recorder = Recorder {
        folder: folder.map(Path::to_path_buf),
        provenance: Provenance::default(),
        clock: || "2026-01-01T00:00:00Z".to_owned(),
    };
    recorder.run(&plan, options, &Defined, &|row, _| row, &mut |_| {}).expect("reported")
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

fn row<'a>(report: &'a Report, name: &str) -> &'a Row {
    report.rows.iter().find(|r| r.name.contains(name)).expect("a row")
}

/// Fault, verdict, a part of the message.
const FAULTS: [(&str, &str, &str); 31] = [
    ("perfect", "pass", ""),
    ("slow", "pass", ""),
    ("silent", "timed_out", "within its limit of"),
    ("no_heartbeat", "timed_out", "within its limit of"),
    ("garbage", "protocol", "not a frame, but"),
    ("text", "protocol", "not a frame, but \"Loading checkpoint shards: 100%\\n\""),
    ("half", "crashed", "exit status 0, after 1 of 100 bytes of a frame"),
    ("too_long", "protocol", "beyond the limit of 1073741824"),
    ("wrong_id", "protocol", "answered question"),
    ("out_of_order", "protocol", "answered question"),
    ("two_answers", "protocol", "after its answer: "),
    ("unasked", "protocol", "after its answer: "),
    ("duplicate_key", "protocol", "stands twice"),
    ("nan_in_json", "protocol", "expected value"),
    ("two_words", "protocol", "exactly one of"),
    ("missing", "shape", "results: got none, want y"),
    ("wrong_shape", "shape", "y: got f32 [5, 7, 1], want f32 [5, 7]"),
    ("off", "load", "35 of 35 elements of y are over"),
    ("unsupported", "protocol", "which hello promised"),
    ("sticky", "device", "illegal address (700)"),
    ("oom", "oom", "no 4 GiB left"),
    ("exit_0", "crashed", "exit status 0"),
    ("exit_101", "crashed", "exit status 101"),
    ("late_crash", "crashed", "after its answer: exit status 3"),
    ("attach", "pass", ""),
    ("attach_path", "protocol", "wants a file name without `/`"),
    ("attach_absent", "protocol", "absent.safetensors: No such file"),
    ("unoffered", "protocol", "whose hello says no `attach`"),
    ("signal_SEGV", "crashed", "signal SIGSEGV"),
    ("signal_KILL", "crashed", "signal SIGKILL"),
    ("signal_ABRT", "crashed", "signal SIGABRT"),
];

#[test]
fn each_fault_has_its_verdict_and_the_next_case_is_unharmed() {
    for (fault, want, part) in FAULTS {
        let mut case = faulty();
        if fault == "silent" {
            case.timeout = Duration::from_secs(1);
        }
        let report = reported(vec![case, next()], mock(fault), &options());
        let faulty = row(&report, "::faulty::");
        assert_eq!(word(faulty), want, "{fault}: {:?}", faulty.verdict);
        assert!(message(faulty).contains(part), "{fault}: {}", message(faulty));
        assert_eq!(word(row(&report, "::next::")), "pass", "{fault}");
        assert_eq!(report.invalid, Vec::<String>::new(), "{fault}");
        let again = format!("again    goldgate run {} --on 'mock=", faulty.name);
        let page = faulty.page.as_deref().unwrap_or_default();
        assert!(want == "pass" || page.contains(&again), "{page}");
    }
}

#[test]
fn what_no_frame_holds_is_not_asked_and_costs_no_worker() {
    let report = reported(vec![faulty(), next()], mock("small_frames"), &options());
    for row in &report.rows {
        assert_eq!(word(row), "too_big", "{:?}", row.verdict);
        let said = message(row);
        assert!(said.starts_with("the question has "), "{said}");
        assert!(said.ends_with("a frame takes 400, and the subject no attachments"), "{said}");
    }
    assert_eq!((report.replaced, report.incidents.len()), (0, 0));
}

#[test]
fn a_hang_ends_at_its_limit() {
    let mut case = faulty();
    case.timeout = Duration::from_secs(1);
    let start = Instant::now();
    let report = reported(vec![case], mock("silent"), &options());
    assert_eq!(word(&report.rows[0]), "timed_out");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn stderr_stands_on_the_page() {
    let report = reported(vec![faulty()], mock("exit_101"), &options());
    let page = report.rows[0].page.as_deref().expect("a page");
    assert!(page.contains("stderr   thread 'main' panicked at the mock's own wish"), "{page}");
}

#[test]
fn a_child_left_behind_costs_the_last_row_its_pass() {
    let report = reported(vec![faulty()], mock("leak"), &options());
    assert_eq!(word(&report.rows[0]), "leak");
    assert_eq!(report.incidents.len(), 1);
}

#[test]
fn a_failure_that_passes_alone_is_flaky_and_one_that_does_not_says_its_bits() {
    let reruns = Options { reruns: 20, ..options() };
    let report = reported(vec![faulty(), next()], mock("flaky"), &reruns);
    let flaky = row(&report, "::faulty::");
    assert_eq!(word(flaky), "flaky");
    assert!(flaky.page.as_deref().is_some_and(|p| p.starts_with("FLAKY gate1::")));
    let report = reported(vec![faulty()], mock("off"), &reruns);
    assert_eq!(word(&report.rows[0]), "load");
    assert_eq!(report.rows[0].notes.last().map(String::as_str), Some("the same bits three times"));
}

#[test]
fn a_subject_that_is_not_there_is_said_so_and_nothing_is_lost() {
    let spec = SubjectSpec::parse("mock=/nonexistent/engine --fast").expect("a subject");
    let report = reported(vec![faulty(), next()], spec, &options());
    let said = report.absent.get("mock").expect("absent");
    assert!(said.contains("could not start /nonexistent/engine"), "{said}");
    assert!(report.rows.iter().all(|r| word(r) == "no_device"), "{:?}", report.rows);
    assert_eq!((report.rows.len(), report.invalid.len()), (2, 0));
}

#[test]
fn our_own_worker_passes_refuses_and_repeats() {
    let mut repeated = faulty();
    repeated.repeat = 3;
    repeated.same_bits = Some(SameBits {
        cut: vec!["a".into(), "b".into()],
        results: vec!["y".into()],
        chunks: vec![1, 2, 64],
        advance: None,
        moved: true,
    });
    let refusal = Expect::Refusal { kind: RefusalKind::EmptyAxis, operand: "a".into() };
    let operands = ["a", "b"].map(|o| input("empty", o, &[0, 7])).to_vec();
    let refused = case("residual", "empty", operands, refusal);
    let cpu = SubjectSpec::parse("cpu").expect("a subject");
    let jobs = Options { jobs: 2, ..options() };
    let report = reported(vec![repeated, refused, next()], cpu, &jobs);
    assert!(report.rows.iter().all(|r| word(r) == "pass"), "{:?}", report.rows);
    assert_eq!(row(&report, "::faulty::").compared, 35);
    let (asked, noticed) = row(&report, "::faulty::").faults;
    assert!(asked >= 11 && asked == noticed, "{noticed} of {asked}");
    assert_eq!(report.provenance.subjects["cpu"]["subject"]["name"], "goldgate-engine");
}

#[test]
fn the_report_is_whole_and_rows_are_written_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = recorded(vec![faulty(), next()], mock("exit_101"), &options(), Some(folder.path()));
    let text = std::fs::read_to_string(folder.path().join("report.json")).expect("written");
    let read: Report = serde_json::from_str(&text).expect("a report");
    assert_eq!(read.planned, now.planned);
    assert_eq!(read.incomplete, None);
    assert_eq!(read.rows.len(), 2);
    assert_eq!(read.provenance.plan_sha256.len(), 64);
    let rows = std::fs::read_to_string(folder.path().join("rows.jsonl")).expect("written");
    assert_eq!(rows.lines().count(), 2);
}

#[test]
fn a_run_that_is_stopped_is_incomplete_and_says_what_did_not_run() {
    let stopped = options();
    stopped.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let report = reported(vec![faulty(), next()], mock("perfect"), &stopped);
    assert!(report.rows.iter().all(|r| word(r) == "stopped"), "{:?}", report.rows);
    assert!(report.incomplete.is_some());
}

#[test]
fn the_first_failure_stops_a_run_that_asks_for_it() {
    let fast = Options { fail_fast: true, ..options() };
    let later = (0..200).map(|i| {
        let name = format!("later-{i:03}");
        let operands = ["gate", "up"].map(|o| input(&name, o, &[3, 11])).to_vec();
        case("swiglu", &name, operands, answer())
    });
    let report = reported([faulty()].into_iter().chain(later).collect(), mock("off"), &fast);
    assert_eq!(word(row(&report, "::faulty::")), "load");
    assert_eq!(word(row(&report, "::later-199::")), "stopped");
    assert_eq!(report.rows.len(), 201);
}

#[test]
fn a_golden_that_shows_nothing_invalidates_the_report() {
    struct Mild;
    impl Goldens for Mild {
        fn golden(&self, case: &Case) -> Result<Golden, Withheld> {
            let mut golden = Defined.golden(case)?;
            for result in golden.results.values_mut() {
                result.slack = vec![f32::INFINITY; result.slack.len()];
            }
            Ok(golden)
        }
    }
    let cpu = SubjectSpec::parse("cpu").expect("a subject");
    let plan = Plan::new(&trials(vec![faulty()]), vec![cpu]);
    let report = run(&plan, &options(), &Mild, &|r, _| r, &mut |_| {}).expect("told");
    assert_eq!(word(&report.rows[0]), "self_check");
    assert!(!report.invalid.is_empty());
}
