//! `golden make`: asks the oracle the question of every case, and stores its answers as goldens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use goldgate_wire::Call;
use goldgate_wire::call::Hello;
use goldgate_wire::frame::{self, Frame, FrameError, read_frame, write_frame};
use serde_json::Value;

use crate::kinds::op::case::Case;
use crate::kinds::op::golden::{decode, read};
use crate::kinds::op::oracle::{Asked, path, question};
use crate::kinds::op::strength;
use crate::line::{Day, Family};
use crate::spec::Specs;
use crate::store::{Label, Store, Witness, manifest};
use crate::yaml::Problem;

/// The default oracle.
pub const ORACLE: &str = "python3 golden/oracle/ops.py";

/// The largest frame that the oracle may answer with.
const MAX_FRAME: u64 = 1 << 30;

/// A failure of the oracle as a whole.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The command is empty or malformed.
    #[error("--by {command:?}: found no words, expected a command")]
    Words {
        /// The command.
        command: String,
    },
    /// It could not be started.
    #[error("could not start the oracle {command:?}: {source}")]
    Start {
        /// The command.
        command: String,
        /// The reason.
        source: std::io::Error,
    },
    /// It does not speak the wire.
    #[error("the oracle {command:?} does not speak the wire: {source}")]
    Wire {
        /// The command.
        command: String,
        /// The reason.
        source: FrameError,
    },
    /// It reports that it cannot answer, for example because a package is missing.
    #[error("the oracle {command:?} cannot answer: {message}")]
    Failed {
        /// The command.
        command: String,
        /// Its own message.
        message: String,
    },
    /// It ended before it answered a question.
    #[error("the oracle {command:?} ended with a question open; its stderr says why")]
    Ended {
        /// The command.
        command: String,
    },
    /// It is the program that goldens judge.
    #[error("{command:?} is {name}: a golden is never made by what it judges")]
    Itself {
        /// The command.
        command: String,
        /// The name that it reported.
        name: String,
    },
}

/// An oracle that was started and has answered hello.
#[derive(Debug)]
pub struct Oracle {
    command: String,
    child: Child,
    stdin: Option<BufWriter<ChildStdin>>,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Oracle {
    /// Starts `command` without a shell and asks hello.
    ///
    /// # Errors
    /// The command does not start, does not speak the wire, or is the engine itself.
    pub fn start(command: &str) -> Result<Oracle, OracleError> {
        let words = shlex::split(command).unwrap_or_default();
        let Some((program, arguments)) = words.split_first() else {
            return Err(OracleError::Words { command: command.to_owned() });
        };
        let start = |source| OracleError::Start { command: command.to_owned(), source };
        let mut child = Command::new(program)
            .args(arguments)
            .env("GOLDGATE_WIRE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(start(std::io::Error::other("its pipes are not there")));
        };
        let mut oracle = Oracle {
            command: command.to_owned(),
            child,
            stdin: Some(BufWriter::new(stdin)),
            stdout: BufReader::new(stdout),
            next: 0,
        };
        let hello = Hello {
            wire: vec![1],
            harness: concat!("goldgate ", env!("CARGO_PKG_VERSION")).to_owned(),
            scratch: None,
            max_frame: Some(MAX_FRAME),
        };
        let (question, none) = hello.question();
        let answer = oracle.ask(question, none)?;
        // An oracle that lacks a library says so here, before it is asked about any case.
        if let Some(message) = answer.json.pointer("/failed/message").and_then(Value::as_str) {
            let message = message.to_owned();
            return Err(OracleError::Failed { command: command.to_owned(), message });
        }
        let name = answer.json.pointer("/ok/subject/name").and_then(Value::as_str);
        match name {
            // An oracle without a name is refused as well: it might be the engine.
            Some("goldgate-engine") | None => {
                let name = name.unwrap_or("without a name").to_owned();
                Err(OracleError::Itself { command: command.to_owned(), name })
            }
            Some(_) => Ok(oracle),
        }
    }

    /// Asks one question and waits for its answer; events are skipped.
    ///
    /// # Errors
    /// The stream fails or ends.
    pub fn ask(
        &mut self,
        mut question: Value,
        tensors: BTreeMap<String, goldgate_tensor::Tensor>,
    ) -> Result<Frame, OracleError> {
        let id = self.next;
        self.next += 1;
        question["id"] = id.into();
        let wire = |source| OracleError::Wire { command: self.command.clone(), source };
        let ended = || OracleError::Ended { command: self.command.clone() };
        let stdin = self.stdin.as_mut().ok_or_else(ended)?;
        write_frame(stdin, &Frame::with(question, tensors)).map_err(wire)?;
        loop {
            let frame = read_frame(&mut self.stdout, MAX_FRAME).map_err(wire)?.ok_or_else(ended)?;
            // One question is open at a time, so whatever else arrives is not its answer.
            if frame.json["id"] == id && frame.json.get("event").is_none() {
                return Ok(frame);
            }
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stdin = None; // the end of its stdin is the end
        let _ = self.child.wait();
    }
}

/// The results of `golden make`.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The goldens written, by path.
    pub written: Vec<String>,
    /// How many goldens were kept, because their questions have not changed.
    pub kept: usize,
    /// Models, vocabularies and texts whose lines in the manifest are new.
    pub recorded: Vec<String>,
    /// Goldens that no case needs any more.
    pub removed: Vec<String>,
    /// Cases of exact inputs whose sums are not exact; they count as rough.
    pub not_exact: Vec<String>,
    /// Goldens that could not be made, and why.
    pub problems: Vec<Problem>,
}

/// One golden to make: the cases that share it, and the wrong formulas that their mutants name.
#[derive(Clone, Debug)]
pub struct Order<'s> {
    /// The path below golden/.
    pub path: String,
    /// The cases that share it; the first is asked.
    pub cases: Vec<&'s Case>,
    /// Wrong formulas that mutants of the case name.
    pub wrong: Vec<String>,
}

