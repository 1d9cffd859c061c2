//! The operations as CUDA kernels, on a GPU or on the emulated device.
//!
//! A file or folder for an operation or family, with the stem of its kernels in `kernels/`; in `conv/`, those of conv.cu are
//! `conv3x3` and `plain`, and others lack the stem. How work is cut into blocks stands here, what a block does stands there.
//! Everything of a launch that a kernel would have to work out from shapes is worked out here. Sums that cross blocks are left
//! as parts and joined by a second kernel, in a fixed order.

pub mod beside;
pub mod cascade;
pub mod conv;
pub mod conv1x1;
pub mod driver;
pub mod fft;
pub mod fft_plans;
pub mod importance;
pub mod kernel;
pub mod loss;
pub mod memory;
pub mod noise;
pub mod norm;
mod operations;
pub mod partial;
pub mod pool;
pub mod sens;
pub mod unet_io;
pub mod update;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::backend::Purpose;
use crate::error::{Error, Result};
use crate::precision::Precision;
use crate::ranks::Ranks;
use beside::{Beside, Lowered};
use conv::announced::Announced;
use conv::tilings::Tilings;
use driver::{Argument, Driver, Launch};
use fft_plans::FftPlans;
use kernel::{Const, Declaration, Element, Located, Mut, Stored};
pub use memory::Buffer;
use memory::{Arena, Lifetime, fences, is_intact};

/// A device as a [`crate::backend::Backend`].
///
/// Operations cannot fail one by one: the first failure is kept, all that follows is left out, and
/// [`crate::backend::Backend::finish`] says what it was.
pub struct Cuda<D: Driver> {
    driver: D,
    arena: Mutex<Arena<D>>,
    fft_plans: FftPlans<D>,
    announced: Mutex<Announced>,
    beside: Beside,
    failure: Mutex<Option<Error>>,
    /// Whether operations only say what working memory they need.
    rehearsing: AtomicBool,
    /// Whether operations are recorded, to be replayed.
    recording: AtomicBool,
    precision: Precision,
    tilings: Tilings,
}

/// Operations that are recorded the second time, and replayed from then on: the first time they may still allocate.
#[derive(Default)]
pub enum Tape<D: Driver> {
    #[default]
    Unknown,
    Known,
    Recorded {
        graph: D::Graph,
        /// Keeps alive what the operations used within themselves.
        _scratch: Vec<Arc<D::Block>>,
    },
}

/// All kernels that any operation launches.
pub fn declarations() -> impl Iterator<Item = &'static Declaration> {
    [
        cascade::kernel::KERNELS,
        cascade::rss_output::kernel::KERNELS,
        cascade::sens_backward::kernel::KERNELS,
        cascade::update::kernel::KERNELS,
        conv::conv3x3::kernel::KERNELS,
        conv::mma::kernel::KERNELS,
        conv::mma::filters::kernel::KERNELS,
        conv::mma::weights::kernel::KERNELS,
        conv::plain::kernel::KERNELS,
        conv::transpose::kernel::KERNELS,
        conv::transpose_mma::kernel::KERNELS,
        conv1x1::kernel::KERNELS,
        fft::kernel::KERNELS,
        loss::kernel::KERNELS,
        importance::kernel::KERNELS,
        noise::kernel::KERNELS,
        norm::kernel::KERNELS,
        partial::kernel::KERNELS,
        pool::kernel::KERNELS,
        sens::kernel::KERNELS,
        unet_io::kernel::KERNELS,
        update::kernel::KERNELS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .flatten()
}

/// The same with their files, as the host's compiler found them: it compiles what nvcc does.
///
/// # Panics
/// Where one is in no file of kernels/.
pub fn located() -> impl Iterator<Item = Located> {
    let files: HashMap<_, _> = driver::emulated::Kernel::all().map(|k| (k.name(), k.file())).collect();
    declarations().map(move |&Declaration { name, .. }| {
        let file = files.get(name).unwrap_or_else(|| panic!("kernel {name} is in none of kernels/*.cu"));
        Located { name, file }
    })
}

impl Cuda<driver::cudarc::Gpu> {
    /// The GPU of this number.
    ///
    /// # Errors
    /// Where there is none, or no kernel for it, with the remedy.
    pub fn open(ordinal: usize) -> Result<Self> {
        let kernels: Vec<_> = located().collect();
        driver::cudarc::Gpu::open(ordinal, &kernels).map(Self::new)
    }
}

