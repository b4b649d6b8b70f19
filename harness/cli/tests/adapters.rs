//! The adapters of docs/adapters are subjects in CI: they are run as a reader would run them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use goldgate_harness::line::{NotRun, Verdict};
use goldgate_harness::session::{Folders, Request, Session};

#[test]
fn the_python_subject_answers_layernorm_and_nothing_else() {
    let numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        eprintln!("not run: no python3 with numpy here");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace");
    let script = root.join("docs/adapters/my_engine.py");
    let request = Request {
        filters: vec!["layernorm::".into(), "gate1::rope::ragged".into()],
        on: vec![format!("mine=python3 '{}'", script.display())],
        folders: Folders {
            specs: Some(root.join("specs")),
            golden: Some(root.join("golden")),
            models: None,
        },
        jobs: 1,
        program: env!("CARGO_BIN_EXE_goldgate").into(),
        ..Request::default()
    };
    let session = Session::open(request).expect("specs are in order");
    let outcome = session.run(Arc::new(AtomicBool::new(false)), &mut |_| {}).expect("told");
    let (mut passed, mut unsupported) = (0, 0);
    for row in outcome.report.rows.iter().filter(|r| r.subject == "mine") {
        match &row.verdict {
            Verdict::Pass => passed += 1,
            Verdict::NotRun { kind: NotRun::Unsupported | NotRun::NoGolden, .. } => {
                unsupported += 1
            }
            other => panic!("{}: {other:?}\n{}", row.name, row.page.clone().unwrap_or_default()),
        }
    }
    assert!(passed >= 20 && unsupported >= 5, "{passed} passed, {unsupported} unsupported");
}
