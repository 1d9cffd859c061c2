//! A GPU that was opened: its context, its streams and the kernels that were found.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Mutex, MutexGuard};

use ::cudarc::driver::result::{self, DriverError, device, function, primary_ctx, stream};
use ::cudarc::driver::sys::{self, CUdevice_attribute, CUfunction_attribute, CUresult};

use super::overlap::{self, Ends, Overlap};
use super::recording::Recording;
use super::staging::Staging;
use crate::backend::Launches;
use crate::cuda::driver::fatbins::{CUDA_BUILD, CudaBuild, FATBINS};
use crate::cuda::driver::faults::{Recent, text};
use crate::cuda::driver::gpus::{self, DeviceInfo};
use crate::cuda::kernel::Located;
use crate::error::{Error, Result};

#[derive(Clone, Copy)]
pub struct Kernel {
    pub function: sys::CUfunction,
    /// The most dynamic shared memory that a launch can have.
    pub shared: u32,
    /// It waits by itself for what was launched before.
    pub waits: bool,
}

/// What changes while the device is at work.
#[derive(Default)]
pub struct State {
    pub recent: Recent,
    pub recording: Option<Recording>,
    /// The last thing that the stream was asked for, but for marks, is a kernel.
    pub kernel_before: bool,
    /// Of launches beside the stream.
    pub ends: Ends,
    pub launches: Launches,
}

pub struct Context {
    /// "cuda:0 (NVIDIA H100 80GB HBM3)".
    pub name: String,
    /// Each launch is waited for.
    pub at_once: bool,
    pub stream: sys::CUstream,
    /// For uploads beside it.
    pub copies: sys::CUstream,
    /// For launches beside it.
    pub beside: sys::CUstream,
    pub overlap: Overlap,
    pub kernels: HashMap<&'static str, Kernel>,
    pub staging: Mutex<Staging>,
    state: Mutex<State>,
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// By the stem of their file.
    modules: HashMap<&'static str, sys::CUmodule>,
}

// SAFETY: the handles are valid in every thread that has made the context its current one, which `bind` does before
// each use; the driver locks for itself, and what kerase keeps beside them is behind mutexes.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// What no other GPU, on this machine or another, is called.
    ///
    /// # Errors
    /// Where the driver does not say.
    pub fn uuid(&self) -> Result<[u8; 16]> {
        let uuid = device::get_uuid(self.device).map_err(|e| self.failed(e, "asking for its UUID"))?;
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    pub fn open(ordinal: usize, kernels: &[Located]) -> Result<Self> {
        let input = |why: String| Error::input(format!("--device cuda:{ordinal}: {why}"));
        let info = gpus::find(ordinal)?;
        let overlap = Overlap::from_environment(gpus::driver().map_err(input)?).map_err(Error::Input)?;
        let failed = |e: DriverError| input(text(e));
        let number = i32::try_from(ordinal).expect("the driver counts in these");
        let device = device::get(number).map_err(failed)?;
        // SAFETY: the device comes from the line before; `drop` releases what is retained.
        let context = unsafe { primary_ctx::retain(device) }.map_err(failed)?;
        let mut opened = Self {
            name: format!("cuda:{ordinal} ({})", info.name),
            at_once: std::env::var("KERASE_SYNC").is_ok_and(|v| !v.is_empty() && v != "0"),
            stream: std::ptr::null_mut(),
            copies: std::ptr::null_mut(),
            beside: std::ptr::null_mut(),
            overlap,
            kernels: HashMap::new(),
            staging: Mutex::default(),
            state: Mutex::default(),
            device,
            context,
            modules: HashMap::new(),
        };
        opened.bind()?;
        opened.stream = waited_for().map_err(failed)?;
        opened.copies = stream::create(stream::StreamKind::NonBlocking).map_err(failed)?;
        opened.beside = stream::create(stream::StreamKind::NonBlocking).map_err(failed)?;
        opened.load(&info).map_err(input)?;
        opened.find(kernels).map_err(input)?;
        Ok(opened)
    }

    fn load(&mut self, info: &DeviceInfo) -> std::result::Result<(), String> {
        for (file, fatbin) in FATBINS {
            // SAFETY: the image is a whole fatbin, aligned and compiled in, and says its own length.
            let module = unsafe { result::module::load_data(fatbin.as_ptr().cast::<c_void>()) };
            let module = module.map_err(|e| match (e.0, CUDA_BUILD) {
                (CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, CudaBuild::Compiled { architectures, .. }) => {
                    gpus::no_architecture(info.compute_capability, architectures)
                }
                _ => format!("the driver does not load kernels/{file}.cu: {} ({CUDA_BUILD})", text(e)),
            })?;
            self.modules.insert(file, module);
        }
        Ok(())
    }

    /// Each kernel is asked of the one module that has it: a module that is asked for another's is an error to
    /// compute-sanitizer, whatever becomes of the answer.
    fn find(&mut self, kernels: &[Located]) -> std::result::Result<(), String> {
        let carveout = carveout()?;
        // SAFETY: the device was named by the driver.
        let most = unsafe {
            device::get_attribute(
                self.device,
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )
        }
        .map_err(text)?;
        for &Located { name, file } in kernels {
            let symbol = CString::new(name).map_err(|_| format!("kernel name {name:?} has a zero in it"))?;
            let failed = |e: DriverError| format!("kernel {name} of kernels/{file}.cu: {}", text(e));
            let module = *self.modules.get(file).ok_or_else(|| {
                format!("kernels/{file}.cu, which has kernel {name}, is not in this build ({CUDA_BUILD})")
            })?;
            // SAFETY: the module is loaded, and stays so until `drop`.
            let function = unsafe { result::module::get_function(module, symbol) }.map_err(failed)?;
            let shared = allow_shared(function, most).map_err(failed)?;
            if let Some(percent) = carveout {
                // SAFETY: as above.
                unsafe { function::set_function_attribute(function, CARVEOUT, percent) }.map_err(failed)?;
            }
            // SAFETY: as above.
            let waits = unsafe { overlap::waits(function) }.map_err(failed)?;
            self.kernels.insert(name, Kernel { function, shared, waits });
        }
        Ok(())
    }

    /// Makes this thread's calls go to this GPU.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the context is retained until `drop`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|e| self.failed(e, "taking the device up"))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // What is in there is whole after every statement.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The error for a failure, which may be that of a kernel launched before.
    pub fn failed(&self, error: DriverError, doing: &str) -> Error {
        Error::Device(self.state().recent.explain(&self.name, doing, &text(error), self.at_once))
    }

    pub fn wait(&self, doing: &str) -> Result<()> {
        // SAFETY: the streams live until `drop`.
        unsafe { stream::synchronize(self.stream).and_then(|()| stream::synchronize(self.beside)) }
            .map_err(|e| self.failed(e, doing))?;
        self.state().recent.clear();
        Ok(())
    }

    /// Gives memory back once nothing uses it. A failure has been or will be reported by whoever asks next.
    pub fn free(&self, address: u64) {
        if let Some(recording) = &mut self.state().recording {
            recording.freed.push(address);
            return;
        }
        if self.bind().is_ok() {
            // SAFETY: the address came from `alloc`, its block is gone, and what was asked for before is done after the
            // three waits.
            unsafe {
                let _ = stream::synchronize(self.stream);
                let _ = stream::synchronize(self.copies);
                let _ = stream::synchronize(self.beside);
                let _ = result::free_sync(address);
            }
        }
    }
}

