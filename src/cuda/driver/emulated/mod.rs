//! The emulated device: the same kernels, compiled for the host, each CUDA thread a fiber (kernels/emulation/).
//!
//! It is there to check kernels where there is no GPU. A launch is carried out at once, its blocks spread over rayon's
//! threads; a launch beside others at once too, or as late as may be: on a GPU it may come anywhere between.

mod kernel;
mod schedule;
mod work;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use super::faults::{not_recorded, out_of_memory};
use super::{Argument, Call, Driver, Launch};
use crate::error::{Error, Result};
use crate::memory::{self, limit_from_environment};
use crate::ranks::Ranks;
use work::{Line, MOST_BYTES, Task, Work};

pub use kernel::Kernel;
pub use schedule::Schedule;
pub use work::{Block, Graph};

/// What a GPU has at most, so that a launch that works here is one there; threads are bounded by each kernel.
const MOST_SHARED: u32 = 99 << 10;
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// The devices of other ranks. Sums are made when they are waited for, of what was there when they were begun.
struct Others {
    ranks: Ranks,
    /// Where, and what.
    begun: Mutex<Vec<(u64, Vec<f32>)>>,
}

/// The device. Its memory has a limit, so that running out of it can be tried.
pub struct Emulated {
    kernels: HashMap<&'static str, Kernel>,
    limit: usize,
    work: Arc<Work>,
    others: OnceLock<Others>,
}

impl Default for Emulated {
    fn default() -> Self {
        Self::new(Schedule::default(), usize::MAX)
    }
}

impl Emulated {
    fn refuse_recording(&self, doing: &str) -> Result<()> {
        let recording = self.work.recording().is_some();
        if recording { Err(Error::Device(format!("emulated: {}", not_recorded(doing)))) } else { Ok(()) }
    }

    /// As `--device emulated` has it: `KERASE_EMULATED_MEMORY=MIB` limits its memory, which otherwise is the
    /// machine's; `KERASE_EMULATED_SCHEDULE` is forward, reverse or random:SEED.
    ///
    /// # Errors
    /// [`Error::Input`] for values that mean nothing.
    pub fn from_environment() -> Result<Self> {
        let limit = limit_from_environment("KERASE_EMULATED_MEMORY")?;
        let limit = limit.or_else(memory::of_machine).unwrap_or(usize::MAX);
        let schedule =
            std::env::var("KERASE_EMULATED_SCHEDULE").map_or(Ok(Schedule::Forward), |s| s.parse())?;
        Ok(Self::new(schedule, limit))
    }

    pub fn new(schedule: Schedule, limit: usize) -> Self {
        let kernels = Kernel::all().map(|kernel| (kernel.name(), kernel)).collect();
        Self { kernels, limit, work: Arc::new(Work::new(schedule)), others: OnceLock::new() }
    }

    /// Checks a launch as a GPU would.
    ///
    /// # Safety
    /// Each argument's value has so many bytes as it says.
    unsafe fn task(&self, name: &'static str, launch: Launch, arguments: &[Argument]) -> Result<Task> {
        let Some(&kernel) = self.kernels.get(name) else {
            return Err(Error::Device(format!("the emulated device has no kernel {name}")));
        };
        let blocks = launch.grid.iter().zip(MOST_BLOCKS).all(|(&blocks, most)| blocks <= most);
        let threads = launch.threads <= kernel.most_threads() && launch.threads.is_multiple_of(32);
        let bytes: usize = arguments.iter().map(|argument| argument.bytes).sum();
        if !blocks || !threads || launch.shared > MOST_SHARED || bytes > MOST_BYTES {
            return Err(Error::Device(format!(
                "no GPU takes such a launch: {}",
                Call::new(name, launch, arguments)
            )));
        }
        let arguments = arguments
            .iter()
            // SAFETY: the caller's.
            .map(|a| unsafe { std::slice::from_raw_parts(a.value.cast::<u8>(), a.bytes) }.to_vec())
            .collect();
        Ok(Task::Launch { kernel, launch, arguments })
    }
}

impl Driver for Emulated {
    type Block = Block;
    type Graph = Graph;
    type Event = Instant;
    type Download = Vec<u8>;

    fn name(&self) -> String {
        "emulated".into()
    }

