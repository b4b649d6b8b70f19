//! The processes of a subject: its own, those that it starts, and those that it leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::line::legible::legible_line;

/// The variable whose value no other subject has.
pub(super) const MARK: &str = "GOLDGATE_SUBJECT";

/// How long a process that is about to end may still be seen.
const ENDING: Duration = Duration::from_millis(300);

/// A value for [`MARK`].
pub(super) fn mark() -> String {
    // Seeded by the system anew each time, which is all that is needed to tell subjects apart.
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// What belongs to one worker, by /proc.
///
/// A process belongs to a subject if it is in the group of its worker, if its parent belongs to the
/// subject, or if its environment has the mark of the subject. So one that has a session of its own
/// (`setsid`) and one whose parent has ended (a daemon) are found too; `goldgate worker` asks the
/// system to give the latter to the worker, so that wiping its environment does not help it. Not
/// found is one that has a session of its own and no mark and is first looked for after its worker
/// has ended. Where there is no /proc nothing is found.
///
/// A look costs the listing of /proc and, for each process that is new since the last look, two
/// small files.
#[derive(Debug)]
pub(super) struct Processes {
    /// The process that was started; it is no child of the subject.
    worker: u32,
    /// `\0NAME=VALUE\0`, as it stands in an environment between others.
    mark: Vec<u8>,
    /// Those of the subject, and when each began: its number alone may pass to another.
    own: BTreeMap<u32, u64>,
    /// Those of others. None of them can become the subject's.
    others: BTreeSet<u32>,
}

impl Processes {
    /// The processes of a worker, which leads a group of its own.
    pub fn new(worker: u32, mark: &str) -> Processes {
        let mark = format!("\0{MARK}={mark}\0").into_bytes();
        Processes { worker, mark, own: BTreeMap::new(), others: BTreeSet::new() }
    }

    /// Looks around. Returns the processes of the subject that were not there at the last look and
    /// do not end by themselves within a moment.
    pub fn new_ones(&mut self) -> Vec<u32> {
        let mut new = self.look();
        let deadline = Instant::now() + ENDING;
        while !new.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            new.retain(|pid| self.own.get(pid).is_some_and(|began| lives(*pid, *began)));
        }
        new
    }

    /// Whether any process of the subject lives, but for the worker itself.
    pub fn are_left(&mut self) -> bool {
        self.look();
        self.own.retain(|pid, began| lives(*pid, *began));
        !self.own.is_empty()
    }

    /// As [`Processes::are_left`], after a moment for those that are about to end.
    pub fn stay(&mut self) -> bool {
        let deadline = Instant::now() + ENDING;
        loop {
            match self.are_left() {
                true if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                left => return left,
            }
        }
    }

    /// The names of the processes of the subject, for a message.
    pub fn names(&self) -> String {
        names(&self.own.keys().copied().collect::<Vec<u32>>())
    }

    /// Sends a signal to every process of the subject, but for the worker itself.
    pub fn signal(&self, signal: Signal) {
        for (pid, began) in &self.own {
            if let (true, Some(pid)) = (lives(*pid, *began), Pid::from_raw(pid.cast_signed())) {
                // One that is already gone need not be signalled.
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn look(&mut self) -> Vec<u32> {
        let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
        let names = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let all: BTreeSet<u32> = names.collect();
        self.others.retain(|pid| all.contains(pid));
        let mut new = Vec::new();
        let unknown = |pid: &u32| !self.others.contains(pid) && !self.own.contains_key(pid);
        // In the order of their numbers, so that a parent is mostly met before its children.
        for pid in all.iter().copied().filter(unknown).collect::<Vec<u32>>() {
            match Stat::read(pid) {
                Some(stat) if pid != self.worker && self.owns(pid, &stat) => {
                    self.own.insert(pid, stat.began);
                    new.push(pid);
                }
                // One that has just ended may leave its number to another.
                None => {}
                Some(_) => drop(self.others.insert(pid)),
            }
        }
        new
    }

    fn owns(&self, pid: u32, stat: &Stat) -> bool {
        let family = |parent: u32| parent == self.worker || self.own.contains_key(&parent);
        stat.group == self.worker || family(stat.parent) || self.is_marked(pid)
    }

    /// Whether the environment with which the process began has the mark. That of another user
    /// cannot be read, and no subject runs as one.
    fn is_marked(&self, pid: u32) -> bool {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        let (first, mark) = (&self.mark[1..], &self.mark[..]);
        environment.starts_with(first) || environment.windows(mark.len()).any(|part| part == mark)
    }
}

/// The names of processes, for a message.
pub(super) fn names(pids: &[u32]) -> String {
    let name = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", legible_line(name.trim_end(), 64))
    };
    pids.iter().take(4).map(name).collect::<Vec<_>>().join(", ")
}

/// What /proc says of a living process. Zombies, which are dead and not yet reaped, have none.
struct Stat {
    parent: u32,
    group: u32,
    /// In ticks since the system began.
    began: u64,
}

/// Whether the process that began then is alive.
fn lives(pid: u32, began: u64) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.began == began)
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        // Its name need not be text.
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The format is `pid (name) state parent group`, and the start is the 22nd field; the name
        // may itself contain spaces and brackets.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let lives = !matches!(fields.next()?, "Z" | "X");
        let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let began = fields.nth(16)?.parse().ok()?;
        lives.then_some(Stat { parent, group, began })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_group_by_its_parent_and_by_its_mark() {
        let mark = mark();
        let mut group = Command::new("sleep").arg("30").process_group(0).spawn().expect("a child");
        let mut processes = Processes::new(group.id(), &mark);
        assert!(processes.new_ones().is_empty(), "the worker itself is no child of its own");
        let leader = i32::try_from(group.id()).expect("a number");
        let start = |command: &mut Command| command.arg("30").spawn().expect("a child");
        let mut joined = start(Command::new("sleep").process_group(leader));
        let mut marked = start(Command::new("sleep").process_group(0).env(MARK, &mark));
        let mut other = start(Command::new("sleep").process_group(0).env(MARK, "another"));
        let mut found = processes.new_ones();
        found.sort_unstable();
        let mut want = [joined.id(), marked.id()];
        want.sort_unstable();
        assert_eq!(found, want);
        assert!(processes.new_ones().is_empty());
        assert!(processes.are_left());
        processes.signal(Signal::KILL);
        for child in [&mut joined, &mut marked] {
            assert!(!child.wait().expect("killed").success());
        }
        assert!(!processes.are_left());
        for child in [&mut other, &mut group] {
            assert!(matches!(child.try_wait(), Ok(None)), "nobody else was hit");
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    #[test]
    fn no_two_subjects_have_one_mark() {
        let marks: BTreeSet<String> = (0..100).map(|_| mark()).collect();
        assert_eq!(marks.len(), 100);
    }
}
