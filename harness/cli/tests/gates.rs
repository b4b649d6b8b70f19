//! Every gate in `cargo test`: one run in the background, and each trial waits for its row.
//!
//! Names are listed for `cpu` and `cuda` on every machine. Options come by environment, because
//! libtest takes none of ours: `GOLDGATE_ON`, `GOLDGATE_REQUIRE`, `GOLDGATE_REPORTS`,
//! `GOLDGATE_SLOW=1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use goldgate::commands::closing;
use goldgate_harness::line::{Fate, Planted, Row, Verdict};
use goldgate_harness::mutants::listed;
use goldgate_harness::report::publish::gate_lines;
use goldgate_harness::session::{Failure, Folders, Request, Session};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let began = Instant::now();
    let request = request();
    let mut reports = request.reports.clone();
    let mut session = match Session::open(request) {
        Ok(session) => session,
        Err(failure) => {
            if let Failure::Problems(problems) = &failure {
                problems.iter().for_each(|problem| eprintln!("{problem}\n"));
            }
            eprintln!("error: {failure}");
            return ExitCode::from(101);
        }
    };
    let board = Arc::new(Board::default());
    let trials = trials(&session, &board, &arguments);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let chosen: Vec<String> = trials
        .iter()
        .filter(|t| !arguments.is_filtered_out(t) && !arguments.is_ignored(t))
        .map(|t| t.name().to_owned())
        .collect();
    let whole = chosen.len() == trials.len();
    let is_chosen = |name: &str| chosen.iter().any(|c| c == name);
    let all_mutants = chosen.iter().any(|name| name.starts_with("mutants::"));
    if !all_mutants {
        session.plan.retain_names(is_chosen);
        session.plant_no_mutants();
    }
    if !whole && variable("GOLDGATE_REPORTS").is_none() {
        session.write_no_report();
        reports = None;
    }
    if chosen.is_empty() {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let background = {
        let board = Arc::clone(&board);
        std::thread::spawn(move || {
            let stop = Arc::new(AtomicBool::new(false));
            let outcome = session.run(stop, &mut |row| board.put(row));
            board.finish(match &outcome {
                Ok(outcome) => Ok(outcome.mutants.clone()),
                Err(failure) => Err(failure.to_string()),
            });
            outcome.map(|outcome| (session.happened(&outcome, None), outcome))
        })
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut red = true;
    match background.join() {
        Ok(Ok((happened, outcome))) => {
            let lines = closing::lines(&outcome, reports.as_deref(), began.elapsed());
            lines.iter().chain(&gate_lines(&outcome.report)).for_each(|line| eprintln!("{line}"));
            red = happened.fails_tests();
            if red && !conclusion.has_failed() {
                let late = outcome.report.rows.iter().filter(|row| row.is_red());
                late.for_each(|row| eprintln!("{}", row.page.as_deref().unwrap_or(&row.name)));
            }
        }
        Ok(Err(failure)) => eprintln!("error: {failure}"),
        Err(_) => eprintln!("error: the run panicked"),
    }
    if red { ExitCode::from(101) } else { conclusion.exit_code() }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn request() -> Request {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let list = |name: &str| {
        variable(name).map_or_else(Vec::new, |v| v.split(';').map(str::to_owned).collect())
    };
    Request {
        on: list("GOLDGATE_ON"),
        require: list("GOLDGATE_REQUIRE"),
        folders: Folders {
            specs: vec![root.join("specs")],
            golden: vec![root.join("golden")],
            models: None,
        },
        reports: Some(
            variable("GOLDGATE_REPORTS").map_or_else(|| root.join("reports/latest"), PathBuf::from),
        ),
        jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        slow: variable("GOLDGATE_SLOW").as_deref() == Some("1"),
        generated_faults: true,
        program: env!("CARGO_BIN_EXE_goldgate").into(),
        ..Request::default()
    }
}

/// A trial a row, one an op for its mutants, and one a subject that is required.
fn trials(session: &Session, board: &Arc<Board>, arguments: &Arguments) -> Vec<Trial> {
    let no_card = !Path::new("/dev/nvidiactl").exists();
    let mut trials: Vec<Trial> = session
        .plan
        .names()
        .into_iter()
        .map(|name| {
            // Whoever lists and runs in two processes learns of the missing device by the flag.
            let flagged = arguments.list && no_card && name.ends_with("::cuda");
            let (board, row) = (Arc::clone(board), name.clone());
            Trial::ignorable_test(name, move || board.verdict(&row)).with_ignored_flag(flagged)
        })
        .collect();
    let mut ops: Vec<&str> =
        session.suites.0.iter().flat_map(|suite| listed(&suite.specs)).map(|(op, _)| op).collect();
    ops.sort_unstable();
    ops.dedup();
    trials.extend(ops.into_iter().map(|op| {
        let (board, op) = (Arc::clone(board), op.to_owned());
        Trial::ignorable_test(format!("mutants::{op}"), move || board.mutants(&op))
    }));
    let required = variable("GOLDGATE_REQUIRE").into_iter();
    trials.extend(required.flat_map(|v| v.split(';').map(str::to_owned).collect::<Vec<_>>()).map(
        |label| {
            let board = Arc::clone(board);
            Trial::test(format!("required::{label}"), move || board.required(&label))
        },
    ));
    trials
}

/// What the run has told so far.
#[derive(Default)]
struct Board {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<String, Row>,
    end: Option<Result<Vec<Planted>, String>>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, row: &Row) {
        self.lock().rows.insert(row.name.clone(), row.clone());
        self.news.notify_all();
    }

    fn finish(&self, end: Result<Vec<Planted>, String>) {
        self.lock().end = Some(end);
        self.news.notify_all();
    }

    /// Waits until `look` sees what it waits for.
    fn wait<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn verdict(&self, name: &str) -> Result<Completion, Failed> {
        let row = self.wait(|state| match (state.rows.get(name), &state.end) {
            (Some(row), _) => Some(Ok(row.clone())),
            (None, Some(Err(why))) => Some(Err(why.clone())),
            (None, Some(Ok(_))) => Some(Err("the run ended without its row".to_owned())),
            (None, None) => None,
        })?;
        match &row.verdict {
            Verdict::Pass => Ok(Completion::Completed),
            Verdict::Known { reason, .. } => {
                Ok(Completion::ignored_with(format!("known: {reason}")))
            }
            Verdict::NotRun { kind, message } => {
                Ok(Completion::ignored_with(format!("{}: {message}", kind.word())))
            }
            other => Err(row.page.clone().unwrap_or_else(|| format!("{other:?}")).into()),
        }
    }

    fn mutants(&self, op: &str) -> Result<Completion, Failed> {
        let planted = self.wait(|state| state.end.clone())?;
        let mut survived = String::new();
        let mut asked = 0;
        for mutant in planted.iter().filter(|m| m.op == op) {
            asked += u32::from(mutant.result().is_some());
            if let Fate::Survived { why } = &mutant.fate {
                let Planted { id, fault, case, .. } = mutant;
                survived.push_str(&format!("{id} survived {case}: {fault}: {why}\n"));
            }
        }
        match (survived.is_empty(), asked) {
            (true, 0) => Ok(Completion::ignored_with("no golden to judge by")),
            (true, _) => Ok(Completion::Completed),
            (false, _) => Err(survived.into()),
        }
    }

    fn required(&self, label: &str) -> Result<(), Failed> {
        let end = format!("::{label}");
        self.wait(|state| {
            let mut rows = state.rows.values().filter(|r| r.name.ends_with(&end));
            let asked = rows.any(|r| !matches!(r.verdict, Verdict::NotRun { .. }));
            match (asked, &state.end) {
                (true, _) => Some(Ok(())),
                (false, Some(_)) => Some(Err(format!("{label} is required and not there"))),
                (false, None) => None,
            }
        })?;
        Ok(())
    }
}