impl<D: Driver> Cuda<D> {
    /// Connects the device with those of the other ranks.
    ///
    /// # Errors
    /// As [`Driver::connect`].
    pub fn connect(&self, ranks: &Ranks) -> Result<()> {
        self.driver.connect(ranks)
    }

    pub fn new(driver: D) -> Self {
        Self {
            driver,
            arena: Mutex::new(Arena::default()),
            fft_plans: FftPlans::default(),
            announced: Mutex::default(),
            beside: Beside::default(),
            failure: Mutex::new(None),
            rehearsing: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            precision: Precision::default(),
            tilings: Tilings::built_in(),
        }
    }

    /// The same device, on which feature maps are stored, and convolutions' products are made, like this.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The same device, whose convolutions are cut into blocks as these say.
    pub fn with_tilings(self, tilings: Tilings) -> Self {
        Self { tilings, ..self }
    }

    pub fn tilings(&self) -> &Tilings {
        &self.tilings
    }

    /// What feature maps and their gradients are stored as.
    fn element_of_maps(&self) -> Element {
        match self.precision {
            Precision::Fp32 | Precision::Tf32 => Element::F32,
            Precision::Bf16 => Element::Bf16,
        }
    }

    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Bytes of all buffers made so far, by purpose.
    pub fn usage(&self) -> BTreeMap<Purpose, usize> {
        self.arena().usage()
    }

