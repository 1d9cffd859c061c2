//! 2×2 transposed convolution with stride 2: on tensor cores, or as it is in float32.

use crate::backend::*;
use crate::cuda::conv::arguments::{Transpose, TransposeInput};
use crate::cuda::conv::problem::Makes;
use crate::cuda::conv::{announced, transpose_mma};
use crate::cuda::driver::Driver;
use crate::cuda::kernel::{Const, Mut, Stored};
use crate::cuda::norm::OutputGradient;
use crate::cuda::{Buffer, Cuda, blocks_with, int, norm, partial};
use crate::precision::Precision;

/// Of a block of the forward or the data gradient: threads, pixels, and channels of what it makes.
const THREADS: u32 = 96;
const TILE: usize = 64;
const FORWARD_OUTPUTS: usize = 9;
const BACKWARD_INPUTS: usize = 18;

/// Of a block of the weight gradient: threads, channels, and pixels that it takes at a time.
const WEIGHT_THREADS: u32 = 128;
const WEIGHT_INPUTS: usize = 36;
const WEIGHT_OUTPUTS: usize = 18;
const WEIGHT_SLICE: usize = 32;
/// Blocks that the weight gradient is cut into, about: enough for a large GPU, few enough parts to join.
const WEIGHT_BLOCKS: usize = 256;

crate::kernels! {
    fn conv_transpose(
        values: Const<f32>, stats: Const<f32>, weight: Const<f32>, output: Mut<f32>, partial: Mut<f32>,
        shape: Transpose,
    );
    fn conv_transpose_backward(
        values: Const<f32>, stats: Const<f32>, weight: Const<f32>, output: Const<f32>,
        output_stats: Const<f32>, g: Const<f32>, sums: Const<f32>, d_input: Mut<f32>, partial: Mut<f32>,
        shape: Transpose,
    );
    fn conv_transpose_weight(
        values: Const<f32>, stats: Const<f32>, output: Const<f32>, output_stats: Const<f32>, g: Const<f32>,
        sums: Const<f32>, partial: Mut<f32>, shape: Transpose, n: i32, slices: i32,
    );
}

/// See [`crate::backend::ConvTranspose`].
pub fn conv_transpose<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    ConvTranspose { input, parameters, weight, output }: ConvTranspose<'_, Buffer<D>>,
) {
    let (from, to) = (input.shape, output.shape);
    let reads = TransposeInput::<T>::of(input, parameters, weight, to);
    let cut = on_tensor_cores(cuda)
        .then(|| transpose_mma::Cut::of(cuda.tilings(), cuda.precision(), Makes::Output, from, to.channels));
    let parts = cut.as_ref().map_or(from.pixels().div_ceil(TILE), |cut| cut.parts);
    let [partial] = cuda.scratch([3 * to.planes() * parts]);
    let made = output.values.write(to.len());
    if let Some(cut) = cut {
        transpose_mma::forward(cuda, &cut, from.n, reads, made, partial);
    } else {
        let TransposeInput { values, stats, weight, shape } = reads;
        let launch = blocks_with(parts, to.channels.div_ceil(FORWARD_OUTPUTS), from.n, THREADS, 0);
        kernel::conv_transpose(cuda, launch, values.singles(), stats, weight, made.singles(), partial, shape);
    }
    if let Some(stats) = &mut output.stats {
        norm::join_stats(cuda, to, partial.as_const(), parts, stats);
    }
}

fn on_tensor_cores<D: Driver>(cuda: &Cuda<D>) -> bool {
    cuda.precision() != Precision::Fp32
}

