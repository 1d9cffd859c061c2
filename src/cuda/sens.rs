//! Sensitivity maps: normalised by their root sum of squares, and used to combine coils.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::divide_by_rss`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn divide_by_rss<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    raw: &Buffer<D>,
    sens_maps: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::sens_reduce`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn sens_reduce<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    images: &Buffer<D>,
    combined: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::divide_by_rss_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn divide_by_rss_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    raw: &Buffer<D>,
    sens_maps: &Buffer<D>,
    d_sens: &mut Buffer<D>,
) {
    todo!()
}
