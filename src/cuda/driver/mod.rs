//! What the operations need of a device, and no more: memory, copies, launches, and a step recorded as a graph.
//!
//! Everything is asked for in one order and happens in that order, but for [`Driver::upload_after`] and
//! [`Driver::launch_beside`]; only [`Driver::download`], [`Driver::await_download`] and [`Driver::synchronize`] wait for it.
//! Addresses are the device's own: the host never follows them.

mod call;
pub mod cudarc;
pub mod dry;
pub mod emulated;
pub mod fatbins;
pub mod faults;
pub mod gpus;

use crate::backend::Launches;
use crate::error::Result;
use crate::ranks::Ranks;
pub use call::{Argument, Call, Inspect, Launch, Touched, listed};

/// A device: a GPU, or what stands in for one.
pub trait Driver: Send + Sync + 'static {
    /// Memory, given back when dropped.
    type Block: Send + Sync;
    /// Launches and copies that were recorded, to be carried out again.
    type Graph: Send;
    /// A moment in the order of what is asked for.
    type Event;
    /// Bytes on their way to the host. They lie in memory that the driver owns, which nobody sees before they are
    /// there.
    type Download: Send;

    /// What people call the device: "cuda:0 (NVIDIA H100 80GB HBM3)".
    fn name(&self) -> String;

    /// Memory with unspecified contents, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`Error::NoMemory`](crate::error::Error::NoMemory) where the device has not enough, with how much is missing.
    fn alloc(&self, bytes: usize) -> Result<Self::Block>;

    fn address(&self, block: &Self::Block) -> u64;

    /// Bytes that are free, and that there are.
    ///
    /// # Errors
    /// Where the device does not answer.
    fn memory(&self) -> Result<[usize; 2]>;

    /// How it has launched kernels, where it is a GPU's.
    fn launches(&self) -> Option<Launches> {
        None
    }

    /// # Errors
    /// Where the device fails, or a recording is under way.
    /// # Safety
    /// `to` has `from.len()` bytes in a block that is alive.
    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()>;

    /// An upload that begins when the device passes `after`, beside what was asked for since; what is asked for from now
    /// on comes after it. It is never recorded.
    ///
    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// That of [`Self::upload`], and nothing that was asked for after `after` touches those bytes.
    unsafe fn upload_after(&self, after: &Self::Event, from: &[u8], to: u64) -> Result<()>;

    /// Waits for all that was asked for before.
    ///
    /// # Errors
    /// Where the device fails, now or in what was waited for.
    /// # Safety
    /// `from` has `to.len()` bytes in a block that is alive.
    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()>;

    /// Begins a download: of what is there once all that was asked for before is done, whatever comes later. Nobody
    /// waits for it, and it is never recorded.
    ///
    /// # Errors
    /// Where the device fails.
    /// # Safety
    /// `from` has `bytes` bytes in a block that is alive until the download is waited for, or all that was asked for
    /// is.
    unsafe fn begin_download(&self, from: u64, bytes: usize) -> Result<Self::Download>;

    /// Waits for a download, and so for all that was asked for before it, but for nothing that was asked for since.
    ///
    /// # Errors
    /// Where the device fails, now or in what was waited for.
    /// # Panics
    /// Where `to` has another length than the download.
    fn await_download(&self, download: Self::Download, to: &mut [u8]) -> Result<()>;

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

    /// As [`Self::launch`], beside what is asked for from now on: the kernel runs after what was asked for before, and has
    /// ended before what is asked for after [`Self::await_beside`] with the number that this returns, or a later one. Such
    /// launches come one after the other, and all have ended when a recording does.
    ///
    /// # Errors
    /// As [`Self::launch`].
    /// # Safety
    /// That of [`Self::launch`]; until it is awaited, nothing else writes what the kernel touches or reads what it writes.
    unsafe fn launch_beside(
        &self,
        kernel: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<u64> {
        // SAFETY: as the caller promises.
        unsafe { self.launch(kernel, launch, arguments) }.map(|()| 0)
    }

    /// What is asked for from now on comes after the launches beside it up to this number.
    ///
    /// # Errors
    /// Where the device fails.
    fn await_beside(&self, number: u64) -> Result<()> {
        let _ = number;
        Ok(())
    }

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

    /// Notes when the device gets to here.
    ///
    /// # Errors
    /// Where the device fails.
    fn event(&self) -> Result<Self::Event>;

    /// Seconds between two events that the device has passed.
    ///
    /// # Errors
    /// Where it has not, or fails.
    fn seconds(&self, from: &Self::Event, to: &Self::Event) -> Result<f64>;

    /// Connects the device with those of other ranks, where it has a way to: all of them call this.
    ///
    /// # Errors
    /// [`Error::Input`](crate::error::Error::Input) where a rank lacks what it takes, on all of them.
    fn connect(&self, ranks: &Ranks) -> Result<()> {
        let _ = ranks;
        Ok(())
    }

    /// Whether it was.
    fn is_connected(&self) -> bool {
        false
    }

    /// Begins to add up floats over the devices that were connected, in their place, once what was asked for before is done
    /// and beside what is asked for from now on. All of them begin the same sums in the same order.
    ///
    /// # Errors
    /// Where a device fails.
    /// # Safety
    /// `at` has so many floats in a block that is alive; nothing that is asked for before [`Self::await_sums`] touches
    /// them.
    unsafe fn begin_sum(&self, at: u64, reals: usize) -> Result<()> {
        let _ = (at, reals);
        Ok(())
    }

    /// What is asked for from now on comes after all sums.
    ///
    /// # Errors
    /// Where the device fails.
    fn await_sums(&self) -> Result<()> {
        Ok(())
    }

    /// Waits for all that was asked for.
    ///
    /// # Errors
    /// Where any of it failed; the message names the first kernel known to be affected.
    fn synchronize(&self) -> Result<()>;
}
