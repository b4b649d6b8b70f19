//! The device: libraries found, kernels compiled and cached, memory, launches. The only FFI.

pub mod compile;
pub mod device;
pub mod error;
pub mod host;
pub mod launch;
pub mod library;
pub mod page;
pub mod staging;

pub use compile::{Architecture, Compiler};
pub use device::{Card, Device};
pub use error::DeviceError;
pub use launch::{Arg, Args, Field, Launch, Layout, Lowered};
pub use page::{Page, Requires};

use std::path::PathBuf;

/// What the command line and the environment say about the device; values, never looked up here.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// libnvrtc by full path, if the user named it.
    pub nvrtc: Option<PathBuf>,
    /// Folders to look for libnvrtc in, in order.
    pub search: Vec<PathBuf>,
    /// Folder of the cubin cache; none: compile each time.
    pub cache: Option<PathBuf>,
    /// A folder whose files replace the kernel text compiled in (mutants of kernels).
    pub overlay: Option<PathBuf>,
}