    fn alloc(&self, bytes: usize) -> Result<Block> {
        let lines = bytes.div_ceil(size_of::<Line>());
        let bytes = lines * size_of::<Line>();
        let used = &self.work.used;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        let mut memory = Vec::new();
        let free = self.limit.saturating_sub(before);
        if bytes > free || memory.try_reserve_exact(lines).is_err() {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::NoMemory(out_of_memory(&self.name(), bytes, [free, self.limit])));
        }
        // As on a GPU nobody may count on what is in it.
        memory.resize(lines, Line([0xff; 256]));
        Ok(Block { lines: memory, work: self.work.clone() })
    }

    fn address(&self, block: &Block) -> u64 {
        block.lines.as_ptr() as u64
    }

    fn memory(&self) -> Result<[usize; 2]> {
        Ok([self.limit.saturating_sub(self.work.used.load(Ordering::Relaxed)), self.limit])
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        self.refuse_recording("upload")?;
        // SAFETY: the caller's, who has waited for all that was held back (`Cuda::attempt_in_order`).
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn upload_after(&self, _after: &Instant, from: &[u8], to: u64) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.upload(from, to) }
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.refuse_recording("download")?;
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn begin_download(&self, from: u64, bytes: usize) -> Result<Vec<u8>> {
        self.refuse_recording("download")?;
        // All that was asked for before is done, and what comes later may write there.
        // SAFETY: the caller's.
        Ok(unsafe { std::slice::from_raw_parts(from as *const u8, bytes) }.to_vec())
    }

    fn await_download(&self, download: Vec<u8>, to: &mut [u8]) -> Result<()> {
        to.copy_from_slice(&download);
        Ok(())
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.work.now_or_later(Task::Copy { from, to, bytes });
        Ok(())
    }

    unsafe fn zero(&self, at: u64, bytes: usize) -> Result<()> {
        self.work.now_or_later(Task::Zero { at, bytes });
        Ok(())
    }

    unsafe fn launch(&self, name: &'static str, launch: Launch, arguments: &[Argument]) -> Result<()> {
        // SAFETY: the caller's.
        let task = unsafe { self.task(name, launch, arguments) }?;
        self.work.now_or_later(task);
        Ok(())
    }

    unsafe fn launch_beside(
        &self,
        name: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<u64> {
        // SAFETY: the caller's.
        let task = unsafe { self.task(name, launch, arguments) }?;
        let number = self.work.launched_beside.fetch_add(1, Ordering::Relaxed) + 1;
        self.work.late.lock().expect("nothing panics while it holds this").push_back((number, task));
        if self.work.schedule == Schedule::Forward {
            self.work.catch_up(number);
        }
        Ok(number)
    }

    fn await_beside(&self, number: u64) -> Result<()> {
        self.work.catch_up(number);
        Ok(())
    }

    fn record(&self, body: &mut dyn FnMut()) -> Result<Graph> {
        *self.work.recording() = Some(Vec::new());
        body();
        self.work.catch_up(u64::MAX);
        let tasks = self.work.recording().take();
        Ok(Graph(tasks.expect("begun above")))
    }

    unsafe fn replay(&self, graph: &Graph) -> Result<()> {
        graph.0.iter().for_each(|task| self.work.carry_out(task));
        Ok(())
    }

    fn event(&self) -> Result<Instant> {
        Ok(Instant::now())
    }

    fn seconds(&self, from: &Instant, to: &Instant) -> Result<f64> {
        Ok(to.duration_since(*from).as_secs_f64())
    }

    fn connect(&self, ranks: &Ranks) -> Result<()> {
        // A second time changes nothing.
        let _ = self.others.set(Others { ranks: ranks.clone(), begun: Mutex::default() });
        Ok(())
    }

    fn is_connected(&self) -> bool {
        self.others.get().is_some()
    }

    unsafe fn begin_sum(&self, at: u64, reals: usize) -> Result<()> {
        let Some(others) = self.others.get() else { return Ok(()) };
        // SAFETY: so many floats are there, and nothing runs beside this (`Driver::begin_sum`).
        let values = unsafe { std::slice::from_raw_parts_mut(at as *mut f32, reals) };
        others.begun.lock().expect("nothing panics while it holds this").push((at, values.to_vec()));
        // As on a GPU, where the sum may be half made, nobody may count on what is there until it is waited for.
        values.fill(f32::NAN);
        Ok(())
    }

    fn await_sums(&self) -> Result<()> {
        let Some(others) = self.others.get() else { return Ok(()) };
        let begun = std::mem::take(&mut *others.begun.lock().expect("nothing panics while it holds this"));
        for (at, mut values) in begun {
            others.ranks.sum(&mut values)?;
            // SAFETY: the floats are still there: whoever began the sum promised it until now (`Driver::begin_sum`).
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), at as *mut f32, values.len()) };
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.work.catch_up(u64::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_what_was_there_when_it_was_begun() {
        let device = Emulated::default();
        let block = device.alloc(4).unwrap();
        let at = device.address(&block);
        // SAFETY: the block has four bytes and is alive.
        let [first, second] = [[1, 2, 3, 4], [5, 6, 7, 8]].map(|bytes| unsafe {
            device.upload(&bytes, at).unwrap();
            device.begin_download(at, 4).unwrap()
        });
        // SAFETY: as above.
        unsafe { device.zero(at, 4) }.unwrap();
        let mut read = [0; 4];
        device.await_download(second, &mut read).unwrap();
        assert_eq!(read, [5, 6, 7, 8]);
        device.await_download(first, &mut read).unwrap();
        assert_eq!(read, [1, 2, 3, 4]);
    }

    #[test]
    fn what_the_host_has_part_in_is_not_recorded() {
        let device = Emulated::default();
        let block = device.alloc(4).unwrap();
        let at = device.address(&block);
        let mut refused = Vec::new();
        let body = &mut || {
            // SAFETY: the block has four bytes and is alive.
            unsafe {
                refused.push(device.upload(&[1; 4], at));
                refused.push(device.download(at, &mut [0; 4]));
                refused.push(device.begin_download(at, 4).map(|_| ()));
            }
        };
        device.record(body).unwrap();
        let messages: Vec<String> = refused.into_iter().map(|r| r.unwrap_err().to_string()).collect();
        let refused = |doing| format!("emulated: a recorded step cannot {doing}");
        assert_eq!(messages, ["upload", "download", "download"].map(refused));
    }

    #[test]
    fn what_no_gpu_takes_is_refused() {
        let device = Emulated::default();
        let refused = |name, grid, threads, shared| {
            // SAFETY: a launch that is refused reads no argument.
            let launched = unsafe { device.launch(name, Launch { grid, threads, shared }, &[]) };
            let message = launched.expect_err("no GPU takes it").to_string();
            assert!(message.contains(name) && message.contains(&format!("{threads} threads")), "{message}");
        };
        refused("norm_stats", [1, 1, 1], 288, 0);
        refused("add_parts", [1, 1, 1], 288, 0);
        refused("add_parts", [1, 1, 1], 33, 0);
        refused("add_parts", [1, 65_536, 1], 256, 0);
        refused("add_parts", [1, 1, 65_536], 256, 0);
        refused("ifft_rows", [1, 1, 1], 256, MOST_SHARED + 1);
        // Their names are put together by macros, and one lies in a header.
        refused("conv3x3_by6", [1, 1, 1], 288, 0);
        refused("conv3x3_inputs_bf16_deep_by4", [1, 1, 1], 160, 0);
        refused("conv3x3_weights_tf32_18x24", [1, 1, 1], 160, 0);
        refused("conv_transpose_weight", [1, 1, 1], 1024, 0);
    }

    #[test]
    fn bounds_are_those_of_the_source() {
        let bound =
            |name| Kernel::all().find(|kernel| kernel.name() == name).expect("a kernel").most_threads();
        assert_eq!(bound("norm_stats"), 256);
        assert_eq!(bound("ifft_rows"), 320);
        assert_eq!(bound("conv3x3_filters_tf32"), 256);
        assert_eq!(bound("conv3x3_bf16_wide_by5"), 128);
        // A warp more is refused, whatever made the kernel's name.
        let device = Emulated::default();
        for kernel in Kernel::all() {
            let bound = kernel.most_threads();
            assert!((32..=1024).contains(&bound) && bound.is_multiple_of(32), "{}: {bound}", kernel.name());
            let launch = Launch { grid: [1, 1, 1], threads: bound + 32, shared: 0 };
            // SAFETY: a launch that is refused reads no argument.
            let refused = unsafe { device.launch(kernel.name(), launch, &[]) };
            refused.expect_err("more threads than the kernel is compiled for");
        }
    }
}
