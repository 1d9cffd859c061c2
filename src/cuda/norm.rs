//! Statistics of planes and means of their gradients, from the parts that blocks leave.

use crate::backend::MapShape;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks, int};

const THREADS: u32 = 256;

crate::kernels! {
    fn norm_stats(partial: Const<f32>, stats: Mut<f32>, parts: i32);
    fn gradient_means(partial: Const<f32>, sums: Mut<f32>, parts: i32, pixels: i32);
}

/// `stats` of a map's planes from `partial` `[planes, parts, 3]`: count, mean, sum of squared deviations.
pub fn join_stats<D: Driver>(
    cuda: &Cuda<D>,
    map: MapShape,
    partial: Const<f32>,
    parts: usize,
    stats: &mut Buffer<D>,
) {
    kernel::norm_stats(
        cuda,
        blocks(map.planes(), 1, THREADS),
        partial,
        stats.write(2 * map.planes()),
        int(parts),
    );
}

/// `sums` of a gradient's planes from `partial` `[planes, parts, 2]`: sums of g and g·x̂.
pub fn join_sums<D: Driver>(
    cuda: &Cuda<D>,
    map: MapShape,
    partial: Const<f32>,
    parts: usize,
    sums: &mut Buffer<D>,
) {
    let sums = sums.write(2 * map.planes());
    kernel::gradient_means(
        cuda,
        blocks(map.planes(), 1, THREADS),
        partial,
        sums,
        int(parts),
        int(map.pixels()),
    );
}
