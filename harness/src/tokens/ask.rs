//! Asks a list of texts of a subject, and tells it as a row.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use goldgate_engine::Tensor;
use serde_json::{Value, json};

use crate::case::Family;
use crate::execution::Observed;
use crate::report::Row;
use crate::subject::pool::{Absent, Heard, Slot};
use crate::subject::text::bytes;
use crate::subject::worker::Reply;
use crate::tokens::judge::{Answer, Difference, judge, self_check};
use crate::tokens::{TokenCase, Vector};
use crate::verdict::{BrokenKind, FailKind, NotRun, Verdict};

/// How long one text may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A row with nothing measured.
pub fn row(case: &TokenCase, label: &str, verdict: Verdict) -> Row {
    Row {
        name: format!("{}::{label}", case.full_name()),
        verdict,
        gate: case.gate,
        stem: case.stem.clone(),
        kind: "tokenizer".to_owned(),
        subject: label.to_owned(),
        family: Family::Exact,
        load: None,
        compared: 0,
        faults: (0, 0),
        time_ms: 0.0,
        observed: Observed::default(),
        page: None,
        worst: None,
        figures: BTreeMap::new(),
        notes: Vec::new(),
    }
}

/// Asks every text of a case and judges the answers.
pub fn ask(case: &TokenCase, label: &str, golden: &Path, slot: &mut Slot) -> Row {
    let faults = match self_check(case) {
        Ok(faults) => faults,
        Err(message) => {
            return row(case, label, Verdict::Broken { kind: BrokenKind::SelfCheck, message });
        }
    };
    let file = golden.join(&case.path);
    if !file.is_file() {
        let message = format!("{} is not there", file.display());
        return row(case, label, Verdict::NotRun { kind: NotRun::NoModel, message });
    }
    let path = file.canonicalize().unwrap_or(file);
    let mut answers = Vec::with_capacity(case.vectors.len());
    let mut time = Duration::ZERO;
    for vector in &case.vectors {
        match answer(case, vector, &path, slot, &mut time) {
            Ok(answer) => answers.push(answer),
            Err(verdict) => {
                let failed = matches!(verdict, Verdict::Fail { .. });
                let mut told = row(case, label, verdict);
                told.page = failed.then(|| page(case, &told, None));
                return told;
            }
        }
    }
    let difference = judge(case, &answers);
    let verdict = match &difference {
        None => Verdict::Pass,
        Some(d) => Verdict::Fail { kind: FailKind::Bits, message: d.message.clone() },
    };
    let mut told = row(case, label, verdict);
    told.faults = (faults.0 as _, faults.1 as _);
    told.time_ms = time.as_secs_f64() * 1e3;
    // A text without ids is compared too: that there are none.
    told.compared = case.vectors.iter().map(|v| v.ids.len().max(1) as u64).sum();
    told.page = difference.map(|d| page(case, &told, Some(&d)));
    told
}

/// Why there is no row: nobody answers.
pub fn not_run(case: &TokenCase, label: &str, kind: NotRun, message: &str) -> Row {
    row(case, label, Verdict::NotRun { kind, message: message.to_owned() })
}

fn answer(
    case: &TokenCase,
    vector: &Vector,
    path: &Path,
    slot: &mut Slot,
    time: &mut Duration,
) -> Result<Answer, Verdict> {
    let (add, parse) = case.special.flags();
    let path = path.display().to_string();
    let text = BTreeMap::from([("text".to_owned(), bytes(vector.bytes.clone()))]);
    let ask = json!({"call": "tokenize", "path": path, "add_special": add, "parse_special": parse});
    let mut said = call(slot, &ask, &text, time)?;
    let ids = numbers(&mut said, "ids")?;
    // Back from the awaited ids, so that one fault is not told twice.
    let awaited: Vec<i32> = vector.ids.iter().map(|id| *id as i32).collect();
    let tensors =
        BTreeMap::from([("ids".to_owned(), Tensor::from_i32(&[awaited.len()], &awaited))]);
    let mut ask = json!({"call": "detokenize", "path": path, "skip_special": false});
    let mut whole = call(slot, &ask, &tensors, time)?;
    ask["stream"] = true.into();
    let mut parts = call(slot, &ask, &tensors, time)?;
    let text = taken(&mut whole, "text")?.bytes;
    let stream = (taken(&mut parts, "text")?.bytes, numbers(&mut parts, "ends")?);
    Ok(Answer { ids, text, stream })
}

type Tensors = BTreeMap<String, Tensor>;

fn call(
    slot: &mut Slot,
    ask: &Value,
    tensors: &Tensors,
    time: &mut Duration,
) -> Result<Tensors, Verdict> {
    let heard = slot.call(ask, tensors, LIMIT);
    if let Ok(Heard { time: took, .. }) = &heard {
        *time += *took;
    }
    let fail = |kind, message: String| Err(Verdict::Fail { kind, message });
    match heard.map(|h| h.reply) {
        Ok(Reply::Answer { key: "ok", tensors, .. }) => Ok(tensors),
        Ok(Reply::Answer { key: "unsupported", body, .. }) => {
            let message = body["what"].as_str().unwrap_or_default().to_owned();
            Err(Verdict::NotRun { kind: NotRun::Unsupported, message })
        }
        Ok(Reply::Answer { key: "refused", body, .. }) => {
            fail(FailKind::WrongRefusal, body["message"].as_str().unwrap_or_default().to_owned())
        }
        Ok(Reply::Answer { key, body, .. }) => fail(FailKind::Internal, format!("{key}: {body}")),
        Ok(Reply::Crashed(how)) => fail(FailKind::Crashed, how),
        Ok(Reply::TimedOut) => fail(FailKind::TimedOut, "no answer in time".to_owned()),
        Ok(Reply::Protocol(what) | Reply::Stale(what) | Reply::Gone(what)) => {
            fail(FailKind::Protocol, what)
        }
        Ok(Reply::TooBig(message)) => Err(Verdict::NotRun { kind: NotRun::TooBig, message }),
        Ok(Reply::Unsent(what)) => fail(FailKind::Internal, what),
        Err(Absent { message }) => Err(Verdict::NotRun { kind: NotRun::DeviceLost, message }),
    }
}

fn taken(tensors: &mut Tensors, name: &str) -> Result<Tensor, Verdict> {
    let message = format!("no {name} in the answer");
    tensors.remove(name).ok_or(Verdict::Fail { kind: FailKind::Shape, message })
}

fn numbers(tensors: &mut Tensors, name: &str) -> Result<Vec<i64>, Verdict> {
    Ok(taken(tensors, name)?.to_f64().into_iter().map(|x| x as i64).collect())
}

fn page(case: &TokenCase, row: &Row, difference: Option<&Difference>) -> String {
    let Verdict::Fail { kind, message } = &row.verdict else { return String::new() };
    let mut lines = vec![
        format!("FAIL {}", row.name),
        format!("  why      {}", case.why),
        format!("  failed   {}: {message}", kind.word()),
    ];
    if let Some(d) = difference {
        let total = case.vectors.len();
        lines.push(format!("  text     {} of {total} in the list; {} differ", d.at + 1, d.of));
        if !d.diff.is_empty() {
            lines.push(format!("  diff     {}", d.diff));
        }
    }
    let place = &case.place;
    lines.push(format!("  form     {}", case.path));
    lines.push(format!("  source   {}", case.source));
    lines.push(format!("  written  {}:{}:{}", place.file, place.line, place.column));
    lines.push(format!("  again    goldgate run {}\n", row.name));
    lines.join("\n")
}
