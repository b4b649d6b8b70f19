//! What a run asks of a subject beside its cases: checks of the subject as a whole, and benches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::Family;
use crate::checks::SubjectCheck;
use crate::container::ContainerCase;
use crate::execution::Observed;
use crate::fill::fill;
use crate::models::ask::{Asker, Held};
use crate::models::{ModelCase, row as models};
use crate::report::Row;
use crate::run::slots::launch;
use crate::run::trial::asked;
use crate::run::{Context, Teller, files};
use crate::spec::Bench;
use crate::spec::op::Against;
use crate::subject::pool::{Heard, Slot};
use crate::subject::worker::Reply;
use crate::subject::{How, OpQuestion, Subject};
use crate::tokens::{TokenCase, ask as tokens};
use crate::verdict::{FailKind, NotRun, Verdict};

/// How long a check or a bench may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Replays of a bench; the row tells their median.
const REPLAYS: u32 = 5;

/// What is asked.
#[derive(Clone, Debug)]
pub enum What {
    /// A check of the subject as a whole.
    Check(&'static SubjectCheck),
    /// The time of one question.
    Bench(Arc<Bench>),
    /// Files that are refused or opened.
    Files(Arc<ContainerCase>),
    /// A list of texts.
    Tokens(Arc<TokenCase>),
    /// A question about a model.
    Model(Arc<ModelCase>),
}

/// Something asked of one subject beside its cases.
#[derive(Clone, Debug)]
pub struct Extra {
    /// Its full name, subject last.
    pub name: String,
    /// What is asked.
    pub what: What,
    /// Which of the plan's subjects.
    pub subject: usize,
    /// The subject's label.
    pub label: String,
}

impl Extra {
    /// A check on a subject.
    pub fn check(check: &'static SubjectCheck, subject: usize, label: &str) -> Extra {
        let SubjectCheck { gate, stem, case, .. } = check;
        let name = format!("gate{gate}::{stem}::{case}::self::{label}");
        Extra { name, what: What::Check(check), subject, label: label.to_owned() }
    }

    /// A bench on a subject.
    pub fn bench(bench: Arc<Bench>, subject: usize, label: &str) -> Extra {
        let name = bench.case.trial(label);
        Extra { name, what: What::Bench(bench), subject, label: label.to_owned() }
    }

    /// Files before a subject.
    pub fn files(case: Arc<ContainerCase>, subject: usize, label: &str) -> Extra {
        let name = format!("{}::{label}", case.full_name());
        Extra { name, what: What::Files(case), subject, label: label.to_owned() }
    }

    /// A list of texts on a subject.
    pub fn tokens(case: Arc<TokenCase>, subject: usize, label: &str) -> Extra {
        let name = format!("{}::{label}", case.full_name());
        Extra { name, what: What::Tokens(case), subject, label: label.to_owned() }
    }

    /// A question about a model to a subject.
    pub fn model(case: Arc<ModelCase>, subject: usize, label: &str) -> Extra {
        let name = format!("{}::{label}", case.full_name());
        Extra { name, what: What::Model(case), subject, label: label.to_owned() }
    }

    fn row(&self, verdict: Verdict) -> Row {
        let (gate, stem, kind, why) = match &self.what {
            What::Tokens(case) => return tokens::row(case, &self.label, verdict),
            What::Model(case) => return models::row(case, &self.label, verdict),
            What::Check(c) => (c.gate, c.stem.to_owned(), "self", c.why),
            What::Bench(b) => (b.case.gate, b.case.stem.clone(), "bench", b.case.why.as_str()),
            What::Files(c) => (c.gate, c.stem.clone(), "container", c.why.as_str()),
        };
        let page = match &verdict {
            Verdict::Fail { kind, message } => Some(format!(
                "FAIL {}\n  why      {why}\n  failed   {}: {message}\n\
                 {}  again    goldgate run {}\n",
                self.name,
                kind.word(),
                self.written(),
                self.name,
            )),
            _ => None,
        };
        Row {
            name: self.name.clone(),
            verdict,
            gate,
            stem,
            kind: kind.to_owned(),
            subject: self.label.clone(),
            family: match &self.what {
                What::Files(case) => case.family(),
                What::Check(_) | What::Bench(_) | What::Tokens(_) | What::Model(_) => Family::Rough,
            },
            load: None,
            compared: 0,
            faults: (0, 0),
            time_ms: 0.0,
            observed: Observed::default(),
            page,
            worst: None,
            figures: BTreeMap::new(),
            notes: Vec::new(),
        }
    }
}

impl Extra {
    /// Where a case was written, for its page.
    fn written(&self) -> String {
        match &self.what {
            What::Files(case) => {
                let (source, place) = (&case.source, &case.place);
                format!(
                    "  source   {source}\n  written  {}:{}:{}\n",
                    place.file, place.line, place.column
                )
            }
            What::Check(_) | What::Bench(_) | What::Tokens(_) | What::Model(_) => String::new(),
        }
    }
}

/// Asks everything, every subject in processes of its own.
pub(super) fn ask_all(context: &Context<'_>, teller: &mut Teller<'_>) {
    let of = |subject: usize| context.plan.extras.iter().filter(move |e| e.subject == subject);
    let queues: Vec<Mutex<VecDeque<&Extra>>> =
        (0..context.plan.subjects.len()).map(|s| Mutex::new(of(s).collect())).collect();
    let (to, rows) = mpsc::channel();
    std::thread::scope(|scope| {
        for (subject, queue) in queues.iter().enumerate() {
            // One card is one place; on the CPU what is loaded alike is asked side by side.
            let threads = match context.plan.subjects[subject].how {
                How::Cpu => context.options.jobs.max(1),
                How::Cuda(_) | How::Command(_) => 1,
            };
            for _ in 0..threads {
                let to = to.clone();
                scope.spawn(move || work(context, subject, queue, &to));
            }
        }
        drop(to);
        rows.iter().for_each(|row| teller.tell(row));
    });
}

/// The next extras that one process should answer: those of one model, or one by one.
fn next<'e>(queue: &Mutex<VecDeque<&'e Extra>>) -> Vec<&'e Extra> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut batch: Vec<&Extra> = queue.pop_front().into_iter().collect();
    while let (Some(first), Some(other)) = (batch.first(), queue.front()) {
        match (&first.what, &other.what) {
            (What::Model(a), What::Model(b)) if loaded_alike(a, b) && !a.slow => {
                batch.extend(queue.pop_front());
            }
            _ => break,
        }
    }
    batch
}

