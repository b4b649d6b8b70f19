//! A ring of page-locked buffers that go to the device by a stream of their own, so that the host
//! fills one while the device takes those before it.

use cudarc::driver::result as cu;
use cudarc::driver::sys;

use super::Device;
use super::device::Memory;
use super::error::DeviceError;
use super::host::{Event, Pinned};

/// One buffer of the ring.
#[derive(Debug)]
struct Buffer {
    pinned: Pinned,
    /// Behind the copy out of it.
    gone: Event,
    /// Whether a copy out of it may be under way.
    busy: bool,
}

/// The ring, and where its buffers go.
#[derive(Debug)]
pub struct Staging<'m> {
    to: &'m Memory,
    stream: sys::CUstream,
    buffers: Vec<Buffer>,
    turn: usize,
}

impl Device {
    /// Takes `count` buffers of `bytes` bytes for copies into `to`.
    ///
    /// # Errors
    /// The driver's.
    pub fn staging<'m>(
        &self,
        to: &'m Memory,
        count: usize,
        bytes: usize,
    ) -> Result<Staging<'m>, DeviceError> {
        let one = || {
            let (pinned, gone) = (self.pinned(bytes)?, self.event()?);
            Ok(Buffer { pinned, gone, busy: false })
        };
        let buffers = (0..count).map(|_| one()).collect::<Result<_, DeviceError>>()?;
        let stream = cu::stream::create(cu::stream::StreamKind::NonBlocking)
            .map_err(DeviceError::driver("making a stream"))?;
        Ok(Staging { to, stream, buffers, turn: 0 })
    }
}

impl Staging<'_> {
    /// The next buffer, to be filled: waits until the copy out of it has ended.
    ///
    /// # Errors
    /// Those of the copy.
    ///
    /// # Panics
    /// If the ring has no buffers.
    pub fn buffer(&mut self) -> Result<&mut [u8], DeviceError> {
        let buffer = &mut self.buffers[self.turn];
        if buffer.busy {
            buffer.gone.wait()?;
            buffer.busy = false;
        }
        Ok(buffer.pinned.bytes_mut())
    }

    /// Enqueues the copy of the first `bytes` bytes of the buffer that [`Staging::buffer`] gave;
    /// waits for nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If there are not so many, no room for them at `offset`, or the buffer was sent already.
    pub fn send(&mut self, offset: usize, bytes: usize) -> Result<(), DeviceError> {
        let count = self.buffers.len();
        let buffer = &mut self.buffers[self.turn];
        assert!(!buffer.busy, "a buffer is sent once");
        assert!(offset + bytes <= self.to.bytes(), "sending outside of its memory");
        let content = &buffer.pinned.bytes()[..bytes];
        if bytes > 0 {
            // From here on the buffer is read by the device, also where recording fails below.
            buffer.busy = true;
            // SAFETY: both ranges were checked. The buffer is not handed out again before the event
            // behind the copy, and the stream is waited for before buffers or `to`, which is
            // borrowed as long, are freed.
            unsafe {
                cu::memcpy_htod_async(self.to.address() + offset as u64, content, self.stream)
                    .map_err(DeviceError::driver("copying to the device"))?;
                cu::event::record(buffer.gone.0, self.stream)
                    .map_err(DeviceError::driver("recording an event"))?;
            }
        }
        self.turn = (self.turn + 1) % count;
        Ok(())
    }

    /// Waits until everything is there.
    ///
    /// # Errors
    /// Those of the copies.
    pub fn finish(self) -> Result<(), DeviceError> {
        // SAFETY: the stream lives until `self` is dropped.
        unsafe { cu::stream::synchronize(self.stream) }
            .map_err(DeviceError::driver("copying to the device"))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // SAFETY: the stream is ours and destroyed once; nothing reads the buffers after the wait.
        unsafe {
            let _ = cu::stream::synchronize(self.stream);
            let _ = cu::stream::destroy(self.stream);
        }
    }
}
