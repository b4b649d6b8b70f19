//! Known failures (`specs/known.yaml`): by full name and with an end, so that none is forgotten.

use schemars::JsonSchema;

use crate::line::{Day, FailKind};
use crate::yaml::fields::version;
use crate::yaml::read::{At, Reader, is_id};
use crate::yaml::tree::Node;

/// The most days that an entry may last.
pub const MAX_DAYS: i64 = 90;

/// The failures that are known.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KnownFile {
    /// The version of this format: 1.
    pub format: u8,
    /// The entries.
    pub known: Vec<KnownFailure>,
}

/// One known failure. It still runs, and it never makes a requirement met.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KnownFailure {
    /// The trial's full name, subject last.
    #[schemars(with = "String")]
    pub case: At<String>,
    /// How it fails.
    #[schemars(with = "String")]
    pub fails: FailKind,
    /// The largest load that is awaited; only where it fails by load.
    pub at_most: Option<f64>,
    /// The device's name; `*` is any.
    pub device: String,
    /// Why it fails.
    pub reason: String,
    /// Who mends it.
    pub owner: String,
    /// The first day, ISO 8601.
    #[schemars(with = "String")]
    pub since: Day,
    /// The day on which it ends, ISO 8601.
    #[schemars(with = "String")]
    pub expires: Day,
}

impl KnownFailure {
    /// Whether the entry has expired on `today`.
    pub fn expired(&self, today: Day) -> bool {
        today >= self.expires
    }

    /// Whether the entry expects a failure of this kind, with this load, on this device.
    pub fn covers(&self, kind: FailKind, load: Option<f64>, device: &str) -> bool {
        // A failure without a load is not covered by a bound on the load.
        let small = self.at_most.is_none_or(|most| load.is_some_and(|load| load <= most));
        kind == self.fails && small && (self.device == "*" || self.device == device)
    }
}

/// Reads a whole file.
pub fn known_file(r: &Reader<'_>, node: &Node) -> Option<KnownFile> {
    let mut f = r.fields(node, "")?;
    let format = f.need("format", version);
    let known = f.need("known", |r, n, p| r.list(n, p, entry));
    f.done();
    let known: Vec<KnownFailure> = known?;
    for (i, k) in known.iter().enumerate() {
        // Two entries for one trial could allow different loads.
        let same = |e: &KnownFailure| e.case.value == k.case.value && e.device == k.device;
        if known[..i].iter().any(same) {
            r.note_value(&k.case, "ID_DUP", "known.case", &k.case.value, "each trial once");
        }
    }
    Some(KnownFile { format: format?, known })
}

/// Reads one entry.
pub fn entry(r: &Reader<'_>, node: &Node, path: &str) -> Option<KnownFailure> {
    let mut f = r.fields(node, path)?;
    let case = f.need("case", |r, n, p| {
        let text = r.text(n, p)?;
        let parts: Vec<&str> = text.split("::").collect();
        // Full names only: a pattern would also excuse failures that nobody has looked at.
        if parts.len() != 5 || !parts.iter().all(|part| is_id(part)) {
            return r.fail(n, "ID_FORM", p, "a full name: gate::stem::case::variant::subject");
        }
        Some(At::new(n, text))
    });
    let fails = f.need("fails", |r, n, p| {
        let words: Vec<_> = FailKind::ALL.iter().map(|k| (k.word(), *k)).collect();
        r.word(n, p, &words)
    });
    let at_most = f.may("at_most", |r, n, p| r.number_in(n, p, (0.0, false, 1e6)));
    let device = f.need("device", Reader::text);
    let reason = f.need("reason", Reader::text);
    let owner = f.need("owner", Reader::text);
    let since = f.need("since", day);
    let expires = f.need("expires", day);
    f.done();
    let (since, expires, fails) = (since?, expires?, fails?);
    let days = expires.number() - since.number();
    // The end makes its owner look again, before the reason is forgotten.
    if !(1..=MAX_DAYS).contains(&days) {
        r.note(node, "RANGE", path, "an end 1 to 90 days after `since`");
    }
    // Only a load has a size, and without a bound a known failure could grow unnoticed.
    if (fails == FailKind::Load) != at_most.is_some() {
        r.note(node, "MISSING_FIELD", path, "`at_most` with `fails: load`, and only there");
    }
    Some(KnownFailure {
        case: case?,
        fails,
        at_most,
        device: device?,
        reason: reason?,
        owner: owner?,
        since,
        expires,
    })
}

/// Reads a day.
pub fn day(r: &Reader<'_>, node: &Node, path: &str) -> Option<Day> {
    let day = node.text().and_then(Day::parse);
    day.or_else(|| r.fail(node, "RANGE", path, "a day as 2026-11-20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_by_the_calendar() {
        let n = |text: &str| Day::parse(text).expect("a day").number();
        assert_eq!(n("2026-12-20") - n("2026-11-20"), 30);
        assert_eq!(n("2028-03-01") - n("2028-02-28"), 2);
        assert_eq!(n("2100-03-01") - n("2100-02-28"), 1);
        for bad in ["2026-02-29", "2026-13-01", "2026-1-01", "26-01-01", "2026-01-00", "x"] {
            assert_eq!(Day::parse(bad), None, "{bad}");
        }
        assert_eq!(Day::of_seconds(0).to_string(), "1970-01-01");
        assert_eq!(Day::of_seconds(951_868_800).to_string(), "2000-03-01");
        assert_eq!(Day::of_seconds(1_767_225_599).to_string(), "2025-12-31");
    }

    fn known() -> KnownFailure {
        KnownFailure {
            case: At { value: "gate1::a::b::f16::cuda".into(), line: 1, column: 1 },
            fails: FailKind::Load,
            at_most: Some(4.0),
            device: "*".into(),
            reason: "r".into(),
            owner: "o".into(),
            since: Day::parse("2026-11-20").expect("a day"),
            expires: Day::parse("2026-12-20").expect("a day"),
        }
    }

    #[test]
    fn it_covers_that_failure_and_no_worse_one() {
        let k = known();
        assert!(k.covers(FailKind::Load, Some(4.0), "x"));
        assert!(!k.covers(FailKind::Load, Some(4.1), "x"));
        assert!(!k.covers(FailKind::Load, None, "x"));
        assert!(!k.covers(FailKind::Load, Some(f64::NAN), "x"));
        assert!(!k.covers(FailKind::Nonfinite, Some(1.0), "x"));
        assert!(!KnownFailure { device: "A".into(), ..known() }.covers(
            FailKind::Load,
            Some(1.0),
            "B"
        ));
    }

    #[test]
    fn it_ends_on_its_last_day() {
        let day = |text| Day::parse(text).expect("a day");
        assert!(!known().expired(day("2026-12-19")));
        assert!(known().expired(day("2026-12-20")));
    }
}