/// What lasts long is asked by itself, so that others need not wait for it.
fn loaded_alike(a: &ModelCase, b: &ModelCase) -> bool {
    a.stem == b.stem && a.form == b.form && !b.slow
}

fn work(
    context: &Context<'_>,
    subject: usize,
    queue: &Mutex<VecDeque<&Extra>>,
    rows: &mpsc::Sender<Row>,
) {
    // Whoever listens outlives every thread.
    let tell = |row: Row| drop(rows.send(row));
    let mut batch = next(queue);
    if batch.is_empty() {
        return;
    }
    let opened = Slot::open(launch(context, subject));
    let (mut limits, mut held) = (None, None);
    let mut slot = opened.map_err(|absent| absent.message);
    while !batch.is_empty() {
        for extra in batch {
            let not_run = |kind, message: &str| {
                extra.row(Verdict::NotRun { kind, message: message.to_owned() })
            };
            tell(match &mut slot {
                Err(message) => not_run(NotRun::NoDevice, message),
                Ok(_) if context.stopped() => not_run(NotRun::Stopped, "the run was stopped"),
                Ok(slot) => ask(context, extra, slot, (&mut limits, &mut held)),
            });
        }
        batch = next(queue);
    }
    if let Ok(slot) = slot {
        slot.finish();
    }
}

fn ask(
    context: &Context<'_>,
    extra: &Extra,
    slot: &mut Slot,
    (limits, held): (&mut Option<Value>, &mut Held),
) -> Row {
    match &extra.what {
        What::Model(case) => {
            let row = of_model(context, extra, case, slot, held);
            (context.known)(row, slot.hello().device_name())
        }
        What::Tokens(case) => {
            let row = tokens::ask(case, &extra.label, context.goldens.folder(), slot);
            (context.known)(row, slot.hello().device_name())
        }
        What::Check(check) => {
            let ask = json!({"call": "check", "stem": check.stem, "case": check.case});
            let heard = slot.call(&ask, &BTreeMap::new(), LIMIT);
            let time = heard.as_ref().map_or(0.0, |h| h.time.as_secs_f64() * 1e3);
            let verdict = verdict(heard.map(|h| h.reply), |ok| match ok["holds"].as_bool() {
                Some(true) => Verdict::Pass,
                _ => fail(FailKind::Load, ok["why"].as_str().unwrap_or("it says nothing")),
            });
            Row { time_ms: time, ..extra.row(verdict) }
        }
        What::Bench(bench) => time(extra, bench, slot, limits),
        What::Files(case) => {
            let ours = !matches!(context.plan.subjects[extra.subject].how, How::Command(_));
            let told = files::ask(case, slot, &context.scratch, ours);
            let observed = Observed {
                largest_request: told.largest_request,
                peak_bytes: told.peak_bytes,
                ..Observed::default()
            };
            let (compared, time_ms, notes) = (told.files, told.time_ms, told.notes);
            Row { compared, time_ms, notes, observed, ..extra.row(told.verdict) }
        }
    }
}

