//! How important each parameter is, and selective synaptic dampening.

use crate::backend::{AddSquares, Dampen, Dampening};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks};

const THREADS: u32 = 256;

crate::kernels! {
    fn add_squares(gradient: Const<f32>, sums: Mut<f32>, factor: f32, len: u64);
    fn dampen(
        forget: Const<f32>, retain: Const<f32>, parameters: Mut<f32>, alpha: f32, lambda: f32, of_forget: f32,
        of_retain: f32, len: u64,
    );
}

/// See [`crate::backend::AddSquares`].
pub fn add_squares<D: Driver>(
    cuda: &Cuda<D>,
    AddSquares { factor, gradient, sums }: AddSquares<'_, Buffer<D>>,
) {
    let len = sums.len();
    kernel::add_squares(
        cuda,
        blocks(len.div_ceil(THREADS as usize), 1, THREADS),
        gradient.read(len),
        sums.write(len),
        factor as f32,
        len as u64,
    );
}

/// See [`crate::backend::Dampen`].
pub fn dampen<D: Driver>(
    cuda: &Cuda<D>,
    Dampen { dampening, forget, retain, parameters }: Dampen<'_, Buffer<D>>,
) {
    let len = parameters.len();
    let Dampening { alpha, lambda, forget_share } = dampening;
    kernel::dampen(
        cuda,
        blocks(len.div_ceil(THREADS as usize), 1, THREADS),
        forget.read(len),
        retain.read(len),
        parameters.write(len),
        alpha as f32,
        lambda as f32,
        forget_share as f32,
        (1.0 - forget_share) as f32,
        len as u64,
    );
}