/// A stream whose blocks are given places before those of others: its work is waited for.
///
/// # Errors
/// Where the driver makes none. The context is bound.
pub fn waited_for() -> std::result::Result<sys::CUstream, DriverError> {
    let (_least, greatest) = stream::get_priority_range()?;
    stream::create_with_priority(stream::StreamKind::NonBlocking, greatest)
}

const CARVEOUT: CUfunction_attribute =
    CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;

/// `KERASE_CARVEOUT=PERCENT` in the environment: how much of a multiprocessor's cache all kernels are to have as shared
/// memory. Without it the driver decides for each, and kernels for which it decides otherwise cannot share a
/// multiprocessor.
fn carveout() -> std::result::Result<Option<i32>, String> {
    let Ok(percent) = std::env::var("KERASE_CARVEOUT") else { return Ok(None) };
    match percent.parse() {
        Ok(number @ 0..=100) => Ok(Some(number)),
        _ => Err(format!("KERASE_CARVEOUT={percent}: expected a number from 0 to 100")),
    }
}

/// Lets a kernel have all the shared memory that it does not take itself.
fn allow_shared(function: sys::CUfunction, most: i32) -> std::result::Result<u32, DriverError> {
    // SAFETY: the function belongs to a loaded module.
    unsafe {
        let own = function::get_function_attribute(
            function,
            CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
        )?;
        let left = (most - own).max(0);
        function::set_function_attribute(
            function,
            CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            left,
        )?;
        Ok(left.unsigned_abs())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.bind().is_ok() {
            // SAFETY: blocks and graphs hold the context, so that none is left; the streams have done their work before
            // what it uses goes. Failures leave nothing to be done.
            unsafe {
                for stream in [self.stream, self.copies, self.beside].into_iter().filter(|s| !s.is_null()) {
                    let _ = stream::synchronize(stream);
                }
                self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).ends.take(u64::MAX);
                self.staging.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).free();
                for (_, module) in self.modules.drain() {
                    let _ = result::module::unload(module);
                }
                for stream in [self.stream, self.copies, self.beside].into_iter().filter(|s| !s.is_null()) {
                    let _ = stream::destroy(stream);
                }
            }
        }
        // SAFETY: retained by `open`, once.
        let _ = unsafe { primary_ctx::release(self.device) };
    }
}
