//! Centred orthonormal transforms of coil images.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

/// Points of the longest line that the kernels transform.
pub const LONGEST: usize = 1024;

crate::kernels! {}

/// See [`crate::backend::Backend::ifft2c`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn ifft2c<D: Driver>(
    cuda: &Cuda<D>,
    shape: ImageShape,
    kspace: &Buffer<D>,
    columns: &Buffer<D>,
    images: &mut Buffer<D>,
) {
    todo!()
}
