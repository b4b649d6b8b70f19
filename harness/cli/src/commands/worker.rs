//! `goldgate worker`: a subject on stdin and stdout.

mod replay;

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use goldgate_engine::cuda::Settings;
use goldgate_engine::cuda::library::usual_folders;
use goldgate_harness::report::provenance::build;
use goldgate_harness::subject::launch::{How, SubjectSpec};
use goldgate_worker::{Cpu, Cuda, Device, NoDevice, serve};
use rustix::process::{Signal, getpid, set_child_subreaper, set_parent_process_death_signal};

use crate::commands::worker::replay::Replay;

/// Answers the wire on stdin and stdout until stdin ends.
///
/// Example: goldgate worker --on cpu
#[derive(Debug, Args)]
pub struct Worker {
    /// `cpu` or `cuda:N`; `golden` hands out the tensors of --answers.
    #[arg(long, value_name = "SUBJECT")]
    on: Option<String>,
    /// Kernel text from this folder in place of that compiled in.
    #[arg(long, value_name = "DIR")]
    cuda: Option<PathBuf>,
    /// The answer of the subject `golden`.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Ask to die with the parent, then become this command.
    #[arg(long, conflicts_with_all = ["on", "cuda", "answers"], requires = "command")]
    run: bool,
    /// The command of --run, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Worker {
    /// Serves the wire, or becomes the command.
    pub fn run(&self) -> ExitCode {
        // The setting survives exec. Systems without it rely on EOF on stdin.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        // This one too. A process whose parent ends becomes a child of the subject and not of the
        // system, so that one which is left behind can be seen to be the subject's.
        let _ = set_child_subreaper(Some(getpid()));
        if self.run {
            return become_command(&self.command);
        }
        let Some(on) = &self.on else {
            eprintln!("error: --on SUBJECT is missing; cpu or cuda:0");
            return ExitCode::from(2);
        };
        let mut device = match self.device(on) {
            Ok(device) => device,
            Err(message) => {
                eprintln!("error: {message}");
                return ExitCode::from(2);
            }
        };
        match speak(device.as_mut()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(5)
            }
        }
    }

    fn device(&self, on: &str) -> Result<Box<dyn Device>, String> {
        if on == "golden" {
            let path = self.answers.as_ref().ok_or("--on golden wants --answers FILE")?;
            let replay = Replay::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            return Ok(Box::new(replay));
        }
        let spec = SubjectSpec::parse(on).map_err(|e| e.to_string())?;
        match spec.how {
            How::Cpu => Ok(Box::new(Cpu::new(&build()))),
            How::Cuda(cards) => Ok(match cards[..] {
                [card] => match Cuda::open(&settings(self.cuda.clone()), card, &build()) {
                    Ok(cuda) => Box::new(cuda),
                    // The harness must learn the reason from hello, which a worker that exits
                    // cannot answer.
                    Err(error) => Box::new(NoDevice(error.to_string())),
                },
                _ => Box::new(NoDevice(format!("{on}: one card a worker"))),
            }),
            How::Command(_) | How::Harness => {
                Err(format!("{on:?} is no device; a command goes after --run --"))
            }
        }
    }
}

/// The settings of the device, from the environment.
pub fn settings(overlay: Option<PathBuf>) -> Settings {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = variable("HOME");
    // NVRTC comes with a toolkit or with a Python package, so both kinds of folder are searched.
    let prefixes: Vec<PathBuf> = [
        variable("VIRTUAL_ENV"),
        home.as_ref().map(|h| h.join(".local")),
        Some(PathBuf::from("/usr/local")),
        Some(PathBuf::from("/usr")),
    ]
    .into_iter()
    .flatten()
    .chain(pyenv(home.as_deref()))
    .collect();
    let cache = variable("XDG_CACHE_HOME").or_else(|| home.map(|h| h.join(".cache")));
    Settings {
        nvrtc: variable("GOLDGATE_NVRTC"),
        search: usual_folders(&prefixes),
        cache: cache.map(|c| c.join("goldgate")),
        overlay,
    }
}

/// The Python installations of pyenv, which may contain NVRTC.
fn pyenv(home: Option<&Path>) -> Vec<PathBuf> {
    let versions = home.map(|h| h.join(".pyenv/versions"));
    let entries = versions.and_then(|v| std::fs::read_dir(v).ok()).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Serves on the real stdout and points descriptor 1 at stderr, so that a library that prints
/// cannot disturb the wire.
fn speak(device: &mut dyn Device) -> Result<(), Box<dyn std::error::Error>> {
    // Frames keep the real stdout, and whatever a library prints goes to stderr instead of into
    // them.
    let wire = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    serve(std::io::stdin().lock(), std::io::BufWriter::new(wire), device)?;
    Ok(())
}

fn become_command(words: &[String]) -> ExitCode {
    let Some((program, arguments)) = words.split_first() else {
        eprintln!("error: no command after --run --");
        return ExitCode::from(2);
    };
    // Returns only on failure.
    let error = Command::new(program).args(arguments).exec();
    eprintln!("error: could not start {program}: {error}");
    ExitCode::from(127)
}
