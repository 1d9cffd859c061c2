//! Downloads that nobody waits for until they are looked at: the GPU writes page-locked host memory when it gets there.

use std::sync::{Arc, Mutex, PoisonError};

use ::cudarc::driver::result::{self, DriverError, event, stream};
use ::cudarc::driver::sys;

use super::context::Context;
use super::pinned::Slot;

/// What a step has to say fits in it several times.
const LEAST_BYTES: usize = 4 << 10;

/// Memory that downloads have in turn: to make some page-locked, the driver waits for the GPU.
pub struct Downloads {
    idle: Mutex<Vec<Slot>>,
    context: Arc<Context>,
}

/// A download under way.
pub struct Download {
    /// Always there, but while it is dropped.
    slot: Option<Slot>,
    bytes: usize,
    from: Arc<Downloads>,
}

impl Downloads {
    pub fn new(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), context: Arc::clone(context) })
    }

    /// # Safety
    /// The context is bound, the stream is its own, and `from` has so many bytes until the stream has come to here.
    pub unsafe fn begin(
        self: &Arc<Self>,
        from: u64,
        bytes: usize,
        stream: sys::CUstream,
    ) -> Result<Download, DriverError> {
        let slot = Some(self.slot(bytes)?);
        let mut download = Download { slot, bytes, from: Arc::clone(self) };
        let slot = download.slot.as_mut().expect("put there above");
        // SAFETY: nobody else has the slot, and its event says that the GPU is done with it; the rest is as the caller
        // says.
        unsafe {
            event::synchronize(slot.done)?;
            if bytes > 0 {
                result::memcpy_dtoh_async(&mut slot.memory.bytes_mut()[..bytes], from, stream)?;
            }
            event::record(slot.done, stream)?;
        }
        Ok(download)
    }

    /// The context is bound.
    fn slot(&self, bytes: usize) -> Result<Slot, DriverError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|slot| slot.memory.len() >= bytes) {
            Some(at) => Ok(idle.swap_remove(at)),
            None => Slot::new(bytes.max(LEAST_BYTES)),
        }
    }
}

impl Download {
    /// Waits until it is there. The context is bound.
    pub fn read(mut self, to: &mut [u8]) -> Result<(), DriverError> {
        assert_eq!(to.len(), self.bytes, "a download is read as a whole");
        let slot = self.slot.as_mut().expect("only `drop` takes it");
        // SAFETY: the event is alive, and once the GPU has passed it the memory is written.
        unsafe {
            event::synchronize(slot.done)?;
            to.copy_from_slice(&slot.memory.bytes_mut()[..to.len()]);
        }
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Also where the GPU still writes: whoever has the slot next waits for its event.
        let idle = &mut *self.from.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.slot.take());
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: no download is left, as each holds this; the stream is done with their memory before that goes.
        unsafe {
            let _ = stream::synchronize(self.context.stream);
            idle.drain(..).for_each(|slot| slot.free());
        }
    }
}
