//! 3×3 convolution over one or two concatenated maps.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::conv3x3`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv3x3<D: Driver>(
    cuda: &Cuda<D>,
    inputs: &[&FeatureMap<Buffer<D>>],
    parameters: &Buffer<D>,
    weight: Span,
    output: &mut FeatureMap<Buffer<D>>,
) {
    todo!()
}

/// See [`crate::backend::Backend::conv3x3_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn conv3x3_backward<D: Driver>(
    cuda: &Cuda<D>,
    inputs: &[&FeatureMap<Buffer<D>>],
    parameters: &Buffer<D>,
    weight: Span,
    output: &FeatureMap<Buffer<D>>,
    d_output: &MapGradient<Buffer<D>>,
    d_parameters: &mut Buffer<D>,
    d_inputs: &mut [Option<InputGradient<'_, Buffer<D>>>],
) {
    todo!()
}
