//! A progress bar on stderr for work that reports its progress: on a terminal, after the first
//! second.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// How long nothing is shown, because short work needs no bar.
const QUIET: Duration = Duration::from_secs(1);

/// Does `work` while showing the `progress` events that arrive on the channel passed to it; `done`
/// and `total` are bytes.
pub fn shown<T>(what: &'static str, work: impl FnOnce(Sender<Value>) -> T) -> T {
    let (events, heard) = channel();
    let end = events.clone();
    std::thread::scope(|scope| {
        // In a thread of its own, because the caller's thread is the one that works.
        scope.spawn(|| watch(what, heard));
        let outcome = work(events);
        // The subject keeps its end of the channel, so the channel alone does not tell when the
        // work ends.
        let _ = end.send(Value::Null);
        outcome
    })
}

/// Reads events until one that is null.
fn watch(what: &'static str, events: Receiver<Value>) {
    let began = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    for event in events.iter().take_while(|event| !event.is_null()) {
        let Some((done, total)) = done_and_total(&event) else { continue };
        if bar.is_none() && stderr().is_terminal() && began.elapsed() >= QUIET {
            let new = ProgressBar::new(total).with_message(what);
            let form = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}";
            bar = ProgressStyle::with_template(form).ok().map(|style| new.with_style(style));
        }
        if let Some(bar) = &bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// The bytes done and the bytes in total.
fn done_and_total(event: &Value) -> Option<(u64, u64)> {
    let whole = event["event"] == "progress";
    whole.then(|| Some((event["done"].as_u64()?, event["total"].as_u64()?))).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_progress_moves_the_bar_and_the_watch_ends_with_the_work() {
        assert_eq!(
            done_and_total(&json!({"event": "progress", "done": 3, "total": 9})),
            Some((3, 9))
        );
        assert_eq!(done_and_total(&json!({"event": "token", "done": 3, "total": 9})), None);
        assert_eq!(done_and_total(&json!({"event": "progress", "done": 3})), None);
        let mut kept = None;
        let outcome = shown("loading", |events| {
            kept = Some(events.clone());
            events.send(json!({"event": "progress", "done": 1, "total": 2})).is_ok()
        });
        assert!(outcome && kept.is_some());
    }
}
