//! What a device must offer beyond its operations so that they can be checked.

use crate::backend::{Backend, Memory, Purpose};
use crate::cpu::{Cpu, winograd};
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};
use crate::precision::Precision;
use crate::real::Real;

/// A backend that can be checked.
pub trait Checked: Backend {
    /// A buffer of `len` reals with fences on both sides: memory that nobody may write, filled with sentinels.
    fn fenced(&self, len: usize) -> Self::Buffer;

    /// The same for the values of a feature map, as [`crate::backend::Memory::map`] has them.
    fn fenced_map(&self, len: usize) -> Self::Buffer {
        self.fenced(len)
    }

    /// Whether the fences of a buffer of [`Self::fenced`] or [`Self::fenced_map`] still hold the sentinels.
    fn fences_intact(&self, buffer: &Self::Buffer) -> bool;

    /// Fills all memory that operations keep for their own use, and do not rely on the contents of, with a value.
    fn dirty_scratch(&self, value: Self::Real);

    /// What feature maps are stored as, and what the operands of the 3×3 convolutions' products are rounded to.
    fn precision(&self) -> Precision {
        Precision::Fp32
    }

    /// How many times as far off outputs of 3×3 convolutions and gradients of their inputs may be as sums of the products
    /// that define them.
    fn filtering(&self) -> f64 {
        1.0
    }
}

/// Rust itself checks the bounds of a vector.
impl<T: Real> Checked for Cpu<T> {
    fn fenced(&self, len: usize) -> Self::Buffer {
        self.zeros(Purpose::Images, len)
    }

    fn fences_intact(&self, _buffer: &Self::Buffer) -> bool {
        true
    }

    fn dirty_scratch(&self, value: T) {
        self.fill_scratch(value);
    }

    fn filtering(&self) -> f64 {
        winograd::ROUNDING
    }
}

impl<D: Driver> Checked for Cuda<D> {
    fn fenced(&self, len: usize) -> Buffer<D> {
        Self::fenced(self, len)
    }

    fn fenced_map(&self, len: usize) -> Buffer<D> {
        Self::fenced_map(self, len)
    }

    fn fences_intact(&self, buffer: &Buffer<D>) -> bool {
        Self::fences_intact(self, buffer)
    }

    fn dirty_scratch(&self, value: f32) {
        self.fill_scratch(value);
    }

    fn precision(&self) -> Precision {
        Self::precision(self)
    }
}
