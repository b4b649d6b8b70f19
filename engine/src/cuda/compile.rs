//! NVRTC: page text to cubin, in parallel, with a cache on disk.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::fmt;
use std::path::PathBuf;

use cudarc::nvrtc::{result, sys};
use goldgate_tensor::foreign::{Bounds, LARGEST_TEXT, read_foreign, read_foreign_text};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Settings;
use super::error::DeviceError;
use super::library;
use super::page::{HEADERS, Page, Requires, Variant};

/// A page, or what it compiles to.
const PAGE: Bounds = Bounds::of_user(LARGEST_TEXT);

/// A target of the compiler: `sm_90a` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture {
    /// Ten times the major plus the minor compute capability.
    pub number: u32,
    /// Whether features of this one architecture alone may be used.
    pub specific: bool,
}

impl Architecture {
    /// The targets that every page is compiled for by a test, without a GPU.
    pub const TESTED: [Architecture; 5] = [
        Architecture { number: 80, specific: false },
        Architecture { number: 90, specific: false },
        Architecture { number: 90, specific: true },
        Architecture { number: 100, specific: false },
        Architecture { number: 120, specific: false },
    ];

    /// What a device of that compute capability gets: 9.0 gets sm_90a.
    pub fn of_device(major: u32, minor: u32) -> Architecture {
        Architecture { number: major * 10 + minor, specific: (major, minor) == (9, 0) }
    }

    /// Whether a page can be compiled for it.
    pub fn meets(self, requires: Requires) -> bool {
        match requires {
            Requires::Sm80 => self.number >= 80,
            Requires::Sm90a => self.number == 90 && self.specific,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.number, if self.specific { "a" } else { "" })
    }
}

/// A compiler for one architecture.
#[derive(Debug)]
pub struct Compiler {
    architecture: Architecture,
    version: (i32, i32),
    cache: Option<PathBuf>,
    overlay: BTreeMap<String, String>,
}

impl Compiler {
    /// Opens libnvrtc and reads the overlay, if there is one.
    ///
    /// # Errors
    /// No libnvrtc, or an overlay that cannot be read.
    pub fn open(settings: &Settings, architecture: Architecture) -> Result<Compiler, DeviceError> {
        let version = library::open_nvrtc(settings)?.version;
        let mut overlay = BTreeMap::new();
        if let Some(folder) = &settings.overlay {
            let file_error = |path: &std::path::Path| {
                let path = path.display().to_string();
                move |source| DeviceError::File { path, source }
            };
            for entry in std::fs::read_dir(folder).map_err(file_error(folder))? {
                let path = entry.map_err(file_error(folder))?.path();
                if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
                    let text =
                        read_foreign_text(&path, PAGE).map_err(|e| file_error(&path)(e.into()))?;
                    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    overlay.insert(name, text);
                }
            }
        }
        Ok(Compiler { architecture, version, cache: settings.cache.clone(), overlay })
    }

    /// The NVRTC version, major and minor.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Whether compiled pages are kept on disk.
    pub fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Compiles many pages at once.
    ///
    /// # Errors
    /// The first that does not compile, with the whole log.
    pub fn all(&self, pages: &[(&'static Page, Variant)]) -> Result<Vec<Vec<u8>>, DeviceError> {
        pages.par_iter().map(|(page, variant)| self.cubin(page, *variant)).collect()
    }

    /// The cubin of a page: from the cache, or compiled and stored by rename.
    ///
    /// # Errors
    /// Text that does not compile, with the whole log.
    pub fn cubin(&self, page: &Page, variant: Variant) -> Result<Vec<u8>, DeviceError> {
        let file = format!("{}.cu", page.name);
        let text = self.overlay.get(&file).map_or(page.text, String::as_str);
        let source = page.source(text);
        let headers: Vec<(&str, &str)> = HEADERS
            .iter()
            .map(|(name, text)| (*name, self.overlay.get(*name).map_or(*text, String::as_str)))
            .collect();
        let mut options =
            vec![format!("--gpu-architecture={}", self.architecture), "--std=c++17".to_owned()];
        options.extend(variant.0.iter().map(|(name, value)| format!("-D{name}={value}")));
        let key = self.key(&source, &headers, &options);
        let cached = self.cache.as_ref().map(|folder| folder.join(format!("{key}.cubin")));
        if let Some(bytes) = cached.as_ref().and_then(|path| read_foreign(path, PAGE).ok()) {
            return Ok(bytes);
        }
        let cubin = compile(&source, &headers, &options).map_err(|log| DeviceError::Compile {
            page: page.name.to_owned(),
            arch: self.architecture.to_string(),
            log,
        })?;
        if let Some(path) = cached {
            store(&path, &cubin);
        }
        Ok(cubin)
    }

    fn key(&self, source: &str, headers: &[(&str, &str)], options: &[String]) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}\n", self.version));
        for (name, text) in headers.iter().chain([&("page", source)]) {
            hash.update(format!("{name}\0{text}\0"));
        }
        hash.update(options.join("\n"));
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

/// Stores a cubin by rename, so that no reader sees half of one. A cache that cannot be written
/// costs time, never an answer, so nothing is reported.
fn store(path: &std::path::Path, bytes: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&part, bytes))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        drop(std::fs::remove_file(&part));
    }
}

/// Compiles `source`; the error is the whole log.
fn compile(source: &str, headers: &[(&str, &str)], options: &[String]) -> Result<Vec<u8>, String> {
    let c = |text: &str| CString::new(text).map_err(|e| format!("a NUL in kernel text: {e}"));
    let source = c(source)?;
    let texts = headers.iter().map(|(_, t)| c(t)).collect::<Result<Vec<_>, _>>()?;
    let names = headers.iter().map(|(n, _)| c(n)).collect::<Result<Vec<_>, _>>()?;
    let text_ptrs: Vec<*const c_char> = texts.iter().map(|t| t.as_ptr()).collect();
    let name_ptrs: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    let mut program = std::ptr::null_mut();
    // SAFETY: libnvrtc is open (a Compiler exists); all strings outlive the program, which is
    // destroyed below on every path.
    unsafe {
        sys::nvrtcCreateProgram(
            &mut program,
            source.as_ptr(),
            c"page.cu".as_ptr(),
            i32::try_from(headers.len()).unwrap_or(i32::MAX),
            text_ptrs.as_ptr(),
            name_ptrs.as_ptr(),
        )
        .result()
        .map_err(|e| e.to_string())?;
        let compiled = result::compile_program(program, options);
        let answer = match compiled {
            Ok(()) => cubin_of(program).map_err(|e| e.to_string()),
            Err(e) => Err(match result::get_program_log(program) {
                Ok(log) => log.iter().take_while(|b| **b != 0).map(|b| *b as u8 as char).collect(),
                Err(_) => e.to_string(),
            }),
        };
        let _ = result::destroy_program(program);
        answer
    }
}

/// The machine code of a compiled program.
///
/// # Safety
/// `program` must be compiled and not destroyed.
unsafe fn cubin_of(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0usize;
    // SAFETY: the program is alive; the buffer has the size that the library named.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &mut size).result()?;
        let mut bytes = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast::<c_char>()).result()?;
        Ok(bytes)
    }
}