    fn arena(&self) -> MutexGuard<'_, Arena<D>> {
        self.arena.lock().expect("nothing panics while it holds the books")
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().expect("nothing panics while it holds what is announced")
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().expect("nothing panics while it holds this")
    }

    /// Carries out what the driver is asked for, unless something failed before.
    fn attempt<R>(&self, work: impl FnOnce(&D) -> Result<R>) -> Option<R> {
        if self.failure().is_some() {
            return None;
        }
        // What fails within it is the cause.
        work(&self.driver)
            .map_err(|error| {
                self.failure().get_or_insert(error);
            })
            .ok()
    }

    /// The same, after all that runs beside.
    fn attempt_in_order<R>(&self, work: impl FnOnce(&D) -> Result<R>) -> Option<R> {
        self.attempt(|driver| {
            self.await_beside(driver)?;
            work(driver)
        })
    }

    /// As [`Self::attempt_in_order`], for what an operation does to its buffers.
    fn operate(&self, work: impl FnOnce(&D) -> Result<()>) {
        if !self.rehearsing.load(Ordering::Relaxed) {
            self.attempt_in_order(work);
        }
    }

    /// # Safety
    /// That of [`Driver::launch`].
    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) {
        if launch.grid.contains(&0) {
            return;
        }
        if !self.rehearsing.load(Ordering::Relaxed) {
            // SAFETY: passed on to the caller.
            self.attempt(|driver| unsafe { self.start(driver, kernel, launch, arguments) });
        }
    }

    /// Working memory of one operation: `lens` reals each, with unspecified contents.
    fn scratch<const N: usize>(&self, lens: [usize; N]) -> [Mut<f32>; N] {
        self.scratch_for(Lifetime::Operation, &lens).try_into().expect("as many as were asked for")
    }

    fn scratch_for(&self, lifetime: Lifetime, lens: &[usize]) -> Vec<Mut<f32>> {
        assert!(
            !self.beside.is_begun(),
            "the next operation has the working memory of one that runs beside it"
        );
        if self.rehearsing.load(Ordering::Relaxed) {
            self.arena().rehearse(lifetime, lens);
            return vec![Mut::null(); lens.len()];
        }
        if self.recording.load(Ordering::Relaxed) && self.failure().is_none() {
            self.assert_scratch(lifetime, lens);
        }
        self.attempt(|driver| self.arena().scratch(driver, lifetime, lens))
            .map_or_else(|| vec![Mut::null(); lens.len()], |at| at.into_iter().map(Mut::at).collect())
    }

    /// A tape keeps the working memory that there is at the end of its recording. Were it to grow meanwhile, what was
    /// recorded before would be replayed with memory that somebody else has by then.
    ///
    /// # Panics
    /// Where it would have to grow: the same operations were not carried out, or rehearsed, before.
    fn assert_scratch(&self, lifetime: Lifetime, lens: &[usize]) {
        let missing = self.arena().missing(lifetime, lens);
        if missing > 0 {
            self.recording.store(false, Ordering::Relaxed);
            panic!(
                "working memory ({lifetime:?}) would have to grow by {missing} bytes while a step is recorded: what is \
                 recorded must first be carried out, or rehearsed, with the same shapes"
            );
        }
    }

    /// Takes the working memory of the operations that `body` asks for, which are not carried out.
    fn rehearse(&self, body: impl FnOnce()) {
        {
            self.rehearsing.store(true, Ordering::Relaxed);
            let _rehearsing = Lowered(&self.rehearsing);
            body();
        }
        self.attempt(|driver| self.arena().rehearsed(driver));
    }

    /// Overwrites the working memory that operations leave behind.
    pub fn fill_scratch(&self, value: f32) {
        self.attempt(|driver| self.await_beside(driver));
        let blocks = self.arena().scratch_blocks();
        for (block, bytes) in blocks {
            let values = vec![value; bytes / size_of::<f32>()];
            let to = self.driver.address(&block);
            // SAFETY: the block is alive and has so many bytes.
            self.attempt(|driver| unsafe { driver.upload(bytemuck::cast_slice(&values), to) });
        }
    }

    /// A buffer of zeros between sentinels.
    pub fn fenced(&self, len: usize) -> Buffer<D> {
        self.fenced_of(Element::F32, len)
    }

    /// The same for the values of a feature map.
    pub fn fenced_map(&self, len: usize) -> Buffer<D> {
        self.fenced_of(self.element_of_maps(), len)
    }

    fn fenced_of(&self, element: Element, len: usize) -> Buffer<D> {
        let made = self.attempt(|driver| {
            let buffer = self.arena().fenced(driver, element, len)?;
            // SAFETY: the block was made for all of them.
            unsafe {
                for at in fences(&buffer) {
                    driver.upload(bytemuck::cast_slice(&memory::fence()), at)?;
                }
                driver.zero(buffer.address_of(0, len), len * element.bytes())?;
            }
            Ok(buffer)
        });
        made.unwrap_or_else(|| Buffer::nothing(element, len))
    }

    /// Whether the sentinels round a buffer of [`Self::fenced`] are as they were.
    pub fn fences_intact(&self, buffer: &Buffer<D>) -> bool {
        fences(buffer).into_iter().all(|fence| {
            let mut values = [0f32; memory::FENCE];
            // SAFETY: a fenced buffer has these on both sides.
            let read = self.attempt_in_order(|driver| unsafe {
                driver.download(fence, bytemuck::cast_slice_mut(&mut values))
            });
            read.is_some() && is_intact(&values)
        })
    }
}

/// A grid of `x` × `y` blocks.
fn blocks(x: usize, y: usize, threads: u32) -> Launch {
    blocks_with(x, y, 1, threads, 0)
}

/// A grid of `x` × `y` × `z` blocks with dynamic shared memory.
///
/// # Panics
/// Where a dimension is more than the device can have: shapes that large do not fit its memory.
fn blocks_with(x: usize, y: usize, z: usize, threads: u32, shared: usize) -> Launch {
    let size = |n: usize, most: usize| {
        assert!(n <= most, "{n} blocks along one dimension of a grid");
        n as u32
    };
    let grid = [size(x, i32::MAX as usize), size(y, 65_535), size(z, 65_535)];
    Launch { grid, threads, shared: shared as u32 }
}

/// Reals of working memory for so many values of a map.
fn reals_for<T: Stored>(values: usize) -> usize {
    (values * T::ELEMENT.bytes()).div_ceil(size_of::<f32>())
}

/// A size as kernels take it.
///
/// # Panics
/// Beyond 2³¹: a single dimension is never that large.
fn int(size: usize) -> i32 {
    i32::try_from(size).expect("a dimension fits 31 bits")
}

fn statistics<D: Driver>(map: &crate::backend::FeatureMap<Buffer<D>>) -> Const<f32> {
    map.stats.as_ref().map_or(Const::null(), |stats| stats.read(2 * map.shape.planes()))
}
