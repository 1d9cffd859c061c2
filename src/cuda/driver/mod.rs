//! What the operations need of a device, and no more: memory, copies, launches, and a step recorded as a graph.
//!
//! Everything is asked for in one order and happens in that order; only [`Driver::download`] and
//! [`Driver::synchronize`] wait for it. Addresses are the device's own: the host never follows them.

pub mod cudarc;
pub mod dry;
pub mod emulated;
pub mod fatbins;
pub mod faults;
pub mod gpus;

use std::ffi::c_void;

use super::kernel::{Show, listed};
use crate::error::Result;

/// How a kernel is spread: blocks, threads of a block (one dimension), bytes of dynamic shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    pub grid: [u32; 3],
    pub threads: u32,
    pub shared: u32,
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [x, y, z] = self.grid;
        write!(f, "{x}x{y}x{z} blocks of {} threads, {} bytes of shared memory", self.threads, self.shared)
    }
}

/// One argument of a kernel: where its value lies on the host, and how long it is.
#[derive(Clone, Copy)]
pub struct Argument<'v> {
    pub name: &'static str,
    pub value: *const c_void,
    pub bytes: usize,
    pub show: &'v dyn Show,
}

/// A launch as messages name it: the kernel, its blocks and the sizes that it was given.
#[derive(Clone, Debug)]
pub struct Call {
    pub kernel: &'static str,
    pub launch: Launch,
    sizes: String,
}

impl Call {
    pub fn new(kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Self {
        Self { kernel, launch, sizes: listed(arguments.iter().map(|a| (a.name, a.show.show()))) }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.kernel, self.launch)?;
        if !self.sizes.is_empty() {
            write!(f, "; {}", self.sizes)?;
        }
        f.write_str(")")
    }
}

/// A device: a GPU, or what stands in for one.
pub trait Driver: Send + Sync + 'static {
    /// Memory, given back when dropped.
    type Block: Send + Sync;
    /// Launches and copies that were recorded, to be carried out again.
    type Graph: Send;

    /// What people call the device: "cuda:0 (NVIDIA H100 80GB HBM3)".
    fn name(&self) -> String;

    /// Memory with unspecified contents, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`crate::Error::Input`] where the device has not enough, with how much is missing.
    fn alloc(&self, bytes: usize) -> Result<Self::Block>;

    fn address(&self, block: &Self::Block) -> u64;

    /// Bytes that are free, and that there are.
    ///
    /// # Errors
    /// Where the device does not answer.
    fn memory(&self) -> Result<[usize; 2]>;

    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// `to` has `from.len()` bytes in a block that is alive.
    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()>;

    /// Waits for all that was asked for before.
    ///
    /// # Errors
    /// Where the device fails, now or in what was waited for.
    /// # Safety
    /// `from` has `to.len()` bytes in a block that is alive.
    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()>;

    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// Both addresses have `bytes` bytes in blocks that are alive, without overlap.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// `at` has `bytes` bytes in a block that is alive.
    unsafe fn zero(&self, at: u64, bytes: usize) -> Result<()>;

    /// # Errors
    /// Where the device refuses; the message names the kernel, the launch and the sizes.
    /// # Safety
    /// `arguments` are those of the kernel's signature, in number and type, and every pointer among them has what the
    /// kernel reads and writes for this launch, in blocks that are alive.
    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Result<()>;

    /// Records what `body` asks for instead of carrying it out. `body` neither allocates nor downloads.
    ///
    /// # Errors
    /// Where the device cannot record it.
    fn record(&self, body: &mut dyn FnMut()) -> Result<Self::Graph>;

    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// All blocks that the recorded operations touch are still alive.
    unsafe fn replay(&self, graph: &Self::Graph) -> Result<()>;

    /// Waits for all that was asked for.
    ///
    /// # Errors
    /// Where any of it failed; the message names the first kernel known to be affected.
    fn synchronize(&self) -> Result<()>;
}
