//! 1×1 convolution with bias: the U-Net's last layer.

use crate::backend::{Conv1x1, Conv1x1Backward};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::{Buffer, Cuda, blocks_with, int, norm, partial, statistics};

const THREADS: u32 = 256;
/// Outputs that a block of the forward makes together.
const OUTPUTS: usize = 2;
/// Pixels of a block of the backward, which keeps exactly so many.
const PART: usize = 8 * THREADS as usize;

crate::kernels! {
    fn conv1x1<T>(
        values: Const<T>, stats: Const<f32>, weight: Const<f32>, bias: Const<f32>, output: Mut<T>,
        inputs: i32, outputs: i32, pixels: i32,
    );
    fn conv1x1_backward<T>(
        values: Const<T>, stats: Const<f32>, weight: Const<f32>, d_output: Const<T>, d_input: Mut<T>,
        partial_sums: Mut<f32>, partial_weight: Mut<f32>, partial_bias: Mut<f32>, outputs: i32, pixels: i32,
    );
}

/// See [`crate::backend::Conv1x1`].
pub fn conv1x1<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    Conv1x1 { input, parameters, weight, bias, output }: Conv1x1<'_, Buffer<D>>,
) {
    let (from, to) = (input.shape, output.shape);
    kernel::conv1x1::<T, D>(
        cuda,
        blocks_with(
            // A thread takes what a float32 takes: one value, or two.
            (from.pixels() * T::ELEMENT.bytes()).div_ceil(THREADS as usize * size_of::<f32>()),
            to.channels.div_ceil(OUTPUTS),
            from.n,
            THREADS,
            0,
        ),
        input.values.read(from.len()),
        statistics(input),
        parameters.read_from(weight.offset, weight.len),
        parameters.read_from(bias.offset, bias.len),
        output.values.write(to.len()),
        int(from.channels),
        int(to.channels),
        int(from.pixels()),
    );
}

/// See [`crate::backend::Conv1x1Backward`].
pub fn conv1x1_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    Conv1x1Backward { input, parameters, weight, bias, output, d_output, d_parameters, d_input }: Conv1x1Backward<'_, Buffer<D>>,
) {
    let (from, to) = (input.shape, output.shape);
    let parts = from.pixels().div_ceil(PART);
    let [sums, d_weight, d_bias] =
        cuda.scratch([2 * from.planes() * parts, from.n * parts * weight.len, from.n * parts * bias.len]);
    kernel::conv1x1_backward::<T, D>(
        cuda,
        blocks_with(parts, from.channels, from.n, THREADS, 0),
        input.values.read(from.len()),
        statistics(input),
        parameters.read_from(weight.offset, weight.len),
        d_output.values.read(to.len()),
        d_input.values.write(from.len()),
        sums,
        d_weight,
        d_bias,
        int(to.channels),
        int(from.pixels()),
    );
    for (span, parts_of) in [(weight, d_weight), (bias, d_bias)] {
        let into = d_parameters.write_from(span.offset, span.len);
        partial::add(cuda, parts_of.as_const(), into, from.n * parts, span.len);
    }
    if let Some(d_sums) = &mut d_input.sums {
        norm::join_sums(cuda, from, sums.as_const(), parts, d_sums);
    }
}
