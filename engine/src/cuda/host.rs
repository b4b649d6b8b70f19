//! Host memory that the device writes by itself, and events to wait for.

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
    /// Where the device writes it: host and device have one address space.
    pub fn address(&self) -> u64 {
        self.pointer as u64
    }

    /// What lies there. Read it after the event behind what writes it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is ours, of that length and initialised; whoever lets the device write
        // there waits for the event behind it before reading.
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

    /// Enqueues a copy of `bytes` bytes within one memory, to a place that does not overlap them.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many at either place, or the places overlap.
    pub fn shift(
        &self,
        memory: &Memory,
        from: usize,
        to: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        assert!(from.max(to) + bytes <= memory.bytes() && from.abs_diff(to) >= bytes, "shifting");
        let address = |at: usize| memory.address() + at as u64;
        // SAFETY: both ranges were checked and lie apart; sessions wait for the device before they
        // are dropped, so the memory outlives the copy.
        unsafe { cu::memcpy_dtod_async(address(to), address(from), bytes, self.stream()) }
            .map_err(DeviceError::driver("copying on the device"))
    }
}
