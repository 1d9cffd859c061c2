//! Host memory that the GPU reads by itself: uploads go through it, so that the caller's memory is free at once and
//! nobody waits for the GPU.

use ::cudarc::driver::result::{self, DriverError, event};
use ::cudarc::driver::sys;

use super::pinned::Slot;

/// 64 MiB in all: two slices of sixteen coils.
const SLOTS: usize = 16;
const SLOT_BYTES: usize = 4 << 20;

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