/// All goldens that the specs need, by path.
pub fn orders(specs: &Specs) -> Vec<Order<'_>> {
    let mut orders: BTreeMap<&str, Order<'_>> = BTreeMap::new();
    for case in specs.cases() {
        let Some(path) = path(case) else { continue };
        // Cases of several types share one golden, which is asked for once.
        let order = orders.entry(path).or_insert_with(|| Order {
            path: path.to_owned(),
            cases: Vec::new(),
            wrong: wrong_of(specs, case),
        });
        order.cases.push(case);
    }
    orders.into_values().collect()
}

/// The wrong formulas that the mutants of a case name, sorted, without repetition.
pub fn wrong_of(specs: &Specs, case: &Case) -> Vec<String> {
    let file = specs.mutants.iter().find(|m| m.mutants.value == case.ask.op);
    let kills = |m: &&crate::kinds::mutant::Mutant| {
        m.killed_by.as_ref().is_some_and(|k| k.value == case.name)
    };
    let list = file.iter().flat_map(|f| &f.list).filter(kills);
    let mut wrong: Vec<String> = list.filter_map(|m| m.wrong.clone()).collect();
    // In one order and without repetition, because the list is part of the question and of its
    // hash.
    wrong.sort();
    wrong.dedup();
    wrong
}

/// How goldens are made.
#[derive(Clone, Copy, Debug)]
pub struct Options<'o> {
    /// The command of the oracle.
    pub command: &'o str,
    /// The day that is recorded for the witnesses.
    pub today: Day,
    /// Whether to ask again even if the question has not changed.
    pub again: bool,
    /// Whether to remove goldens that no case needs.
    pub remove_unclaimed: bool,
}

/// Makes all goldens that `selected` cases need and whose questions have changed.
///
/// # Errors
/// The oracle does not start, or dies. Goldens made before that are in the manifest all the same.
pub fn make(
    specs: &Specs,
    store: &mut Store,
    options: &Options<'_>,
    made: &mut Made,
    selected: impl Fn(&Case) -> bool,
) -> Result<(), OracleError> {
    // Started with the first question, so that a folder that is up to date needs no oracle.
    let mut oracle = None;
    let orders = orders(specs);
    let mut outcome = Ok(());
    for order in &orders {
        if !order.cases.iter().any(|case| selected(case)) {
            continue;
        }
        // One case is enough, because it is checked next that all of them ask the same.
        let asked = question(order.cases[0], &order.wrong);
        if let Some(problem) = shared_problem(order, &asked) {
            made.problems.push(problem);
            continue;
        }
        if !options.again && is_current(store, order, &asked) {
            made.kept += 1;
            continue;
        }
        outcome = make_golden(store, order, asked, options, (&mut oracle, made));
        // The manifest is still written below, so that the goldens made so far are not lost.
        if outcome.is_err() {
            break;
        }
    }
    if options.remove_unclaimed {
        remove_unclaimed(store, &specs.golden_paths(), made);
    }
    record_given(store, made);
    if let Err(e) = store.manifest.write(&store.root) {
        made.problems.push(Problem::of_file("IO", manifest::NAME, e.to_string(), "a file"));
    }
    outcome
}

