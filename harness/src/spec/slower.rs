//! Accepted slowdowns (`specs/slower.yaml`): benches that are slower than a record shows they once
//! were, each with its reason and an end, so that no slowdown is forgotten.

use schemars::JsonSchema;

use crate::line::Day;
use crate::spec::known::{MAX_DAYS, day};
use crate::yaml::fields::version;
use crate::yaml::read::{At, Reader, is_id};
use crate::yaml::tree::Node;

/// The slowdowns that are accepted.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SlowerFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The entries.
    pub slower: Vec<AcceptedSlowdown>,
}

/// One accepted slowdown. It excuses a slower bench on the gate page, and changes no verdict.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AcceptedSlowdown {
    /// The bench's full name, subject last.
    #[schemars(with = "String")]
    pub bench: At<String>,
    /// The device's name.
    pub device: String,
    /// The record in which it was faster: a folder of reports/record.
    pub record: String,
    /// Its median in that record, in microseconds.
    pub was_us: f64,
    /// The factor of that median that is accepted at most.
    pub at_most: f64,
    /// Why it is slower, and what ends that.
    pub reason: String,
    /// The first day, ISO 8601.
    #[schemars(with = "String")]
    pub since: Day,
    /// The day on which the acceptance ends, ISO 8601.
    #[schemars(with = "String")]
    pub until: Day,
}

impl AcceptedSlowdown {
    /// Whether the entry has expired on `today`.
    pub fn expired(&self, today: Day) -> bool {
        today >= self.until
    }
}

/// Reads a whole file.
pub fn slower_file(r: &Reader<'_>, node: &Node) -> Option<SlowerFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let slower = f.need("slower", |r, n, p| r.list(n, p, entry));
    f.done();
    let slower: Vec<AcceptedSlowdown> = slower?;
    for (i, s) in slower.iter().enumerate() {
        let same = |e: &AcceptedSlowdown| e.bench.value == s.bench.value && e.device == s.device;
        // Of two entries the looser one would count, whatever the stricter one says.
        if slower[..i].iter().any(same) {
            let expected = "each bench once per device";
            r.note_value(&s.bench, "ID_DUP", "slower.bench", &s.bench.value, expected);
        }
    }
    Some(SlowerFile { format: format?, slower })
}

fn entry(r: &Reader<'_>, node: &Node, path: &str) -> Option<AcceptedSlowdown> {
    let mut f = r.fields(node, path)?;
    let bench = f.need("bench", |r, n, p| {
        let text = r.text(n, p)?;
        let parts: Vec<&str> = text.split("::").collect();
        // Full names only: a pattern would also accept slowdowns that nobody has looked at.
        if parts.len() != 5 || !parts.iter().all(|part| is_id(part)) {
            return r.fail(n, "ID_FORM", p, "a full name: gate::stem::case::variant::subject");
        }
        Some(At::new(n, text))
    });
    let device = f.need("device", Reader::text);
    let record = f.need("record", |r, n, p| {
        let text = r.text(n, p)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        // The name is joined to a path, so it must not lead elsewhere.
        if text.starts_with('.') || !text.chars().all(plain) {
            return r.fail(n, "ID_FORM", p, "the name of a folder in reports/record");
        }
        Some(text)
    });
    let was_us = f.need("was_us", |r, n, p| r.number_in(n, p, (0.0, false, 1e12)));
    // From 1.05, because a smaller factor is no slowdown and needs no entry.
    let at_most = f.need("at_most", |r, n, p| r.number_in(n, p, (1.05, true, 10.0)));
    let reason = f.need("reason", Reader::text);
    let since = f.need("since", day);
    let until = f.need("until", day);
    f.done();
    let (since, until) = (since?, until?);
    // An entry that lasts for years would make the slower speed the normal one.
    if !(1..=MAX_DAYS).contains(&(until.number() - since.number())) {
        r.note(node, "RANGE", path, "an end 1 to 90 days after `since`");
    }
    Some(AcceptedSlowdown {
        bench: bench?,
        device: device?,
        record: record?,
        was_us: was_us?,
        at_most: at_most?,
        reason: reason?,
        since,
        until,
    })
}
