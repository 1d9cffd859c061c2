//! The optimiser: ℓ1 penalty, global norm, clip and Adam.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::update`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn update<D: Driver>(
    cuda: &Cuda<D>,
    update: Update,
    parameters: &mut Buffer<D>,
    gradient: &Buffer<D>,
    first_moment: &mut Buffer<D>,
    second_moment: &mut Buffer<D>,
    norm: &mut Buffer<D>,
) {
    todo!()
}
