//! Statistics of planes and means of their gradients, from the parts that blocks leave.

use crate::backend::{FeatureMap, MapGradient, MapShape};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::{Buffer, Cuda, blocks, int, statistics};

const THREADS: u32 = 256;

crate::kernels! {
    fn norm_stats(partial: Const<f32>, stats: Mut<f32>, parts: i32);
    fn gradient_means(partial: Const<f32>, sums: Mut<f32>, parts: i32, pixels: i32);
}

/// The gradient of a map as it is stored, and what it takes to have that of its values: the map with its statistics, plane
/// means.
#[derive(Clone, Copy)]
pub struct OutputGradient<T> {
    pub d: Const<T>,
    pub output: Const<T>,
    pub stats: Const<f32>,
    pub sums: Const<f32>,
}

impl<T: Stored> OutputGradient<T> {
    pub fn of<D: Driver>(output: &FeatureMap<Buffer<D>>, gradient: &MapGradient<Buffer<D>>) -> Self {
        let map = output.shape;
        Self {
            d: gradient.values.read(map.len()),
            output: output.values.read(map.len()),
            stats: statistics(output),
            sums: gradient.sums.as_ref().map_or(Const::null(), |sums| sums.read(2 * map.planes())),
        }
    }

    /// The same where maps are stored as f32.
    pub fn singles(self) -> OutputGradient<f32> {
        let Self { d, output, stats, sums } = self;
        OutputGradient { d: d.singles(), output: output.singles(), stats, sums }
    }
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
