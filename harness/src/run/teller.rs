//! Everything that leaves a run: rows as they are judged, and findings about subjects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goldgate_wire::Hello;
use serde_json::Value;

use crate::line::page::page;
use crate::line::{FailKind, Judgement, Row, Verdict};
use crate::report::Report;
use crate::report::writer::Writer;
use crate::run::{Known, News, Plan, RunError};
use crate::subject::pool::Incidents;

/// Collects the rows and messages of a run.
pub(super) struct Teller<'a> {
    plan: &'a Plan,
    known: &'a Known<'a>,
    writer: Option<Writer>,
    sink: &'a mut dyn FnMut(&Row),
    rows: BTreeMap<String, Row>,
    /// Label → its first answer to hello.
    hellos: BTreeMap<String, Value>,
    absent: BTreeMap<String, String>,
    invalid: Vec<String>,
    incidents: Vec<String>,
    replaced: u32,
    error: Option<std::io::Error>,
    /// Set by the first failure, where the run ends at one.
    stop: Option<Arc<AtomicBool>>,
}

impl<'a> Teller<'a> {
    /// A collector that has received nothing. `stop` is set by the first failure.
    pub fn new(
        plan: &'a Plan,
        known: &'a Known<'a>,
        writer: Option<Writer>,
        sink: &'a mut dyn FnMut(&Row),
        stop: Option<Arc<AtomicBool>>,
    ) -> Teller<'a> {
        Teller {
            plan,
            known,
            writer,
            sink,
            rows: BTreeMap::new(),
            hellos: BTreeMap::new(),
            absent: BTreeMap::new(),
            invalid: Vec::new(),
            incidents: Vec::new(),
            replaced: 0,
            error: None,
            stop,
        }
    }

    /// Takes a message from a lane.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Row(row) => self.first(*row),
            News::Hello(subject, hello) => self.hello(subject, hello),
            News::Absent(subject, why) => {
                let label = self.plan.subjects[subject].label.clone();
                self.absent.insert(label, why);
            }
            News::Incidents(subject, found, last) => self.found(subject, found, last.as_deref()),
        }
    }

    /// Takes a row, which replaces an earlier one of the same name.
    pub fn row(&mut self, row: Row) {
        // The run goes on, so that the sink still gets its rows; the first error is returned at the
        // end.
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.row(&row)
        {
            self.error.get_or_insert(error);
        }
        (self.sink)(&row);
        if let (Verdict::Fail { .. }, Some(stop)) = (&row.verdict, &self.stop) {
            stop.store(true, Ordering::SeqCst);
        }
        self.rows.insert(row.name.clone(), row);
    }

    /// The current row of that name.
    pub fn known(&self, name: &str) -> Option<&Row> {
        self.rows.get(name)
    }

    fn first(&mut self, row: Row) {
        // A plan asks each trial once, so a second first row means that names collide.
        if self.rows.contains_key(&row.name) {
            self.invalid.push(format!("{} was judged twice", row.name));
        }
        self.row(row);
    }

    /// Checks that every process of a subject is the same subject on the same device.
    fn hello(&mut self, subject: usize, hello: Value) {
        let label = &self.plan.subjects[subject].label;
        let identity = |value: &Value| Hello::read(value).unwrap_or_default().identity();
        match self.hellos.get(label) {
            Some(first) if identity(first) != identity(&hello) => {
                let (was, is) = (identity(first), identity(&hello));
                self.invalid.push(format!("{label}: {was:?} became {is:?}"));
            }
            Some(_) => {}
            None => drop(self.hellos.insert(label.clone(), hello)),
        }
    }

    fn found(&mut self, subject: usize, found: Incidents, last: Option<&str>) {
        let label = &self.plan.subjects[subject].label;
        self.replaced += found.replaced;
        self.invalid.extend(found.changed.iter().map(|c| format!("{label}: {c}")));
        self.blame(&found, last);
        self.incidents.extend(found.leaks);
        self.incidents.extend(found.strays);
    }

    /// A leak or unsolicited output is found after the fact, so the previous trial is charged.
    fn blame(&mut self, found: &Incidents, last: Option<&str>) {
        let leak = found.leaks.first().map(|leak| (FailKind::Leak, leak));
        let stray = found.strays.first().map(|stray| (FailKind::Protocol, stray));
        let Some((kind, message)) = leak.or(stray) else { return };
        let Some(entry) = last.and_then(|name| self.plan.entry(name)) else { return };
        let Some(row) = self.rows.get(&entry.name) else { return };
        // A pass that known.yaml does not expect is UNEXPECTED by now; the failure that it expects
        // may be this one.
        if matches!(row.verdict, Verdict::Pass | Verdict::Unexpected { .. }) {
            let judgement = Judgement::fail(kind, message.clone());
            let page = page(entry.trial.head(), &entry.name, &judgement, &entry.again, "");
            let hello = self.hellos.get(&row.subject);
            let hello = hello.and_then(|hello| Hello::read(hello).ok()).unwrap_or_default();
            let row = Row { verdict: judgement.verdict, page, ..row.clone() };
            self.row((self.known)(row, hello.device_name()));
        }
    }

    /// Puts everything into the report. Returns the writer, where there is one.
    ///
    /// # Errors
    /// A row that could not be written.
    pub fn conclude(self, report: &mut Report) -> Result<Option<Writer>, RunError> {
        if let Some(error) = self.error {
            return Err(RunError::Report(error));
        }
        report.rows = self.rows.into_values().collect();
        report.provenance.subjects.extend(self.hellos);
        report.absent.extend(self.absent);
        report.invalid.extend(self.invalid);
        report.incidents.extend(self.incidents);
        report.replaced += self.replaced;
        Ok(self.writer)
    }
}
