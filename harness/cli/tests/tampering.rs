//! Reports and goldens that somebody edited, as the program sees them: each edit has its error, and
//! names the file.

#[path = "tampering/shards.rs"]
mod shards;

use std::fs;
use std::path::Path;
use std::process::Command;

use goldgate_harness::gate::State;
use goldgate_harness::line::Verdict;
use goldgate_harness::report::publish::publish;
use goldgate_harness::report::{Report, pages};
use goldgate_harness::store::{Store, read_bytes};
use goldgate_tensor::{DType, Tensor};

use shards::{CASES, Shards, goldgate_in, holds, made, root, said};

#[test]
fn shards_and_their_merge_hold() {
    let shards = Shards::new();
    for shard in ["1", "2"] {
        let (code, text) = shards.verify(shard, &["--specs", "specs"]);
        assert_eq!(code, Some(0), "{text}");
    }
    let (code, text, whole) = shards.merge(&["1", "2"]);
    assert_eq!(code, Some(0), "{text}");
    let whole = whole.to_str().expect("a path").to_owned();
    let (code, text) = said(&["report", "verify", &whole, "--specs", "specs"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_shard_that_was_edited_is_not_merged() {
    let edits: [(&str, Edit, &[&str]); 5] = [
        (
            "a verdict turned",
            |s, shard| s.replace(shard, "report.json", "\"pass\"", "\"broken\""),
            &["error["],
        ),
        (
            "a count made larger",
            |s, shard| s.replace(shard, "report.json", "\"compared\": 4", "\"compared\": 5"),
            &["error[ROWS_HASH]", "error[ROW] field=gate1::layernorm::one_to_four"],
        ),
        (
            "a verdict turned, and sealed again",
            |s, shard| {
                s.seal_again(shard, |report| {
                    report.rows[0].verdict = Verdict::Unexpected { message: String::new() };
                });
            },
            &[
                "error[PAGE_SEAL] field=pages.rows.jsonl",
                "error[PAGE_SEAL] field=pages.report.html",
            ],
        ),
        (
            "a page to MET",
            |s, shard| s.replace(shard, "gate-1.md", "**INCOMPLETE", "**MET"),
            &["error[PAGE] field=gate-1.md:3"],
        ),
        (
            "a page gone",
            |s, shard| fs::remove_file(s.path(shard).join("junit.xml")).expect("removed"),
            &["error[PAGE_GONE] field=junit.xml"],
        ),
    ];
    for (what, edit, parts) in edits {
        let shards = Shards::new();
        let full = shards.full();
        edit(&shards, &full);
        let (code, text, whole) = shards.merge(&["1", "2"]);
        assert!(matches!(code, Some(1 | 3)), "{what}: {code:?} {text}");
        holds(&text, &[&[shards.text(&full).as_str()], parts].concat());
        assert!(!whole.exists(), "{what}: merged all the same");
    }
}

/// An edit of a shard's folder.
type Edit = fn(&Shards, &str);

/// What was done, how, and the error that is printed, which must be the only one.
fn is_named((what, edit, part): (&str, Edit, &str)) {
    let shards = Shards::new();
    let full = shards.full();
    edit(&shards, &full);
    let (code, text) = shards.verify(&full, &[]);
    assert_eq!(code, Some(1), "{what}: {text}");
    holds(&text, &[part]);
    assert_eq!(text.lines().filter(|l| l.starts_with("error")).count(), 1, "{what}: {text}");
}

#[test]
fn pages_that_were_edited_are_named() {
    let edits: [(&str, Edit, &str); 5] = [
        (
            "a gate page to MET",
            |s, shard| s.replace(shard, "gate-1.md", "**INCOMPLETE", "**MET"),
            "error[PAGE] field=gate-1.md:3 found=**MET",
        ),
        (
            "report.html to MET",
            |s, shard| {
                s.replace(shard, "report.html", "data-state=\"INCOMPLETE\"", "data-state=\"MET\"")
            },
            "error[PAGE] field=report.html:",
        ),
        (
            "a row cut",
            |s, shard| fs::write(s.path(shard).join("rows.jsonl"), "").expect("written"),
            "error[PAGE] field=rows.jsonl:1",
        ),
        (
            "junit.xml gone",
            |s, shard| fs::remove_file(s.path(shard).join("junit.xml")).expect("removed"),
            "error[PAGE_GONE] field=junit.xml",
        ),
        (
            "a gate page gone",
            |s, shard| fs::remove_file(s.path(shard).join("gate-2.md")).expect("removed"),
            "error[PAGE_GONE] field=gate-2.md",
        ),
    ];
    edits.into_iter().for_each(is_named);
}

#[test]
fn pages_from_elsewhere_are_named() {
    let edits: [(&str, Edit, &str); 4] = [
        (
            "a gate page more",
            |s, shard| {
                fs::copy(s.path(shard).join("gate-1.md"), s.path(shard).join("gate-3.md"))
                    .expect("copied");
            },
            "error[PAGE_EXTRA] field=gate-3.md",
        ),
        (
            "a gate page of another gate",
            |s, shard| {
                fs::copy(s.path(shard).join("gate-2.md"), s.path(shard).join("gate-1.md"))
                    .expect("copied");
            },
            "error[PAGE] field=gate-1.md:1",
        ),
        (
            "a page of another run",
            |s, shard| {
                let other = if shard == "1" { "2" } else { "1" };
                fs::copy(s.path(other).join("gate-1.md"), s.path(shard).join("gate-1.md"))
                    .expect("copied");
            },
            "error[PAGE] field=gate-1.md:",
        ),
        (
            "the hash on the page",
            |s, shard| {
                let own = s.report(shard).sha256;
                s.replace(shard, "gate-1.md", &own, &own.replace('a', "b"));
            },
            "error[PAGE] field=gate-1.md:",
        ),
    ];
    edits.into_iter().for_each(is_named);
}

#[test]
fn what_a_report_says_of_itself_is_sealed() {
    let edits: [(&str, &str, &str); 4] = [
        ("the commit", "\"commit\": \"", "\"commit\": \"0"),
        ("the device", "\"kind\": \"cpu\"", "\"kind\": \"cpu \""),
        ("a mutant's fate", "\"killed\": true", "\"killed\": false"),
        ("the tree", "\"tree\": \"", "\"tree\": \"very "),
    ];
    for (what, from, to) in edits {
        let shards = Shards::new();
        let full = shards.full();
        shards.replace(&full, "report.json", from, to);
        let (code, text) = shards.verify(&full, &[]);
        assert_eq!(code, Some(1), "{what}: {text}");
        holds(&text, &["error[REPORT_HASH]"]);
    }
}

/// A report that was sealed again must still match its pages and the specs.
#[test]
fn a_report_that_was_sealed_again_is_held_to_its_pages_and_specs() {
    type Edit = fn(&mut Report);
    let edits: [(&str, Edit, &str); 4] = [
        (
            "a row removed, and its plan mended",
            |report| {
                let row = report.rows.remove(0);
                report.planned.retain(|name| *name != row.name);
                let names = report.planned.iter().map(String::as_str);
                report.provenance.plan_sha256 =
                    goldgate_harness::report::document::hash_names(names);
            },
            "error[PAGE_SEAL] field=pages.rows.jsonl",
        ),
        (
            "the edited files taken out",
            |report| {
                report.provenance.tree = "clean".into();
                report.provenance.edited.clear();
                report.provenance.host.push('x');
            },
            "error[PAGE_SEAL] field=pages.gate-1.md",
        ),
        ("no pages at all", |report| report.pages.clear(), "error[PAGE"),
        ("an older format", |report| report.format = 1, "error["),
    ];
    for (what, edit, part) in edits {
        let shards = Shards::new();
        let full = shards.full();
        shards.seal_again(&full, edit);
        if what == "an older format" {
            shards.replace(&full, "report.json", "\"format\":2", "\"format\":1");
        }
        let (code, text) = shards.verify(&full, &[]);
        assert!(matches!(code, Some(1 | 3)), "{what}: {text}");
        holds(&text, &[part]);
    }
}

#[test]
fn gates_are_weighed_again_by_the_specs() {
    let shards = Shards::new();
    let full = shards.full();
    let sha256 = shards.report(&full).sha256;
    let mut report = shards.report(&full);
    let gate = report.gates.first_mut().expect("a gate");
    gate.subjects.values_mut().for_each(|state| *state = State::NotAsked);
    publish(&shards.path(&full), &mut report).expect("published");
    // By itself the folder is as this program would have written it.
    let (code, text) = shards.verify(&full, &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = shards.verify(&full, &["--specs", "specs"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["error[GATES]"]);
    let (code, text) = shards.verify(&full, &["--sha256", &sha256]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["error[SIGNED]"]);
}

#[test]
fn shards_that_do_not_belong_together_are_no_whole() {
    type Edit = fn(&mut Report);
    let edits: [(&str, Edit, &str); 4] = [
        ("commits", |r| r.provenance.commit = "0".repeat(40), "another hash of commit"),
        ("programs", |r| r.provenance.program_sha256 = "0".repeat(64), "another hash of program"),
        ("options", |r| r.selection.left_out.push("slow cases".into()), "another selection"),
        ("plans", |r| r.selection.shard.as_mut().expect("a shard").of = 3, "another plan"),
    ];
    for (what, edit, part) in edits {
        let shards = Shards::new();
        let mut report = shards.report("2");
        edit(&mut report);
        publish(&shards.path("2"), &mut report).expect("published");
        let (code, text, _) = shards.merge(&["1", "2"]);
        assert_eq!(code, Some(1), "{what}: {text}");
        holds(&text, &["INVALID", part]);
    }
    let (code, text, whole) = Shards::new().merge(&["1", "1"]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["shard 1 of 2 stands twice"]);
    assert!(!whole.join("gate-3.md").exists());
    let shards = Shards::new();
    let (code, text, whole) = shards.merge(&["1"]);
    assert_eq!(code, Some(1), "{text}");
    // What is missing is said by the merged report too, which is as it was written.
    let (code, text) = said(&["report", "verify", whole.to_str().expect("a path")]);
    assert_eq!(code, Some(6), "{text}");
    holds(&text, &["INCOMPLETE", "is missing"]);
}

#[test]
fn a_record_leaves_out_what_is_for_programs() {
    let shards = Shards::new();
    let full = shards.full();
    for name in ["junit.xml", "rows.jsonl"] {
        fs::remove_file(shards.path(&full).join(name)).expect("removed");
    }
    assert_eq!(shards.verify(&full, &[]).0, Some(1));
    let (code, text) = shards.verify(&full, &["--pages", "record"]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["absent, as --pages allows: junit.xml, rows.jsonl"]);
    fs::remove_file(shards.path(&full).join("gate-1.md")).expect("removed");
    assert_eq!(shards.verify(&full, &["--pages", "record"]).0, Some(1));
    assert_eq!(shards.verify(&full, &["--pages", "none"]).0, Some(0));
}

/// Whatever version wrote them.
#[test]
fn every_record_holds() {
    let records = fs::read_dir(root().join("reports/record")).expect("records");
    for record in records.flatten().filter(|entry| entry.path().join("report.json").is_file()) {
        let path = record.path();
        let words = ["report", "verify", path.to_str().expect("a path"), "--pages", "record"];
        let (code, text) = said(&words);
        assert_eq!(code, Some(0), "{}: {text}", path.display());
        if Report::read(&path).expect("read").format == 1 {
            holds(&text, &["format 1 does not seal pages"]);
        }
    }
}

/// What `golden verify` says before and after one tensor of a golden was edited, together with its
/// line in the manifest.
fn golden_after(path: &str, tensor: &str, edit: fn(&Tensor) -> Tensor) -> [String; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = root().join("golden");
    for file in ["MANIFEST.json", path] {
        let to = folder.path().join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(golden.join(file), to).expect("copied");
    }
    let mut parts = path.split(['/', '.']).skip(1);
    let filter = format!("{}::{}::", parts.next().expect("op"), parts.next().expect("case"));
    let place = folder.path().to_str().expect("a path");
    let verify = || {
        let (_, text) = said(&["golden", "verify", &filter, "--golden", place]);
        text.lines().filter(|line| line.contains(path)).collect::<Vec<_>>().join("\n")
    };
    let before = verify();
    let bytes = fs::read(folder.path().join(path)).expect("read");
    let (label, mut tensors) = read_bytes(path, &bytes).expect("a golden");
    let edited = edit(&tensors[tensor]);
    tensors.insert(tensor.to_owned(), edited);
    let mut store = Store::open(folder.path()).expect("a store");
    store.write(path, &label, &tensors).expect("written");
    store.manifest.write(folder.path()).expect("written");
    [before, verify()]
}

#[test]
fn a_golden_with_a_larger_slack_or_fewer_elements_is_found() {
    let larger = |slack: &Tensor| {
        let larger: Vec<f64> = slack.to_f64().iter().map(|x| x * 1000.0).collect();
        Tensor::from_f64(DType::F32, &slack.meta.shape, &larger)
    };
    let undecided = |flags: &Tensor| Tensor { bytes: vec![0; flags.bytes.len()], ..flags.clone() };
    let router = "ops/moe_router/same_sign.safetensors";
    type Tamper<'t> = (&'t str, &'t str, fn(&Tensor) -> Tensor, &'t str);
    let edits: [Tamper<'_>; 3] = [
        (router, "weights.slack", larger, "GOLDEN_SLACK"),
        (router, "ids.decided", undecided, "GOLDEN_DECIDED"),
        ("ops/attention_prefill/head_96.safetensors", "y.slack", larger, "GOLDEN_SLACK"),
    ];
    for (path, tensor, edit, code) in edits {
        let [before, after] = golden_after(path, tensor, edit);
        assert_eq!(before, "", "{path}");
        assert!(after.contains(code) && after.contains(tensor), "{path}: {after}");
    }
}

/// A tree that is edited after the program was built.
#[test]
fn a_tree_that_was_edited_is_not_that_of_its_commit() {
    let built = Report::read(&made().path().join("1")).expect("read").provenance;
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("tree");
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).current_dir(root()).output();
        output.is_ok_and(|output| output.status.success())
    };
    let (from, to) = (root(), tree.to_str().expect("a path"));
    let from = from.to_str().expect("a path");
    if !git(&["clone", "-q", "--shared", "--no-checkout", from, to])
        || !git(&["-C", to, "checkout", "-q", &built.commit])
    {
        eprintln!("not run: no git, or no commit that the program names");
        return;
    }
    let read = |below: &str| {
        let reports = folder.path().join(below);
        let path = reports.to_str().expect("a path").to_owned();
        let words = ["run", CASES, "--on", "cpu", "--reports", &path];
        let output = goldgate_in(&tree, &words);
        assert_eq!(output.status.code(), Some(0));
        let report = Report::read(&reports).expect("read");
        (path, report.provenance)
    };
    let folders = ["specs/", "golden/"];
    let (_, before) = read("before");
    let touched = |file: &&String| folders.iter().any(|folder| file.starts_with(folder));
    assert_eq!(before.edited.iter().find(touched), None);
    let spec = tree.join("specs/ops/gelu.yaml");
    let text = fs::read_to_string(&spec).expect("read");
    fs::write(&spec, format!("{text}# edited\n")).expect("written");
    let (path, after) = read("after");
    assert_eq!(after.tree, "edited");
    assert!(after.edited.contains(&"specs/ops/gelu.yaml".to_owned()), "{:?}", after.edited);
    let (code, text) = said(&["report", "verify", &path, "--commit", &built.commit]);
    assert_eq!(code, Some(1), "{text}");
    holds(
        &text,
        &["error[EDITED] field=provenance.edited", "error[SUBJECT] field=provenance.tree"],
    );
    let page = fs::read_to_string(Path::new(&path).join("gate-1.md")).expect("a page");
    holds(&page, &["*not for release*: edited since the commit", "`specs/ops/gelu.yaml`"]);
}

#[test]
fn a_signature_is_of_one_report_and_one_signer() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = |name: &str| {
        let path = folder.path().join(name);
        let words = ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"];
        let made = Command::new("ssh-keygen").args(words).arg(&path).status();
        made.is_ok_and(|status| status.success()).then_some(path)
    };
    let (Some(own), Some(other)) = (key("own"), key("other")) else {
        eprintln!("not run: no ssh-keygen here");
        return;
    };
    let signers = |key: &Path| {
        let public = fs::read_to_string(key.with_extension("pub")).expect("a key");
        let path = key.with_extension("signers");
        fs::write(&path, format!("somebody@example.org {public}")).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let (own_signers, other_signers) = (signers(&own), signers(&other));
    let shards = Shards::new();
    let full = shards.full();
    let path = shards.text(&full);
    let (code, text) = shards.verify(&full, &["--signers", &own_signers]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["error[ATTESTATION]"]);
    let (code, text) = said(&["report", "attest", &path, "--key", own.to_str().expect("a path")]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = shards.verify(&full, &["--signers", &own_signers]);
    assert_eq!(code, Some(0), "{text}");
    holds(&text, &["signed by somebody@example.org"]);
    let (code, text) = shards.verify(&full, &["--signers", &other_signers]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["error[SIGNATURE]"]);
    shards.replace(&full, "attestation.json", "WARNED", "PASSED");
    let (code, text) = shards.verify(&full, &["--signers", &own_signers]);
    assert_eq!(code, Some(1), "{text}");
    holds(&text, &["error[ATTESTATION]", "error[SIGNATURE]"]);
    // A report that does not hold is not signed.
    shards.replace(&full, "gate-1.md", "**INCOMPLETE", "**MET");
    let (code, _) = said(&["report", "attest", &path, "--key", own.to_str().expect("a path")]);
    assert_eq!(code, Some(1));
}

/// The library's own view, on a report of a real run.
#[test]
fn pages_are_rendered_from_the_report_alone() {
    let report = Report::read(&made().path().join("1")).expect("read");
    let rendered = pages::rendered(&report).expect("rendered");
    assert!(rendered.keys().eq(report.pages.keys()));
}
