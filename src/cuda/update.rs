//! The optimiser: ℓ1 penalty, global norm, clip and Adam.

use crate::backend::{AdamStep, Update};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut};
use crate::cuda::{Buffer, Cuda, blocks, int};

const THREADS: u32 = 256;
/// Parts of the norm: enough to fill a large GPU, and the same on a small one, so that sums have the same bits.
const MOST_PARTS: usize = 1024;
/// Parameters that a thread takes at least, when squares are summed.
const SQUARES_PER_THREAD: usize = 4;

crate::parameter_struct! {
    /// The scalars of one step.
    pub struct AdamScalars {
        pub l1: f32,
        pub beta1: f32,
        pub one_minus_beta1: f32,
        pub beta2: f32,
        pub one_minus_beta2: f32,
        pub bias_correction2_sqrt: f32,
        pub eps: f32,
        pub minus_step_size: f32,
    }
}

crate::kernels! {
    fn update_squares(
        parameters: Const<f32>, mask: Const<f32>, gradient: Const<f32>, partial: Mut<f64>, l1: f32, len: u64,
    );
    fn update_norm(partial: Const<f64>, norm: Mut<f32>, scale: Mut<f32>, parts: i32, clip: f64);
    fn update_adam(
        parameters: Mut<f32>, mask: Const<f32>, gradient: Const<f32>, first_moment: Mut<f32>,
        second_moment: Mut<f32>, scale: Const<f32>, adam: AdamScalars, len: u64,
    );
}

impl AdamScalars {
    /// In double precision as Python computes them, then rounded once.
    fn new(update: AdamStep) -> Self {
        // Beyond 2³¹ steps both corrections are 1 anyway.
        let step = i32::try_from(update.step).unwrap_or(i32::MAX);
        let bias_correction1 = 1.0 - update.beta1.powi(step);
        let bias_correction2 = 1.0 - update.beta2.powi(step);
        Self {
            l1: update.l1 as f32,
            beta1: update.beta1 as f32,
            one_minus_beta1: (1.0 - update.beta1) as f32,
            beta2: update.beta2 as f32,
            one_minus_beta2: (1.0 - update.beta2) as f32,
            bias_correction2_sqrt: bias_correction2.sqrt() as f32,
            eps: update.eps as f32,
            minus_step_size: -(update.lr / bias_correction1) as f32,
        }
    }
}

/// See [`crate::backend::Update`].
pub fn update<D: Driver>(
    cuda: &Cuda<D>,
    Update { adam: update, parameters, mask, gradient, first_moment, second_moment, norm }: Update<
        '_,
        Buffer<D>,
    >,
) {
    let len = parameters.len();
    let adam = AdamScalars::new(update);
    let mask = mask.map_or(Const::null(), |mask| mask.read(len));
    let parts = len.div_ceil(SQUARES_PER_THREAD * THREADS as usize).min(MOST_PARTS);
    let [partial, scale] = cuda.scratch([2 * parts, 1]);
    let partial = partial.doubles();
    kernel::update_squares(
        cuda,
        blocks(parts, 1, THREADS),
        parameters.read(len),
        mask,
        gradient.read(len),
        partial,
        adam.l1,
        len as u64,
    );
    let clip = update.clip.unwrap_or(f64::INFINITY);
    kernel::update_norm(
        cuda,
        blocks(1, 1, THREADS),
        partial.as_const(),
        norm.write(1),
        scale,
        int(parts),
        clip,
    );
    kernel::update_adam(
        cuda,
        blocks(len.div_ceil(THREADS as usize), 1, THREADS),
        parameters.write(len),
        mask,
        gradient.read(len),
        first_moment.write(len),
        second_moment.write(len),
        scale.as_const(),
        adam,
        len as u64,
    );
}
