//! Label noise from the counter-based generator.

use crate::backend::LabelNoise;
use crate::cuda::driver::Driver;
use crate::cuda::kernel::Mut;
use crate::cuda::{Buffer, Cuda, blocks};

const THREADS: u32 = 128;

crate::kernels! {
    fn label_noise(target: Mut<f32>, len: u64, key: u64, stream: u64, lambda: f64, absolute: i32);
}

/// See [`crate::backend::LabelNoise`].
pub fn label_noise<D: Driver>(
    cuda: &Cuda<D>,
    LabelNoise { noise, first, len, target }: LabelNoise<'_, Buffer<D>>,
) {
    kernel::label_noise(
        cuda,
        blocks(len.div_ceil(THREADS as usize), 1, THREADS),
        target.write_from(first, len),
        len as u64,
        noise.key,
        noise.stream,
        noise.lambda,
        i32::from(noise.absolute),
    );
}
