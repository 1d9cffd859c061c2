//! A GPU, through NVIDIA's driver library, which is looked for when a GPU is opened: kerase starts without one.
//!
//! One stream, so that everything happens in the order in which it was asked for, and one each for uploads and for
//! launches beside it, which events tie to the first. `KERASE_SYNC=1` in the environment waits for every kernel, so that
//! the one that fails is named; a recorded step is then carried out piece by piece, and nothing runs beside.

mod context;
mod download;
mod event;
mod graph;
pub mod nccl;
mod overlap;
mod pinned;
mod recording;
mod staging;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock, PoisonError};

use ::cudarc::driver::result::{self, DriverError, stream};
use ::cudarc::driver::sys::{CUresult, CUstream, CUstreamCaptureMode};

use self::context::{Context, Kernel};
use self::download::{Download, Downloads};
use self::graph::{Captured, abandon};
use self::nccl::Communicator;
use self::overlap::Mark;
use self::recording::{Command, Recording};
use super::faults::{not_recorded, out_of_memory, text, too_much_shared};
use super::{Argument, Call, Driver, Launch};
use crate::backend::Launches;
use crate::cuda::kernel::Located;
use crate::error::{Error, Result};
use crate::ranks::Ranks;

pub use self::event::Event;
pub use self::graph::Graph;

/// A GPU with kerase's kernels on it.
pub struct Gpu {
    /// With the GPUs of other ranks. Gone before the context is.
    others: OnceLock<Arc<Communicator>>,
    downloads: Arc<Downloads>,
    context: Arc<Context>,
}

/// Memory of a GPU.
pub struct Block {
    address: u64,
    context: Arc<Context>,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.context.free(self.address);
    }
}

impl Gpu {
    /// The GPU `cuda:ordinal` with these kernels, each of which must be in its file of kernels/.
    ///
    /// # Errors
    /// [`Error::Input`] where there is no such GPU, driver or kernel for it, with the remedy.
    pub fn open(ordinal: usize, kernels: &[Located]) -> Result<Self> {
        let context = Arc::new(Context::open(ordinal, kernels)?);
        Ok(Self { others: OnceLock::new(), downloads: Downloads::new(&context), context })
    }

    fn kernel(&self, call: &Call) -> Result<Kernel> {
        let kernel = call.kernel;
        let found = self.context.kernels.get(kernel).copied().ok_or_else(|| {
            Error::Device(format!(
                "{}: kernel {kernel} was not asked for when it was opened",
                self.context.name
            ))
        })?;
        if call.launch.shared > found.shared {
            return Err(Error::Device(too_much_shared(&self.context.name, call, found.shared)));
        }
        Ok(found)
    }

    /// Puts a command on the list of the recording under way, if that is what it keeps.
    fn listed(&self, command: impl FnOnce() -> Command) -> bool {
        let mut state = self.context.state();
        let Some(commands) = state.recording.as_mut().and_then(|r| r.commands.as_mut()) else { return false };
        commands.push(command());
        true
    }

    fn refuse_recording(&self, doing: &str) -> Result<()> {
        match self.context.state().recording {
            Some(_) => Err(Error::Device(format!("{}: {}", self.context.name, not_recorded(doing)))),
            None => Ok(()),
        }
    }

    /// The outcome of what the context's stream was asked for, which is no kernel.
    fn done(&self, outcome: std::result::Result<(), DriverError>, doing: &str) -> Result<()> {
        self.context.state().kernel_before = false;
        outcome.map_err(|e| self.context.failed(e, doing))
    }

