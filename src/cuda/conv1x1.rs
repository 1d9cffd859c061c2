//! 1×1 convolution with bias: the U-Net's last layer.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::conv1x1`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv1x1<D: Driver>(
    cuda: &Cuda<D>,
    input: &FeatureMap<Buffer<D>>,
    parameters: &Buffer<D>,
    weight: Span,
    bias: Span,
    output: &mut FeatureMap<Buffer<D>>,
) {
    todo!()
}

/// See [`crate::backend::Backend::conv1x1_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv1x1_backward<D: Driver>(
    cuda: &Cuda<D>,
    input: &FeatureMap<Buffer<D>>,
    parameters: &Buffer<D>,
    weight: Span,
    bias: Span,
    output: &FeatureMap<Buffer<D>>,
    d_output: &MapGradient<Buffer<D>>,
    d_parameters: &mut Buffer<D>,
    d_input: &mut MapGradient<Buffer<D>>,
) {
    todo!()
}
