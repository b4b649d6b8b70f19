//! Host memory that the device copies into by itself, and events to wait for.

use std::ffi::c_void;

use cudarc::driver::result as cu;
use cudarc::driver::sys;

use super::Device;
use super::device::Memory;
use super::error::DeviceError;

/// Page-locked host memory, freed on drop.
#[derive(Debug)]
pub struct Pinned {
    pointer: *mut u8,
    bytes: usize,
}

impl Pinned {
    /// What lies there. Read it after the event behind the copy.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is ours, of that length and initialised; a copy into it is enqueued
        // only through `&mut self`, and its reader waits for the event behind the copy.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    /// What lies there, to be changed by the host.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `malloc_host` and is freed once.
        let _ = unsafe { cu::free_host(self.pointer.cast::<c_void>()) };
    }
}

/// A place in the stream that the host can wait for.
#[derive(Debug)]
pub struct Event(pub(super) sys::CUevent);

impl Event {
    /// Waits until the device has come by.
    ///
    /// # Errors
    /// Those of the kernels before it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the event lives.
        unsafe { cu::event::synchronize(self.0) }
            .map_err(DeviceError::driver("waiting for the device"))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event came from the driver and is destroyed once.
        let _ = unsafe { cu::event::destroy(self.0) };
    }
}

impl Device {
    /// Takes page-locked host memory, zeroed.
    ///
    /// # Errors
    /// The driver's.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        // SAFETY: a plain allocation; freed by `Pinned`.
        let pointer = unsafe { cu::malloc_host(bytes.max(1), 0) }
            .map_err(DeviceError::driver("taking host memory"))?
            .cast::<u8>();
        // SAFETY: `bytes` bytes were just taken there.
        unsafe { pointer.write_bytes(0, bytes) };
        Ok(Pinned { pointer, bytes })
    }

    /// Makes an event.
    ///
    /// # Errors
    /// The driver's.
    pub fn event(&self) -> Result<Event, DeviceError> {
        cu::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
            .map(Event)
            .map_err(DeviceError::driver("making an event"))
    }

    /// Records an event behind everything that was enqueued.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(&self, event: &Event) -> Result<(), DeviceError> {
        // SAFETY: the event and the stream live.
        unsafe { cu::event::record(event.0, self.stream()) }
            .map_err(DeviceError::driver("recording an event"))
    }

    /// Enqueues a copy of `bytes` bytes into page-locked memory.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many at `offset`, or no room for them.
    pub fn fetch(
        &self,
        from: &Memory,
        offset: usize,
        bytes: usize,
        to: &mut Pinned,
    ) -> Result<(), DeviceError> {
        assert!(offset + bytes <= from.bytes() && bytes <= to.bytes, "fetching outside");
        // SAFETY: both ranges were checked; whoever reads `to` waits for an event behind the copy,
        // and both memories outlive it: sessions wait for the device before they are dropped.
        unsafe {
            cu::memcpy_dtoh_async(to.bytes_mut(), from.address() + offset as u64, self.stream())
        }
        .map_err(DeviceError::driver("copying from the device"))
    }
}