    /// # Safety
    /// As [`Driver::launch`], with pointers to the arguments' values, in a stream of the context.
    unsafe fn start(&self, call: Call, stream: CUstream, values: &mut [*mut c_void]) -> Result<()> {
        let Kernel { function, waits, .. } = self.kernel(&call)?;
        let context = &self.context;
        context.bind()?;
        let in_order = stream == context.stream;
        // Behind anything but a kernel there is nothing to gain.
        let early = in_order && waits && context.overlap.dependent && context.state().kernel_before;
        // SAFETY: the function's module is loaded; arguments and addresses are the caller's promise, and an early kernel is
        // one that waits.
        let outcome = unsafe { overlap::launch(function, call.launch, stream, values, early) };
        outcome.map_err(|e| context.failed(e, &format!("launching {call}")))?;
        let mut state = context.state();
        state.kernel_before |= in_order;
        state.recent.launched(call);
        state.launches.kernels += 1;
        state.launches.early += usize::from(early);
        state.launches.beside += usize::from(!in_order);
        if let Some(recording) = &mut state.recording {
            recording.kernels += 1;
            return Ok(());
        }
        drop(state);
        if self.context.at_once { self.context.wait("running a kernel") } else { Ok(()) }
    }

    /// # Safety
    /// As [`Driver::replay`].
    unsafe fn carry_out(&self, command: &Command) -> Result<()> {
        // SAFETY: the recorded operations' own promises, which the caller says still hold.
        unsafe {
            match command {
                Command::Launch { call, arguments } => {
                    let mut values: Vec<_> =
                        arguments.iter().map(|a| a.as_ptr().cast_mut().cast::<c_void>()).collect();
                    self.start(call.clone(), self.context.stream, &mut values)
                }
                Command::Copy { from, to, bytes } => self.copy(*from, *to, *bytes),
                Command::Zero { at, bytes } => self.zero(*at, *bytes),
            }
        }
    }
}

impl Driver for Gpu {
    type Block = Block;
    type Graph = Graph;
    type Event = Event;
    type Download = Download;

    fn name(&self) -> String {
        self.context.name.clone()
    }

