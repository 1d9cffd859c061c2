//! The emulated device: the same kernels, compiled for the host, each CUDA thread a fiber (kernels/emulation/).
//!
//! It is there to check kernels where there is no GPU. A launch is carried out at once, its blocks spread over rayon's
//! threads; a launch beside others at once too, or as late as may be: on a GPU it may come anywhere between.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use rayon::prelude::*;

use super::faults::out_of_memory;
use super::{Argument, Call, Driver, Launch};
use crate::error::{Error, Result};
use crate::ranks::Ranks;

unsafe extern "C" {
    fn emulation_next_kernel(kernel: *const c_void) -> *const c_void;
    fn emulation_name(kernel: *const c_void) -> *const c_char;
    fn emulation_source(kernel: *const c_void) -> *const c_char;
    fn emulation_most_threads(kernel: *const c_void) -> u32;
    fn emulation_signature(kernel: *const c_void, text: *mut c_char, room: usize) -> usize;
    fn emulation_run(
        kernel: *const c_void,
        arguments: *const *const c_void,
        grid: *const u32,
        threads: u32,
        dynamic_bytes: usize,
        schedule: c_int,
        seed: u64,
        first: u64,
        end: u64,
    );
}

/// What a GPU has at most, so that a launch that works here is one there; threads are bounded by each kernel.
const MOST_SHARED: u32 = 99 << 10;
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// Of all arguments of a kernel.
const MOST_BYTES: usize = 4096;

/// In which order the threads of a block take turns, and blocks theirs. Launches beside others are carried out at once in
/// `Forward`, and as late as may be in the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    #[default]
    Forward,
    Reverse,
    Random(u64),
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward => f.pad("forward"),
            Self::Reverse => f.pad("reverse"),
            Self::Random(seed) => f.pad(&format!("random:{seed}")),
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let random = name.strip_prefix("random:").and_then(|seed| seed.parse().ok()).map(Self::Random);
        match name {
            "forward" => Some(Self::Forward),
            "reverse" => Some(Self::Reverse),
            _ => random,
        }
        .ok_or_else(|| {
            Error::input(format!("unknown schedule '{name}': expected forward, reverse or random:SEED"))
        })
    }
}

/// A kernel that the host's compiler made.
#[derive(Clone, Copy)]
pub struct Kernel(*const c_void);

// SAFETY: it points to a constant of the program.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// As a method, so that closures take the kernel and not the pointer in it.
    fn pointer(self) -> *const c_void {
        self.0
    }

    /// All that were compiled.
    pub fn all() -> impl Iterator<Item = Self> {
        // SAFETY: each call returns the one after, or null; null asks for the first.
        let next = |kernel| Some(unsafe { emulation_next_kernel(kernel) }).filter(|next| !next.is_null());
        std::iter::successors(next(std::ptr::null()), move |&kernel| next(kernel)).map(Self)
    }

    pub fn name(self) -> &'static str {
        // SAFETY: the name is a string constant of the program.
        unsafe { CStr::from_ptr(emulation_name(self.0)) }.to_str().expect("C++ names are ASCII")
    }

    /// The stem of the file in kernels/ that it was compiled from, whichever header it is written in.
    pub fn file(self) -> &'static str {
        // SAFETY: the path is a string constant of the program.
        let path = unsafe { CStr::from_ptr(emulation_source(self.0)) }.to_str().expect("OUT_DIR is UTF-8");
        // build/emulation.rs compiles kernels/norm.cu as norm.cpp.
        Path::new(path).file_stem().and_then(|stem| stem.to_str()).expect("a file has a stem")
    }

    /// Threads that a block of it may have: what its `__launch_bounds__` says.
    pub fn most_threads(self) -> u32 {
        // SAFETY: a kernel is there as long as the program.
        unsafe { emulation_most_threads(self.0) }
    }

    /// The types of its parameters, as `kernels!` spells them.
    pub fn signature(self) -> String {
        let mut text = vec![0u8; 4096];
        // SAFETY: so many bytes are there.
        let len = unsafe { emulation_signature(self.0, text.as_mut_ptr().cast(), text.len()) };
        text.truncate(len);
        String::from_utf8(text).expect("C++ names are ASCII")
    }
}

/// Memory of the host, aligned as a GPU's.
pub struct Block {
    lines: Vec<Line>,
    work: Arc<Work>,
}

#[derive(Clone, Copy)]
#[repr(C, align(256))]
struct Line([u8; 256]);

impl Drop for Block {
    fn drop(&mut self) {
        // In a recording nothing is carried out, and whoever replays it keeps alive what it touches.
        if self.work.recording().is_none() {
            self.work.catch_up(u64::MAX);
        }
        self.work.used.fetch_sub(self.lines.len() * size_of::<Line>(), Ordering::Relaxed);
    }
}

/// One thing that a graph does.
enum Task {
    Launch { kernel: Kernel, launch: Launch, arguments: Vec<Vec<u8>> },
    Copy { from: u64, to: u64, bytes: usize },
    Zero { at: u64, bytes: usize },
}

/// What was recorded, in order.
pub struct Graph(Vec<Task>);

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

/// What is asked of it, which outlives it where there are blocks.
struct Work {
    schedule: Schedule,
    /// Bytes of all blocks.
    used: AtomicUsize,
    recording: Mutex<Option<Vec<Task>>>,
    /// Launches beside others that were not awaited yet.
    late: Mutex<VecDeque<(u64, Task)>>,
    launched_beside: AtomicU64,
}