/// See [`crate::backend::ConvTransposeBackward`].
pub fn conv_transpose_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    ConvTransposeBackward { input, parameters, weight, output, d_output, d_parameters, d_input }: ConvTransposeBackward<'_, Buffer<D>>,
) {
    let (from, to) = (input.shape, output.shape);
    let reads = TransposeInput::<T>::of(input, parameters, weight, to);
    let gradient = OutputGradient::of(output, d_output);
    let made = d_input.values.write(from.len());
    let cuts = on_tensor_cores(cuda).then(|| {
        let precision = cuda.precision();
        let makes = Makes::InputGradients;
        let cut = transpose_mma::Cut::of(cuda.tilings(), precision, makes, from, to.channels);
        (cut, transpose_mma::SumCut::of(precision, from, to.channels))
    });
    let plain = PlainCut::of(from, to.channels);
    let [parts, weight_parts] =
        cuts.as_ref().map_or([plain.parts, plain.weight_parts], |(cut, sum_cut)| [cut.parts, sum_cut.parts]);
    let convolution = Convolution {
        transposed: true,
        weight,
        inputs: from.channels,
        output: to,
        pass: Pass::Backward(0..from.channels),
    };
    let ahead = announced::take(cuda, reads.weight, &convolution);
    let own = if ahead.is_some() { 0 } else { weight_parts * weight.len };
    let [d_sums, d_weight] = cuda.scratch([2 * from.planes() * parts, own]);
    let d_weight = ahead.map_or(d_weight, |ahead| ahead.parts);
    if let Some((cut, sum_cut)) = &cuts {
        let sum = || transpose_mma::weight_gradient(cuda, sum_cut, from.n, reads, gradient, d_weight);
        // Nobody waits for an announced one until all are there.
        if ahead.is_some() {
            cuda.beside(sum)
        } else {
            sum()
        }
        transpose_mma::input_gradient(cuda, cut, from.n, reads, gradient, made, d_sums);
    } else {
        plain_backward(cuda, &plain, from.n, reads, gradient, made.singles(), [d_sums, d_weight]);
    }
    if let Some(sums) = &mut d_input.sums {
        norm::join_sums(cuda, from, d_sums.as_const(), parts, sums);
    }
    if ahead.is_some() {
        announced::owe(cuda, weight, d_weight.as_const(), weight_parts, d_parameters);
    } else {
        let into = d_parameters.write_from(weight.offset, weight.len);
        partial::add(cuda, d_weight.as_const(), into, weight_parts, weight.len);
    }
}

/// How the backward is cut into blocks without tensor cores.
struct PlainCut {
    parts: usize,
    input_groups: usize,
    weight_groups: [usize; 2],
    slices: usize,
    weight_parts: usize,
}

impl PlainCut {
    fn of(input: MapShape, outputs: usize) -> Self {
        let weight_groups = [input.channels.div_ceil(WEIGHT_INPUTS), outputs.div_ceil(WEIGHT_OUTPUTS)];
        let slices = input.pixels().div_ceil(WEIGHT_SLICE);
        Self {
            parts: input.pixels().div_ceil(TILE),
            input_groups: input.channels.div_ceil(BACKWARD_INPUTS),
            weight_groups,
            slices,
            weight_parts: (WEIGHT_BLOCKS / (weight_groups[0] * weight_groups[1])).clamp(1, input.n * slices),
        }
    }
}

/// Both gradients without tensor cores: writes that of the input, and leaves parts of its sums and of the weight's.
fn plain_backward<T: Stored, D: Driver>(
    cuda: &Cuda<D>,
    cut: &PlainCut,
    n: usize,
    TransposeInput { values, stats, weight, shape }: TransposeInput<T>,
    OutputGradient { d: g, output, stats: output_stats, sums }: OutputGradient<T>,
    d_input: Mut<f32>,
    [d_sums, d_weight]: [Mut<f32>; 2],
) {
    let [values, output, g] = [values, output, g].map(Const::singles);
    kernel::conv_transpose_backward(
        cuda,
        blocks_with(cut.parts, cut.input_groups, n, THREADS, 0),
        values,
        stats,
        weight,
        output,
        output_stats,
        g,
        sums,
        d_input,
        d_sums,
        shape,
    );
    let [inputs, outputs] = cut.weight_groups;
    kernel::conv_transpose_weight(
        cuda,
        blocks_with(cut.weight_parts, inputs, outputs, WEIGHT_THREADS, 0),
        values,
        stats,
        output,
        output_stats,
        g,
        sums,
        d_weight,
        shape,
        int(n),
        int(cut.slices),
    );
}
