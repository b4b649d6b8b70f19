//! Records: reports that were kept on purpose. A run is compared with the last one.

use std::collections::BTreeSet;
use std::path::Path;

use crate::report::Report;

/// A record: its name, such as `record/2026-11-21-nvidia-h200-dc9ccf1`, and its report.
pub type Record = (String, Report);

/// All records below `folder`. Those that cannot be read are passed to `unread` and left out.
pub fn all(folder: &Path, unread: &mut dyn FnMut(String)) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Anything else may be kept among the records, and is not a damaged record to warn about.
        if !entry.path().join("report.json").is_file() {
            continue;
        }
        match Report::read(&entry.path()) {
            Ok(record) => {
                let name = entry.file_name().to_string_lossy().into_owned();
                records.push((format!("record/{name}"), record));
            }
            Err(error) => unread(format!("{}: {error}", entry.path().display())),
        }
    }
    records
}

/// The newest record below `folder` from a card that this report also ran on, or else the newest of
/// all. Records that cannot be read are passed to `unread` and left out.
pub fn last(folder: &Path, report: &Report, unread: &mut dyn FnMut(String)) -> Option<Record> {
    let records = all(folder, unread);
    let here = devices(report);
    records.into_iter().max_by(|(a_name, a), (b_name, b)| {
        let rank = |name: &str, record: &Report| {
            // Speeds of different cards say nothing about a change, so the same card outranks a
            // newer date.
            let same = !here.is_disjoint(&devices(record));
            (same, record.provenance.ended.clone(), name.to_owned())
        };
        rank(a_name, a).cmp(&rank(b_name, b))
    })
}

/// The names of the devices that a report's subjects ran on.
fn devices(report: &Report) -> BTreeSet<&str> {
    let hellos = report.provenance.subjects.values();
    hellos.filter_map(|hello| hello.pointer("/device/name")?.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::publish::publish;
    use crate::report::samples;

    fn on(device: Option<&str>, ended: &str) -> Report {
        let mut report = samples::report();
        let hello = json!({"device": {"kind": "cuda", "name": device}});
        report.provenance.subjects = [("cuda".to_owned(), hello)].into();
        report.provenance.ended = ended.to_owned();
        report
    }

    #[test]
    fn the_same_card_comes_first_then_the_newest() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, device, ended) in [
            ("a", "NVIDIA H200", "2026-01-02T00:00:00Z"),
            ("b", "NVIDIA H200", "2026-01-03T00:00:00Z"),
            ("c", "NVIDIA A100", "2026-01-04T00:00:00Z"),
        ] {
            let mut report = on(Some(device), ended);
            publish(&folder.path().join(name), &mut report).expect("published");
        }
        std::fs::create_dir(folder.path().join("d")).expect("made");
        std::fs::write(folder.path().join("d/report.json"), "{}").expect("written");
        let mut unread = Vec::new();
        let mut found = |report: &Report| {
            last(folder.path(), report, &mut |why| unread.push(why)).map(|(name, _)| name)
        };
        let now = "2026-02-01T00:00:00Z";
        assert_eq!(found(&on(Some("NVIDIA H200"), now)).as_deref(), Some("record/b"));
        assert_eq!(found(&on(None, now)).as_deref(), Some("record/c"));
        assert_eq!(found(&on(Some("NVIDIA L4"), now)).as_deref(), Some("record/c"));
        assert!(unread.len() == 3 && unread[0].contains("/d"), "{unread:?}");
        let none = folder.path().join("none");
        assert!(last(&none, &on(None, now), &mut |_| {}).is_none());
    }
}
