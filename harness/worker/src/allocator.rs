//! The worker's allocator: passes requests on to the system's, and counts them while it is told to.
//!
//! Memory that is reserved but never touched costs no resident memory, so only here can be seen how
//! much a file makes its reader request.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Counts requests between [`Counting::begin`] and [`Counting::end`].
#[derive(Debug)]
pub struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static LARGEST: AtomicU64 = AtomicU64::new(0);
// Signed, because memory from before the count may be freed during it.
static HELD: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The requests counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The largest single request in bytes.
    pub largest_request: u64,
    /// The most bytes held beyond those held at the beginning.
    pub peak_bytes: u64,
}

impl Counting {
    /// Starts counting from zero.
    pub fn begin() {
        // Reset before counting is switched on, because other threads may allocate at any time.
        LARGEST.store(0, Ordering::Relaxed);
        HELD.store(0, Ordering::Relaxed);
        PEAK.store(0, Ordering::Relaxed);
        ON.store(true, Ordering::SeqCst);
    }

    /// Stops counting. Returns nothing if this process uses another allocator.
    pub fn end() -> Option<Asked> {
        ON.store(false, Ordering::SeqCst);
        let largest_request = LARGEST.load(Ordering::Relaxed);
        let peak_bytes = u64::try_from(PEAK.load(Ordering::Relaxed)).unwrap_or_default();
        // Anything worth counting makes a request, so zero means that none came through here.
        (largest_request > 0).then_some(Asked { largest_request, peak_bytes })
    }

    fn grow(&self, bytes: usize) {
        if ON.load(Ordering::Relaxed) {
            LARGEST.fetch_max(bytes as u64, Ordering::Relaxed);
            let held = HELD.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
            PEAK.fetch_max(held, Ordering::Relaxed);
        }
    }

    fn shrink(&self, bytes: usize) {
        if ON.load(Ordering::Relaxed) {
            HELD.fetch_sub(bytes as i64, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is passed to the system's allocator with its own arguments; counting only
// touches atomics and requests no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.grow(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.shrink(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Grown before it shrinks, because both blocks exist while the system moves the contents.
        self.grow(size);
        self.shrink(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
