//! Sums that cross blocks, added up in a fixed order.

use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Cuda, blocks, int};

// As in kernels/partial.cu.
const THREADS: u32 = 256;
/// Elements that a block takes at most: what a warp reads at once is 128 bytes.
const MOST_HERE: usize = 32;

crate::kernels! {
    fn add_parts(partial: Const<f32>, into: Mut<f32>, parts: i32, len: i32, log2_here: i32);
}

/// Adds to `into` `[len]` the sum over `partial` `[parts, len]`.
pub fn add<D: Driver>(cuda: &Cuda<D>, partial: Const<f32>, into: Mut<f32>, parts: usize, len: usize) {
    let here = len.next_power_of_two().min(MOST_HERE);
    kernel::add_parts(
        cuda,
        blocks(len.div_ceil(here), 1, THREADS),
        partial,
        into,
        int(parts),
        int(len),
        int(here.ilog2() as usize),
    );
}
