//! `goldgate doctor`

use std::path::PathBuf;

use goldgate_engine::cuda::{Device, Settings, library};
use serde_json::{Value, json};

use crate::commands::worker::settings;
use crate::commands::{Exit, Failure, say, say_json};

/// Example: goldgate doctor --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The facts as JSON.
    #[arg(long)]
    json: bool,
}

/// A requirement of the program that is present or missing, and how to get it.
struct Finding {
    what: &'static str,
    there: bool,
    says: String,
}

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let settings = settings(None);
    let findings = findings_of(&settings);
    let all = findings.iter().all(|f| f.there);
    if args.json {
        let fact = |f: &Finding| json!({"what": f.what, "there": f.there, "says": f.says});
        say_json(&Value::Array(findings.iter().map(fact).collect()))?;
    } else {
        for f in &findings {
            let mark = if f.there { "ok     " } else { "missing" };
            say(&format!("{mark} {:<9} {}", f.what, f.says))?;
        }
    }
    Ok(if all { Exit::Yes } else { Exit::Absent })
}

fn findings_of(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let driver = library::driver_is_present();
    let says = match driver {
        true => "libcuda is on the loader's path",
        false => "no libcuda: install NVIDIA's driver; without it everything runs on the CPU",
    };
    findings.push(Finding { what: "driver", there: driver, says: says.to_owned() });
    // Looked for even without a driver, so that one run lists everything that is missing.
    let (there, says) = match library::open_nvrtc(settings) {
        Ok(n) => (true, format!("{} ({}.{})", n.path.display(), n.version.0, n.version.1)),
        Err(e) => (false, format!("{e}; or name one in GOLDGATE_NVRTC")),
    };
    findings.push(Finding { what: "nvrtc", there, says });
    let (there, says) = match Device::open(settings, 0) {
        Ok(device) => {
            let card = device.card();
            let memory = device.memory_info().map_or_else(
                |e| e.to_string(),
                |(free, total)| format!("{} of {} MiB free", free >> 20, total >> 20),
            );
            let (major, minor) = card.compute;
            let driver = card.driver;
            let says = format!(
                "{}, {major}.{minor}, compiled for {}, CUDA {}.{}, {memory}",
                card.name,
                device.architecture(),
                driver / 1000,
                driver % 1000 / 10
            );
            (true, says)
        }
        Err(e) => (false, e.to_string()),
    };
    findings.push(Finding { what: "device", there, says });
    findings.push(cache(settings.cache.as_ref()));
    findings
}

fn cache(folder: Option<&PathBuf>) -> Finding {
    let what = "cache";
    let Some(folder) = folder else {
        let says = "no folder: set XDG_CACHE_HOME or HOME; kernels are compiled each time";
        return Finding { what, there: false, says: says.to_owned() };
    };
    let count = std::fs::read_dir(folder).map_or(0, Iterator::count);
    let says = format!("{count} compiled pages in {}", folder.display());
    Finding { what, there: true, says }
}
