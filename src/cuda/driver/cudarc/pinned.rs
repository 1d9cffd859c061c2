//! Host memory that stays where it is, which the GPU reads and writes by itself.

use ::cudarc::driver::result::{self, DriverError, event};
use ::cudarc::driver::sys;

/// Page-locked host memory.
pub struct Pinned {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory of the whole process, owned by this alone.
unsafe impl Send for Pinned {}

impl Pinned {
    /// The context is bound.
    pub fn new(bytes: usize) -> Result<Self, DriverError> {
        // SAFETY: asks for memory that `free` gives back.
        Ok(Self { at: unsafe { result::malloc_host(bytes, 0) }?.cast(), bytes })
    }

    /// # Safety
    /// The GPU is not reading it.
    pub unsafe fn fill(&mut self, from: &[u8]) -> &[u8] {
        assert!(from.len() <= self.bytes, "{} bytes do not fit into {}", from.len(), self.bytes);
        // SAFETY: `at` has `bytes` bytes, and the assertion says that they suffice; the GPU does not read them.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.at, from.len());
            std::slice::from_raw_parts(self.at, from.len())
        }
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    /// All of it.
    ///
    /// # Safety
    /// The GPU is not writing it, or is the only one that uses what this returns.
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `at` has `bytes` bytes, which are this alone's.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }

    /// # Safety
    /// The GPU is not reading it, and will not; the context is bound.
    pub unsafe fn free(self) {
        // SAFETY: as the caller says.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}

/// Page-locked memory that is used again and again.
pub struct Slot {
    pub memory: Pinned,
    /// The GPU is done with what it was last asked to do with the memory.
    pub done: sys::CUevent,
}

// SAFETY: an event is valid in every thread that has bound its context.
unsafe impl Send for Slot {}

impl Slot {
    /// The context is bound.
    pub fn new(bytes: usize) -> Result<Self, DriverError> {
        let memory = Pinned::new(bytes)?;
        match event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING) {
            Ok(done) => Ok(Self { memory, done }),
            Err(error) => {
                // SAFETY: nobody else has it.
                unsafe { memory.free() };
                Err(error)
            }
        }
    }

    /// # Safety
    /// As [`Pinned::free`].
    pub unsafe fn free(self) {
        // SAFETY: nobody else has the event; the rest is as the caller says.
        unsafe {
            let _ = event::destroy(self.done);
            self.memory.free();
        }
    }
}
