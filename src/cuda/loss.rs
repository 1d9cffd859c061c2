//! The training loss and its gradient.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::image_loss`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn image_loss<D: Driver>(
    cuda: &Cuda<D>,
    shape: LossShape,
    weights: LossWeights,
    scale: f64,
    output: &Buffer<D>,
    target: &Buffer<D>,
    max_value: &Buffer<D>,
    losses: &mut Buffer<D>,
    d_output: &mut Buffer<D>,
) {
    todo!()
}
