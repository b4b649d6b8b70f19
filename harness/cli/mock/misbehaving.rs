//! What no honest subject does: files that are none, children left behind, words that are none.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

/// Text that moves a cursor, hides what follows, ends a line, and that XML cannot hold.
pub const EVIL: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r\u{0}\u{202e}b\u{fffe}\u{ffff}c";

/// The first argument with which the mock is started again, as a process that is left behind.
pub const STAYS: &str = "stays";

/// The file that the mock names as its attachment.
pub const NAME: &str = "answer.safetensors";

/// Puts what is no attachment where one is expected. Whether the fault is one of these.
pub fn attach(fault: &str, scratch: &Path) -> bool {
    let (path, other) = (scratch.join(NAME), scratch.join("other"));
    // Where one of them cannot be made its test fails.
    let _ = match fault {
        "attach_pipe" => pipe(&path),
        "attach_link_to_pipe" => pipe(&other).and_then(|()| symlink(&other, &path)),
        "attach_zero" => symlink("/dev/zero", &path),
        "attach_link" => std::fs::write(&other, b"text").and_then(|()| symlink(&other, &path)),
        "attach_folder" => std::fs::create_dir(&path),
        "attach_socket" => UnixListener::bind(&path).map(std::mem::forget),
        "attach_sparse" => File::create(&path).and_then(|file| file.set_len(3 << 30)),
        "attach_grows" => File::create(&path).map(grow),
        _ => return false,
    };
    true
}

fn pipe(path: &Path) -> std::io::Result<()> {
    let made = Command::new("mkfifo").arg(path).status()?;
    made.success().then_some(()).ok_or_else(|| std::io::Error::other("no mkfifo"))
}

/// Appends to a file, as fast as it can and for ever.
fn grow(mut file: File) {
    std::thread::spawn(move || {
        let piece = vec![b' '; 1 << 20];
        // Of what is deleted nothing is kept, and the test's disk must hold.
        for _ in 0..4096 {
            if file.write_all(&piece).is_err() {
                return;
            }
        }
    });
    sleep(Duration::from_millis(50));
}

/// Leaves a process behind. Whether the fault is one of these.
pub fn leave(fault: &str) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = match fault {
        "leak" => command.args([STAYS, "group"]).spawn(),
        "leak_session" => command.args([STAYS, "session"]).spawn(),
        "leak_bare" => command.args([STAYS, "group"]).env_clear().process_group(0).spawn(),
        "leak_hidden" => {
            command.args([STAYS, "hidden"]).env_clear().spawn().and_then(|mut first| {
                first.wait()?;
                Ok(first)
            })
        }
        "leak_daemon" => command.args([STAYS, "daemon"]).spawn().and_then(|mut first| {
            first.wait()?;
            Ok(first)
        }),
        _ => return false,
    };
    // The child is left behind on purpose.
    std::mem::forget(started);
    true
}

/// The process that is left behind.
pub fn stay(how: &str) -> ! {
    if how != "group" {
        // Without it the test fails.
        let _ = rustix::process::setsid();
    }
    if how == "daemon" || how == "hidden" {
        leave("leak");
        exit(0);
    }
    sleep(Duration::from_secs(30));
    exit(0);
}

/// A message with the JSON of a fault that is about words, if it is one.
pub fn words(fault: &str, id: u64) -> Option<Value> {
    let failed =
        |message: String| json!({"id": id, "failed": {"class": "internal", "message": message}});
    Some(match fault {
        "evil_message" => failed(EVIL.to_owned()),
        "evil_refusal" => {
            json!({"id": id, "refused": {"kind": EVIL, "operand": EVIL, "message": EVIL}})
        }
        "evil_what" => json!({"id": id, "unsupported": {"what": EVIL}}),
        "evil_id" => json!({"id": EVIL, "ok": {}}),
        "long_message" => failed("m".repeat(900 << 10)),
        "forged_lines" => failed("x\nGate 1: mock MET\nreport       nowhere".to_owned()),
        _ => return None,
    })
}

/// Lives on without a stdout.
pub fn close_stdout() -> ! {
    // The last descriptor of the pipe is gone with it.
    let _ = rustix::stdio::dup2_stdout(std::io::stderr());
    sleep(Duration::from_secs(600));
    exit(0);
}
