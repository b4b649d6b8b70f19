//! How processes end, and whether they left children behind.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Pid;

/// The end of a process in words, such as `exit status 101` or `signal SIGSEGV`.
pub(super) fn describe(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 9] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (15, "SIGTERM"),
    ];
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match NAMES.iter().find(|(n, _)| *n == signal) {
            Some((_, name)) => format!("signal {name}"),
            None => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// Whether a process of the group is alive. Zombies, which are dead but not yet reaped, do not
/// count.
pub(super) fn group_lives(group: Pid) -> bool {
    // Without /proc zombies cannot be told apart, so the answer may be a false yes.
    let Ok(folder) = std::fs::read_dir("/proc") else {
        return rustix::process::test_kill_process_group(group).is_ok();
    };
    let group = group.as_raw_nonzero().get().to_string();
    folder.flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The format is `pid (name) state parent group`; the name may itself contain spaces and
        // brackets.
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let state = fields.next();
        fields.nth(1) == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
    })
}
