//! 2×2 average pooling, and the end of a skip connection's gradient.

use crate::backend::{AvgPool, AvgPoolBackward};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::{Buffer, Cuda, blocks, int, norm, statistics};

const THREADS: u32 = 256;
/// Pixels that a thread takes, about: enough to pay for its start, few enough for many blocks.
const PIXELS_PER_THREAD: usize = 4;

crate::kernels! {
    fn avg_pool<T>(
        values: Const<T>, stats: Const<f32>, pooled: Mut<T>, height: i32, width: i32,
    );
    fn avg_pool_backward<T>(
        values: Const<T>, stats: Const<f32>, d_pooled: Const<T>, d: Mut<T>, partial: Mut<f32>,
        height: i32, width: i32,
    );
}

fn parts(pixels: usize) -> usize {
    pixels.div_ceil(PIXELS_PER_THREAD * THREADS as usize)
}

/// See [`crate::backend::AvgPool`].
pub fn avg_pool<T: Stored, D: Driver>(cuda: &Cuda<D>, AvgPool { input, output }: AvgPool<'_, Buffer<D>>) {
    let (full, small) = (input.shape, output.shape);
    kernel::avg_pool::<T, D>(
        cuda,
        blocks(small.planes(), parts(small.pixels()), THREADS),
        input.values.read(full.len()),
        statistics(input),
        output.values.write(small.len()),
        int(full.height),
        int(full.width),
    );
}

/// See [`crate::backend::AvgPoolBackward`].
pub fn avg_pool_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    AvgPoolBackward { input, output: pooled, d_output, d_input }: AvgPoolBackward<'_, Buffer<D>>,
) {
    let full = input.shape;
    let parts = parts(full.pixels());
    let [partial] = cuda.scratch([full.planes() * parts * 2]);
    kernel::avg_pool_backward::<T, D>(
        cuda,
        blocks(full.planes(), parts, THREADS),
        input.values.read(full.len()),
        statistics(input),
        d_output.values.read(pooled.shape.len()),
        d_input.values.write(full.len()),
        partial,
        int(full.height),
        int(full.width),
    );
    if let Some(sums) = &mut d_input.sums {
        norm::join_sums(cuda, full, partial.as_const(), parts, sums);
    }
}
