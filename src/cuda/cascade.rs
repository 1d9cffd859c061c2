//! Data consistency in normal-operator form, and the root-sum-of-squares output.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::cascade_input`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn cascade_input<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    mask: &Buffer<D>,
    m0: &Buffer<D>,
    u: &Buffer<D>,
    v: &Buffer<D>,
    m: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::cascade_update`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn cascade_update<D: Driver>(
    cuda: &Cuda<D>,
    parameters: &Buffer<D>,
    dc_weight: Span,
    r: &Buffer<D>,
    u: &Buffer<D>,
    v: &Buffer<D>,
    u_out: &mut Buffer<D>,
    v_out: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::rss_output`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn rss_output<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    mask: &Buffer<D>,
    x0: &Buffer<D>,
    u: &Buffer<D>,
    v: &Buffer<D>,
    output: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::rss_output_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn rss_output_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    mask: &Buffer<D>,
    x0: &Buffer<D>,
    u: &Buffer<D>,
    v: &Buffer<D>,
    output: &Buffer<D>,
    d_output: &Buffer<D>,
    d_u: &mut Buffer<D>,
    d_v: &mut Buffer<D>,
    d_sens: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::cascade_update_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn cascade_update_backward<D: Driver>(
    cuda: &Cuda<D>,
    parameters: &Buffer<D>,
    dc_weight: Span,
    u: &Buffer<D>,
    v: &Buffer<D>,
    d_u: &mut Buffer<D>,
    d_v: &mut Buffer<D>,
    d_r: &mut Buffer<D>,
    d_parameters: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::cascade_input_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn cascade_input_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    mask: &Buffer<D>,
    d_m: &Buffer<D>,
    d_u: &mut Buffer<D>,
    d_v: &mut Buffer<D>,
    d_m0: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::sens_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn sens_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    sens_maps: &Buffer<D>,
    mask: &Buffer<D>,
    x0: &Buffer<D>,
    d_m0: &Buffer<D>,
    pairs: &[(&Buffer<D>, &Buffer<D>)],
    d_sens: &mut Buffer<D>,
) {
    todo!()
}
