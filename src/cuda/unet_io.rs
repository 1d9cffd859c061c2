//! In and out of a U-Net: a complex image becomes two normalised, padded channels, and two channels an image again.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::unet_input`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn unet_input<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    image: &Buffer<D>,
    map: &mut FeatureMap<Buffer<D>>,
    moments: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::unet_output`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn unet_output<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<D>>,
    moments: &Buffer<D>,
    image: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::unet_output_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn unet_output_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<D>>,
    moments: &Buffer<D>,
    d_image: &Buffer<D>,
    d_map: &mut MapGradient<Buffer<D>>,
    d_moments: &mut Buffer<D>,
) {
    todo!()
}

/// See [`crate::backend::Backend::unet_input_backward`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn unet_input_backward<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    map: &FeatureMap<Buffer<D>>,
    moments: &Buffer<D>,
    d_map: &MapGradient<Buffer<D>>,
    d_moments: &Buffer<D>,
    d_image: &mut Buffer<D>,
) {
    todo!()
}
