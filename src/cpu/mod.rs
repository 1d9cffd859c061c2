//! The backend that needs nothing but processor cores: f32 for work, f64 as the reference of every other backend.
//!
//! One file an operation (or a family), each with its backward and its tests; rayon spreads independent tasks, and
//! every sum that crosses tasks is made afterwards in task order, so results do not depend on the thread count.

pub mod buffer;
pub mod cascade;
pub mod chunk;
pub mod conv;
pub mod conv1x1;
pub mod conv_transpose;
pub mod fft;
pub mod importance;
pub mod layer;
pub mod loss;
pub mod noise;
pub mod norm;
mod operations;
pub mod pool;
pub mod rows;
pub mod scratch;
pub mod sens;
pub mod tile;
pub mod unet_io;
pub mod update;
pub mod winograd;

#[cfg(test)]
mod testing;

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use pulp::{Arch, Simd, WithSimd};
use rustfft::{Fft, FftDirection, FftPlanner};

use crate::error::Result;
use crate::memory::{self, limit_from_environment};
use crate::real::Real;
use buffer::Held;
use scratch::Shelf;

/// The CPU as a [`crate::backend::Backend`].
pub struct Cpu<T: Real> {
    arch: Arch,
    shelf: Shelf,
    ffts: Mutex<FftPlanner<T>>,
    /// The most bytes that all buffers together may have; none where nobody knows.
    memory: Option<usize>,
    held: Held,
}

thread_local! {
    /// Bytes that were asked for, on a thread that counts them instead of taking them.
    static COUNTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A closure as a vectorised operation. Calling it as `FnMut`, not as `FnOnce`, lets `#[inline(always)]` reach it:
/// between `FnOnce` and the closure's body stands a shim that is compiled apart.
struct Body<F>(F);

impl<R, F: FnMut() -> R> WithSimd for Body<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> R {
        (self.0)()
    }
}

impl<T: Real> Default for Cpu<T> {
    fn default() -> Self {
        Self {
            arch: Arch::new(),
            shelf: Shelf::default(),
            ffts: Mutex::new(FftPlanner::new()),
            memory: memory::of_machine(),
            held: Held::default(),
        }
    }
}

impl<T: Real> Cpu<T> {
    /// As `--device cpu` has it: `KERASE_CPU_MEMORY=MIB` sets the memory that counts as the machine's.
    ///
    /// # Errors
    /// [`crate::error::Error::Input`] for a value that means nothing.
    pub fn from_environment() -> Result<Self> {
        let cpu = Self::default();
        Ok(Self { memory: limit_from_environment("KERASE_CPU_MEMORY")?.or(cpu.memory), ..cpu })
    }

    /// Runs `body` compiled for the widest registers of this processor. The closure must be `#[inline(always)]`, and
    /// so must all that it calls in its loops: a function that stays apart is compiled for the smallest.
    #[inline(always)]
    fn vectorised<R>(&self, body: impl FnMut() -> R) -> R {
        self.arch.dispatch(Body(body))
    }

    /// Writes a value over what earlier tasks left in their working memory: no result may depend on it.
    pub fn fill_scratch(&self, value: T) {
        self.shelf.fill(value);
    }

    /// The transform of `len` points, planned on first use.
    fn fft(&self, len: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        self.ffts.lock().expect("planning does not panic").plan_fft(len, direction)
    }
}
