//! The worker's allocator: the system's, and while it is asked to, a count of what it is asked for.
//!
//! A reservation that is never touched costs no resident memory, so how much a file makes a reader
//! ask for can be seen here alone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Counts requests between [`Counting::begin`] and [`Counting::end`].
#[derive(Debug)]
pub struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static LARGEST: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// What was asked for in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The largest single request, bytes.
    pub largest_request: u64,
    /// The most bytes held beyond those at the beginning.
    pub peak_bytes: u64,
}

impl Counting {
    /// Begins to count, from zero.
    pub fn begin() {
        LARGEST.store(0, Ordering::Relaxed);
        HELD.store(0, Ordering::Relaxed);
        PEAK.store(0, Ordering::Relaxed);
        ON.store(true, Ordering::SeqCst);
    }

    /// Ends counting; nothing where another allocator serves this process.
    pub fn end() -> Option<Asked> {
        ON.store(false, Ordering::SeqCst);
        let largest_request = LARGEST.load(Ordering::Relaxed);
        let peak_bytes = u64::try_from(PEAK.load(Ordering::Relaxed)).unwrap_or_default();
        // Whatever is counted asks for something.
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

// SAFETY: every call goes to the system's allocator with the arguments that it came with; counting
// touches atomics alone and asks for no memory.
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
        self.grow(size);
        self.shrink(layout.size());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
