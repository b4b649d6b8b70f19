//! What can go wrong on a device, sorted by who can mend it.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// A device that could not do what was asked. Reads on after "could not run layernorm: ".
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No driver on this machine.
    #[error("no CUDA driver: libcuda is not on the loader's path")]
    NoDriver,
    /// No such device.
    #[error("no CUDA device {index}: the driver sees {count}")]
    NoDevice {
        /// The index asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// No compiler.
    #[error("no libnvrtc: looked in {looked}; `pip install nvidia-cuda-nvrtc` brings one")]
    NoCompiler {
        /// Where we looked.
        looked: String,
    },
    /// A library that is there and does not load.
    #[error("could not open {path}: {source}")]
    Library {
        /// The file.
        path: String,
        /// The loader's word.
        source: libloading::Error,
    },
    /// Kernel text that does not compile.
    #[error("kernel page {page} does not compile for {arch}:\n{log}")]
    Compile {
        /// The page.
        page: String,
        /// The architecture.
        arch: String,
        /// The whole log.
        log: String,
    },
    /// A page without that entry.
    #[error("kernel page {page} has no entry {entry}")]
    Entry {
        /// The page.
        page: String,
        /// The entry.
        entry: String,
    },
    /// A call of the driver.
    #[error("{doing}: {name} ({code}): {text}")]
    Driver {
        /// What we were doing.
        doing: &'static str,
        /// The driver's number.
        code: u32,
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// The cache or an overlay could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
}

impl DeviceError {
    /// Wraps the driver's error with what we were doing.
    pub(crate) fn driver(doing: &'static str) -> impl FnOnce(DriverError) -> DeviceError {
        move |e| DeviceError::Driver {
            doing,
            code: e.0 as u32,
            name: e.error_name().map_or_else(|_| "?".into(), |s| s.to_string_lossy().into_owned()),
            text: e
                .error_string()
                .map_or_else(|_| "?".into(), |s| s.to_string_lossy().into_owned()),
        }
    }

    /// Whether every later call in this process fails too, so that the process must end.
    pub fn is_sticky(&self) -> bool {
        let DeviceError::Driver { code, .. } = self else { return false };
        matches!(*code, 700 | 702 | 710 | 714..=719 | 999)
    }

    /// Whether the device ran out of memory, which is not sticky.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, DeviceError::Driver { code, .. }
            if *code == CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32)
    }

    /// The class on the wire: `oom device io internal`.
    pub fn class(&self) -> &'static str {
        match self {
            _ if self.is_out_of_memory() => "oom",
            DeviceError::Compile { .. } | DeviceError::Entry { .. } => "internal",
            DeviceError::File { .. } => "io",
            _ => "device",
        }
    }
}