    fn alloc(&self, bytes: usize) -> Result<Block> {
        self.context.bind()?;
        // SAFETY: the block gives it back, and `Driver` promises no contents. Of nothing there is no address.
        match unsafe { result::malloc_sync(bytes.max(1)) } {
            Ok(address) => Ok(Block { address, context: Arc::clone(&self.context) }),
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(Error::NoMemory(out_of_memory(&self.context.name, bytes, self.memory()?)))
            }
            Err(e) => Err(self.context.failed(e, &format!("asking for {bytes} bytes of memory"))),
        }
    }

    fn address(&self, block: &Block) -> u64 {
        block.address
    }

    fn memory(&self) -> Result<[usize; 2]> {
        self.context.bind()?;
        let (free, total) =
            result::mem_get_info().map_err(|e| self.context.failed(e, "asking for its memory"))?;
        Ok([free, total])
    }

    fn launches(&self) -> Option<Launches> {
        Some(self.context.state().launches)
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        self.refuse_recording("upload")?;
        if from.is_empty() {
            return Ok(());
        }
        self.context.bind()?;
        let mut staging = self.context.staging.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the context is bound, and `to` has room, as the caller promises.
        let outcome = unsafe { staging.upload(from, to, self.context.stream) };
        drop(staging);
        self.done(outcome, "uploading")
    }

    unsafe fn upload_after(&self, after: &Event, from: &[u8], to: u64) -> Result<()> {
        self.refuse_recording("upload")?;
        if from.is_empty() {
            return Ok(());
        }
        let context = &self.context;
        context.bind()?;
        let mut staging = context.staging.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the context is bound, its streams are alive, and `to` has room that nobody else uses from `after` on,
        // as the caller promises: what is asked for later waits for `arrived`.
        let outcome = unsafe {
            after
                .precedes(context.copies)
                .and_then(|()| staging.upload(from, to, context.copies))
                .and_then(|()| Event::record(context, context.copies))
                .and_then(|arrived| arrived.precedes(context.stream))
        };
        drop(staging);
        self.done(outcome, "uploading")
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.refuse_recording("download")?;
        self.context.bind()?;
        if !to.is_empty() {
            // SAFETY: `from` has as many bytes, and `to` stays where it is until the wait below is over.
            let outcome = unsafe { result::memcpy_dtoh_async(to, from, self.context.stream) };
            self.done(outcome, "downloading")?;
        }
        self.context.wait("downloading")
    }

    unsafe fn begin_download(&self, from: u64, bytes: usize) -> Result<Download> {
        self.refuse_recording("download")?;
        self.context.bind()?;
        // SAFETY: the context is bound; the rest is as the caller promises.
        let begun = unsafe { self.downloads.begin(from, bytes, self.context.stream) };
        self.context.state().kernel_before = false;
        begun.map_err(|e| self.context.failed(e, "downloading"))
    }

    fn await_download(&self, download: Download, to: &mut [u8]) -> Result<()> {
        self.context.bind()?;
        download.read(to).map_err(|e| self.context.failed(e, "waiting for a download"))
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        if bytes == 0 || self.listed(|| Command::Copy { from, to, bytes }) {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: both have as many bytes, as the caller promises.
        let outcome = unsafe { result::memcpy_dtod_async(to, from, bytes, self.context.stream) };
        self.done(outcome, "copying")
    }

    unsafe fn zero(&self, at: u64, bytes: usize) -> Result<()> {
        if bytes == 0 || self.listed(|| Command::Zero { at, bytes }) {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: there are as many bytes, as the caller promises.
        let outcome = unsafe { result::memset_d8_async(at, 0, bytes, self.context.stream) };
        self.done(outcome, "setting memory to zero")
    }

    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Result<()> {
        // SAFETY: each value has the length that stands beside it, as the caller promises.
        let bytes = |a: &Argument| unsafe { std::slice::from_raw_parts(a.value.cast::<u8>(), a.bytes) };
        let call = Call::new(kernel, launch, arguments);
        if self.listed(|| Command::Launch {
            call: call.clone(),
            arguments: arguments.iter().map(|a| bytes(a).into()).collect(),
        }) {
            return self.kernel(&call).map(|_| ());
        }
        let mut values: Vec<_> = arguments.iter().map(|a| a.value.cast_mut()).collect();
        // SAFETY: as the caller promises.
        unsafe { self.start(call, self.context.stream, &mut values) }
    }

    unsafe fn launch_beside(
        &self,
        kernel: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<u64> {
        let context = &self.context;
        if context.at_once || !context.overlap.beside {
            // SAFETY: as the caller promises.
            return unsafe { self.launch(kernel, launch, arguments) }.map(|()| 0);
        }
        context.bind()?;
        let failed = |e: DriverError| context.failed(e, "putting launches in order");
        // SAFETY: the context is bound, and both streams are its own.
        unsafe { Mark::of(context.stream).and_then(|now| now.precedes(context.beside)) }.map_err(failed)?;
        let mut values: Vec<_> = arguments.iter().map(|a| a.value.cast_mut()).collect();
        // SAFETY: as the caller promises.
        let started =
            unsafe { self.start(Call::new(kernel, launch, arguments), context.beside, &mut values) };
        // Also where it was refused: a capture that the stream has become part of has to be joined.
        // SAFETY: as above.
        let end = unsafe { Mark::of(context.beside) }.map_err(failed)?;
        let number = context.state().ends.push(end);
        started.map(|()| number)
    }

    fn await_beside(&self, number: u64) -> Result<()> {
        let context = &self.context;
        // Before the ends are taken: those that are passed over are given back to the context that is bound.
        context.bind()?;
        let Some(end) = context.state().ends.take(number) else { return Ok(()) };
        // SAFETY: the context is bound, and the stream its own.
        let outcome = unsafe { end.precedes(context.stream) };
        self.done(outcome, "putting launches in order")
    }

    fn record(&self, body: &mut dyn FnMut()) -> Result<Graph> {
        let context = &self.context;
        context.bind()?;
        let mut state = context.state();
        if state.recording.is_some() {
            return Err(Error::Device(format!("{}: a recording is under way already", context.name)));
        }
        let commands = context.at_once.then(Vec::new);
        if commands.is_none() {
            // Relaxed: other threads may allocate meanwhile, and a recorded upload takes memory of its own.
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
            // SAFETY: the stream is the context's.
            unsafe { stream::begin_capture(context.stream, mode) }.map_err(|e| {
                Error::Device(format!("{}: {} while starting to record", context.name, text(e)))
            })?;
        }
        state.recording = Some(Recording { commands, ..Recording::default() });
        state.kernel_before = false;
        drop(state);

        let outcome = catch_unwind(AssertUnwindSafe(body));
        context.bind()?;
        let outcome = outcome.map(|()| self.await_beside(u64::MAX));
        context.state().kernel_before = false;
        let mut recording = context.state().recording.take().unwrap_or_default();
        let freed = std::mem::take(&mut recording.freed);
        let give_back = || freed.into_iter().for_each(|address| context.free(address));
        let graph = match outcome {
            Err(panic) => {
                // What was captured beside is joined, so that nobody waits for it later.
                let _ = self.await_beside(u64::MAX);
                abandon(context, recording);
                give_back();
                resume_unwind(panic);
            }
            Ok(Err(error)) => {
                abandon(context, recording);
                give_back();
                return Err(error);
            }
            Ok(Ok(())) => match recording.commands.take() {
                Some(commands) => Ok(Graph::Listed(commands)),
                None => Captured::end(context, recording).map(Graph::Captured),
            },
        };
        give_back();
        graph.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::NoMemory(format!(
                "{}: nothing is left of its memory for the recorded step itself, which takes some tens of MiB; \
                 --low-memory or a smaller --batch leaves more",
                context.name
            )),
            _ => context.failed(e, "recording a step"),
        })
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        match graph {
            // SAFETY: as the caller promises.
            Graph::Listed(commands) => commands.iter().try_for_each(|c| unsafe { self.carry_out(c) }),
            Graph::Captured(captured) => {
                self.context.bind()?;
                self.done(captured.launch(), "replaying a recorded step")?;
                self.context.state().recent.replayed(captured.kernels);
                Ok(())
            }
        }
    }

    fn event(&self) -> Result<Event> {
        self.context.bind()?;
        // SAFETY: the context is bound, and its stream alive.
        let event = unsafe { Event::record(&self.context, self.context.stream) };
        // A kernel that came early would have begun before the moment.
        self.context.state().kernel_before = false;
        event.map_err(|e| self.context.failed(e, "marking a moment"))
    }

    fn seconds(&self, from: &Event, to: &Event) -> Result<f64> {
        self.context.bind()?;
        from.seconds_until(to).map_err(|e| self.context.failed(e, "asking for a duration"))
    }

    fn connect(&self, ranks: &Ranks) -> Result<()> {
        self.context.bind()?;
        let others = Communicator::connect(ranks, &self.context)?;
        // A second time changes nothing.
        let _ = self.others.set(others);
        Ok(())
    }

    fn is_connected(&self) -> bool {
        self.others.get().is_some()
    }

    unsafe fn begin_sum(&self, at: u64, reals: usize) -> Result<()> {
        let Some(others) = self.others.get() else { return Ok(()) };
        self.context.bind()?;
        // SAFETY: the context is bound, and there are as many floats, left alone, as the caller promises.
        unsafe { others.begin_sum(at, reals) }
    }

    fn await_sums(&self) -> Result<()> {
        let Some(others) = self.others.get() else { return Ok(()) };
        self.context.bind()?;
        self.context.state().kernel_before = false;
        others.await_sums()
    }

    fn synchronize(&self) -> Result<()> {
        self.context.bind()?;
        self.context.wait("waiting for it")
    }
}

#[cfg(test)]
mod tests;
