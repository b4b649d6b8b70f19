//! Every kernel page compiles for every architecture that it claims, without a GPU; every launch
//! of the pages' layouts is checked by the static assertions that the compiler sees.

use std::path::PathBuf;

use goldgate_engine::cuda::library::usual_folders;
use goldgate_engine::cuda::page::Variant;
use goldgate_engine::cuda::{Architecture, Compiler, DeviceError, Page, Settings};
use goldgate_engine::exec::{ahead, bench};
use goldgate_engine::ops;

fn settings() -> Settings {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut prefixes: Vec<PathBuf> =
        std::env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    if let Some(home) = home {
        prefixes.push(home.join(".local"));
        if let Ok(versions) = std::fs::read_dir(home.join(".pyenv/versions")) {
            prefixes.extend(versions.filter_map(|v| Some(v.ok()?.path())));
        }
    }
    prefixes.extend(["/usr/local", "/usr"].map(PathBuf::from));
    Settings {
        nvrtc: std::env::var_os("GOLDGATE_NVRTC").map(PathBuf::from),
        search: usual_folders(&prefixes),
        ..Settings::default()
    }
}

fn pages() -> Vec<(&'static Page, Variant)> {
    let mut pages = ops::pages();
    pages.extend([(&ahead::PAGE, Variant(&[])), (&bench::PAGE, Variant(&[]))]);
    pages
}

#[test]
#[ignore = "takes minutes; CI asks for it by name"]
fn every_page_compiles_for_what_it_claims() {
    let mut compiled = 0;
    for architecture in Architecture::TESTED {
        let compiler = match Compiler::open(&settings(), architecture) {
            Ok(compiler) => compiler,
            Err(e @ DeviceError::NoCompiler { .. }) => {
                assert!(std::env::var_os("CI").is_none(), "CI brings libnvrtc: {e}");
                println!("no page was compiled: {e}");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let claimed: Vec<_> =
            pages().into_iter().filter(|(p, _)| architecture.meets(p.requires)).collect();
        match compiler.all(&claimed) {
            Ok(cubins) => {
                assert!(cubins.iter().all(|c| c.starts_with(b"\x7fELF")));
                compiled += cubins.len();
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(compiled > 0, "there are pages");
}
