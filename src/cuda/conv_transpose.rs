//! 2×2 transposed convolution with stride 2.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::conv_transpose`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv_transpose<D: Driver>(
    cuda: &Cuda<D>,
    input: &FeatureMap<Buffer<D>>,
    parameters: &Buffer<D>,
    weight: Span,
    output: &mut FeatureMap<Buffer<D>>,
) {
    todo!()
}

/// See [`crate::backend::Backend::conv_transpose_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv_transpose_backward<D: Driver>(
    cuda: &Cuda<D>,
    input: &FeatureMap<Buffer<D>>,
    parameters: &Buffer<D>,
    weight: Span,
    output: &FeatureMap<Buffer<D>>,
    d_output: &MapGradient<Buffer<D>>,
    d_parameters: &mut Buffer<D>,
    d_input: &mut MapGradient<Buffer<D>>,
) {
    todo!()
}