/// A problem if cases that share a golden ask different questions, which is a mistake in the spec.
fn shared_problem(order: &Order<'_>, asked: &Asked) -> Option<Problem> {
    // Two cases may share a golden only if they ask the same; else one is judged by wrong numbers.
    let differs = |case: &&&Case| {
        let other = order.cases[0];
        case.ask.attributes != other.ask.attributes
            || case.ask.operands.iter().map(|i| &i.name).ne(other
                .ask
                .operands
                .iter()
                .map(|i| &i.name))
    };
    let case = order.cases.iter().find(differs)?;
    let found = format!("{} asks another question than {}", case.full_name(), asked.hash);
    Some(Problem::of_file("GOLDEN_QUESTION", &order.path, found, "one question a golden"))
}

fn is_current(store: &Store, order: &Order<'_>, asked: &Asked) -> bool {
    read(store, &order.path).is_ok_and(|(golden, label)| {
        let own = order.path.trim_end_matches(".safetensors");
        label.question == asked.hash
            && label.case == own
            // A golden that has become too weak for the judge is made again, too.
            && strength::check(order.cases[0], asked, &golden).is_ok()
    })
}

fn make_golden(
    store: &mut Store,
    order: &Order<'_>,
    asked: Asked,
    options: &Options<'_>,
    (oracle, made): (&mut Option<Oracle>, &mut Made),
) -> Result<(), OracleError> {
    let running = match oracle {
        Some(running) => running,
        None => oracle.insert(Oracle::start(options.command)?),
    };
    let case = order.cases[0];
    let frame = running.ask(asked.json.clone(), asked.tensors.clone())?;
    let problem = |code, found: String, expected: &str| {
        let mut p = Problem::of_file(code, &case.place.file, found, expected);
        p.place = case.place.clone();
        p.field = case.name.clone();
        p
    };
    // A question without an answer does not end the command: the others still get theirs.
    let Some(ok) = frame.json.get("ok") else {
        let found = frame.json.to_string();
        made.problems.push(problem("ORACLE", found, "an answer by the oracle"));
        return Ok(());
    };
    let label = label(order, &asked, ok, options.today);
    // The fills promise exact sums and the oracle found none, so the case will count as rough.
    if case.family == Family::Exact && !label.exact {
        made.not_exact.push(order.path.clone());
    }
    // Checked before it is written: a weak golden must not replace a good one.
    let bytes = frame::encode(&label.metadata(), &frame.tensors);
    let checked =
        decode(&order.path, &bytes).and_then(|(golden, _)| strength::check(case, &asked, &golden));
    if let Err(problem) = checked {
        made.problems.push(problem);
        return Ok(());
    }
    match store.write(&order.path, &label, &frame.tensors) {
        Ok(()) => made.written.push(order.path.clone()),
        Err(e) => {
            made.problems.push(Problem::of_file("IO", &order.path, e.to_string(), "a file"));
        }
    }
    Ok(())
}

fn label(order: &Order<'_>, asked: &Asked, ok: &Value, today: Day) -> Label {
    let mut witnesses: Vec<Witness> =
        serde_json::from_value(ok["witnesses"].clone()).unwrap_or_default();
    for witness in &mut witnesses {
        // The harness dates every answer, so that all dates come from one clock.
        witness.date = today.to_string();
    }
    Label {
        case: order.path.trim_end_matches(".safetensors").to_owned(),
        question: asked.hash.clone(),
        inputs: asked.inputs.clone(),
        witnesses,
        exact: ok["exact"] == true,
    }
}

/// Brings the manifest's lines for the inputs of goldens up to date with the files.
pub(super) fn record_given(store: &mut Store, made: &mut Made) {
    let files = store.given_files();
    // A line without its file would be reported as stale by every check.
    store.manifest.0.retain(|path, _| !manifest::is_given(path) || files.contains(path));
    for path in files {
        let Ok(entry) = store.entry(&path) else { continue };
        // Only what has changed is reported, so that a second run reports nothing.
        if store.manifest.0.insert(path.clone(), entry.clone()) != Some(entry) {
            made.recorded.push(path);
        }
    }
}

fn remove_unclaimed(store: &mut Store, asked: &BTreeSet<&str>, made: &mut Made) {
    let claimed = |path: &String| asked.contains(path.as_str());
    // Both lists, because a line may lack its file and a file its line.
    let known: Vec<String> = store.manifest.0.keys().cloned().chain(store.files()).collect();
    for path in known {
        // Files of models are given and not made, so no case has to ask for them.
        if claimed(&path) || manifest::is_given(&path) {
            continue;
        }
        store.manifest.0.remove(&path);
        let file = store.root.join(Path::new(&path));
        if file.exists() && std::fs::remove_file(&file).is_ok() {
            made.removed.push(path);
        }
    }
}
