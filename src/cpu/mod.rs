//! The backend that needs nothing but processor cores: f32 for work, f64 as the reference of every other backend.
//!
//! One file an operation (or a family), each with its backward and its tests; rayon spreads independent tasks, and
//! every sum that crosses tasks is made afterwards in task order, so results do not depend on the thread count.

pub mod cascade;
pub mod chunk;
pub mod conv;
pub mod conv1x1;
pub mod conv_transpose;
pub mod fft;
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

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod map_testing;
#[cfg(test)]
mod testing;

use std::sync::{Arc, Mutex};

use pulp::Arch;
use rustfft::{Fft, FftDirection, FftPlanner};

use crate::real::Real;
use scratch::Shelf;

/// The CPU as a [`crate::backend::Backend`].
pub struct Cpu<T: Real> {
    arch: Arch,
    shelf: Shelf,
    ffts: Mutex<FftPlanner<T>>,
}

impl<T: Real> Default for Cpu<T> {
    fn default() -> Self {
        Self { arch: Arch::new(), shelf: Shelf::default(), ffts: Mutex::new(FftPlanner::new()) }
    }
}

impl<T: Real> Cpu<T> {
    /// The transform of `len` points, planned on first use.
    fn fft(&self, len: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        self.ffts.lock().expect("planning does not panic").plan_fft(len, direction)
    }
}
