//! Sums that cross blocks, added up in a fixed order.

use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Cuda, blocks, int};

// As in kernels/partial.cu.
const WIDTH: usize = 32;
const THREADS: u32 = 256;

crate::kernels! {
    fn add_parts(partial: Const<f32>, into: Mut<f32>, parts: i32, len: i32);
}

/// Adds to `into` `[len]` the sum over `partial` `[parts, len]`.
pub fn add<D: Driver>(cuda: &Cuda<D>, partial: Const<f32>, into: Mut<f32>, parts: usize, len: usize) {
    kernel::add_parts(cuda, blocks(len.div_ceil(WIDTH), 1, THREADS), partial, into, int(parts), int(len));
}
