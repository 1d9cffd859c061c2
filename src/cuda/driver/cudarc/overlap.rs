//! What may run at the same time: launches beside the context's stream, on a stream of their own, and a launch whose
//! blocks take their places before the launch before it has ended.
//!
//! `KERASE_OVERLAP` in the environment says which of both: `on`, the default, `beside`, `dependent` or `off`. Results are
//! the same to the bit.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::mem::zeroed;

use ::cudarc::driver::result::{DriverError, event, stream};
use ::cudarc::driver::sys::{
    self, CUevent, CUevent_flags, CUevent_wait_flags, CUfunction_attribute, CUlaunchAttributeID, CUstream,
};

use crate::cuda::driver::Launch;
use crate::cuda::driver::gpus::Version;

/// Kernels that are compiled for this compute capability (times ten) and later wait by themselves for what was launched
/// before: `await_inputs` in kernels/common.cuh.
const WAITING_FROM: i32 = 90;

/// What is recorded can overlap so with drivers from this version on: before it, a graph knew one kind of order.
const RECORDED_FROM: Version = Version::new(12, 3);

/// Which launches may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Launches beside the context's stream have a stream of their own.
    pub beside: bool,
    /// Launches may take their places before the one before has ended.
    pub dependent: bool,
}

impl Overlap {
    /// As the environment says, and the driver can.
    ///
    /// # Errors
    /// What is wrong with the variable.
    pub fn from_environment(driver: Version) -> Result<Self, String> {
        Self::named(std::env::var("KERASE_OVERLAP").as_deref().unwrap_or("on"))
            .map(|named| named.with(driver))
    }

    fn with(self, driver: Version) -> Self {
        Self { dependent: self.dependent && driver >= RECORDED_FROM, ..self }
    }

    fn named(name: &str) -> Result<Self, String> {
        let [beside, dependent] = match name {
            "on" => [true; 2],
            "beside" => [true, false],
            "dependent" => [false, true],
            "off" => [false; 2],
            _ => return Err(format!("KERASE_OVERLAP={name}: expected on, beside, dependent or off")),
        };
        Ok(Self { beside, dependent })
    }
}

/// Whether a kernel waits by itself for what was launched before it.
///
/// # Safety
/// The function belongs to a loaded module of the context that is bound.
pub unsafe fn waits(function: sys::CUfunction) -> Result<bool, DriverError> {
    // What was compiled for less knows no waiting, even where the driver has compiled it again for a later GPU.
    let compiled_for = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION;
    // SAFETY: as the caller says.
    unsafe { ::cudarc::driver::result::function::get_function_attribute(function, compiled_for) }
        .map(|version| version >= WAITING_FROM)
}

/// Launches a kernel; `early`: its blocks may take their places before the launch before it in the stream has ended.
///
/// # Safety
/// The context is bound, function and stream are its own, and `values` points to the kernel's arguments. An early one
/// waits by itself before it touches memory.
pub unsafe fn launch(
    function: sys::CUfunction,
    launch: Launch,
    stream: CUstream,
    values: &mut [*mut c_void],
    early: bool,
) -> Result<(), DriverError> {
    // SAFETY: of numbers and arrays, for which zeros are values.
    let mut attribute: sys::CUlaunchAttribute = unsafe { zeroed() };
    attribute.id = CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    let [x, y, z] = launch.grid;
    let config = sys::CUlaunchConfig {
        gridDimX: x,
        gridDimY: y,
        gridDimZ: z,
        blockDimX: launch.threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: launch.shared,
        hStream: stream,
        attrs: &raw mut attribute,
        numAttrs: u32::from(early),
    };
    // SAFETY: the configuration and the attribute outlive the call; the rest is the caller's.
    unsafe { sys::cuLaunchKernelEx(&raw const config, function, values.as_mut_ptr(), std::ptr::null_mut()) }
        .result()
}

/// Where a stream was when it was asked for this.
pub struct Mark(CUevent);

impl Mark {
    /// # Safety
    /// The context is bound, and the stream its own.
    pub unsafe fn of(stream: CUstream) -> Result<Self, DriverError> {
        let mark = Self(event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)?);
        // SAFETY: the event was just made; the rest is as the caller says.
        unsafe { event::record(mark.0, stream) }?;
        Ok(mark)
    }

    /// What the stream is asked for from now on waits for this.
    ///
    /// # Safety
    /// As [`Self::of`].
    pub unsafe fn precedes(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: the event is alive; the rest is as the caller says.
        unsafe { stream::wait_event(stream, self.0, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: nothing else has it. What waits for it, now or in a graph, was told so, and no longer needs it.
        let _ = unsafe { event::destroy(self.0) };
    }
}

/// Ends of launches beside the stream that nobody has awaited, in order.
#[derive(Default)]
pub struct Ends {
    ends: VecDeque<(u64, Mark)>,
    launched: u64,
}

// SAFETY: an event may be used in every thread that has bound its context.
unsafe impl Send for Ends {}

impl Ends {
    /// The number of a launch that ends there.
    pub fn push(&mut self, end: Mark) -> u64 {
        self.launched += 1;
        self.ends.push_back((self.launched, end));
        self.launched
    }

    /// The end of the last launch up to this number, unless all were awaited: they come one after the other.
    pub fn take(&mut self, number: u64) -> Option<Mark> {
        let ended = self.ends.partition_point(|&(end, _)| end <= number);
        self.ends.drain(..ended).next_back().map(|(_, end)| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_named() {
        assert_eq!(Overlap::named("on"), Ok(Overlap { beside: true, dependent: true }));
        assert_eq!(Overlap::named("off"), Ok(Overlap { beside: false, dependent: false }));
        assert_eq!(Overlap::named("beside"), Ok(Overlap { beside: true, dependent: false }));
        let on = Overlap::named("on").unwrap();
        assert_eq!(on.with(Version::new(12, 2)), Overlap::named("beside").unwrap());
        assert_eq!(on.with(Version::new(12, 3)), on);
        assert!(Overlap::named("1").is_err_and(|message| message.contains("beside, dependent or off")));
    }
}
