//! Files put before a subject: made, asked about, judged, a row for each case.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::container::judge::{judge, self_check};
use crate::container::{ContainerCase, write};
use crate::subject::Subject;
use crate::subject::pool::{Heard, Slot, Tensors};
use crate::subject::worker::Reply;
use crate::verdict::{BrokenKind, FailKind, NotRun, Verdict};

/// How long one file may take by the wall clock, before the subject is ended.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of a case.
pub(super) struct Told {
    pub verdict: Verdict,
    pub notes: Vec<String>,
    /// Files that were asked about.
    pub files: u64,
    pub time_ms: f64,
    /// The largest of each figure over all files.
    pub largest_request: Option<u64>,
    pub peak_bytes: Option<u64>,
}

/// Asks about every file of a case, and stops at the first that is judged wrongly.
pub(super) fn ask(case: &ContainerCase, slot: &mut Slot, scratch: &Path, ours: bool) -> Told {
    let mut told = Told {
        verdict: Verdict::Pass,
        notes: Vec::new(),
        files: 0,
        time_ms: 0.0,
        largest_request: None,
        peak_bytes: None,
    };
    if let Err(message) = self_check(&case.awaits) {
        told.verdict = Verdict::Broken { kind: BrokenKind::SelfCheck, message };
        return told;
    }
    if !slot.hello().offers("inspect") {
        let message = "does not offer inspect".to_owned();
        told.verdict = Verdict::NotRun { kind: NotRun::Unsupported, message };
        return told;
    }
    for index in 0..case.variants() {
        told.verdict = one(case, index, slot, scratch, ours, &mut told);
        if told.verdict != Verdict::Pass {
            break;
        }
    }
    told.notes.dedup();
    told
}

fn one(
    case: &ContainerCase,
    index: usize,
    slot: &mut Slot,
    scratch: &Path,
    ours: bool,
    told: &mut Told,
) -> Verdict {
    let broken = |message: String| Verdict::Broken { kind: BrokenKind::Harness, message };
    let folder = match tempfile::tempdir_in(scratch) {
        Ok(folder) => folder,
        Err(e) => return broken(format!("no scratch folder: {e}")),
    };
    let files = match case.make(index) {
        Ok(files) => files,
        Err(why) => return broken(why),
    };
    let (path, length) = match write(&files, folder.path()) {
        Ok(written) => written,
        Err(e) => return broken(format!("no file: {e}")),
    };
    let question = json!({"call": "inspect", "path": path.to_string_lossy()});
    let heard = match slot.call(&question, &Tensors::new(), LIMIT) {
        Ok(heard) => heard,
        Err(absent) => {
            return Verdict::NotRun { kind: NotRun::DeviceLost, message: absent.message };
        }
    };
    told.files += 1;
    told.time_ms += heard.time.as_secs_f64() * 1e3;
    let (verdict, notes) = answer(case, &heard, length, ours, told);
    told.notes.extend(notes);
    match verdict {
        Verdict::Fail { kind, message } if case.variants() > 1 => {
            let message = format!("file {} of {}: {message}", index + 1, case.variants());
            Verdict::Fail { kind, message }
        }
        verdict => verdict,
    }
}

fn answer(
    case: &ContainerCase,
    heard: &Heard,
    length: u64,
    ours: bool,
    told: &mut Told,
) -> (Verdict, Vec<String>) {
    let fail =
        |kind, message: &str| (Verdict::Fail { kind, message: message.to_owned() }, Vec::new());
    match &heard.reply {
        Reply::Answer { key: "unsupported", body, .. } => {
            let message = body["what"].as_str().unwrap_or_default().to_owned();
            (Verdict::NotRun { kind: NotRun::Unsupported, message }, Vec::new())
        }
        Reply::Answer { key, body, .. } => {
            let figure = |name: &str| body["observed"].get(name).and_then(Value::as_u64);
            told.largest_request = told.largest_request.max(figure("largest_request"));
            told.peak_bytes = told.peak_bytes.max(figure("peak_bytes"));
            judge(&case.awaits, (key, body), length, ours)
        }
        Reply::Crashed(how) => fail(FailKind::Crashed, how),
        Reply::TimedOut => fail(FailKind::TimedOut, "no answer in 10 s"),
        Reply::TooBig(message) => {
            let message = message.clone();
            (Verdict::NotRun { kind: NotRun::TooBig, message }, Vec::new())
        }
        Reply::Unsent(what) => fail(FailKind::Internal, what),
        Reply::Protocol(what) | Reply::Stale(what) | Reply::Gone(what) => {
            fail(FailKind::Protocol, what)
        }
    }
}