/// An argument's value, aligned for any type that a kernel takes.
#[repr(C, align(16))]
struct Value([u8; MOST_BYTES]);

impl Default for Emulated {
    fn default() -> Self {
        Self::new(Schedule::default(), usize::MAX)
    }
}

impl Emulated {
    /// As `--device emulated` has it: `KERASE_EMULATED_MEMORY=MIB` limits its memory, `KERASE_EMULATED_SCHEDULE` is
    /// forward, reverse or random:SEED.
    ///
    /// # Errors
    /// [`Error::Input`] for values that mean nothing.
    pub fn from_environment() -> Result<Self> {
        let limit = match std::env::var("KERASE_EMULATED_MEMORY") {
            Err(_) => usize::MAX,
            Ok(mib) => {
                mib.parse::<usize>().ok().and_then(|mib| mib.checked_mul(1 << 20)).ok_or_else(|| {
                    Error::input(format!("KERASE_EMULATED_MEMORY={mib}: expected a number of MiB"))
                })?
            }
        };
        let schedule =
            std::env::var("KERASE_EMULATED_SCHEDULE").map_or(Ok(Schedule::Forward), |s| s.parse())?;
        Ok(Self::new(schedule, limit))
    }

    pub fn new(schedule: Schedule, limit: usize) -> Self {
        let kernels = Kernel::all().map(|kernel| (kernel.name(), kernel)).collect();
        let work = Work {
            schedule,
            used: AtomicUsize::default(),
            recording: Mutex::default(),
            late: Mutex::default(),
            launched_beside: AtomicU64::default(),
        };
        Self { kernels, limit, work: Arc::new(work), others: OnceLock::new() }
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

impl Work {
    fn recording(&self) -> MutexGuard<'_, Option<Vec<Task>>> {
        self.recording.lock().expect("nothing panics while it holds this")
    }

    /// Carries a task out, or keeps it for later.
    fn now_or_later(&self, task: Task) {
        match &mut *self.recording() {
            Some(tasks) => tasks.push(task),
            None => self.carry_out(&task),
        }
    }

    /// Carries out, or records, what was launched beside others up to this number.
    fn catch_up(&self, number: u64) {
        let mut late = self.late.lock().expect("nothing panics while it holds this");
        let due = late.partition_point(|&(launch, _)| launch <= number);
        late.drain(..due).for_each(|(_, task)| self.now_or_later(task));
    }

    fn carry_out(&self, task: &Task) {
        match task {
            Task::Launch { kernel, launch, arguments } => self.run(*kernel, *launch, arguments),
            // SAFETY: whoever asked for it promised that both are alive and apart (`Driver::copy`, `Driver::replay`).
            &Task::Copy { from, to, bytes } => unsafe {
                std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes);
            },
            // SAFETY: likewise (`Driver::zero`, `Driver::replay`).
            &Task::Zero { at, bytes } => unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) },
        }
    }

    fn run(&self, kernel: Kernel, launch: Launch, arguments: &[Vec<u8>]) {
        let values: Vec<Value> = arguments
            .iter()
            .map(|bytes| {
                let mut value = Value([0; MOST_BYTES]);
                value.0[..bytes.len()].copy_from_slice(bytes);
                value
            })
            .collect();
        let addresses: Vec<usize> = values.iter().map(|value| std::ptr::from_ref(value) as usize).collect();
        let blocks: u64 = launch.grid.iter().map(|&n| u64::from(n)).product();
        let (schedule, seed) = match self.schedule {
            Schedule::Forward => (0, 0),
            Schedule::Reverse => (1, 0),
            Schedule::Random(seed) => (2, seed),
        };
        let run = |first, end| {
            // SAFETY: the arguments are those of the kernel's signature and point to memory that is alive
            // (`Driver::launch`, `Driver::replay`); blocks write apart from each other, as they must on a GPU.
            unsafe {
                emulation_run(
                    kernel.pointer(),
                    addresses.as_ptr().cast(),
                    launch.grid.as_ptr(),
                    launch.threads,
                    launch.shared as usize,
                    schedule,
                    seed,
                    first,
                    end,
                );
            }
        };
        // A sanitizer sees no order in what rayon's threads do; to it, one thread runs all.
        let workers = if cfg!(kerase_sanitized) { 1 } else { rayon::current_num_threads() as u64 };
        let part = blocks.div_ceil(4 * workers);
        if workers == 1 || blocks == 1 {
            run(0, blocks);
        } else {
            (0..blocks.div_ceil(part))
                .into_par_iter()
                .for_each(|i| run(i * part, ((i + 1) * part).min(blocks)));
        }
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
        // SAFETY: the caller's; nothing runs beside this, since launches are carried out at once.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn upload_after(&self, _after: &Instant, from: &[u8], to: u64) -> Result<()> {
        // SAFETY: the caller's; nothing is under way.
        unsafe { self.upload(from, to) }
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn begin_download(&self, from: u64, bytes: usize) -> Result<Vec<u8>> {
        if self.work.recording().is_some() {
            return Err(Error::Device("emulated: a recorded step cannot download".into()));
        }
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
        let mut begun = None;
        // SAFETY: as above.
        device.record(&mut || begun = Some(unsafe { device.begin_download(at, 4) })).unwrap();
        let message = begun.unwrap().unwrap_err().to_string();
        assert!(message.contains("recorded step cannot download"), "{message}");
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
        refused("conv3x3_weights_tf32_18", [1, 1, 1], 160, 0);
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
