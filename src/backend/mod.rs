//! The contract: every operation that training and inference need ([`operation`], in data-flow order, with shapes and maths),
//! and a place where these run, a [`Backend`]: the CPU, a GPU, an emulated GPU. The network is written once, against this
//! trait; each operation has one file of the same name in every backend.
//!
//! Decisions that hold everywhere:
//! - Arrays are dense and row-major. Complex arrays (`c`) interleave real and imaginary part. `N` is the batch of
//!   slices; `rows` and `columns` are k-space's H and W, columns being undersampled.
//! - The gradient of a complex array is ∂L/∂re + i·∂L/∂im.
//! - A convolution leaves its raw output and that output's instance-norm statistics; whoever reads the map reads
//!   `LeakyReLU((x − mean)·rstd)`. Nothing else of a layer is stored.
//! - The gradient of such a map is stored as ∂L/∂(normalised value), i.e. with LeakyReLU's derivative multiplied
//!   in, beside the two plane means that instance norm's backward needs. Whoever reads it finishes the norm.
//! - Outputs are overwritten, except where a sentence says "adds".
//! - What a device stores of a feature map, or of its gradient, may be rounded; statistics and plane means are those of
//!   what is stored.
//! - Sums are made in a fixed order: the same input gives the same bits, whatever the number of threads.

pub mod operation;
mod shapes;

use crate::error::Result;
use crate::real::Real;

pub use operation::*;
pub use shapes::*;

/// Where buffers come from: all that is needed to lay out what a network works with, or to count it.
pub trait Memory {
    /// A flat array of reals.
    type Buffer;

    /// A buffer of `len` zeros.
    fn zeros(&self, purpose: Purpose, len: usize) -> Self::Buffer;

    /// The same for the values of a feature map or of its gradient, which a device may store with fewer bits than
    /// other reals.
    fn map(&self, purpose: Purpose, len: usize) -> Self::Buffer {
        self.zeros(purpose, len)
    }
}

/// How a device was asked to run kernels, those that were recorded counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Launches {
    pub kernels: usize,
    /// Of these, such as may take their places before the one before has ended.
    pub early: usize,
    /// Of these, such as run beside others.
    pub beside: usize,
}

impl Launches {
    /// Of these, those that came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            kernels: self.kernels - before.kernels,
            early: self.early - before.early,
            beside: self.beside - before.beside,
        }
    }
}

/// A place where the operations run.
pub trait Backend: Memory {
    type Real: Real;
    /// A sequence of operations that was carried out before and can be again, as one.
    type Tape: Default;
    /// A moment in the sequence of operations.
    type Mark;
    /// Reals on their way to the host, which nobody sees before they are there.
    type Download;

    // ---- the device ---------------------------------------------------------------------------------------

    /// # Errors
    /// Where the backend has no operations for images of this shape.
    fn check(&self, shape: ImageShape) -> Result<()>;

    /// Takes what the operations of `body` use within themselves, so that none of them allocates. Nothing is computed,
    /// and no buffer changes.
    ///
    /// # Errors
    /// Where the device has not enough memory, with how much is missing.
    fn prepare(&self, body: impl FnOnce()) -> Result<()>;

    /// Carries `body` out. The next time with the same tape it may be replayed instead: `body` must then consist of
    /// the same operations on the same buffers with the same scalars, and only the buffers' contents may differ.
    fn repeat(&self, tape: &mut Self::Tape, body: impl FnOnce());

    /// Carries `body` out, perhaps beside what is asked for later, which waits where it writes what `body` reads or
    /// touches what `body` writes. `body`: operations that have no use for working memory.
    fn beside(&self, body: impl FnOnce());

    /// Whether the device works while the host does something else: then it has nothing to do where the host waits for
    /// it before asking for more.
    fn works_beside(&self) -> bool;

    /// Waits until everything that was asked for is done.
    ///
    /// # Errors
    /// Where anything of it failed since the last call; what was computed is then worth nothing.
    fn finish(&self) -> Result<()>;

    /// Marks the moment between the operations asked for before and after; nobody waits for it.
    fn mark(&self) -> Self::Mark;

    /// Seconds that the device took from one mark to another, of operations that are done ([`Self::finish`]).
    fn seconds(&self, from: &Self::Mark, to: &Self::Mark) -> f64;

    /// Whether the devices of the ranks can sum by themselves. Where they cannot, the host has to.
    fn is_connected(&self) -> bool;
    /// Begins to sum a part of a buffer over the ranks whose devices are connected, the same bits on each, in its place.
    /// What is asked for before [`Self::await_sums`] goes on beside it and leaves the part alone. It is no operation to be
    /// repeated: ranks may not be at the same of theirs.
    fn begin_sum(&self, buffer: &mut Self::Buffer, part: Span);
    /// What is asked for from now on finds the sums.
    fn await_sums(&self);

    // ---- memory -------------------------------------------------------------------------------------------

    /// Runs `build`, whose buffers are all taken from one block. It may be run twice, first to count. `beside`: bytes of the
    /// host's memory that will be needed while these buffers live, which count where both are the same.
    ///
    /// # Errors
    /// Those of `build`; and where the device has not enough memory, with how much is missing.
    fn in_one_block<R>(&self, beside: usize, build: impl Fn() -> Result<R>) -> Result<R>;
    /// Bytes of the device's memory that are in use, by whomever; none where it has no memory of its own.
    fn memory_in_use(&self) -> Option<usize>;
    /// How kernels were launched so far, where they are.
    fn launches(&self) -> Option<Launches> {
        None
    }
    /// Whether buffers for so many shapes may be kept, as far as the device's memory goes.
    fn keeps(&self, rooms: usize) -> bool;
    /// Reals in a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;
    /// Makes a buffer `len` long, which is at most what it was made with. Its contents are unspecified then. This is
    /// no operation: it takes effect at once, and a tape does not hold it.
    fn set_len(&self, buffer: &mut Self::Buffer, len: usize);
    /// Copies host values to the front of a buffer that has room for them, rounded as it stores them.
    fn upload(&self, from: &[Self::Real], to: &mut Self::Buffer);
    /// Copies host values to the front of a buffer once the device has passed `after`, while it goes on with what was
    /// asked for since then, none of which may use the buffer. What is asked for from now on finds the values.
    fn upload_after(&self, after: &Self::Mark, from: &[Self::Real], to: &mut Self::Buffer);
    /// Copies the front of a buffer to the host.
    fn download(&self, from: &Self::Buffer, to: &mut [Self::Real]);
    /// Begins to copy the first `len` reals of a buffer, which is no map's, to the host: as they are now, whatever is
    /// asked for later. It is no operation to be repeated.
    ///
    /// # Errors
    /// As [`Self::finish`], as far as it is known without waiting.
    fn begin_download(&self, from: &Self::Buffer, len: usize) -> Result<Self::Download>;
    /// Waits for a copy, and for what was asked for before it, but for nothing that was asked for since. `to` is as
    /// long.
    ///
    /// # Errors
    /// Where anything failed that was waited for.
    fn await_download(&self, download: Self::Download, to: &mut [Self::Real]) -> Result<()>;

    // ---- operations ---------------------------------------------------------------------------------------

    /// Carries an operation out, after those that were asked for before.
    fn carry_out(&self, operation: Operation<'_, Self::Buffer>);

    /// [`Self::carry_out`] of one of the structs in [`operation`].
    fn run<'a>(&self, operation: impl Into<Operation<'a, Self::Buffer>>)
    where
        Self::Buffer: 'a,
    {
        self.carry_out(operation.into());
    }
}
