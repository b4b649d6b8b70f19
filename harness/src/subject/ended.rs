//! How processes end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

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
