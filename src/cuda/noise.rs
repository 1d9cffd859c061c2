//! Label noise from counters.

use crate::backend::*;
use crate::cuda::driver::Driver;
use crate::cuda::{Buffer, Cuda};

crate::kernels! {}

/// See [`crate::backend::Backend::label_noise`].
#[allow(clippy::too_many_arguments, unused_variables)]
pub fn label_noise<D: Driver>(cuda: &Cuda<D>, noise: LabelNoise, len: usize, target: &mut Buffer<D>) {
    todo!()
}