/// A row that fails is asked once more, alone in a fresh process: a pass is flaky, and no pass.
fn of_model(
    context: &Context<'_>,
    extra: &Extra,
    case: &ModelCase,
    slot: &mut Slot,
    held: &mut Held,
) -> Row {
    let (folder, elsewhere) = (context.goldens.folder(), context.goldens.models());
    let asked = asked(context, extra.subject, slot);
    let mut once = |slot: &mut Slot| {
        let mut asker = Asker::new(slot, held, folder, elsewhere);
        models::ask(case, (&extra.label, &asked), context.goldens.model(case), &mut asker)
    };
    let mut row = once(slot);
    let Verdict::Fail { kind, message } = row.verdict.clone() else { return row };
    slot.renew();
    let again = once(slot);
    if again.verdict == Verdict::Pass {
        let message = format!("{message}; passes in a fresh process");
        row.page = row.page.map(|page| page.replacen("FAIL", "FLAKY", 1));
        row.verdict = Verdict::Flaky { kind, message };
    }
    row
}

fn fail(kind: FailKind, message: &str) -> Verdict {
    Verdict::Fail { kind, message: message.to_owned() }
}

fn verdict(
    reply: Result<Reply, crate::subject::pool::Absent>,
    judge: impl FnOnce(&Value) -> Verdict,
) -> Verdict {
    match reply {
        Ok(Reply::Answer { key: "ok", body, .. }) => judge(&body),
        Ok(Reply::Answer { key: "unsupported", body, .. }) => {
            let message = body["what"].as_str().unwrap_or_default().to_owned();
            Verdict::NotRun { kind: NotRun::Unsupported, message }
        }
        Ok(Reply::Answer { key, body, .. }) => fail(FailKind::Device, &format!("{key}: {body}")),
        Ok(Reply::Crashed(how)) => fail(FailKind::Crashed, &how),
        Ok(Reply::TimedOut) => fail(FailKind::TimedOut, "no answer in time"),
        Ok(Reply::Protocol(what) | Reply::Stale(what) | Reply::Gone(what)) => {
            fail(FailKind::Protocol, &what)
        }
        Ok(Reply::TooBig(message)) => Verdict::NotRun { kind: NotRun::TooBig, message },
        Ok(Reply::Unsent(what)) => fail(FailKind::Internal, &what),
        Err(absent) => Verdict::NotRun { kind: NotRun::DeviceLost, message: absent.message },
    }
}

/// The card's limits, measured once a run, and the time of one question beside them.
fn time(extra: &Extra, bench: &Bench, slot: &mut Slot, limits: &mut Option<Value>) -> Row {
    if limits.is_none() {
        let ask = json!({"call": "bench", "copy": 1u64 << 30});
        if let Ok(Heard { reply: Reply::Answer { key: "ok", body, .. }, .. }) =
            slot.call(&ask, &BTreeMap::new(), LIMIT)
        {
            *limits = Some(body);
        }
    }
    let question = OpQuestion::of(&bench.case, fill);
    let mut ask = question.json(LIMIT);
    ask["call"] = "bench".into();
    ask["iterations"] = REPLAYS.into();
    let heard = slot.call(&ask, &question.tensors, LIMIT);
    let mut figures = BTreeMap::new();
    let verdict = match heard {
        Ok(Heard { reply: Reply::Answer { key: "ok", body, tensors }, .. }) => {
            let mut us = tensors.get("us").map(goldgate_engine::Tensor::to_f64).unwrap_or_default();
            match us.is_empty() || us.iter().any(|t| !(t.is_finite() && *t > 0.0)) {
                true => fail(FailKind::Shape, "a time is missing or no number"),
                false => {
                    let limits = limits.clone().unwrap_or(Value::Null);
                    figures = told(&mut us, &body, &limits, bench.against);
                    Verdict::Pass
                }
            }
        }
        other => verdict(other.map(|h| h.reply), |_| Verdict::Pass),
    };
    Row { figures, ..extra.row(verdict) }
}

/// Median, rates, and the share of the limit that the same run measured on the same card.
fn told(us: &mut [f64], body: &Value, limits: &Value, against: Against) -> BTreeMap<String, f64> {
    us.sort_by(f64::total_cmp);
    let median = us[us.len() / 2];
    let mut figures = BTreeMap::from([("median_us".to_owned(), median)]);
    for key in ["copy_gb_s", "read_gb_s", "mma_tflop_s", "gap_us"] {
        if let Some(x) = limits[key].as_f64() {
            figures.insert(key.to_owned(), x);
        }
    }
    let (bytes, flops) = (body["bytes"].as_f64(), body["flops"].as_f64());
    let (rate, limit) = match against {
        Against::Copy => (bytes.map(|b| b / median / 1e3), "copy_gb_s"),
        Against::Read => (bytes.map(|b| b / median / 1e3), "read_gb_s"),
        Against::Matmul => (flops.map(|f| f / median / 1e6), "mma_tflop_s"),
    };
    let unit = if limit == "mma_tflop_s" { "tflop_s" } else { "gb_s" };
    if let Some(rate) = rate {
        figures.insert(unit.to_owned(), rate);
        if let Some(limit) = figures.get(limit).copied().filter(|l| *l > 0.0) {
            figures.insert("share".to_owned(), rate / limit);
        }
    }
    figures
}
