//! Host memory that the GPU reads by itself: uploads go through it, so that the caller's memory is free at once and
//! nobody waits for the GPU.

use ::cudarc::driver::result::{self, DriverError, event};
use ::cudarc::driver::sys;

/// 64 MiB in all: two slices of sixteen coils.
const SLOTS: usize = 16;
const SLOT_BYTES: usize = 4 << 20;

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

/// Slots that are filled in turn.
#[derive(Default)]
pub struct Staging {
    slots: Vec<Slot>,
    next: usize,
}

impl Staging {
    /// Returns when `from` has been read, which is before it has arrived.
    ///
    /// # Safety
    /// The context is bound, the stream is its own, and `to` has room for `from`.
    pub unsafe fn upload(&mut self, from: &[u8], to: u64, stream: sys::CUstream) -> Result<(), DriverError> {
        for (part, address) in from.chunks(SLOT_BYTES).zip((to..).step_by(SLOT_BYTES)) {
            let slot = self.turn()?;
            // SAFETY: the slot's event says that the GPU has read what was there; the rest is as the caller says.
            unsafe {
                event::synchronize(slot.done)?;
                result::memcpy_htod_async(address, slot.memory.fill(part), stream)?;
                event::record(slot.done, stream)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<&mut Slot, DriverError> {
        let index = self.next % SLOTS;
        if index == self.slots.len() {
            self.slots.push(Slot::new(SLOT_BYTES)?);
        }
        self.next += 1;
        Ok(&mut self.slots[index])
    }

    /// # Safety
    /// The context is bound, and its stream has nothing left to do.
    pub unsafe fn free(&mut self) {
        // SAFETY: as the caller says.
        self.slots.drain(..).for_each(|slot| unsafe { slot.free() });
        self.next = 0;
    }
}
