//! Finding libcuda and libnvrtc without panicking, before anything calls them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::Settings;
use super::error::DeviceError;

/// The compiler library that was opened.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    /// The file, or the loader's name.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (i32, i32),
}

static OPENED: OnceLock<Nvrtc> = OnceLock::new();

/// Whether the driver's library is on the loader's path.
pub fn driver_is_present() -> bool {
    // SAFETY: only asks the loader for libcuda; its initialisers run in any CUDA program.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Opens libnvrtc, its builtins first: by the user's path, the loader's path, then the folders of
/// `settings.search`. The first success stays for the life of the process.
///
/// # Errors
/// [`DeviceError::NoCompiler`] with the folders looked in, or the loader's error.
pub fn open_nvrtc(settings: &Settings) -> Result<&'static Nvrtc, DeviceError> {
    if let Some(opened) = OPENED.get() {
        return Ok(opened);
    }
    let path = match &settings.nvrtc {
        Some(path) => {
            open_pair(path)?;
            path.clone()
        }
        None => find(settings)?,
    };
    let (mut major, mut minor) = (0, 0);
    // SAFETY: libnvrtc is open under a name that cudarc asks for; the pointers are to live ints.
    unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) };
    Ok(OPENED.get_or_init(|| Nvrtc { path, version: (major, minor) }))
}

fn find(settings: &Settings) -> Result<PathBuf, DeviceError> {
    // SAFETY: only asks the loader for libnvrtc.
    if unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Ok(PathBuf::from("libnvrtc (loader path)"));
    }
    for folder in &settings.search {
        if let Some(file) = newest(folder, "libnvrtc.so.") {
            open_pair(&file)?;
            return Ok(file);
        }
    }
    let mut looked = vec!["the loader's path".to_owned(), "CUDA's folders".to_owned()];
    looked.extend(settings.search.iter().map(|p| p.display().to_string()));
    let looked = looked.join(", ");
    Err(DeviceError::NoCompiler { looked })
}

/// Where libnvrtc usually lies: CUDA's own folders, then Python's `nvidia/*/lib` below each prefix
/// (a virtual environment, the home folder's `.local`, `/usr/local` …).
pub fn usual_folders(prefixes: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        below(&[PathBuf::from("/usr/local")], |n| n.starts_with("cuda"))
            .into_iter()
            .flat_map(|cuda| [cuda.join("lib64"), cuda.join("targets/x86_64-linux/lib")])
            .collect();
    for prefix in prefixes {
        let pythons =
            below(&[prefix.join("lib"), prefix.join("lib64")], |n| n.starts_with("python3"));
        let packages: Vec<PathBuf> = pythons
            .into_iter()
            .flat_map(|p| [p.join("site-packages/nvidia"), p.join("dist-packages/nvidia")])
            .collect();
        folders.extend(below(&packages, |_| true).into_iter().map(|p| p.join("lib")));
    }
    folders.retain(|folder| newest(folder, "libnvrtc.so.").is_some());
    folders
}

/// The entries of some folders whose names pass, sorted.
fn below(folders: &[PathBuf], pass: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| pass(&n.to_string_lossy())))
        .collect();
    found.sort();
    found
}

/// The file in `folder` whose name begins so; the last in order if there are several.
fn newest(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| {
            p.file_name().is_some_and(|n| {
                let name = n.to_string_lossy();
                name.starts_with(prefix) && !name.contains(".alt.")
            })
        })
        .collect();
    files.sort();
    files.pop()
}

/// Opens the builtins beside `nvrtc`, if they are there, then `nvrtc`, for good and for all.
fn open_pair(nvrtc: &Path) -> Result<(), DeviceError> {
    let builtins = nvrtc.parent().and_then(|folder| newest(folder, "libnvrtc-builtins.so."));
    for path in builtins.iter().map(PathBuf::as_path).chain([nvrtc]) {
        // SAFETY: NVIDIA's compiler libraries; their initialisers have no preconditions.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
            .map_err(|source| DeviceError::Library { path: path.display().to_string(), source })?;
        // Never closed: cudarc finds it by its soname for the life of the process.
        std::mem::forget(library);
    }
    Ok(())
}
