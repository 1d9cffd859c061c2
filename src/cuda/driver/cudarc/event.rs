//! A moment in the stream, timed by the GPU.

use std::sync::Arc;

use ::cudarc::driver::result::{DriverError, event};
use ::cudarc::driver::sys;

use super::context::Context;

pub struct Event {
    event: sys::CUevent,
    context: Arc<Context>,
}

impl Event {
    /// The context is bound.
    pub fn record(context: &Arc<Context>) -> Result<Self, DriverError> {
        let created = event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        let event = Self { event: created, context: Arc::clone(context) };
        // SAFETY: event and stream are of the same context, and both alive.
        unsafe { event::record(event.event, context.stream) }?;
        Ok(event)
    }

    /// The context is bound.
    pub fn seconds_until(&self, later: &Self) -> Result<f64, DriverError> {
        // SAFETY: both are alive; one that the GPU has not passed is an error.
        let milliseconds = unsafe { event::elapsed(self.event, later.event) }?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: nothing else has it; the driver keeps an event that is still to be passed until then.
            let _ = unsafe { event::destroy(self.event) };
        }
    }
}
